"""The linear probe at every layer of an encoder; the engine does ``run`` once for each."""

from slmlp.evaluation.tasks.linear import run

__all__ = ["run"]
