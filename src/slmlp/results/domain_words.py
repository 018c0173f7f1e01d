"""The words of a verdict over data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from slmlp.config.names import display
from slmlp.results.domain_comparison import DomainComparison
from slmlp.results.domain_statistics import Over, Spread
from slmlp.results.records import Predictions
from slmlp.results.verdict import ALPHA, points


def short(c: DomainComparison) -> str:
    """Return a finding in one breath, seen from the winner; the whole of it stands in the task's own sentences."""
    names, (low, high) = list(c.sets), c.points.these.interval
    where = f"on {names[0]}" if len(names) == 1 else f"over {len(names)} data sets"
    a, b, value = display(c.method_a), display(c.method_b), c.points.value
    if c.winner is None:
        return f"no difference found between {b} and {a} {where}: {points(value, plus=True)} points " + (
            f"(95 % CI {points(low)} to {points(high)})"
        )
    if c.winner == c.method_a:
        a, b, value, low, high = b, a, -value, -high, -low
    beyond = "" if c.holds_beyond or len(names) == 1 else "; not shown for other data sets like these"
    return (
        f"{b} beats {a} {where} by {points(value, plus=True)} points (95 % CI {points(low)} to {points(high)}){beyond}"
    )


def on_average(c: DomainComparison) -> str:
    """Return the finding on the mean over data sets, seen from the winner."""
    a, b = display(c.method_a), display(c.method_b)
    turned = c.winner == c.method_a
    sign = -1 if turned else 1
    basis = _basis(c, sign)
    odds = _log_odds(c.log_odds, sign)
    if c.winner is None:
        words = (
            f"over {len(c.sets)} data sets no difference found on average between {b} and {a}: "
            f"{points(c.points.value, plus=True)} points ({basis}), {odds}; "
            f"this suite could have found {points(c.points.these.detectable)} points"
        )
        if c.points.these.p < ALPHA <= c.p_holm:
            words += (
                f"; alone it would have counted (p = {c.points.these.p:.2g}), among {c.comparisons} methods it does "
                f"not (Holm-corrected p = {c.p_holm:.2g})"
            )
        return words
    first, second = (a, b) if turned else (b, a)
    beyond = "shown for data sets like these too" if c.holds_beyond else "not shown for other data sets like these"
    return (
        f"over {len(c.sets)} data sets {first} beats {second} by {points(sign * c.points.value, plus=True)} points on "
        f"average ({basis}), {odds}; {beyond}"
    )


def on_each(c: DomainComparison) -> str:
    """Return on which data sets B is better, worse, or not to be told from A, and by how much."""
    a, b = display(c.method_a), display(c.method_b)
    kinds: dict[str | None, list[str]] = defaultdict(list)
    for name, single in c.sets.items():
        told = f"{name} ({points(single.difference, plus=True)}"
        kinds[single.winner].append(
            told + (f", could have found {points(single.detectable)})" if single.winner is None else ")")
        )
    parts = [
        f"{words} {', '.join(kinds[winner])}"
        for winner, words in (
            (c.method_b, "better on"),
            (c.method_a, "worse on"),
            (None, "no difference found on"),
        )
        if kinds[winner]
    ]
    total = next(iter(c.sets.values())).comparisons
    corrected = f", Holm-corrected over {total} comparisons at 5 %" if total > 1 else ""
    sentence = f"{b} against {a}, points by data set{corrected}: {'; '.join(parts)}"
    lost = [name for name, single in c.sets.items() if single.changed_by_correction]
    if lost:
        sentence += f"; alone it would have counted on {', '.join(lost)}"
    return sentence


def left_out(runs: Mapping[str, Mapping[str, Mapping[int, Predictions]]], c: DomainComparison) -> list[str]:
    """Return sentences on the one run that stands for its method, and on data sets and seeds that only one has."""
    a, b = display(c.method_a), display(c.method_b)
    said = []
    if c.one_run is not None:
        other = b if c.one_run == c.method_a else a
        said.append(
            f"{display(c.one_run)} has one run, which is paired with each run of {other}: "
            f"the intervals are for this one run of {display(c.one_run)}"
        )
    seeds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    alone: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys([*runs[c.method_a], *runs[c.method_b]]):
        in_a, in_b = (runs[method].get(name, {}) for method in (c.method_a, c.method_b))
        if not in_a or not in_b:
            alone[a if in_a else b].append(name)
        elif name not in c.sets:
            said.append(f"{name} left out of {b} against {a}: they have no seed in common there")
        elif c.one_run is None and len(in_a) + len(in_b) > 2 and in_a.keys() != in_b.keys():
            seeds[tuple(sorted(in_a.keys() ^ in_b.keys()))].append(name)
    said += [f"{', '.join(names)} left out of {b} against {a}: only {who} has it" for who, names in alone.items()]
    for missing, names in seeds.items():
        numbers = f"seed{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        said.append(f"{numbers} left out of {b} against {a} on {', '.join(names)}: only one of the two has it")
    return said


def what_is_missing(names: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Return the sentence on data sets of the suite that nothing is there of."""
    if not missing:
        return []
    total = len(names) + len(missing)
    return [f"{len(names)} of {total} data sets: {', '.join(missing)} missing, and in no mean"]


def _basis(c: DomainComparison, sign: int) -> str:
    counts = sorted({single.seeds for single in c.sets.values()})
    alone = counts == [1]
    seeds = "one seed" if alone else f"{'-'.join(map(str, sorted({counts[0], counts[-1]})))} seeds"
    what = "other images of these data sets" if alone else "other seeds and images of these data sets"
    basis = f"95 % CI {_range(c.points.these, sign)} for {what}, {seeds}"
    if c.points.like is not None:
        basis += f"; {_range(c.points.like, sign)} for data sets like these"
    return basis


def _range(spread: Spread, sign: int) -> str:
    low, high = sorted(sign * end for end in spread.interval)
    return f"{points(low)} to {points(high)}"


def _log_odds(over: Over, sign: int) -> str:
    ends = sorted(sign * end for end in over.these.interval)
    words = f"in mean log-odds {sign * over.value:+.2f} ({ends[0]:.2f} to {ends[1]:.2f}"
    if over.like is not None:
        ends = sorted(sign * end for end in over.like.interval)
        words += f"; {ends[0]:.2f} to {ends[1]:.2f} for data sets like these"
    return words + ")"
