"""Does the ratio on unseen classes rise and then fall with the ratio on source classes? docs/plans/theorem.md

    python scripts/theorem.py                  along training, and over encoders: from the committed result lines
    python scripts/theorem.py STUDY [DATA]     the identities of mixtures, on the encoders of a study's folder

Phi is the discriminative ratio (docs/measures.md). Intervals: 95 %, by resamples of contenders with all their seeds,
seed 0.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from build_advice import RESULTS, STUDIES

RESAMPLES, LEAST_ENCODERS, LEAST_KEPT = 2_000, 8, 3
END = 10**6  # in place of the last epoch
PRE, EVAL, ACCURACY = "discriminative_ratio_source_train", "discriminative_ratio_unseen", "accuracy"
NORMALISED = f"{PRE}_normalised"
Points = dict[int, dict[str, float]]  # epoch -> number -> value


def main() -> None:
    """Print the tables."""
    if len(sys.argv) > 1:
        from mixtures import tables

        tables(Path(sys.argv[1]), *sys.argv[2:])
        return
    lines = {file: _lines(file) for file in STUDIES}
    along_training(lines)
    over_encoders(lines)


def _lines(file: str) -> dict[tuple[str, int], Points]:
    """Return (contender, seed) -> epoch -> numbers; the end of training is the last."""
    runs: dict[tuple[str, int], Points] = defaultdict(lambda: defaultdict(dict))
    for line in map(json.loads, (RESULTS / f"{file}.jsonl").read_text().splitlines()):
        number = (line["task"], line["metric"])
        if line["role"] in ("curve", "final") and line.get("layer", "output") == "output" and number in (
            ("measures", PRE), ("measures", NORMALISED), ("measures", EVAL), ("unseen", ACCURACY),
        ):  # fmt: skip
            method = re.sub(r":seeds=\d+", "", line["method"])
            epoch = END if line["role"] == "final" else line["epoch"]
            runs[method, line["seed"]][epoch][line["metric"]] = line["value"]
    found = {run: {e: p for e, p in sorted(points.items()) if len(p) == 4} for run, points in runs.items()}
    for points in found.values():
        kept = sorted(set(points) - {END})
        if END in points and kept and points[kept[-1]] == points[END]:  # the last that was kept is the end
            points.pop(kept[-1])
    return found


def along_training(lines: Mapping[str, dict[tuple[str, int], Points]]) -> None:
    """Print whether each number is highest before the end, for every run with encoders kept on the way."""
    columns = ("setting", "run", "encoders", "phi on source", "steps up", "phi on unseen highest", "accuracy highest")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    steps, up = 0, {PRE: 0, NORMALISED: 0}
    early: dict[str, list[bool]] = defaultdict(list)
    for file, runs in lines.items():
        for (method, seed), points in sorted(runs.items()):
            if len(points) < LEAST_KEPT:
                continue
            pre, ev, acc = (np.array([p[name] for p in points.values()]) for name in (PRE, EVAL, ACCURACY))
            rises = int((np.diff(pre) > 0).sum())
            steps += len(pre) - 1
            for name in up:
                up[name] += int((np.diff([p[name] for p in points.values()]) > 0).sum())
            side = "without" if method == "sl" or "depth=0" in method or method.startswith("sl:") else "with"
            early[f"{side} a projector: phi"].append(bool(ev.argmax() < len(ev) - 1))
            early[f"{side} a projector: accuracy"].append(bool(acc.argmax() < len(acc) - 1))
            at = [f"epoch {e}" if e < END else "end" for e in (list(points)[int(x.argmax())] for x in (ev, acc))]
            cells = (STUDIES[file], f"{method}, seed {seed}", len(points), " ".join(f"{x:.2f}" for x in pre),
                     f"{rises} of {len(pre) - 1}", *at)  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |")
    print(f"\nphi on source rises in {up[PRE]} of {steps} steps, of normalised features in {up[NORMALISED]}")
    for name, found in sorted(early.items()):
        print(f"{name} highest before the end: {sum(found)} of {len(found)} runs")


def over_encoders(lines: Mapping[str, dict[tuple[str, int], Points]]) -> None:
    """Print the parabolas of phi on unseen classes and of unseen accuracy over the logarithm of phi on source."""
    settings: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for file, runs in lines.items():
        for (method, _), points in runs.items():
            if points:
                settings[STUDIES[file]][method].append(points[max(points)])
    print("\n| setting | encoders (contenders) | phi on source | of | curvature | highest at phi on source |")
    print("| --- | --- | --- | --- | --- | --- |")
    for setting, by_method in settings.items():
        groups = list(by_method.values())
        every = [one for group in groups for one in group]
        if len(every) < LEAST_ENCODERS or len(groups) < 4:
            continue
        pre = np.array([one[PRE] for one in every])
        for name, unit in ((EVAL, 1.0), (ACCURACY, 100.0)):
            random = np.random.default_rng(0)
            drawn = []
            for _ in range(RESAMPLES):
                some = [one for g in random.integers(len(groups), size=len(groups)) for one in groups[g]]
                drawn.append(_parabola(some, name))
            curvature, top = _parabola(every, name)
            low, high = np.nanquantile([unit * c for c, _ in drawn], [0.025, 0.975])
            tops = [t for c, t in drawn if c < 0]
            inside = pre.min() < top < pre.max()
            words = "none: it opens upwards"
            if curvature < 0:
                ends = np.nanquantile(tops, [0.025, 0.975])
                down = (
                    f"{100 * len(tops) / RESAMPLES:.0f} % of resamples open downwards: {ends[0]:.2g} to {ends[1]:.2g}"
                )
                words = f"{top:.2f}{'' if inside else ', outside'} ({down})"
            what = "phi on unseen" if name == EVAL else "unseen accuracy, points"
            cells = (setting, f"{len(every)} ({len(groups)})", f"{pre.min():.2f} to {pre.max():.2f}", what,
                     f"{unit * curvature:+.3f} ({low:+.3f} to {high:+.3f})", words)  # fmt: skip
            print(f"| {' | '.join(cells)} |")


def _parabola(points: Sequence[Mapping[str, float]], name: str) -> tuple[float, float]:
    """Return the curvature over ln phi, and the phi of its highest or lowest point."""
    x = np.log([one[PRE] for one in points])
    if len(set(np.round(x, 9))) < 3:
        return float("nan"), float("nan")
    a, b, _ = np.polyfit(x, [one[name] for one in points], 2)
    return float(a), float(np.exp(np.clip(-b / (2 * a), -20, 20)))


if __name__ == "__main__":
    main()
