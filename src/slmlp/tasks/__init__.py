"""What is asked of frozen features: each task is a function of features, its answer a list of scores."""

from slmlp.tasks.score import Score

__all__ = ["Score"]
