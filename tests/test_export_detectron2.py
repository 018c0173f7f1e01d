"""Detectron2's weights file: names, form, config; rebuilt from the names, the network gives the same maps."""

from __future__ import annotations

import os
import pickle
import pickletools

import numpy as np
import pytest
import torch
import torchvision

import slmlp
from export_files import drawn, images, saved
from slmlp.encoders import Encoder
from slmlp.exports import detectron2_file, detectron2_network
from slmlp.runtime.errors import SlmlpError


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run = saved(folder, request.param, 64)
    done = slmlp.export(run, "detectron2", folder / "r.pkl", images=3)
    return Encoder.load(run), done


@pytest.mark.slow
def test_all_four_stages_are_equal(exported):
    encoder, done = exported
    assert [d.output for d in done.differences] == ["features", "res2", "res3", "res4", "res5"]
    assert max(d.relative for d in done.differences) < 1e-5
    state, x = detectron2_network.read(done.path), images(encoder)
    depth = int(encoder.spec.name.removeprefix("resnet"))
    found = detectron2_network.stages(state, depth, x)
    # a third network of the same weights: torchvision's, by its own names
    theirs = torchvision.models.get_model(encoder.spec.name).eval()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(encoder.weights(), strict=True)
    with torch.inference_mode():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for i in range(1, 5):
            y = getattr(theirs, f"layer{i}")(y)
            torch.testing.assert_close(found[f"res{i + 1}"], y)


@pytest.mark.slow
def test_names_are_those_of_the_published_converters(exported):
    _, done = exported
    held = pickle.loads(done.path.read_bytes())
    assert (held["__author__"], held["matching_heuristics"]) == ("slmlp", True)
    names = set(held["model"])
    assert {"stem.conv1.weight", "stem.conv1.norm.running_var", "res2.0.conv1.norm.weight"} <= names
    assert {"res3.0.shortcut.weight", "res3.0.shortcut.norm.bias", "res5.1.conv2.norm.num_batches_tracked"} <= names
    assert not [name for name in names if "layer" in name or "bn" in name or "downsample" in name or "fc" in name]
    assert all(isinstance(value, np.ndarray) for value in held["model"].values())
    assert held["model"]["stem.conv1.weight"].dtype == np.float32


def test_older_numpy_can_open_the_pickle(exported):
    _, done = exported
    texts = {arg for op, arg, _ in pickletools.genops(done.path.read_bytes()) if isinstance(arg, str)}
    assert "numpy.core.multiarray" in texts
    assert not [text for text in texts if text.startswith("numpy._core")]


def test_the_config_fits_the_weights(exported):
    encoder, done = exported
    yaml = pytest.importorskip("yaml")
    (path,) = [file for file in done.beside if file.suffix == ".yaml"]
    held = yaml.safe_load(path.read_text())
    model = held["MODEL"]
    assert model["WEIGHTS"] == "r.pkl"
    assert (model["RESNETS"]["STRIDE_IN_1X1"], model["BACKBONE"]["FREEZE_AT"]) == (False, 0)
    assert {model["RESNETS"]["NORM"], model["FPN"]["NORM"], model["ROI_MASK_HEAD"]["NORM"]} == {"SyncBN"}
    np.testing.assert_allclose(model["PIXEL_MEAN"], [123.675, 116.28, 103.53])
    np.testing.assert_allclose(model["PIXEL_STD"], [58.395, 57.12, 57.375])
    assert held["INPUT"]["FORMAT"] == "RGB"
    assert model["RESNETS"]["DEPTH"] == int(encoder.spec.name.removeprefix("resnet"))
    assert model["RESNETS"].get("RES2_OUT_CHANNELS") == (64 if encoder.spec.name == "resnet18" else None)
    assert (held["SOLVER"]["MAX_ITER"], held["SOLVER"]["BASE_LR"]) == (90000, 0.02)
    assert f"--config-file {done.path}.yaml" in done.usage  # to be typed where the command was
    assert f"MODEL.WEIGHTS {done.path}" in done.usage
    assert "MODEL.WEIGHTS r.pkl" in done.card.read_text()


def test_tensors_that_do_not_fit_are_named():
    state = {detectron2_file.renamed(k): v for k, v in drawn("resnet18", 32).weights().items()}
    detectron2_network.check(state, 18, "it")
    with pytest.raises(SlmlpError, match=r"missing .*res4.0"):
        detectron2_network.check({k: v for k, v in state.items() if not k.startswith("res4.0")}, 18, "it")
    with pytest.raises(SlmlpError, match=r"unexpected 1 \(linear.weight\)"):
        detectron2_network.check({**state, "linear.weight": torch.zeros(1)}, 18, "it")
    with pytest.raises(SlmlpError, match=r"of another shape 1 \(stem.conv1.weight\)"):
        detectron2_network.check({**state, "stem.conv1.weight": torch.zeros(64, 3, 3, 3)}, 18, "it")
    with pytest.raises(SlmlpError, match="does not fit Detectron2's ResNet-50"):
        detectron2_network.check(state, 50, "it")


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_shapes_are_those_of_torchvisions_networks(depth):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"resnet{depth}").state_dict()
    mine = {detectron2_file.renamed(k): tuple(v.shape) for k, v in theirs.items() if not k.startswith("fc.")}
    assert mine == detectron2_network.layers(depth)


class _Runs:
    def __reduce__(self):
        return (os.getcwd, ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({"model": _Runs(), "__author__": "x", "matching_heuristics": True}), "asks for posix.getcwd"),
        (pickle.dumps({"model": {}, "__author__": "x"}), "expected a dict of __author__, matching_heuristics, model"),
        (pickle.dumps({"model": {"a": 1}, "__author__": "x", "matching_heuristics": True}), "a are no numpy arrays"),
        (b"no pickle", "cannot be read as a weights file"),
    ],
)
def test_the_reader_opens_arrays_only(tmp_path, content, words):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(SlmlpError, match=words):
        detectron2_network.read(tmp_path / "x.pkl")
