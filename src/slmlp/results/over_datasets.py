"""The mean difference of two contenders over data sets: fixed effects and random effects, in points and in log-odds.

Letters: J data sets, S seeds, R draws of the training images, G groups, B bootstrap replicates. Seeds belong to
encoders, and one encoder is tested on all data sets: a lucky seed is lucky on all of them. Seeds are therefore
resampled once for all data sets, groups (and draws) inside each, and data sets on top.

Fixed effects: other seeds, draws and images of the same data sets. Random effects: other data sets too, of which these
J are taken for a random sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from slmlp.config.names import display
from slmlp.results.comparison import (
    BySeed,
    Comparison,
    Effects,
    Paired,
    PairedAccuracy,
    PairedBootstrap,
    Run,
    compare,
    mean_of,
    pair,
)
from slmlp.results.intervals import LEVEL, Array, Bootstrap, Estimate, add_variances, bootstrap_mean, clustered_mean
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator

REPLICATES = 2000
CELLS = 20_000_000  # numbers of a block of replicates by kinds of groups in memory at once

ByData = Mapping[str, BySeed]  # data set -> seed -> run


@dataclass(frozen=True)
class Scale:
    """A function of a share in which differences are taken."""

    of: Callable[[Array, Array], Array]  # shares, numbers of images -> values
    slope: Callable[[Array, Array], Array]  # its derivative


def log_odds(share: Array, images: Array) -> Array:
    """Return ln(p / (1 - p)), with p kept half an image away from 0 and from 1.

    >>> log_odds(np.array([0.5, 0.9, 1.0]), np.array([100, 100, 100])).round(3).tolist()  # 1.0: ln(99.5 / 0.5)
    [0.0, 2.197, 5.293]
    """
    p = _inside(share, images)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)


def _inside(share: Array, images: Array) -> Array:
    return np.clip(share, 0.5 / images, 1 - 0.5 / images)


def _log_odds_slope(share: Array, images: Array) -> Array:
    p = _inside(share, images)
    return np.asarray(1 / (p * (1 - p)), dtype=np.float64)


POINTS = Scale(of=lambda p, _: 100 * p, slope=lambda p, _: np.full_like(p, 100.0))
LOG_ODDS = Scale(of=log_odds, slope=_log_odds_slope)


def compare_over_datasets(
    runs: Mapping[str, ByData], a: str, b: str, metric: str, seed: int = 0, replicates: int = REPLICATES
) -> Comparison:
    """Compare two contenders over the data sets and seeds that both have.

    Raises:
        SlmlpError: no data set and seed has runs of both, or they cannot be paired.
    """
    one_run = _one_run(runs, a, b)
    sets: list[Comparison] = []
    paired: list[Paired] = []
    for data in runs[a]:
        pairs = _pairs(runs[a][data], runs[b].get(data, {}), any_seed=one_run is not None)
        if not pairs:
            continue
        try:
            paired.append(pair(data, pairs))
        except SlmlpError as error:
            raise SlmlpError(f"{data}, {display(b)} against {display(a)}: {error}") from error
        sets.append(compare(a, b, metric, paired[-1]))
    if not sets:
        raise SlmlpError(f"no data set and seed has predictions of both {display(a)} and {display(b)}")
    in_points, in_log_odds = (mean_difference(paired, scale, seed, replicates) for scale in (POINTS, LOG_ODDS))
    # one data set has one interval, the one that its own row and a study show
    fixed = in_points.fixed if len(sets) > 1 else sets[0].estimate
    return Comparison(
        a, b, metric, tuple(one.data[0] for one in sets), fixed,
        seeds=min(one.seeds for one in sets), images=sum(one.images for one in sets),
        groups=sum(one.groups for one in sets), per_seed=(), draws=sets[0].draws, p_holm=fixed.p,
        random_effects=in_points.random, log_odds=in_log_odds, sets=tuple(sets),
        one_run=one_run if any(one.seeds > 1 for one in sets) else None,
    )  # fmt: skip


def comparable(runs: Mapping[str, ByData], a: str, b: str) -> bool:
    """Return whether any data set and seed has runs of both."""
    any_seed = _one_run(runs, a, b) is not None
    return any(_pairs(runs[a][data], runs[b].get(data, {}), any_seed=any_seed) for data in runs[a])


def _one_run(runs: Mapping[str, ByData], *names: str) -> str | None:
    """Return the contender that has one seed on all its data sets, the first of the two where both have."""
    for name in names:
        if len({seed for by_seed in runs[name].values() for seed in by_seed}) == 1:
            return name
    return None


def _pairs(a: BySeed, b: BySeed, *, any_seed: bool) -> dict[int, tuple[Run, Run]]:
    """Return seed -> runs of both; with ``any_seed`` the one run of a side goes with each of the other."""
    if not any_seed:
        return {seed: (a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())}
    if len(a) == 1:
        [only] = a.values()
        return {seed: (only, run) for seed, run in b.items()}
    return {seed: (run, only) for only in b.values() for seed, run in a.items()}


def mean_difference(sets: Sequence[Paired], scale: Scale, seed: int = 0, replicates: int = REPLICATES) -> Effects:
    """Return the mean difference over data sets, all accuracies or all bootstrapped numbers, on a scale.

    Intervals of accuracies are percentiles of ``replicates`` made from ``seed``; those of bootstrapped numbers are
    Student's t.
    """
    accuracies = [one for one in sets if isinstance(one, PairedAccuracy)]
    if accuracies:
        return _of_accuracies(accuracies, scale, seed, replicates)
    return _of_bootstraps([one for one in sets if isinstance(one, PairedBootstrap)], scale)


def own_log_odds(runs: Sequence[Run]) -> float:
    """Return a contender's own log-odds on one data set: of its mean accuracy, or the mean over bootstrapped runs."""
    bootstraps = [run for run in runs if isinstance(run, Bootstrap)]
    if bootstraps:
        return float(np.mean([_scaled(run, LOG_ODDS).value for run in bootstraps]))
    mean = mean_of(runs)
    return float(log_odds(np.array(mean.estimate.value), np.array(float(mean.images))))


def _of_accuracies(sets: Sequence[PairedAccuracy], scale: Scale, seed: int, replicates: int) -> Effects:
    """Return the effects with percentile intervals: seeds, draws and groups resampled, and data sets on top."""
    shares = np.stack([one.value for one in sets])  # (J, 2)
    images = np.array([[one.images] for one in sets], dtype=np.float64)  # (J, 1)
    differences = _difference(scale.of(shares, images))  # (J,)
    value = float(differences.mean())
    slopes = scale.slope(shares, images)  # (J, 2)
    (variance, degrees), noise = _variance(sets, slopes)
    moved = shares + _seed_offsets(sets, seed, replicates)  # (B, J, 2)
    for j, one in enumerate(sets):
        moved[:, j] += _inner_offsets(one, seed, replicates)
    offsets = _difference(scale.of(moved, images)).mean(axis=1) - value  # (B,)
    fixed = _percentile_estimate(value, offsets, variance, degrees)
    if len(sets) == 1:
        return Effects(fixed, None)
    # The scatter of data sets holds the noise of seeds and images inside them, which is resampled already.
    scatter = float(differences.var(ddof=1))
    own = max(0.0, scatter - noise)
    deviations = (differences - value) * np.sqrt(own / scatter if scatter > 0 else 0.0)
    offsets = offsets + _smoothed(deviations[:, None], numpy_generator(seed, "domains", "sets"), replicates)[:, 0]
    total = variance + own / len(sets)
    doubt = (variance**2 / degrees) + (scatter / len(sets)) ** 2 / (len(sets) - 1)  # of that variance
    least = min(degrees, len(sets) - 1)  # where noise outweighs scatter by luck, the formula may fall below
    return Effects(
        fixed, _percentile_estimate(value, offsets, total, max(least, total**2 / doubt) if doubt > 0 else least)
    )


def _of_bootstraps(sets: Sequence[PairedBootstrap], scale: Scale) -> Effects:
    """Return the effects in closed form.

    Fixed: the variance of images of each data set, over J^2, and that of seeds. Random: s^2 of the J differences / J,
    which holds the images' noise, and the seeds again, so that it errs on the wide side. Degrees of freedom by Welch
    and Satterthwaite.
    """
    parts, by_seed = [], []
    for one in sets:
        runs = [(_scaled(a, scale), _scaled(b, scale)) for a, b in one.runs]
        paired = replace(one, runs=tuple(runs))
        by_seed.append(np.array([difference.value for difference in paired.differences]))
        replicates = np.mean([difference.replicates for difference in paired.differences], axis=0)
        images = bootstrap_mean([Bootstrap(float(by_seed[-1].mean()), replicates, one.groups, one.images)])
        parts.append((images.variance / len(sets) ** 2, images.degrees))
    by_set = np.array([values.mean() for values in by_seed])
    seeds = _variance_of_seeds(_by_seed(sets, [values - values.mean() for values in by_seed]))
    value = float(by_set.mean())
    fixed = Estimate(value, *add_variances([*parts, *seeds]))
    if len(sets) == 1:
        return Effects(fixed, None)
    scatter = (float(by_set.var(ddof=1)) / len(sets), len(sets) - 1.0)
    return Effects(fixed, Estimate(value, *add_variances([scatter, *seeds])))


def _scaled(run: Bootstrap, scale: Scale) -> Bootstrap:
    """Return the run on a scale, where log-odds are kept half a group away from 0 and from 1."""
    groups = np.array(float(run.groups))
    return replace(run, value=float(scale.of(np.array(run.value), groups)), replicates=scale.of(run.replicates, groups))


def _difference(values: Array) -> Array:
    difference: Array = values[..., 1] - values[..., 0]
    return difference


def _variance(sets: Sequence[PairedAccuracy], slopes: Array) -> tuple[tuple[float, float], float]:
    """Return variance and degrees of freedom for fixed effects, in closed form, and the noise inside their scatter.

    On the straight line through the accuracies, with d_j = slopes times accuracies; groups and draws are independent
    between data sets. The noise is what variance between the d_j these alone would show.
    """
    by_seed = _by_seed(sets, [_line(one.by_seed - one.value, slopes[j]) for j, one in enumerate(sets)])
    inner: list[tuple[float, float]] = []  # of each data set and source, already divided by J^2
    for j, one in enumerate(sets):
        images = clustered_mean(_line(one.by_image, slopes[j]), one.names)
        inner.append((images.variance / len(sets) ** 2, images.degrees))
        if one.draws > 1:
            of_draws = float(_line(one.by_draw, slopes[j]).var(ddof=1)) / one.draws
            inner.append((of_draws / len(sets) ** 2, one.draws - 1))
    noise = sum(variance for variance, _ in inner) * len(sets)
    if len(sets) > 1:
        noise += float(by_seed.var(axis=1, ddof=1).sum())  # what seeds do to one set and not to another
    return add_variances([*inner, *_variance_of_seeds(by_seed)]), noise


def _by_seed(sets: Sequence[Paired], deviations: Sequence[Array]) -> Array:
    """Return each seed's deviation from the mean of its data set / sqrt(S_j (S_j - 1)); 0 where it has no partner."""
    seeds = _all_seeds(sets)
    table = np.zeros((len(seeds), len(sets)))
    for j, one in enumerate(sets):
        count = len(one.seeds)
        if count > 1:
            table[[seeds.index(s) for s in one.seeds], j] = deviations[j] / np.sqrt(count * (count - 1))
    return table


def _variance_of_seeds(by_seed: Array) -> list[tuple[float, float]]:
    """Return variance and degrees of freedom of other seeds, nothing where no data set has two.

    Var = sum over seeds of (mean over data sets of the seed's deviation / sqrt(S_j (S_j - 1)))^2.
    """
    seeds = int((np.abs(by_seed).sum(axis=1) > 0).sum())
    return [(float((by_seed.mean(axis=1) ** 2).sum()), seeds - 1)] if seeds > 1 else []


def _line(values: Array, slopes: Array) -> Array:
    """Return b's slope times b minus the same of a; no product of matrices, which would not make 0 of equal values."""
    line: Array = values[..., 1] * slopes[1] - values[..., 0] * slopes[0]
    return line


def _all_seeds(sets: Sequence[Paired]) -> list[int]:
    return sorted({seed for one in sets for seed in one.seeds})


def _seed_offsets(sets: Sequence[PairedAccuracy], seed: int, replicates: int) -> Array:
    """Return what resampled seeds add to the accuracies (B, J, 2); one sample of seeds serves all data sets."""
    seeds = _all_seeds(sets)
    n = len(seeds)
    if n == 1:
        return np.zeros((replicates, len(sets), 2))
    deviations = np.zeros((n, len(sets), 2))
    for j, one in enumerate(sets):
        own = len(one.seeds)
        if own > 1:  # a set that lacks some of the seeds: scaled to s^2 / S_j, the variance of its own mean
            scale = np.sqrt(n * (n - 1) / (own * (own - 1)))
            deviations[[seeds.index(s) for s in one.seeds], j] = (one.by_seed - one.value) * scale
    flat = _smoothed(deviations.reshape(n, -1), numpy_generator(seed, "domains", "seeds"), replicates)
    return flat.reshape(replicates, len(sets), 2)


def _inner_offsets(one: PairedAccuracy, seed: int, replicates: int) -> Array:
    """Return what resampled groups and draws of one data set add to its accuracies (B, 2)."""
    random = numpy_generator(seed, "domains", "units", one.data)
    # Groups with the same row are exchangeable: how often each row comes is multinomial, and there are few rows.
    rows, counts = np.unique(one.by_group, axis=0, return_counts=True)
    groups = int(counts.sum())
    at_once = max(1, CELLS // len(rows))
    parts = [min(at_once, replicates - start) for start in range(0, replicates, at_once)]
    # (B, 3): images, right of a, of b
    sums = np.concatenate([random.multinomial(groups, counts / groups, size=part) @ rows for part in parts])
    offsets: Array = (sums[:, 1:] / sums[:, :1] - one.value) * np.sqrt(groups / (groups - 1))
    if one.draws > 1:
        offsets = offsets + _smoothed(one.by_draw - one.value, random, replicates)
    return offsets


def _smoothed(deviations: Array, random: np.random.Generator, replicates: int) -> Array:
    """Return means (B, m) of n deviations (n, m) resampled with replacement and smoothed.

    Resampling alone has variance (n - 1) / n * s^2 / n, and for n of 2 or 3 takes but a few values. Each resampled one
    gets normal noise of variance s^2 / n (Hesterberg 2015, smoothed bootstrap), which makes it s^2 / n exactly.
    """
    n = len(deviations)
    counts = random.multinomial(n, np.full(n, 1 / n), size=replicates)
    weights = counts / n + random.normal(size=(replicates, n)) / (n * np.sqrt(n - 1))
    moved: Array = weights @ (deviations - deviations.mean(axis=0))
    return moved


def _percentile_estimate(value: float, offsets: Array, variance: float, degrees: float) -> Estimate:
    """Return the percentile interval, widened from the normal's quantile to Student's t, with the p-value of the t."""
    tail = 0.5 + LEVEL / 2
    widen = float(special.stdtrit(degrees, tail) / special.ndtri(tail))
    low, high = (value + widen * q for q in np.quantile(offsets, [1 - tail, tail]).tolist())
    return Estimate(value, variance, float(degrees), (low, high))
