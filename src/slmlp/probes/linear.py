"""The linear probe: multinomial logistic regression whose l2 is chosen on training images only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.probes.features import Features
from slmlp.probes.fitted import LinearFit, expressed, linear_fit
from slmlp.probes.images import Array, Axes, Integers, Rows, check_finite
from slmlp.probes.path import Choice, descend, follow, judge_labels
from slmlp.probes.solver import Design
from slmlp.results.intervals import share_interval
from slmlp.results.metrics import calibration_error
from slmlp.results.records import Predictions
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural

Labels = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]  # (n,) ascending positions of images in an array of them


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe: numbers from 0 to 1, the predictions behind them, and how the fits went."""

    accuracy: float
    mean_class_accuracy: float  # mean over classes of the share of the class's images that are right
    ece: float  # expected calibration error of the predictions' probabilities, 15 bins
    n: int  # images predicted
    interval: tuple[float, float]  # 95 % of the accuracy over images clustered by group, this encoder only
    predictions: Predictions
    l2: tuple[float, ...]  # chosen, one per fold
    at_edge: int  # folds whose l2 is at the edge of the grid
    gradient_norms: tuple[float, ...]  # of the final fits
    unfinished: int  # final fits that did not reach the tolerance
    unfinished_sweep: int  # the same of fits made while choosing the l2
    constant_features: int  # of D, the most that did not vary over a fold's training images; they get no weight
    scores: tuple[dict[float, float], ...] = field(default=())  # of every fold: l2 -> validation accuracy


def fit(
    x: Array,
    y: Integers,
    num_classes: int,
    l2: float,
    *,
    tolerance: float,
    max_iterations: int,
    start: LinearFit | None = None,
    rows: Places | None = None,
    axes: Axes | None = None,
    memory_limit_gb: float = config.Probe.memory_limit_gb,
) -> LinearFit:
    """Fit features (N, D) to labels (N,) at one l2, to a largest gradient entry of ``tolerance`` in float64.

    It comes from stronger penalties (``path.descend``), from that of the fit ``start``, of similar images, where given.
    Labels that are a 0/1 matrix (N, C) get one logistic regression per class. ``x`` may be memory-mapped; ``rows``
    takes some of the images; ``axes``, of other such images, saves finding them where they serve.

    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> probe = fit(x, np.array([0, 0, 1, 1]), 2, 0.01, tolerance=1e-8, max_iterations=100)
    >>> probe.predict(np.array([[-1.0], [4.0]])).tolist(), probe.gradient_norm <= 1e-8
    ([0, 1], True)
    """
    design = Design(x, y, num_classes, rows=rows, axes=axes, memory_limit_gb=memory_limit_gb)
    begin = None if start is None else (start.l2, expressed(design, start))
    solution = descend(design, l2, tolerance=tolerance, max_iterations=max_iterations, start=begin)
    return linear_fit(design, solution, l2)


def choose_l2(
    x: Array,
    y: Labels,
    groups: npt.NDArray[np.str_],
    num_classes: int,
    cfg: config.Probe,
    seed_words: Sequence[str | int],
    *,
    rows: Places | None = None,
) -> Choice:
    """Choose among ``cfg.l2`` on a stratified inner split of the images (N, D) that keeps groups whole.

    ``seed_words`` name the split's draw. ``rows`` takes some of the images. The rule is that of ``path.follow``: the
    best validation accuracy wins.
    """
    from slmlp.data.splits.parts import stratified_holdout

    if len(cfg.l2) == 1:
        return Choice(cfg.l2[0], at_edge=False, scores={}, unfinished=0)
    places = np.arange(len(y)) if rows is None else rows
    validation = stratified_holdout(y[places], groups[places], cfg.inner_fraction, cfg.seed, *seed_words)
    check_inner_split(validation, groups[places], cfg)
    check_finite(Rows(x, places[validation]))
    beside = int(validation.sum())
    design = Design(x, y, num_classes, rows=places[~validation], memory_limit_gb=cfg.memory_limit_gb, beside=beside)
    return follow(design, cfg, judge_labels(design, np.asarray(y, dtype=np.int64), places[validation]))


def check_inner_split(validation: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_], cfg: config.Probe) -> None:
    """Raise SlmlpError for an inner split (N,) that leaves no image to train on, or none to choose on."""
    if not validation.any() or validation.all():
        raise SlmlpError(
            f"{len(validation)} training images of {len(np.unique(groups))} groups are too few to choose the probe's "
            f"l2: an inner split of {cfg.inner_fraction:g} leaves one side empty (raise --probe.inner-fraction, "
            "or give one value of --probe.l2)"
        )


def evaluate(train: Features, test: Features, cfg: config.Probe) -> ProbeResult:
    """Choose the l2 inside ``train``, refit on all of it, and read ``test`` once."""
    if train.classes != test.classes:
        raise SlmlpError(f"training and test features name different classes: {train.classes} and {test.classes}")
    missing = np.setdiff1d(test.y, train.y)
    if len(missing):
        names = ", ".join(train.classes[i] for i in missing[:5])
        raise SlmlpError(f"{len(missing)} classes of the test images have no training image: {names}")
    check_width(train.x, test.x)
    check_finite(Rows(test.x))
    probe, choice = train_probe(train, cfg, ("evaluate",))
    predicted, confidence = probe.classify(test.x)
    return summarise(test, predicted, confidence, np.zeros(len(test), dtype=np.int64), [probe], [choice])


def check_width(train: Array, test: Array) -> None:
    """Raise SlmlpError for training and test features of different width."""
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise SlmlpError(
            f"training and test features must be (N, D) of the same D, found shapes {train.shape} and {test.shape}: "
            "take both from one encoder and layer"
        )


def train_probe(
    train: Features, cfg: config.Probe, seed_words: Sequence[str | int], *, rows: Places | None = None
) -> tuple[LinearFit, Choice]:
    """Choose the l2 on an inner split of the images (or of some ``rows`` of them) and refit on all of them."""
    places = np.arange(len(train)) if rows is None else rows
    if len(np.unique(train.y[places])) < 2:
        raise SlmlpError("a probe needs images of at least two classes")
    if len(cfg.l2) > 1:
        fix = "add images of other groups or remove the class"
        check_groups(train, 2, "the inner split of the probe", fix, rows=places)
    classes = len(train.classes)
    words = ("inner", *seed_words)
    choice = choose_l2(train.x, train.y, train.groups, classes, cfg, words, rows=rows)
    return fit_chosen(train.x, train.y, classes, choice, cfg, rows), choice


def fit_chosen(
    x: Array, y: Integers, classes: int, choice: Choice, cfg: config.Probe, rows: Places | None = None
) -> LinearFit:
    """Fit all images, or some ``rows`` of them, at the l2 that was chosen, from the fit that the choice left."""
    return fit(
        x, y, classes, choice.l2, tolerance=cfg.tolerance, max_iterations=cfg.max_iterations, start=choice.start,
        rows=rows, axes=choice.axes, memory_limit_gb=cfg.memory_limit_gb,
    )  # fmt: skip


def check_groups(images: Features, least: int, purpose: str, fix: str, rows: Places | None = None) -> None:
    """Raise SlmlpError for a class with images of fewer than ``least`` groups."""
    y, groups = (images.y, images.groups) if rows is None else (images.y[rows], images.groups[rows])
    for index in np.unique(y):
        count = len(np.unique(groups[y == index]))
        if count < least:
            raise SlmlpError(
                f"class {images.classes[index]!r} has images of {plural(count, 'group')} "
                f"(images that belong together), fewer than the {least} that {purpose} needs: {fix}"
            )


def summarise(
    images: Features,
    predicted: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float64],
    folds: npt.NDArray[np.int64],
    probes: Sequence[LinearFit],
    choices: Sequence[Choice],
) -> ProbeResult:
    """Score the class indices ``predicted`` (N,) of images and gather how the probes of the ``folds`` (N,) went.

    ``confidence`` (N,) is the softmax probability of the prediction.
    """
    names = np.array(images.classes, dtype=np.str_)
    rows = Predictions(images.ids, images.groups, names[images.y], names[predicted], folds, confidence)
    sizes = np.bincount(images.y)
    right = np.bincount(images.y, weights=rows.correct)
    return ProbeResult(
        accuracy=float(rows.correct.mean()),
        mean_class_accuracy=float((right[sizes > 0] / sizes[sizes > 0]).mean()),
        ece=calibration_error(confidence, rows.correct),
        n=len(images),
        interval=share_interval(rows.correct, images.groups),
        predictions=rows,
        l2=tuple(choice.l2 for choice in choices),
        at_edge=sum(choice.at_edge for choice in choices),
        gradient_norms=tuple(probe.gradient_norm for probe in probes),
        unfinished=sum(not probe.finished for probe in probes),
        unfinished_sweep=sum(choice.unfinished for choice in choices),
        constant_features=max(probe.constant_features for probe in probes),
        scores=tuple(choice.scores for choice in choices),
    )
