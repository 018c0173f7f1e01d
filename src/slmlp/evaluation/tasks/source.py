"""The linear probe on the classes of pretraining, on images that pretraining did not use."""

from slmlp.evaluation.tasks.linear import run

__all__ = ["run"]
