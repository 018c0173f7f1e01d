"""Which measures order transfer? Spearman's correlations over all committed runs of studies, intervals over settings.

    python scripts/measures_and_transfer.py

Two questions for each measure. *Pairs*: over the pairs without and with a projector (scripts/build_advice.py), does the
change of the measure order the gain of unseen accuracy? *Runs*: within a setting, over all encoders that were trained
there (every contender and seed, raw pixels and untrained encoders left out), does the measure order unseen accuracy?
The second is the mean over settings of at least four encoders. Intervals: 95 %, by resamples of settings (a setting is
drawn with all that belongs to it), seed 0. ``specialisation`` is what ``slmlp advise`` reads; of pairs it is its value
without a projector, not its change. A measure that a file does not have leaves that file out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr

from build_advice import RESULTS, STUDIES, with_projector

RESAMPLES = 2_000
LEAST = 4  # encoders of a setting that may be ordered
ACCURACY, SOURCE = "unseen accuracy", "source accuracy"
SKIPPED = (
    "_k5", "_k20", "_k50", "_k10", "_floor", "_ceiling", "n_per_class", "mixtureness_k", "dead_channels_source",
    "dead_channels_unseen", "redundancy_baseline_source", "redundancy_baseline_unseen",
)  # fmt: skip
OWN = "measures specialisation"
RATIO = "measures discriminative_ratio_"
Runs = dict[str, dict[int, dict[str, float]]]  # contender -> seed -> number -> value


def main() -> None:
    """Print the table."""
    files = {file: _runs(file) for file in STUDIES}
    pairs, measures = [], set()
    for file, runs in files.items():
        for plain in runs:
            both = runs.get(with_projector(plain), {})
            seeds = sorted(set(runs[plain]) & set(both))
            if seeds:
                names = set.intersection(*(set(side[seed]) for side in (runs[plain], both) for seed in seeds))
                change = {n: float(np.mean([both[s][n] - runs[plain][s][n] for s in seeds])) for n in names}
                if OWN in names:
                    change[OWN] = float(np.mean([runs[plain][s][OWN] for s in seeds]))
                pairs.append((STUDIES[file], change))
                measures |= names
    settings: dict[str, list[dict[str, float]]] = defaultdict(list)
    for file, runs in files.items():
        settings[STUDIES[file]] += [numbers for by_seed in runs.values() for numbers in by_seed.values()]
    print(f"{len(pairs)} pairs in {len(set(STUDIES.values()))} settings; {sum(map(len, settings.values()))} encoders")
    print("| measure | pairs: Spearman of its change and the gain | runs: Spearman of it and unseen accuracy |")
    print("| --- | --- | --- |")
    rows = []
    for name in sorted(measures - {ACCURACY}):
        if name.endswith(SKIPPED):
            continue
        rows.append((name, _of_pairs(pairs, name), _of_runs(settings, name)))
    for name, of_pairs, of_runs in sorted(rows, key=lambda row: -abs(row[1][0])):
        print(f"| `{name.removeprefix('measures ')}` | {_words(of_pairs)} | {_words(of_runs)} |")


def _of_pairs(pairs: Sequence[tuple[str, dict[str, float]]], name: str) -> tuple[float, float, float, int]:
    held = [(where, change[name], change[ACCURACY]) for where, change in pairs if name in change]

    def value(drawn: Sequence[int]) -> float:
        return _rho([held[i][1] for i in drawn], [held[i][2] for i in drawn])

    groups = _groups([where for where, _, _ in held])
    low, high = _interval(groups, lambda drawn: value([i for g in drawn for i in groups[g]]))
    return value(range(len(held))), low, high, len(held)


def _of_runs(settings: dict[str, list[dict[str, float]]], name: str) -> tuple[float, float, float, int]:
    rhos, count = [], 0
    for runs in settings.values():
        held = [(one[name], one[ACCURACY]) for one in runs if name in one]
        if len(held) >= LEAST:
            rhos.append(_rho(*map(list, zip(*held, strict=True))))
            count += len(held)
    low, high = _interval([[i] for i in range(len(rhos))], lambda drawn: float(np.mean([rhos[i] for i in drawn])))
    return float(np.mean(rhos)), low, high, count


def _rho(x: Sequence[float], y: Sequence[float]) -> float:
    return float(spearmanr(x, y).statistic) if len(set(x)) > 1 and len(set(y)) > 1 else float("nan")


def _groups(names: Sequence[str]) -> list[list[int]]:
    return [[i for i, name in enumerate(names) if name == group] for group in dict.fromkeys(names)]


def _interval(groups: Sequence[object], value: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """Return the 95 % interval of ``value`` over resamples of groups."""
    random = np.random.default_rng(0)
    drawn = [value(random.integers(len(groups), size=len(groups)).tolist()) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _words(found: tuple[float, float, float, int]) -> str:
    rho, low, high, count = found
    bold = "**" if low > 0 or high < 0 else ""
    return f"{bold}{rho:+.2f}{bold} ({low:+.2f} to {high:+.2f}), {count}"


def _runs(file: str) -> Runs:
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    for line in map(json.loads, (RESULTS / f"{file}.jsonl").read_text().splitlines()):
        if line["role"] == "final" and line.get("layer", "output") == "output":
            method = ":".join(part for part in line["method"].split(":") if not part.startswith("seeds="))
            name = f"{line['task']} {line['metric']}"
            if line["task"] == "measures" or name in (ACCURACY, SOURCE):
                runs[method][line["seed"]][name] = line["value"]
    whole = {method: {s: of for s, of in by_seed.items() if ACCURACY in of} for method, by_seed in runs.items()}
    for numbers in (of for by_seed in whole.values() for of in by_seed.values()):
        if f"{RATIO}source_train" in numbers:
            numbers[OWN] = numbers[f"{RATIO}source_train"] / numbers[f"{RATIO}unseen"]
    return whole


if __name__ == "__main__":
    main()
