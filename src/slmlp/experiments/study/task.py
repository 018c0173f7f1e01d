"""What a study hands to its processes."""

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
        """The task in a line of progress."""
        return f"{self.spec} at rate {self.rate:g}" + (f", seed {self.seed}" if self.kind == "final" else "")
