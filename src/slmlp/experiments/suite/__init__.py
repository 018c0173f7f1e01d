"""The transfer suite: encoders on data sets, the same tasks for all."""

from slmlp.experiments.suite.main import suite

__all__ = ["suite"]
