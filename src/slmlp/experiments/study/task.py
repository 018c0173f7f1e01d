"""Describe one run of a study, small enough to send to another process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One run to do: a rate to try (``grid``) or a seed to finish (``final``)."""

    kind: str
    spec: str
    rate: float
    seed: int

    @property
    def words(self) -> str:
        """Return the name of the run as messages print it."""
        return f"{self.spec} at rate {self.rate:g}" + (f", seed {self.seed}" if self.kind == "final" else "")
