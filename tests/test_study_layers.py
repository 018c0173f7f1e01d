"""Accuracy by layer of a study's encoders.

Claims: every layer's number is the probe's on features taken there by hand, inside and behind the projector too; at the
output it is the study's own; only the seeds asked for are probed; the share kept is the output's over the best of the
encoder's own layers; the page's table has these numbers.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path

import pytest

from slmlp import config
from slmlp.encoders.projector_file import load_projector
from slmlp.experiments.study.context import open_study
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.linear import evaluate
from slmlp.report import inputs as page_inputs
from slmlp.report import study_layers
from slmlp.results import layers, records
from slmlp.runtime import json_files
from study_runs import FLAGS, finished, here, rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(shapes, once) -> Path:
    return finished(shapes, once)


@pytest.fixture(scope="module")
def opened(shapes, done):
    settings = json_files.read(done / "study.json", dict)["settings"]
    cfg = config.from_dict(config.Study, settings)
    return open_study(str(shapes), done, cfg, quiet=True)


@pytest.mark.parametrize("layer", ["stage2", "stage4", "projector.hidden", "projector.output"])
def test_a_layers_number_is_the_probes_on_features_taken_there(opened, done, layer):
    run = opened.run(opened.spec("sl-mlp"), 0)
    encoder = run.encoder()
    source = opened.features(encoder, load_projector(run.path, encoder.dim))
    sets = [source.extract(config.TASKS["unseen-layerwise"], opened.data.of(name))[layer]
            for name in ("unseen", "source train", "source test")]  # fmt: skip
    unseen, train, test = sets
    expected = {
        "unseen-layerwise": cross_validate(unseen, opened.cfg.probe).accuracy,
        "source-layerwise": evaluate(train, test, opened.cfg.probe).accuracy,
    }
    for task, value in expected.items():
        (row,) = rows(done, task=task, layer=layer, method="sl-mlp", metric="accuracy")
        assert row.value == pytest.approx(value, abs=1e-12)
        assert row.seed == 0
        assert records.read_predictions(done / row.predictions).correct.mean() == pytest.approx(row.value)


@pytest.mark.parametrize(("task", "own"), [("unseen-layerwise", "unseen"), ("source-layerwise", "source")])
def test_at_the_output_the_number_is_the_studys_own(done, task, own):
    for method in ("sl", "sl-mlp"):
        (here_,) = rows(done, task=task, layer="output", method=method, metric="accuracy")
        (there,) = rows(done, task=own, role="final", method=method, seed=0, metric="accuracy")
        assert (here_.value, here_.n, here_.interval) == (there.value, there.n, there.interval)


def test_only_the_seeds_asked_for_are_probed_and_none_at_zero(shapes, done, tmp_path):
    assert {(r.method, r.seed) for r in rows(done, task="unseen-layerwise")} == {("sl", 0), ("sl-mlp", 0)}
    names = [r.layer for r in rows(done, task="unseen-layerwise", method="sl-mlp", metric="accuracy")]
    assert names == [*(f"stage{i}" for i in range(1, 6)), "output", "projector.hidden", "projector.output"]
    flags = (
        FLAGS.replace("--seeds 2", "--seeds 1")
        .replace("--rates 0.1 0.2", "--rates 0.1")
        .replace("--epochs 4", "--epochs 1")
    )
    assert here("study", shapes, flags, "--layer-seeds 0 --save-every 0 --out", tmp_path / "none") == 0
    assert not rows(tmp_path / "none", task="unseen-layerwise")
    assert 'aria-labelledby="layers"' not in (tmp_path / "none" / "report.html").read_text()
    # the layers of a finished study are added afterwards, without training
    before = (tmp_path / "none" / "runs" / "sl-seed0" / "encoder.safetensors").stat().st_mtime_ns
    assert here("study", shapes, flags, "--layer-seeds 1 --save-every 0 --out", tmp_path / "none") == 0
    assert rows(tmp_path / "none", task="unseen-layerwise")
    assert (tmp_path / "none" / "runs" / "sl-seed0" / "encoder.safetensors").stat().st_mtime_ns == before


def test_the_share_kept_is_the_outputs_over_the_encoders_best(done):
    row = rows(done, task="unseen-layerwise", method="sl-mlp", metric="accuracy")[0]
    values = {"stage1": 0.3, "stage2": 0.5, "output": 0.4, "projector.output": 0.9}
    lines = [dataclasses.replace(row, layer=name, value=value) for name, value in values.items()]
    found = layers.of_runs(lines)["sl-mlp"][0]
    assert found.best == "stage2"  # not the projector's
    assert found.kept == pytest.approx(0.8)
    level = {"stage1": 0.4, "output": 0.4}
    lines = [dataclasses.replace(row, layer=name, value=value) for name, value in level.items()]
    assert layers.of_runs(lines)["sl-mlp"][0].best == "output"
    assert layers.of_runs([lines[0]]) == {"sl-mlp": {}}  # nothing at the output: no share


def test_what_two_encoders_lose_is_their_best_layer_less_the_output(done):
    row = rows(done, task="unseen-layerwise", metric="accuracy", method="sl-mlp")[0]

    def lines(method, *values):
        named = zip(("stage1", "stage2", "output", "projector.output"), values, strict=True)
        return [dataclasses.replace(row, method=method, layer=name, value=value) for name, value in named]

    falling, level = lines("sl", 0.2, 0.4, 0.363, 0.9), lines("sl-mlp", 0.2, 0.3, 0.3, 0.1)
    said = layers.lost_by_two([*falling, *level], "sl", "sl-mlp")
    assert re.findall(r"stage 2 of 2|[0-9]+\.[0-9]+", said) == ["stage 2 of 2", "3.7"]  # level loses nothing
    other = layers.lost_by_two([*falling, *lines("sl-mlp", 0.2, 0.4, 0.39, 0.1)], "sl", "sl-mlp")
    assert re.findall(r"[0-9]+\.[0-9]+", other) == ["3.7", "1.0"]
    assert layers.lost_by_two([*falling, *level], "sl-mlp", "sl") is None  # its output is its best layer
    assert layers.lost_by_two([*falling, *level], "sl", "nobody") is None


def test_the_pages_table_and_drawing_have_the_numbers(done):
    read = page_inputs.read(done)
    found = layers.of_runs(read.rows)
    for row, method in zip(study_layers.grid(read).rows, ("sl", "sl-mlp"), strict=True):
        one = found[method][0]
        assert row.cells[0] == one.best
        shown = [one.lines[one.best].value, one.lines["output"].value]
        assert [float(cell.value) for cell in row.cells[1:3]] == pytest.approx([100 * v for v in shown], abs=0.051)
        assert float(row.cells[-1].value) == pytest.approx(100 * one.kept, abs=0.051)
    page = html.unescape((done / "report.html").read_text())
    assert 'aria-labelledby="layers"' in page
    assert json.dumps(found["sl"][0].best)[1:-1] in page
