"""The main job: split, choose the rate, pretrain every method over seeds, evaluate, verdict, page."""

from slmlp.studies.main import study

__all__ = ["study"]
