"""Weights as other people save them, and weights that no state dict holds."""

from __future__ import annotations

import shlex
import subprocess
import sys

import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from safetensors.torch import save_file

from encoder_words import refused
from onnx_files import matrix_product
from slmlp import add_projector, config
from slmlp.encoders.sources import describe, onnx_file, open_encoder
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

SMALL = config.PreprocessFlags(size=32)


@pytest.fixture
def theirs():
    """A tiny timm network with a classifier and drawn weights."""
    with seeds.seeded(1, "theirs"):
        return timm.create_model("test_resnet", num_classes=7).eval()


def opened(file, name="test_resnet", **overrides):
    flags = config.PreprocessFlags(**overrides) if overrides else None
    return open_encoder(f"timm:{name}@{file}", overrides=flags)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2])
def test_quantised_weights_are_refused(tmp_path, theirs, kind):
    state = {k: (v * 50).to(kind) if k.endswith("conv1.weight") else v for k, v in theirs.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    name = str(kind).removeprefix("torch.")
    refused(f"timm:test_resnet@{tmp_path / 'w.safetensors'}", [f"conv1.weight is {name}", "quantised"])


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")  # torch says that it looks at them
def test_weights_in_other_forms_of_tensors(tmp_path, theirs):
    state = theirs.state_dict()
    expected = opened(saved(tmp_path / "dense.pt", state)).weights()
    scarce = {k: v.to_sparse() if k.endswith("conv1.weight") else v for k, v in state.items()}
    found = opened(saved(tmp_path / "sparse.pt", scarce)).weights()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    empty = {k: v.to("meta") for k, v in state.items()}
    refused(f"timm:test_resnet@{saved(tmp_path / 'meta.pt', empty)}", ["no values (device meta)", "conv1"])


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_programs_are_named_with_the_line_that_saves_their_tensors(tmp_path, theirs, capfd):
    images = torch.zeros(2, 3, 32, 32)
    torch.jit.save(torch.jit.trace(theirs, images), tmp_path / "script.pt")
    torch.export.save(torch.export.export(theirs, (images,)), tmp_path / "program.pt2")
    for name, words in (("script.pt", "TorchScript"), ("program.pt2", "a program of torch.export")):
        with pytest.raises(SlmlpError, match=words) as caught:
            opened(tmp_path / name)
        subprocess.run([sys.executable, *shlex.split(str(caught.value).partition("give that: ")[2])[1:3]], check=True)
        (clean,) = tmp_path.glob("*-clean.pt")
        found = opened(clean).weights()
        clean.unlink()
        assert all(torch.equal(found[k], v) for k, v in theirs.state_dict().items() if not k.startswith("fc"))
        assert "UserWarning" not in capfd.readouterr().err


def test_half_precision_opens(tmp_path, theirs):
    save_file({k: v.half() for k, v in theirs.state_dict().items()}, tmp_path / "w.safetensors")
    assert opened(tmp_path / "w.safetensors", size=32).weights()["conv1.0.weight"].dtype == torch.float32


def test_missing_counters_and_leftover_projectors_are_said(tmp_path, theirs, capsys):
    whole = opened(saved(tmp_path / "whole.pt", theirs.state_dict()), size=32)
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    encoder = opened(saved(tmp_path / "old.pt", state), size=32)
    assert "counters of BatchNorm" in capsys.readouterr().err
    assert {k: v.sum().item() for k, v in encoder.weights().items()} == {
        k: v.sum().item() for k, v in whole.weights().items()
    }
    projected = add_projector(theirs).state_dict() | {"predictor.0.weight": torch.zeros(2), "queue_ptr": torch.zeros(1)}
    assert "fc.projector.0.weight" in projected
    encoder = opened(saved(tmp_path / "projected.pt", projected), size=32)
    assert encoder.hash() == whole.hash()
    assert "tensors of heads and training's own left out (fc.projector.0.bias" in capsys.readouterr().err
    other = projected | {"layer9.weight": torch.zeros(2)}
    refused(f"timm:test_resnet@{saved(tmp_path / 'other.pt', other)}", ["unexpected 1 (layer9.weight)"])


def saved(file, state):
    torch.save(state, file)
    return file


def test_a_vit_of_timm_opens_at_the_size_that_it_was_trained_at(tmp_path):
    with seeds.seeded(0, "vit"):
        model = timm.create_model("test_vit", img_size=80, num_classes=0).eval()
    file = saved(tmp_path / "vit.pt", model.state_dict())
    encoder, x = opened(file, "test_vit"), torch.randn(2, 3, 80, 80)
    assert encoder.preprocess.size == encoder.spec.image_size == 80
    assert "size 80 (the weights' position embedding)" in describe(encoder)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), model(x))
        model.set_input_size(img_size=(48, 48))  # another size is asked for: resampled, as timm does it
        torch.testing.assert_close(opened(file, "test_vit", size=48)(x[..., :48, :48]), model(x[..., :48, :48]))


@pytest.mark.slow
def test_a_vit_of_torchvision_opens_at_the_size_that_it_was_trained_at(tmp_path):
    with seeds.seeded(0, "vit"):
        model = torchvision.models.vit_b_32(weights=None, image_size=96).eval()
    encoder = open_encoder(f"torchvision:vit_b_32@{saved(tmp_path / 'vit.pt', model.state_dict())}")
    x = torch.randn(2, 3, 96, 96)
    assert encoder.preprocess.size == 96
    with torch.inference_mode():
        torch.testing.assert_close(model.heads(encoder(x)), model(x))


# ---- weights outside the file or the state dict


def test_weights_beside_an_onnx_file_are_in_its_hash(tmp_path):
    weight, file = np.random.default_rng(0).normal(size=(3, 6)), tmp_path / "net.onnx"
    matrix_product(file, weight)
    first, x = open_encoder(str(file)), torch.randn(2, 3, 32, 32)
    assert first.hash() == open_encoder(str(file)).hash()
    same = file.read_bytes()
    matrix_product(file, weight + 1)
    assert file.read_bytes() == same
    second = open_encoder(str(file))
    assert second.hash() != first.hash()
    assert not torch.equal(first(x), second(x))
    (tmp_path / "weights.bin").unlink()
    refused(file, "weights.bin, and there is no such file")


def test_weights_are_found_wherever_a_graph_holds_them(tmp_path):
    def external(name):
        tensor = numpy_helper.from_array(np.zeros(2, dtype=np.float32), name)
        external_data_helper.set_external_data(tensor, f"{name}.bin")
        tensor.data_location = TensorProto.EXTERNAL
        (tmp_path / f"{name}.bin").write_bytes(b"x")
        return tensor

    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("constant"))], "inner", [], [], [external("inner")]
    )
    nodes = [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)]
    graph = helper.make_graph(nodes, "g", [], [], [external("outer")])
    sparse = helper.make_sparse_tensor(external("values"), external("indices"), [2])
    graph.sparse_initializer.append(sparse)
    (tmp_path / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    expected = ["constant", "indices", "inner", "outer", "values"]
    assert [path.stem for path in onnx_file._beside(tmp_path / "net.onnx", "net")] == expected


HIDDEN = """
import numpy as np, torch
from torch import nn
class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.bare = torch.from_numpy(np.load("table.npy"))  # neither parameter nor buffer
    def forward(self, x):
        return x.mean((2, 3)) @ self.bare
def make():
    return Hidden()
"""


def test_weights_that_no_state_dict_names_are_in_the_hash(tmp_path, monkeypatch):
    (tmp_path / "hidden_net.py").write_text(HIDDEN)
    monkeypatch.chdir(tmp_path)
    table = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    hashes = []
    for each in (table, table, table * 1.5):
        np.save("table.npy", each)
        hashes.append(open_encoder("hidden_net:make").hash())
    assert hashes[0] == hashes[1] != hashes[2]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert open_encoder("hidden_net:make").hash() == hashes[2]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty: fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "it is a web page"),
        (b'{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}', "lists the files that weights are divided"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
        (b"GGUF" + bytes(90), "GGUF"),
        (b"\x93NUMPY" + bytes(90), "an array of NumPy"),
        (b"epoch,loss\n1,2\n", "it is a text"),
        (bytes(range(129, 256)), "no such file"),
        (b"PK\x03\x04" + bytes(90), "cut off or damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_holds_no_weights_is_named_by_what_it_is(tmp_path, content, words, suffix):
    """Instead of the text of whichever library met it first: ``101``, ``EOFError``, ``header too large``."""
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    expected = words if suffix != ".safetensors" or content[:1] != bytes([129]) else "cut off or damaged"
    refused(f"timm:test_resnet@{file}", [f"{file} cannot be read as weights", expected])


def test_an_average_behind_a_prefix_in_the_same_table_is_another_set(tmp_path, theirs):
    state = theirs.state_dict()
    average = {f"ema.{key}": value + 1 for key, value in state.items() if value.is_floating_point()}
    file = saved(tmp_path / "w.pt", state | average)
    refused(f"timm:test_resnet@{file}", ["2 sets of weights", f"{file}#.", f"{file}#ema"])
    plain = opened(saved(tmp_path / "plain.pt", state), size=32)
    assert opened(f"{file}#.", size=32).hash() == plain.hash() != opened(f"{file}#ema", size=32).hash()
    same = saved(tmp_path / "same.pt", state | {f"module.{key}": value for key, value in state.items()})
    assert opened(same, size=32).hash() == plain.hash()


def test_an_average_without_names_beside_the_weights_is_said(tmp_path, theirs, capsys):
    average = {"decay": 0.9, "shadow_params": [value + 1 for value in theirs.parameters()]}
    opened(saved(tmp_path / "w.pt", {"model": theirs.state_dict(), "ema": average}), size=32)
    assert "tensors without names below 'ema.shadow_params'" in capsys.readouterr().err
    steps = {"step": [torch.zeros(1)] * 3}
    opened(saved(tmp_path / "s.pt", {"model": theirs.state_dict(), "optimizer": steps}), size=32)
    assert "without names" not in capsys.readouterr().err


@pytest.mark.parametrize(("location", "words"), [("../weights.bin", "outside of its folder"), (None, "weights.bin")])
def test_weights_beside_an_onnx_file_that_are_cut_or_outside_are_one_line(tmp_path, location, words, capfd):
    """ONNX Runtime would print its own errors in colour, and name neither file nor fix."""
    (tmp_path / "d").mkdir()
    file = matrix_product(tmp_path / "d" / "net.onnx", np.ones((3, 6)))
    if location is None:
        (tmp_path / "d" / "weights.bin").write_bytes(b"")
    else:
        model = onnx.load(str(file), load_external_data=False)
        for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
            if entry.key == "location":
                entry.value = location
        file.write_bytes(model.SerializeToString())
    refused(str(file), [words])
    assert capfd.readouterr().err == ""
