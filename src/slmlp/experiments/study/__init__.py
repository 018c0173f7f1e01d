"""A study: split, choose the rate, pretrain every method over seeds, evaluate, verdict, page."""

from slmlp.experiments.study.main import study

__all__ = ["study"]
