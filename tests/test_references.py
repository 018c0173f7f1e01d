"""What needs no training is in the verdict: every contender against it, paired, corrected together.

The claims: differences and corrected p values by hand; chance is the share of the most frequent class; the sentence
says who beats it, with a range where there are many; a study whose training was worth nothing says so first, and its
next command starts from pretrained weights.
"""

from __future__ import annotations

import html
import shlex
from pathlib import Path

import numpy as np
import pytest

from slmlp import cli
from slmlp.cli.parse import parse
from slmlp.cli.studying import Study
from slmlp.config.names import CHANCE
from slmlp.report.inputs import read
from slmlp.report.study_table import grid
from slmlp.results import records
from slmlp.results.comparison import compare, pair
from slmlp.results.records import Predictions
from slmlp.results.references import against, chance, sentence
from slmlp.runtime import json_files

N = 400


def predicted(share: float, seed: int, labels: np.ndarray) -> Predictions:
    """Return predictions that are right for about a share of the images."""
    right = np.random.default_rng(seed).random(N) < share
    ids = np.array([f"i{k:03d}" for k in range(N)])
    return Predictions(ids, ids, labels, np.where(right, labels, "none"), np.zeros(N, dtype=np.int64))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.array(["a"] * 160 + ["b"] * 140 + ["c"] * 100)


@pytest.fixture(scope="module")
def found(labels):
    contenders = {name: {s: predicted(share, 10 * k + s, labels) for s in range(3)}
                  for k, (name, share) in enumerate((("sl", 0.55), ("sl-mlp", 0.7)), 1)}  # fmt: skip
    first = contenders["sl"][0]
    return contenders, against(contenders, {"raw-pixels": predicted(0.56, 99, labels), CHANCE: chance(first)}, "d")


def test_chance_is_the_share_of_the_most_frequent_class(labels):
    guess = chance(predicted(0.9, 0, labels))
    assert guess.correct.mean() == 160 / 400
    assert set(guess.predictions) == {"a"}


def test_differences_and_corrected_p_values_are_those_by_hand(found, labels):
    contenders, references = found
    pixels = predicted(0.56, 99, labels)
    accuracy = {"raw-pixels": pixels.correct.mean(), CHANCE: 0.4}
    alone = {}
    for one in references:
        assert one.value == accuracy[one.name]
        for c in one.comparisons:
            mine = np.mean([run.correct.mean() for run in contenders[c.b].values()])
            assert c.difference == pytest.approx(100 * (mine - one.value))
            assert (c.a, c.one_run, c.seeds, c.family) == (one.name, one.name, 3, 4)
            rows = pixels if one.name == "raw-pixels" else chance(pixels)
            single = compare(c.a, c.b, "accuracy", pair("d", {s: (rows, r) for s, r in contenders[c.b].items()}))
            assert c.estimate == single.estimate
            alone[c.a, c.b] = single.estimate.p
    running = 0.0
    for rank, key in enumerate(sorted(alone, key=lambda k: alone[k])):  # Holm 1979
        running = max(running, min(1.0, (4 - rank) * alone[key]))
        (corrected,) = (c.p_holm for one in references for c in one.comparisons if (c.a, c.b) == key)
        assert corrected == pytest.approx(running)


def test_the_sentence_says_who_beats_it(found, labels):
    contenders, (pixels, guess) = found
    assert sentence(pixels).startswith("SL-MLP beats raw pixels (")
    assert ", SL does not: SL " in sentence(pixels)
    assert sentence(guess).startswith("SL and SL-MLP beat chance (40.0 %): SL +")
    assert pixels.beaten
    assert guess.beaten
    runs = {"sl": contenders["sl"], "sl-mlp": {0: predicted(0.55, 7, labels)}}
    (better,) = against(runs, {"raw-pixels": predicted(0.9, 3, labels)}, "d")
    assert sentence(better).startswith("neither SL nor SL-MLP beats raw pixels (")
    assert not better.beaten


def test_many_contenders_are_one_line_with_a_range(labels):
    runs = {f"v{k}": {0: predicted(0.5, k, labels)} for k in range(7)}
    (pixels,) = against(runs, {"raw-pixels": predicted(0.5, 99, labels)}, "d")
    line = sentence(pixels)
    assert line.startswith("none of 7 contenders beats raw pixels (")
    assert not any(name in line for name in runs)
    low, high = (f(c.difference for c in pixels.comparisons) for f in (min, max))
    assert line.endswith(f"{low:+.1f} to {high:+.1f} points")


FLAGS = (
    "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment none --save-every 0 --seeds 2 "
    "--parallel 1 --split.by random --split.unseen-fraction 0.5 --probe.folds 3 --probe.l2 1e-2"
)


@pytest.fixture(scope="module")
def worthless(shapes, once) -> Path:
    """A study whose rate is so small that nothing is learnt."""

    def make(folder: Path) -> None:
        assert cli.main(["study", str(shapes), *FLAGS.split(), "--rates", "1e-9", "--out", str(folder)]) == 0

    return once("worthless", make)


@pytest.mark.slow
def test_training_that_was_worth_nothing_is_the_first_sentence(shapes, worthless):
    written = json_files.read(worthless / "verdict.json", dict)
    references = {one["name"]: one for one in written["tasks"]["unseen accuracy"]["references"]}
    assert list(references) == ["random-init", "raw-pixels", CHANCE]
    assert written["sentences"][0].startswith(references["raw-pixels"]["sentence"])
    assert "start from pretrained weights" in written["sentences"][0]
    rows = [r for r in records.read(worthless / "results.jsonl") if (r.task, r.metric) == ("unseen", "accuracy")]
    mean = np.mean([r.value for r in rows if r.method == "sl" and r.role == "final"])
    pixels = next(r.value for r in rows if r.method == "raw-pixels")
    (c,) = (c for c in references["raw-pixels"]["comparisons"] if c["b"] == "sl")
    assert c["difference"] == pytest.approx(100 * (mean - pixels))
    table = {row.label: [cell.text if hasattr(cell, "text") else str(cell) for cell in row.cells]
             for row in grid(read(worthless)).rows}  # fmt: skip
    assert f"{-c['difference']:+.1f}".replace("-", "−") in " ".join(table["raw pixels"])


@pytest.mark.slow
def test_what_is_next_follows_from_it(shapes, worthless):
    following = json_files.read(worthless / "study.json", dict)["next"]
    assert following["kind"] == "pretrained"
    program, command, *words = shlex.split(following["command"])
    assert (program, command) == ("slmlp", "study")
    study = parse(Study, "study", words)
    assert study.data == str(shapes)
    assert study.study.training.init.startswith("timm:")
    assert study.study.split.by == "random"  # the same classes are held out
    assert following["command"] in html.unescape((worthless / "report.html").read_text())
