"""The transfer suite: any encoders on any data sets, the same tasks for all, one results file, one page."""

from slmlp.experiments.suite.main import suite

__all__ = ["suite"]
