"""The sentences of a verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from slmlp.config.names import display
from slmlp.results.comparison import Comparison, Effects, Run
from slmlp.results.intervals import Estimate
from slmlp.results.records import WARNINGS, Result
from slmlp.runtime.errors import few

LISTED = 3  # contenders that a headline names
ADVICE = {  # what to do about a warning of ``records.WARNINGS``
    "duplicates_across_parts": "remove them from one of the parts, or accuracy there is too high",
    "repeated_images": "remove the copies, or give them one group in a manifest",
    "test_part_drawn": "name a test part in the data to choose it yourself",
    "classes_without_test_images": "give them some, or leave the classes out",
    "queries_left_out": "more images of these classes would let them take part",
    "neighbours_at_most": "ask for fewer neighbours",
    "constant_weights": "they were never trained, or the file is damaged: give other weights",
    "equal_features": "the encoder tells nothing apart, so the number says nothing of it",
    "unreadable": "data.json names each; repair or remove it",
    "left_out": "the log of the command names the reasons",
}
FEWEST = "minimum detectable difference (80 % power)"


def sentence(c: Comparison) -> str:
    """Return the finding in full, seen from the winner."""
    first, second, sign = _order(c)
    several = len(c.sets) > 1
    where = f"over {len(c.sets)} data sets " if several else f"on {c.data[0]} " if c.sets else ""
    average = " on average" if several else ""
    if c.difference == c.estimate.variance == 0:  # most often an average precision of 0 each: neither has learnt
        return f"{where}no difference found{average} between {first} and {second}: equal on every image and seed"
    size = f"{points(sign * c.difference, plus=c.winner is None)} {_unit(c)}"
    basis = f"({_basis(c, sign)})" + (f", {_log_odds(c.log_odds, sign)}" if several and c.log_odds else "")
    if c.winner is None:
        least = f"; {FEWEST} {points(c.estimate.detectable)} points" if _finite(c.estimate) else ""
        words = f"{where}no difference found{average} between {first} and {second}: {size} {basis}{least}"
    else:
        words = f"{where}{first} beats {second} by {size}{average} {basis}"
        if several:
            words += f"; {'' if c.holds_for_random_effects else 'not '}shown for random effects over data sets"
    if c.changed_by_correction:
        words += (
            f"; alone it would have counted (p = {c.estimate.p:.2g}), among {c.family} comparisons it does not "
            f"(Holm-corrected p = {c.p_holm:.2g})"
        )
    return words


def switched(pairs: Sequence[Comparison], means: Mapping[str, float]) -> str:
    """Return in one sentence what an MLP projector did to each of several methods, without (a) and with it (b).

    Args:
        pairs: the comparisons, each of unseen accuracy.
        means: accuracy of every contender, 0 to 1.
    """
    several = Counter(c.a for c in pairs)
    told = {
        (c.a, c.b): f"{display(c.a)}{f' as {display(c.b)}' if several[c.a] > 1 else ''} "
        f"({points(c.difference, plus=True)} points, {points(100 * means[c.a])} % to {points(100 * means[c.b])} %)"
        for c in pairs
    }
    parts = []
    for won, words in ((True, "helped"), (False, "hurt")):
        some = [told[c.a, c.b] for c in pairs if c.winner == (c.b if won else c.a)]
        parts += [f"an MLP projector {words} {' and '.join(some)}"] if some else []
    level = [told[c.a, c.b] for c in pairs if c.winner is None]
    if level:
        what = "for" if parts else "with an MLP projector for"
        parts.append(f"no difference was found {what} {' and '.join(level)}")
    seeds = "with one seed, " if all(c.seeds == 1 for c in pairs) else ""
    return f"{seeds}on unseen classes {'; '.join(parts)}"


def gained(c: Comparison) -> str:
    """Return whether an MLP projector helps one method more than another: c is of the methods without it."""
    low, high = (display(c.a), display(c.b)) if c.difference >= 0 else (display(c.b), display(c.a))
    sign = 1 if c.difference >= 0 else -1
    size = f"{points(sign * c.difference, plus=c.winner is None)} points"
    if c.winner is None:
        return f"no difference found in how much the projector helps {high} and {low}: {size} ({_basis(c, sign)})"
    return f"the projector helps {high} more than {low}, by {size} ({_basis(c, sign)})"


def continued(c: Comparison) -> str:
    """Return whether training on helped unseen classes: ``b`` is what a method made of the encoder ``a``."""
    found = {c.b: "helped", c.a: "hurt", None: "was not shown to help or to hurt"}[c.winner]
    return f"continuing the weights with {display(c.b)} {found} unseen classes: {sentence(c)}"


def short(c: Comparison) -> str:
    """Return the finding over data sets without its basis, seen from the winner."""
    first, second, sign = _order(c)
    where = f"on {c.data[0]}" if len(c.data) == 1 else f"over {len(c.data)} data sets"
    size = f"{points(sign * c.difference, plus=c.winner is None)} {_unit(c)}"
    basis = f"(95 % CI {_range(c.estimate, sign)})"
    if c.winner is None:
        return f"no difference found between {first} and {second} {where}: {size} {basis}"
    known = c.holds_for_random_effects or len(c.data) == 1
    beyond = "" if known else "; not shown for random effects over data sets"
    return f"{first} beats {second} {where} by {size} {basis}{beyond}"


def by_data_set(c: Comparison) -> str:
    """Return on which data sets b is better, worse or not different, and by how much."""
    kinds: dict[str | None, list[str]] = defaultdict(list)
    for one in c.sets:
        least = f", {FEWEST} {points(one.estimate.detectable)}" if one.winner is None and _finite(one.estimate) else ""
        kinds[one.winner].append(f"{one.data[0]} ({points(one.difference, plus=True)}{least})")
    parts = [
        f"{words} {', '.join(kinds[winner])}"
        for winner, words in ((c.b, "better on"), (c.a, "worse on"), (None, "no difference found on"))
        if kinds[winner]
    ]
    family = c.sets[0].family
    correction = f", Holm-corrected over {family} comparisons at 5 %" if family > 1 else ""
    words = f"{display(c.b)} against {display(c.a)}, {_unit(c)} by data set{correction}: {'; '.join(parts)}"
    lost = [one.data[0] for one in c.sets if one.changed_by_correction]
    return words + (f"; alone it would have counted on {', '.join(lost)}" if lost else "")


def together(baseline: str, comparisons: Sequence[Comparison]) -> str:
    """Return what holds for all comparisons with the baseline together at 5 %; many contenders are counted."""
    better = [display(c.b) for c in comparisons if c.winner == c.b]
    worse = [display(c.b) for c in comparisons if c.winner == c.a]
    undecided = [display(c.b) for c in comparisons if c.winner is None]
    if len(comparisons) > LISTED and not better and not worse:
        found = f"none of {len(comparisons)} contenders could be told from {display(baseline)}"
        return f"taken together (Holm-corrected at 5 %): {found}; each interval is for its comparison alone"
    if len(comparisons) > LISTED:
        undecided = [f"{len(undecided)} others"] if len(undecided) > LISTED else undecided
    parts = [
        f"{', '.join(names)} {words} {display(baseline)}"
        for names, words in (
            (better, "beat" if len(better) > 1 else "beats"),
            (worse, "lose to" if len(worse) > 1 else "loses to"),
            (undecided, "could not be told from"),
        )
        if names
    ]
    return (
        f"taken together ({len(comparisons)} comparisons, Holm-corrected at 5 %): {'; '.join(parts)}; "
        "each interval is for its comparison alone"
    )


def left_out(
    runs: Mapping[str, Mapping[str, Mapping[int, Run]]], comparisons: Sequence[Comparison], *, name_data: bool
) -> list[str]:
    """Return sentences on single runs that are paired with several, and on data sets and seeds that only one has."""
    sentences = []
    seeds: dict[tuple[str, tuple[int, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for c in comparisons:
        a, b = display(c.a), display(c.b)
        if c.one_run is not None:
            sentences.append(
                f"{display(c.one_run)} has one run, which is paired with each run of {b if c.one_run == c.a else a}: "
                f"the intervals are for this one run of {display(c.one_run)}"
            )
        lonely: dict[tuple[int, ...], list[str]] = defaultdict(list)
        alone: dict[str, list[str]] = defaultdict(list)
        for data in dict.fromkeys([*runs[c.a], *runs[c.b]]):
            in_a, in_b = (runs[name].get(data, {}) for name in (c.a, c.b))
            if not in_a or not in_b:
                alone[a if in_a else b].append(data)
            elif data not in c.data:
                sentences.append(f"{data} left out of {b} against {a}: they have no seed in common there")
            elif c.one_run is None and len(in_a) + len(in_b) > 2 and in_a.keys() != in_b.keys():
                lonely[tuple(sorted(in_a.keys() ^ in_b.keys()))].append(data)
        for who, names in alone.items():
            sentences.append(f"{', '.join(names)} left out of {b} against {a}: only {who} has it")
        for missing, names in lonely.items():
            seeds[c.a, missing, tuple(names)].append(b)
    for (a_name, missing, data_names), contenders in seeds.items():
        where = f" on {', '.join(data_names)}" if name_data else ""
        sentences.append(
            f"seed{'s' * (len(missing) > 1)} {', '.join(map(str, missing))} left out of {', '.join(contenders)} "
            f"against {display(a_name)}{where}: only one of the two has {'it' if len(missing) == 1 else 'them'}"
        )
    return sentences


def missing_data_sets(data: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Return the sentence that names the suite's missing data sets."""
    if not missing:
        return []
    return [f"{len(data)} of {len(data) + len(missing)} data sets: {', '.join(missing)} missing, and in no mean"]


def metric_name(metric: str) -> str:
    """Return a metric's name for readers.

    >>> metric_name("box_ap50"), metric_name("mask_ap_small"), metric_name("map"), metric_name("accuracy_at_1_shot")
    ('box AP50', 'mask AP small', 'mAP', 'accuracy at 1 shot')
    >>> metric_name("recall_at_10"), metric_name("map_at_r"), metric_name("auroc_knn"), metric_name("fpr95_energy")
    ('Recall@10', 'mAP@R', 'AUROC by k-NN', 'FPR95 by energy')
    """
    if metric == "ece":
        return "calibration error (ECE)"
    if metric in ("map", "map_at_r"):
        return metric.replace("map", "mAP").replace("_at_r", "@R")
    if metric.startswith("recall_at_"):
        return metric.replace("recall_at_", "Recall@")
    if metric.startswith(("auroc_", "fpr95_")):
        rate, by = metric.split("_")
        return f"{rate.upper()} by {'k-NN' if by == 'knn' else by}"
    words = metric.replace("_", " ")
    return words.replace("ap", "AP", 1) if metric.startswith(("box_", "mask_")) else words


def points(value: float, *, plus: bool = False) -> str:
    """Format points with one decimal, or two where one would hide which side of 0 they are on."""
    digits = 2 if 0 < abs(value) < 0.05 else 1
    return f"{round(value, digits) + 0.0:{'+' if plus else ''}.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def _order(c: Comparison) -> tuple[str, str, int]:
    """Return the names, the better first where there is a winner, and the sign of the difference seen so."""
    a, b = display(c.a), display(c.b)
    return (a, b, -1) if c.winner == c.a else (b, a, 1)


def _unit(c: Comparison) -> str:
    return "points" if "accuracy" in c.metric else f"points of {metric_name(c.metric)}"


def _finite(estimate: Estimate) -> bool:
    return estimate.variance < float("inf")


def _basis(c: Comparison, sign: int) -> str:
    interval = f"95 % CI {_range(c.estimate, sign)}"
    if len(c.sets) > 1:
        counts = sorted({one.seeds for one in c.sets})
        seeds = "one seed" if counts == [1] else f"{'-'.join(map(str, dict.fromkeys([counts[0], counts[-1]])))} seeds"
        other = "other images" if counts == [1] else "other seeds and images"
        random = f"; {_range(c.random_effects, sign)} for random effects over data sets" if c.random_effects else ""
        return f"{interval} for fixed effects, {other} of these data sets, {seeds}{random}"
    alone = c.seeds == c.draws == 1
    seeds = "one seed" if c.seeds == 1 else f"{c.seeds} seeds"
    seeds += f", {c.draws} draws of the training images" if c.draws > 1 else ""
    groups = f" in {c.groups:,} groups of related images" if c.groups < c.images else ""
    return f"{interval}{' over images only' * alone}, {seeds}, {c.images:,} images{groups}"


def interval(c: Comparison) -> str:
    """Return the 95 % interval of b - a: ``-1.2 to 3.4``."""
    return _range(c.estimate, 1)


def _range(estimate: Estimate, sign: int) -> str:
    low, high = sorted(sign * end for end in estimate.interval)
    return f"{points(low)} to {points(high)}"


def _log_odds(effects: Effects, sign: int) -> str:
    def ends(estimate: Estimate) -> str:
        low, high = sorted(sign * end for end in estimate.interval)
        return f"{low:.2f} to {high:.2f}"

    words = f"in mean log-odds {sign * effects.fixed.value:+.2f} ({ends(effects.fixed)}"
    return words + (f"; {ends(effects.random)} for random effects)" if effects.random else ")")


def fit_warnings(rows: Iterable[Result]) -> list[str]:
    """Return what limits the fits behind numbers: values at the edge of their grid, and fits that did not finish."""
    edge: dict[str, dict[str, None]] = {"--probe.l2": {}, "--finetune.rates": {}}
    unfinished: dict[str, None] = {}
    for row in rows:
        name = f"{row.run} on {row.data} ({row.task})"
        if row.extra.get("at_grid_edge"):
            edge["--finetune.rates" if row.task == "finetune" else "--probe.l2"][name] = None
        if row.extra.get("unfinished_fits"):
            unfinished[name] = None
    lines = [
        f"the best value of {flag} is the lowest or highest that was tried for {few(sorted(names), 6)}: give lower or "
        "higher ones too"
        for flag, names in edge.items()
        if names
    ]
    words = "the probe reached its most iterations before its tolerance for"
    return lines + ([f"{words} {few(sorted(unfinished), 6)}: raise --probe.max-iterations"] if unfinished else [])


def data_warnings(rows: Iterable[Result]) -> list[str]:
    """Return what the data limit and what to do: a sentence per data set, part and warning, with tasks."""
    tasks: dict[tuple[str, str, str, int], dict[str, None]] = {}
    for row in rows:
        part = row.extra.get("part", "test")
        for key, n in row.warnings.items():
            tasks.setdefault((row.data, WARNINGS[key].format(part=part), key, n), {})[row.task] = None
    found = sorted(tasks.items(), key=lambda item: list(WARNINGS).index(item[0][2]))
    return [f"{data}: {words}: {n:,} ({', '.join(of)}); {ADVICE[key]}" for (data, words, key, n), of in found]
