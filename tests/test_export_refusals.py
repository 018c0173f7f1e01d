"""What an export refuses: what a target cannot hold, what is not true, what is there already; nothing is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import slmlp
from export_files import left, out
from slmlp.exports import parity, timm_file
from slmlp.runtime import staging
from slmlp.runtime.errors import SlmlpError

N = 4


def refused(folder: Path, run: Path, to: str, words: list[str], **options) -> str:
    with pytest.raises(SlmlpError) as caught:
        slmlp.export(run, to, options.pop("out", out(folder, to)), images=N, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


# ---- what a target cannot hold


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem", "to", "words"),
    [
        (
            "resnet10",
            "small",
            "torchvision",
            ["slmlp's own network", "safetensors, onnx, exported-program can hold it"],
        ),
        ("resnet10", "standard", "timm", ["slmlp's own network"]),
        ("resnet10", "small", "hf", ["slmlp's own network"]),
        ("resnet18", "small", "torchvision", ["small stem", "--stem standard"]),
        ("resnet18", "small", "timm", ["small stem", "--stem standard"]),
        ("resnet18", "small", "detectron2", ["small stem", "strides", "--stem standard"]),
        ("efficientnet_b0", "small", "timm", ["small stem"]),  # its weights would fit timm's network of stride 2
        ("test_vit", "standard", "detectron2", ["depth 18, 34, 50", "timm, safetensors, onnx, hf"]),
        ("test_vit", "standard", "torchvision", ["no network that is known to be timm's test_vit", "resnet50"]),
    ],
)
def test_what_a_target_cannot_hold_is_refused_with_the_reason(encoder_file, tmp_path, name, stem, to, words):
    refused(tmp_path, encoder_file(name, 32, stem), to, words)
    assert left(tmp_path) == []


def test_classifiers_go_only_where_networks_have_one(encoder_file, tmp_path):
    for to in ("safetensors", "onnx", "exported-program", "detectron2"):
        refused(
            tmp_path,
            encoder_file("resnet18"),
            to,
            ["leave --classifier away", "torchvision, timm, hf can hold it"],
            classifier=3,
        )
    refused(tmp_path, encoder_file("resnet18"), "timm", ["at least 1 class, found 0"], classifier=0)


def test_wrong_words_are_one_line(encoder_file, tmp_path):
    run = encoder_file("resnet18")
    refused(tmp_path, run, "tensorrt", ["unknown export target 'tensorrt'", "onnx"], out=tmp_path / "x.trt")
    refused(tmp_path, run, "onnx", ["ends in .onnx"], out=tmp_path / "x.pth")
    refused(tmp_path, run, "hf", ["writes a folder"], out=tmp_path / "x.safetensors")
    refused(tmp_path, run, "onnx", ["is a folder that exists", "NAME.onnx"], out=tmp_path)
    refused(tmp_path, run, "hf", ["is a folder that exists", "writes a new folder"], out=Path("/"))
    refused(tmp_path, run, "onnx", ["no quotes"], out=tmp_path / 'x".onnx')
    refused(tmp_path, tmp_path / "none", "onnx", ["no encoder at"])
    refused(tmp_path, run, "timm", ["keeps no projector"], with_projector=True)
    refused(tmp_path, run, "timm", ["does not exist"], data=str(tmp_path / "none"))
    with pytest.raises(SlmlpError, match="--images must be at least 2"):
        slmlp.export(run, "timm", out(tmp_path, "timm"), images=1)
    assert left(tmp_path) == []


# ---- an export that is not true


def _changed(change):
    real = timm_file.state

    def state(bundle):
        held = real(bundle)
        change(held)
        return held

    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer3.0.bn1.bias"), ["does not take the export", "layer3.0.bn1.bias"]),
        (
            lambda s: s.update({"projector.0.weight": torch.zeros(2)}),
            ["does not take the export", "projector.0.weight"],
        ),
        (lambda s: s["layer4.1.bn2.running_mean"].add_(0.5), ["features differ from the encoder's by", "another one"]),
        (lambda s: s["conv1.weight"].mul_(torch.nan), ["not finite"]),
    ],
)
def test_a_missing_a_left_over_and_a_wrong_tensor_refuse_the_export(encoder_file, tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(timm_file, "state", _changed(change))
    text = refused(tmp_path, encoder_file("resnet18"), "timm", words)
    assert "nothing was written" in text
    assert left(tmp_path) == []


def test_what_is_there_is_never_overwritten(encoder_file, tmp_path):
    path = out(tmp_path, "timm")
    for held in (path, Path(f"{path}.json"), Path(f"{path}.md")):
        held.write_text("mine")
        refused(tmp_path, encoder_file("resnet18"), "timm", ["exists already", held.name])
        assert held.read_text() == "mine"
        held.unlink()
    (tmp_path / "made").mkdir()
    refused(tmp_path, encoder_file("resnet18"), "hf", ["exists already"])
    assert left(tmp_path) == ["made"]


def test_files_appear_together_or_not_at_all(tmp_path):
    with staging.staged(tmp_path / "x") as stage:
        files = [stage / name for name in ("a", "b", "c")]
        for file in files:
            file.write_text("new")
        real = staging._move

        def fails(path, there):
            if path.name == "c":
                there.write_text("of another process")
            real(path, there)

        staging._move = fails
        try:
            with pytest.raises(SlmlpError, match="exists already"):
                staging.place(files, tmp_path)
        finally:
            staging._move = real
        assert left(tmp_path) == [stage.name, "c"]
    assert left(tmp_path) == ["c"]
    assert (tmp_path / "c").read_text() == "of another process"


def test_the_comparison_judges():
    a = torch.tensor([[1.0, -4.0], [2.0, 3.0]])
    (row,) = parity.compare({"features": (a, a + torch.tensor([[0.0, 2e-4], [0.0, 0.0]]))}, "t")
    assert row.largest == pytest.approx(2e-4, rel=1e-2)
    assert row.relative == pytest.approx(5e-5, rel=1e-2)
    for wrong, words in [
        (a + 1e-3, "differ from the encoder's by 0.001"),
        (a[:1], r"came back as \(1, 2\), expected \(2, 2\)"),
        (a * torch.nan, "not finite"),
    ]:
        with pytest.raises(SlmlpError, match=words):
            parity.compare({"features": (a, wrong)}, "t")
    with pytest.raises(SlmlpError, match="the same for all images"):
        parity.compare({"features": (a[:1].repeat(3, 1), a[:1].repeat(3, 1))}, "t")
