"""Fit a path of l2 values, largest first: each fit starts near the last two; it ends when smaller l2 only lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slmlp import config
from slmlp.probes.fitted import LinearFit, linear_fit
from slmlp.probes.images import Axes
from slmlp.probes.lbfgs import Curvature
from slmlp.probes.solver import FLOAT32_FLOOR, Design, Solution, check_l2, minimise

CLEARLY = 2.0  # standard errors, paired over the evaluated images, by which an l2 must lose to count as worse
STRONG = 10.0  # where weights are nearly zero: the start of a path
PINNED = 10.0  # see ``is_pinned``: where a fit may start from that of similar images
FIRMLY = 30.0  # the same of the start of a path: what it leaves open grows on the way down (docs/statistics.md)
NEAREST = 3.0  # an l2 on the way down stands at least this factor below the one where the way starts
PATIENCE = 2  # clearly worse values of l2 in a row that end a path


@dataclass(frozen=True)
class Choice:
    """The l2 that validation images chose."""

    l2: float
    at_edge: bool  # chosen at the end of the grid: a wider one (--probe.l2) might do better
    scores: dict[float, float]  # l2 -> validation score, of those tried (a path stops early)
    unfinished: int  # fits of the path that hit max_iterations
    start: LinearFit | None = None  # where the final fit starts: the weakest pinned one of the path down to the choice
    axes: Axes | None = None  # their principal axes, which the final fit may use


@dataclass(frozen=True)
class Judgement:
    """How good a fit is on validation images."""

    values: Tensor  # (m,) of each image, whether it is right; or of each class, its average precision
    log_loss: float

    @property
    def score(self) -> float:
        """The mean, which an l2 is chosen by."""
        return float(self.values.double().mean())

    def clearly_worse(self, best: Judgement) -> bool:
        """Whether the mean is lower by ``CLEARLY`` standard errors of the paired differences, and log-loss higher."""
        apart = best.values.double() - self.values.double()
        return float(apart.sum()) > CLEARLY * float(apart.square().sum().sqrt()) and self.log_loss > best.log_loss


def follow(design: Design, cfg: config.Probe, judge: Callable[[Tensor], Judgement]) -> Choice:
    """Fit ``design`` at every l2 and choose by the judgement of the parameters (C', D+1).

    The best score wins; ties go to the lower log-loss, then to the larger l2. The path ends after ``PATIENCE``
    values in a row that are clearly worse than the best so far, since smaller ones only overfit further and cost most.
    """
    best: tuple[tuple[float, float, float], Judgement] | None = None
    start: tuple[float, Solution] | None = None
    pinned: tuple[float, Solution] | None = None  # the last that is
    scores: dict[float, float] = {}
    unfinished = worse = 0
    # The sweep trusts float32 to the same tolerance as the final fits, see docs/statistics.md.
    for l2, solution in walk(design, cfg.l2, cfg.tolerance, cfg.max_iterations, exact=False):
        unfinished += not solution.finished
        weight = solution.theta[:, :-1]
        if is_pinned(l2, weight, cfg.tolerance, FIRMLY):
            pinned = l2, solution
        judgement = judge(solution.theta)
        scores[l2] = judgement.score
        rank = (scores[l2], -judgement.log_loss, l2)
        if best is None or rank > best[0]:
            best, worse = (rank, judgement), 0
            start = (l2, solution) if is_pinned(l2, weight, cfg.tolerance) else pinned
            continue
        worse = worse + 1 if judgement.clearly_worse(best[1]) else 0
        if worse == PATIENCE:
            break
    assert best is not None, "there is an l2"
    l2 = best[0][2]
    edge = l2 in (min(cfg.l2), max(cfg.l2))
    fit = None if start is None else linear_fit(design, start[1], start[0])
    return Choice(l2, edge, scores, unfinished, fit, design.axes)


def walk(
    design: Design,
    l2_values: Sequence[float],
    tolerance: float,
    max_iterations: int,
    *,
    exact: bool,
    start: Tensor | None = None,
    curvature: Curvature | None = None,
) -> Iterator[tuple[float, Solution]]:
    """Yield each l2, from large to small, and its solution; each starts on the line through the last two.

    The first starts from ``start`` (C', D+1), or zero. What a fit learns of the ``curvature`` is used by the next.
    """
    curvature = Curvature() if curvature is None else curvature
    for l2 in l2_values:
        check_l2(l2)
    path: list[tuple[float, Tensor]] = []  # the last two l2 and their solutions
    for l2 in sorted(set(l2_values), reverse=True):
        if path:
            start = _extrapolate(path, l2)
        solution = minimise(
            design,
            l2,
            tolerance=tolerance,
            max_iterations=max_iterations,
            start=start,
            exact=exact,
            curvature=curvature,
        )
        path = [*path[-1:], (l2, solution.theta)]
        yield l2, solution


def descend(
    design: Design,
    l2: float,
    *,
    tolerance: float,
    max_iterations: int,
    start: tuple[float, Tensor] | None = None,
) -> Solution:
    """Fit one l2 exactly, coming from larger ones a factor of ten apart, the first of them near ``STRONG``.

    It takes hardly more passes than the fit from zero, and ends nearer the minimum: where the penalty is weak, what the
    tolerance accepts depends on where a fit starts (docs/statistics.md). ``start``, an l2 and the
    parameters (C', D+1) of similar images at it, saves the way down to there.
    """
    check_l2(l2)
    top, theta = (STRONG, None) if start is None else start
    highest = top if start is None else top / NEAREST
    above = [l2 * 10.0**k for k in range(1, 40) if l2 * 10.0**k <= highest]
    if start is not None and l2 < top:
        above.append(top)
    path: list[tuple[float, Tensor]] = []
    loose = max(tolerance, FLOAT32_FLOOR)
    curvature = Curvature()
    for step, near in walk(design, above, loose, max_iterations, exact=False, start=theta, curvature=curvature):
        path = [*path[-1:], (step, near.theta)]
    begin = _extrapolate(path, l2) if path else theta
    return minimise(design, l2, tolerance=tolerance, max_iterations=max_iterations, start=begin, curvature=curvature)


def is_pinned(l2: float, weight: Tensor, tolerance: float, times: float = PINNED) -> bool:
    """Return whether the tolerance resolves the penalty: its gradient at ``weight`` (C', D) is ``times`` the tolerance.

    Where it does not, any weights that get the training images right pass for a minimum.
    """
    return l2 * float(weight.abs().amax()) >= times * tolerance


def _extrapolate(path: Sequence[tuple[float, Tensor]], l2: float) -> Tensor:
    """Return the point at ``l2`` of the line through the last two solutions over log l2; it saves many iterations."""
    if len(path) < 2:
        return path[0][1]
    (before, old), (now, new) = path
    return new + (new - old) * float(np.log(l2 / now) / np.log(now / before))


def judge_labels(
    design: Design,
    y: np.ndarray[tuple[int], np.dtype[np.int64]],
    validation: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Callable[[Tensor], Judgement]:
    """Return the judge of one label per image, on the rows ``validation`` of the design's array with labels ``y`` (M,).

    The log-loss is of those whose class was trained on.
    """
    images = design.others(validation)
    labels = torch.as_tensor(y[validation])
    known = torch.isin(labels, design.present)
    codes = torch.searchsorted(design.present, labels).clamp(max=len(design.present) - 1)[:, None]

    def judge(theta: Tensor) -> Judgement:
        right = torch.empty(len(validation), dtype=torch.bool)
        total = theta.new_zeros(())
        for at, logits in images.logits(theta):
            right[at] = design.present[logits.argmax(dim=1)] == labels[at]
            wide = logits.double()
            losses = torch.logsumexp(wide, dim=1) - wide.gather(1, codes[at])[:, 0]
            total += losses[known[at]].sum()
        return Judgement(right, float(total / known.sum()))

    return judge
