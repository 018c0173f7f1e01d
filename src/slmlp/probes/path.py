"""The path of strengths: from strong to weak, each fit starting near the last ones, ending when weaker only lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slmlp import config
from slmlp.probes.fitted import LinearFit, linear_fit
from slmlp.probes.images import Basis
from slmlp.probes.solver import Design, Solution, minimise

CLEARLY = 2.0  # standard errors, paired over what is judged, by which a strength must lose to count as worse
PATIENCE = 2  # clearly worse strengths in a row that end a path


@dataclass(frozen=True)
class Choice:
    """The strength that validation images chose."""

    strength: float
    at_edge: bool  # chosen at the end of the grid: a wider one (--probe.strengths) might do better
    scores: dict[float, float]  # strength -> validation score, of those tried (a path stops early)
    unfinished: int  # fits of the path that hit max_iterations
    start: LinearFit | None = None  # the fit at that strength on the inner training images; None if no choice
    basis: Basis | None = None  # their principal axes, which the final fit may use


@dataclass(frozen=True)
class Judgement:
    """How good a fit is on validation images."""

    values: Tensor  # (m,) of each image, whether it is right; or of each class, its average precision
    log_loss: float

    @property
    def score(self) -> float:
        """The mean, which a strength is chosen by."""
        return float(self.values.double().mean())

    def clearly_worse(self, best: Judgement) -> bool:
        """Whether the mean is lower by ``CLEARLY`` standard errors of the paired differences, and log-loss higher."""
        apart = best.values.double() - self.values.double()
        return float(apart.sum()) > CLEARLY * float(apart.square().sum().sqrt()) and self.log_loss > best.log_loss


def follow(design: Design, cfg: config.Probe, judge: Callable[[Tensor], Judgement]) -> Choice:
    """Fit ``design`` at every strength and choose by what ``judge`` says of the parameters (C', R+1).

    The best score wins; ties go to the lower log-loss, then to the stronger. The path ends after ``PATIENCE`` strengths
    in a row that are clearly worse than the best so far, since weaker ones only overfit further and cost most.
    """
    best: tuple[tuple[float, float, float], Judgement, Solution] | None = None
    scores: dict[float, float] = {}
    unfinished = worse = 0
    # The sweep trusts float32 to the same tolerance as the final fits, see docs/statistics.md.
    for strength, solution in walk(design, cfg.strengths, cfg.tolerance, cfg.max_iterations, exact=False):
        unfinished += not solution.finished
        judgement = judge(solution.theta)
        scores[strength] = judgement.score
        rank = (scores[strength], -judgement.log_loss, strength)
        if best is None or rank > best[0]:
            best, worse = (rank, judgement, solution), 0
            continue
        worse = worse + 1 if judgement.clearly_worse(best[1]) else 0
        if worse == PATIENCE:
            break
    assert best is not None, "there is a strength"
    strength = best[0][2]
    edge = strength in (min(cfg.strengths), max(cfg.strengths))
    return Choice(strength, edge, scores, unfinished, linear_fit(design, best[2], strength), design.basis)


def walk(
    design: Design, strengths: Sequence[float], tolerance: float, max_iterations: int, *, exact: bool
) -> Iterator[tuple[float, Solution]]:
    """Yield strengths, from strong to weak, and their solutions; each starts on the line through the last two."""
    path: list[tuple[float, Tensor]] = []  # log strength and solution of the last two fits
    for strength in sorted(set(strengths), reverse=True):
        start = _extrapolate(path, float(np.log(strength)))
        solution = minimise(
            design, strength, tolerance=tolerance, max_iterations=max_iterations, start=start, exact=exact
        )
        path = [*path[-1:], (float(np.log(strength)), solution.theta)]
        yield strength, solution


def _extrapolate(path: list[tuple[float, Tensor]], log_strength: float) -> Tensor | None:
    """Return where the line through the last two solutions stands at a strength; saves a quarter of the iterations."""
    if len(path) < 2:
        return path[0][1] if path else None
    (before, old), (now, new) = path
    return new + (new - old) * ((log_strength - now) / (now - before))


def judge_labels(
    design: Design, y: np.ndarray[tuple[int], np.dtype[np.int64]], held: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Callable[[Tensor], Judgement]:
    """Return the judge of one label an image, on the images ``held`` of the design's array with labels ``y`` (M,).

    The log-loss is of those whose class was trained on.
    """
    images = design.others(held)
    labels = torch.as_tensor(y[held], device=design.rows.device)
    known = torch.isin(labels, design.present)
    codes = torch.searchsorted(design.present, labels).clamp(max=len(design.present) - 1)[:, None]

    def judge(theta: Tensor) -> Judgement:
        right = torch.empty(len(held), dtype=torch.bool, device=labels.device)
        total = theta.new_zeros(())
        for at, logits in images.logits(theta):
            right[at] = design.present[logits.argmax(dim=1)] == labels[at]
            wide = logits.double()
            losses = torch.logsumexp(wide, dim=1) - wide.gather(1, codes[at])[:, 0]
            total += losses[known[at]].sum()
        return Judgement(right, float(total / known.sum()))

    return judge
