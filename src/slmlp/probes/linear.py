"""The linear probe: multinomial logistic regression whose strength is chosen on training images only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp import config
from slmlp.errors import SlmlpError
from slmlp.features import Features
from slmlp.probes.solver import Design, Solution, minimise
from slmlp.results import Predictions
from slmlp.statistics import share_interval

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]

CLEARLY = 2.0  # standard errors, paired over validation images, by which a strength must lose to count as worse
PATIENCE = 2  # clearly worse strengths in a row that end a path


@dataclass(frozen=True)
class LinearFit:
    """A fitted probe. A class without training images has a bias of minus infinity: it is never predicted."""

    weight: npt.NDArray[np.float64]  # (C, D), on standardised features
    bias: npt.NDArray[np.float64]  # (C,)
    mean: npt.NDArray[np.float64]  # (D,) of the training images
    std: npt.NDArray[np.float64]  # (D,) of the training images; 1 where a feature does not vary (its weight is 0)
    strength: float
    gradient_norm: float  # largest absolute entry of the gradient of the mean objective, in float64
    iterations: int
    finished: bool  # whether gradient_norm reached the tolerance

    def decision(self, x: Array) -> npt.NDArray[np.float64]:
        """Return the logits (N, C) of features (N, D)."""
        scores: npt.NDArray[np.float64] = ((np.asarray(x, dtype=np.float64) - self.mean) / self.std) @ self.weight.T
        return scores + self.bias

    def predict(self, x: Array) -> npt.NDArray[np.int64]:
        """Return the class index (N,) of features (N, D)."""
        best: npt.NDArray[np.int64] = self.decision(x).argmax(axis=1).astype(np.int64)
        return best


@dataclass(frozen=True)
class Choice:
    """The strength that validation images chose."""

    strength: float
    at_edge: bool  # chosen at the end of the grid: a wider one (--probe.strengths) might do better
    scores: dict[float, float]  # strength -> validation accuracy, of those tried (a path stops early)
    unfinished: int  # fits of the path that hit max_iterations
    start: LinearFit | None  # the fit at that strength on the inner training images; None if there was no choice


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found: numbers from 0 to 1, the predictions behind them, and how the fits went."""

    accuracy: float
    mean_class_accuracy: float  # mean over classes of the share of the class's images that are right
    n: int  # images predicted
    interval: tuple[float, float]  # 95 % of the accuracy over images clustered by unit, this encoder only
    predictions: Predictions
    strengths: tuple[float, ...]  # chosen, one a fold
    at_edge: int  # folds whose strength is at the edge of the grid
    gradient_norms: tuple[float, ...]  # of the final fits
    unfinished: int  # final fits that did not reach the tolerance
    unfinished_sweep: int  # the same of fits made while choosing the strength
    scores: tuple[dict[float, float], ...] = field(default=())  # of every fold: strength -> validation accuracy


def fit(
    x: Array,
    y: Labels,
    num_classes: int,
    strength: float,
    *,
    tolerance: float,
    max_iterations: int,
    start: LinearFit | None = None,
    device: torch.device | str = "cpu",
) -> LinearFit:
    """Fit features (N, D) to labels (N,) at one strength, to a largest gradient entry of ``tolerance`` in float64.

    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> probe = fit(x, np.array([0, 0, 1, 1]), 2, 0.01, tolerance=1e-8, max_iterations=100)
    >>> probe.predict(np.array([[-1.0], [4.0]])).tolist(), probe.gradient_norm <= 1e-8
    ([0, 1], True)
    """
    design = Design(x, y, num_classes, device)
    theta = None if start is None else _rotated(design, start)
    solution = minimise(design, strength, tolerance=tolerance, max_iterations=max_iterations, start=theta)
    return _linear_fit(design, solution, strength, tolerance)


def choose_strength(
    x: Array,
    y: Labels,
    units: npt.NDArray[np.str_],
    num_classes: int,
    cfg: config.Probe,
    seed_words: Sequence[str | int],
    *,
    device: torch.device | str = "cpu",
) -> Choice:
    """Choose among ``cfg.strengths`` on a stratified inner split of the images (N, D) that keeps units whole.

    ``seed_words`` name the split's draw. The best validation accuracy wins; ties go to the lower log-loss, then to
    the stronger. The path runs from strong to weak, each fit starting near the last two, and ends after ``PATIENCE``
    strengths in a row that are clearly worse than the best so far (in paired accuracy and in log-loss), since weaker
    ones only overfit further and cost most.
    """
    from slmlp.data.parts import stratified_holdout

    if len(cfg.strengths) == 1:
        return Choice(cfg.strengths[0], at_edge=False, scores={}, unfinished=0, start=None)
    held = stratified_holdout(y, units, cfg.inner_fraction, cfg.seed, *seed_words)
    if not held.any() or held.all():
        raise SlmlpError(
            f"{len(y)} training images of {len(np.unique(units))} units are too few to choose the probe's strength: "
            f"an inner split of {cfg.inner_fraction:g} leaves one side empty (raise --probe.inner-fraction, or give "
            "one value of --probe.strengths)"
        )
    design = Design(x[~held], y[~held], num_classes, device)
    images = design.augment(design.standardise(x[held])).float()  # (n, R+1)
    labels = torch.as_tensor(np.asarray(y[held], dtype=np.int64), device=images.device)
    path: list[tuple[float, Tensor]] = []  # log strength and solution of the last two fits
    best: tuple[float, float, float] | None = None  # accuracy, minus log-loss, strength: larger is better
    scores: dict[float, float] = {}
    unfinished = worse = 0
    for strength in sorted(set(cfg.strengths), reverse=True):
        # The sweep trusts float32 to the same tolerance as the final fits, see docs/statistics.md.
        solution = minimise(
            design,
            strength,
            tolerance=cfg.tolerance,
            max_iterations=cfg.max_iterations,
            start=_extrapolate(path, np.log(strength)),
            exact=False,
        )
        path = [*path[-1:], (np.log(strength), solution.theta)]
        unfinished += not solution.finished
        right, log_loss = _validate(design, images @ solution.theta.float().T, labels)
        scores[strength] = float(right.double().mean())
        rank = (scores[strength], -log_loss, strength)
        if best is None or rank > best:
            best, best_right, best_solution, worse = rank, right, solution, 0
            continue
        lost, won = int((best_right & ~right).sum()), int((right & ~best_right).sum())
        clearly = lost - won > CLEARLY * np.sqrt(lost + won) and -log_loss < best[1]
        worse = worse + 1 if clearly else 0
        if worse == PATIENCE:
            break
    assert best is not None
    strength = best[2]
    edge = strength in (min(cfg.strengths), max(cfg.strengths))
    return Choice(strength, edge, scores, unfinished, _linear_fit(design, best_solution, strength, cfg.tolerance))


def evaluate(train: Features, test: Features, cfg: config.Probe, *, device: torch.device | str = "cpu") -> ProbeResult:
    """Choose the strength inside ``train``, refit on all of it, and read ``test`` once."""
    if train.classes != test.classes:
        raise SlmlpError(f"training and test features name different classes: {train.classes} and {test.classes}")
    missing = np.setdiff1d(test.y, train.y)
    if len(missing):
        names = ", ".join(train.classes[i] for i in missing[:5])
        raise SlmlpError(f"{len(missing)} classes of the test images have no training image: {names}")
    probe, choice = train_probe(train, cfg, ("evaluate",), device=device)
    folds = np.zeros(len(test), dtype=np.int64)
    return summarise(test, probe.predict(test.x), folds, [probe], [choice])


def train_probe(
    train: Features, cfg: config.Probe, seed_words: Sequence[str | int], *, device: torch.device | str = "cpu"
) -> tuple[LinearFit, Choice]:
    """Choose the strength on an inner split of the images and refit on all of them."""
    if len(np.unique(train.y)) < 2:
        raise SlmlpError("a probe needs images of at least two classes")
    if len(cfg.strengths) > 1:
        check_units(train, 2, "the inner split of the probe", "add images of other units or remove the class")
    classes = len(train.classes)
    choice = choose_strength(train.x, train.y, train.units, classes, cfg, ("inner", *seed_words), device=device)
    probe = fit(
        train.x,
        train.y,
        classes,
        choice.strength,
        tolerance=cfg.tolerance,
        max_iterations=cfg.max_iterations,
        start=choice.start,
        device=device,
    )
    return probe, choice


def check_units(images: Features, least: int, purpose: str, fix: str) -> None:
    """Refuse a class with images of fewer than ``least`` units."""
    for index in np.unique(images.y):
        found = len(np.unique(images.units[images.y == index]))
        if found < least:
            raise SlmlpError(
                f"class {images.classes[index]!r} has images of {found} unit{'s' * (found > 1)} "
                f"(images that belong together), fewer than the {least} that {purpose} needs: {fix}"
            )


def summarise(
    images: Features,
    predicted: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    probes: Sequence[LinearFit],
    choices: Sequence[Choice],
) -> ProbeResult:
    """Score the class indices ``predicted`` (N,) of images and gather how the probes of the ``folds`` (N,) went."""
    names = np.array(images.classes, dtype=np.str_)
    rows = Predictions(images.ids, images.units, names[images.y], names[predicted], folds)
    sizes = np.bincount(images.y)
    right = np.bincount(images.y, weights=rows.correct)
    return ProbeResult(
        accuracy=float(rows.correct.mean()),
        mean_class_accuracy=float((right[sizes > 0] / sizes[sizes > 0]).mean()),
        n=len(images),
        interval=share_interval(rows.correct, images.units),
        predictions=rows,
        strengths=tuple(choice.strength for choice in choices),
        at_edge=sum(choice.at_edge for choice in choices),
        gradient_norms=tuple(probe.gradient_norm for probe in probes),
        unfinished=sum(not probe.finished for probe in probes),
        unfinished_sweep=sum(choice.unfinished for choice in choices),
        scores=tuple(choice.scores for choice in choices),
    )


def _extrapolate(path: list[tuple[float, Tensor]], log_strength: float) -> Tensor | None:
    """Return where the line through the last two solutions stands at a strength; saves a quarter of the iterations."""
    if len(path) < 2:
        return path[0][1] if path else None
    (before, old), (now, new) = path
    return new + (new - old) * ((log_strength - now) / (now - before))


def _validate(design: Design, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Return which images (n,) are right and the mean log-loss of those whose class was trained on."""
    right = design.present[logits.argmax(dim=1)] == labels
    known = torch.isin(labels, design.present)
    codes = torch.searchsorted(design.present, labels[known])
    return right, float(torch.nn.functional.cross_entropy(logits[known].double(), codes))


def _linear_fit(design: Design, solution: Solution, strength: float, tolerance: float) -> LinearFit:
    """Carry a rotated solution (C', R+1) back to all classes and features."""
    norm = design.exact_gradient(solution.theta, strength)
    some_weight, some_bias = design.unrotate(solution.theta)
    weight = np.zeros((design.num_classes, len(design.mean)))
    bias = np.full(design.num_classes, -np.inf)
    present = design.present.cpu().numpy()
    weight[present] = some_weight.cpu().numpy()
    bias[present] = (some_bias - some_bias.mean()).cpu().numpy()  # a common shift of all logits changes nothing
    mean, std = design.mean.cpu().numpy(), design.std.cpu().numpy()
    return LinearFit(weight, bias, mean, std, strength, norm, solution.iterations, norm <= tolerance)


def _rotated(design: Design, start: LinearFit) -> Tensor:
    """Express a fit made with other training statistics in the rotated parameters (C', R+1) of ``design``."""
    present = design.present.cpu().numpy()
    raw = start.weight[present] / start.std  # (C', D) on features as they came
    bias = start.bias[present] + raw @ (design.mean.cpu().numpy() - start.mean)
    bias = np.where(np.isfinite(bias), bias, 0.0)
    weight = torch.as_tensor(raw, device=design.mean.device) * design.std
    return torch.cat([weight @ design.axes, torch.as_tensor(bias, device=weight.device)[:, None]], dim=1)
