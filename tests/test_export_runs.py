"""Exports of finished runs: the projector only where it is asked for, the card, the command."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import slmlp
from export_files import images, out
from slmlp import api, config
from slmlp.encoders import Encoder
from slmlp.encoders.projector_file import load_projector
from slmlp.exports.card import text
from slmlp.results import records
from slmlp.runtime.errors import SlmlpError

pytestmark = pytest.mark.slow

TINY = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=2, save_every=1, augment="weak")


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    """A run of SL-MLP, its evaluation, and a number of other weights that is not its own."""
    folder = tmp_path_factory.mktemp("runs") / "shapes run"
    split = tmp_path_factory.mktemp("split") / "split.json"
    api.split(str(shapes), split, config.Split(by="random", unseen_fraction=0.5))
    made = slmlp.pretrain(str(shapes), folder, split=split, training=TINY, seed=3, progress=False)
    slmlp.evaluate(folder, str(shapes))
    file = folder / "evaluation" / "results.jsonl"
    row = records.read(file)[0]
    other = dataclasses.replace(row, metric="of_other_weights", hashes={**row.hashes, "encoder": "0" * 64})
    odd = dataclasses.replace(row, data="<img src=x onerror=alert(1)> | *x*", metric="recall", value=0.125)
    records.append(file, other, odd)
    return made


@pytest.mark.parametrize("to", ["safetensors", "onnx", "exported-program"])
def test_the_projector_travels_only_where_it_is_asked_for(run, tmp_path, to):
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    bare = slmlp.export(run.path, to, out(tmp_path, to, "bare"), images=4)
    assert not [d for d in bare.differences if "embedding" in d.output]
    both = slmlp.export(run.path, to, out(tmp_path, to, "both"), images=4, with_projector=True)
    assert {d.output.split()[0] for d in both.differences} == {"features", "embedding"}
    assert "travels with it" in both.card.read_text()
    if to == "safetensors":
        assert not [name for name in load_file(bare.path) if "projector" in name]
        held = {k.removeprefix("projector."): v for k, v in load_file(both.path).items() if k.startswith("projector.")}
        expected = load_projector(run.path, 256).state_dict()
        assert held.keys() == expected.keys()
        assert all(torch.equal(held[k], expected[k]) for k in held)
    elif to == "exported-program":
        encoder = Encoder.load(run.path)
        x = images(encoder)
        with torch.inference_mode():
            features, embedding = torch.export.load(both.path).module()(x)
            torch.testing.assert_close(embedding, load_projector(run.path, 256)(encoder(x)))
            torch.testing.assert_close(features, encoder(x))


def test_networks_without_a_place_for_it_refuse_the_projector(run, shapes, tmp_path):
    with pytest.raises(SlmlpError, match=r"slmlp's own network.*safetensors, onnx, exported-program can hold it"):
        slmlp.export(run.path, "timm", out(tmp_path, "timm"), with_projector=True)
    vit = dataclasses.replace(TINY, encoder="test_vit", epochs=1, save_every=0, image_size=32)
    other = slmlp.pretrain(str(shapes), tmp_path / "vit", training=vit, progress=False)
    with pytest.raises(SlmlpError, match=r"no place for a projector.*safetensors, onnx, exported-program can hold it"):
        slmlp.export(other.path, "timm", out(tmp_path, "timm"), with_projector=True)
    plain = slmlp.pretrain(
        str(shapes), tmp_path / "sl", method="sl", training=dataclasses.replace(TINY, epochs=1), progress=False
    )
    for source in (plain.path, run.path / "epochs" / "0001.safetensors"):
        with pytest.raises(SlmlpError, match="keeps no projector"):
            slmlp.export(source, "safetensors", out(tmp_path, "safetensors"), with_projector=True)


def test_the_card_says_where_the_weights_come_from(run, shapes, tmp_path):
    done = slmlp.export(run.path, "safetensors", out(tmp_path, "safetensors"), images=4, license="cc-by-nc-4.0")
    card, held = done.card.read_text(), run.config
    for word in (
        held["resolved"]["data_hash"], held["identity"]["split"], Encoder.load(run.path).hash(), "72 of 3 classes",
        "| seed | 3 |", "SL-MLP", "cc-by-nc-4.0", "| training.augment | \"weak\" |", "left behind",
        f"torch {torch.__version__.partition('+')[0]}", "4 images of emoji", "3 source and 3 held-out classes",
    ):  # fmt: skip
        assert word in card.replace("\\", ""), word
    assert str(shapes) not in card  # nobody's folders
    assert str(run.path) not in card
    (row,) = [d for d in done.differences if d.output == "features"]
    assert f"| features | (4, 256) | {row.largest:.3g} | {row.relative:.3g} |" in card


def test_the_cards_results_are_of_these_weights_with_intervals(run, tmp_path):
    card = slmlp.export(run.path, "safetensors", out(tmp_path, "safetensors"), images=4).card.read_text()
    row = next(r for r in records.read(run.path / "evaluation" / "results.jsonl") if r.metric == "accuracy")
    low, high = row.interval
    assert f"{100 * row.value:.1f} % | {100 * low:.1f} % to {100 * high:.1f} %" in card
    assert "of\\_other\\_weights" not in card
    kept = slmlp.export(run.path / "epochs" / "0001.safetensors", "safetensors", tmp_path / "one.safetensors", images=4)
    assert "| epoch | 1 |" in kept.card.read_text()
    assert "None are kept" in kept.card.read_text()  # the numbers are of the last epoch


def test_an_encoder_file_beside_another_tools_config_is_no_run(run, tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes((run.path / "encoder.safetensors").read_bytes())
    (tmp_path / "config.json").write_text('{"architecture": "resnet10"}')
    done = slmlp.export(tmp_path / "encoder.safetensors", "safetensors", tmp_path / "a.safetensors", images=4)
    assert "without its run's folder" in done.card.read_text()


def test_text_from_elsewhere_stays_text(run, tmp_path):
    card = slmlp.export(run.path, "safetensors", out(tmp_path, "safetensors"), images=4).card.read_text()
    assert "<img" not in card
    assert r"&lt;img src=x onerror=alert\(1\)&gt; \| \*x\*" in card
    for row in card.splitlines():
        if row.startswith("|") and "12.5 %" in row:
            assert len(re.findall(r"(?<!\\)\|", row)) == 8  # seven columns, whatever is in them
    assert text("a\nb\tc") == "a b c"
    markdown = pytest.importorskip("markdown_it").MarkdownIt()
    for odd in ("<b>x</b>", "[a](http://b)", "![a](b)", "`x`", "**x**", "a_b_c", "&amp;", "http://a.b"):
        (inline,) = [token for token in markdown.parse(text(odd)) if token.type == "inline"]
        assert {child.type for child in inline.children} <= {"text", "text_special"}
        assert "".join(child.content for child in inline.children) == odd


def test_a_licence_cannot_write_front_matter(tmp_path):
    yaml = pytest.importorskip("yaml")
    from export_files import saved

    odd = 'mit"\n---\nlibrary_name: evil'
    slmlp.export(saved(tmp_path, "resnet18", 32), "hf", tmp_path / "folder", images=2, license=odd)
    _, front, _ = (tmp_path / "folder" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": odd, "library_name": "timm", "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "image-feature-extraction", "slmlp"],
    }  # fmt: skip


def test_the_command_prints_differences_and_refuses_with_code_2(run, tmp_path):
    words = [sys.executable, "-m", "slmlp", "export", str(run.path), "--images", "3", "--to"]
    done = subprocess.run(
        [*words, "safetensors", "--out", str(tmp_path / "a.safetensors")], capture_output=True, text=True, check=True
    )
    assert re.search(r"features +largest difference \S+, relative \S+", done.stdout)
    assert "a.safetensors.md" in done.stdout
    bad = subprocess.run(
        [*words, "timm", "--out", str(tmp_path / "a.pth")], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert bad.stderr.strip().splitlines()[-1].startswith("slmlp: --to timm cannot hold resnet10")
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["a.safetensors", "a.safetensors.md"]
    assert json.loads((run.path / "config.json").read_text())["job"]["seed"] == 3
