"""Collect the pairs of ``slmlp advise`` from committed result lines into src/slmlp/results/advice.json.

    python scripts/build_advice.py            print the pairs, the rule and how it does on settings left out
    python scripts/build_advice.py --write    write advice.json too

A pair is one loss in one study, without a projector and with one, over the seeds that both have. Unseen accuracy, the
discriminative ratio on the images trained on and the two it is set against come from the lines; what was trained comes
from the commands in docs/results.md, in ``STUDIES`` below. Lines of detections and suites have no such pairs.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

from slmlp.experiments.study.specs import parse
from slmlp.results import advice
from slmlp.results.advice import Pair

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
OUT = ROOT / "src" / "slmlp" / "results" / "advice.json"
STUDIES = {  # file -> setting (images, split, augmentation, epochs)
    "emoji-5-seeds-xeon": "emoji, weak, 30 epochs",
    "emoji-5-seeds": "emoji, weak, 30 epochs",
    "emoji-losses": "emoji, weak, 30 epochs",
    "emoji-5-seeds-coarse": "emoji, superclasses, weak, 30 epochs",
    "tiny-imagenet-124-76-fine": "tiny-imagenet 124/76, weak, 60 epochs",
    "tiny-imagenet-124-76-winner": "tiny-imagenet 124/76, weak, 60 epochs",
    "tiny-imagenet-124-76-coarse": "tiny-imagenet 124/76, superclasses, weak, 60 epochs",
    "tiny-imagenet-124-76-methods": "tiny-imagenet 124/76, simclr-small, 16 epochs",
    "tiny-imagenet-inner-coarse-50": "tiny-imagenet 79/45, superclasses, weak, 60 epochs",
    "tiny-imagenet-inner-weak-100": "tiny-imagenet 79/45, 100 images, weak, 30 epochs",
    "tiny-imagenet-inner-dial-60-rest": "tiny-imagenet 79/45, weak, 60 epochs",
    "tiny-imagenet-inner-losses-rate0.4": "tiny-imagenet 79/45, weak, 60 epochs",
}
UNSEEN, SOURCE = "unseen accuracy", "source accuracy"
RATIO = "measures discriminative_ratio_"


def collected() -> list[Pair]:
    """Return every pair of the studies."""
    found = []
    for file, setting in STUDIES.items():
        runs = _runs(RESULTS / f"{file}.jsonl")
        for plain in runs:
            both = with_projector(plain)
            seeds = sorted(set(runs[plain]) & set(runs.get(both, {})))
            if not seeds:
                continue
            epochs = re.search(r":training\.epochs=(\d+)", plain)
            where = re.sub(r"\d+ epochs", f"{epochs[1]} epochs", setting) if epochs else setting
            augment = setting.split(", ")[-2]
            before, after = [runs[plain][seed] for seed in seeds], [runs[both][seed] for seed in seeds]
            found.append(
                Pair(
                    where, file, plain, advice.kind_of(parse(plain).settings, augment), len(seeds),
                    *(float(np.mean([100 * (b[key] - a[key]) for a, b in zip(before, after, strict=True)]))
                      for key in (UNSEEN, SOURCE)),
                    *(float(np.mean([a[f"{RATIO}source_train"] / a[f"{RATIO}{side}"] for a in before]))
                      for side in ("unseen", "source")),
                )
            )  # fmt: skip
    return found


def with_projector(plain: str) -> str:
    """Return the contender that differs from ``plain`` by the projector alone; empty where it has one itself."""
    if plain == "sl" or plain.startswith("sl:"):
        return f"sl-mlp{plain[2:]}"
    return plain.replace(":projector.depth=0", "") if ":projector.depth=0" in plain else ""


def _runs(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Return contender -> seed -> number -> value, of final encoders at their output."""
    runs: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in map(json.loads, path.read_text().splitlines()):
        if line["role"] == "final" and line.get("layer", "output") == "output":
            method = re.sub(r":seeds=\d+", "", line["method"])
            runs[method][line["seed"]][f"{line['task']} {line['metric']}"] = line["value"]
    needed = (UNSEEN, SOURCE, *(f"{RATIO}{side}" for side in ("source_train", "source", "unseen")))
    return {
        method: whole
        for method, by_seed in runs.items()
        if (whole := {seed: of for seed, of in by_seed.items() if all(key in of for key in needed)})
    }


def main() -> None:
    """Print the pairs and the rule; write advice.json where asked to."""
    known = collected()
    print(f"{'setting':55}{'contender':38}{'seeds':>6}{'gain':>7}{'source':>8}{'unseen':>8}{'own':>6}")
    for one in known:
        print(
            f"{one.setting:55}{one.method:38}{one.seeds:6}{one.gain:+7.2f}{one.source_gain:+8.2f}{one.unseen:8.2f}"
            f"{one.source:6.2f}"
        )
    gains = [one.gain for one in known]
    for against in ("unseen", "source"):
        rule, tried = advice.fit(known, against), advice.trial(known, against)
        found = stats.spearmanr(gains, [getattr(one, against) for one in known])
        print(
            f"against {against}: gain = {rule.intercept:.2f} + {rule.slope:.2f} ln(specialisation), deviation "
            f"{rule.deviation:.2f}; Spearman {found.statistic:.2f}; settings left out: {tried.hits} of {len(known)} "
            f"called right, mean error {tried.error:.2f} points"
        )
    by_source = stats.spearmanr(gains, [one.source_gain for one in known])
    print(f"gain against the gain on source classes: Spearman {by_source.statistic:.2f}")
    tried = advice.trial_of_kinds(known)
    print(f"by kind of loss: {tried.hits} of {len(tried.measured)} called right, mean error {tried.error:.2f} points")
    constant = sum(advice.call(float(np.mean(gains))) == advice.call(gain) for gain in gains)
    print(f"the mean of all pairs calls {constant} of {len(gains)} right")
    if "--write" in sys.argv[1:]:
        OUT.write_text(json.dumps([dataclasses.asdict(one) for one in known], indent=1) + "\n")
        print(OUT.relative_to(ROOT))


if __name__ == "__main__":
    main()
