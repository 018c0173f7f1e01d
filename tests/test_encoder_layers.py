"""Features from any depth: the pooled outputs of the very modules, in one pass, and the projector a run keeps."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from slmlp import api, config, data
from slmlp.data.cache import ImageCache
from slmlp.encoders import build, layers
from slmlp.encoders.extract import extract_layers
from slmlp.encoders.projector_file import load_projector
from slmlp.encoders.sources import open_encoder
from slmlp.encoders.sources.check import checked
from slmlp.encoders.sources.preparing import plain
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError


def of(name, size=32, stem="small"):
    with seeds.seeded(0, "encoder"):
        return build(name, size, stem).eval()


def taken(encoder, x, wanted=None, projector=None):
    with torch.inference_mode():
        return layers.outputs(encoder, x, wanted or layers.names(encoder, projector), projector)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("resnet10", "small"), ("resnet10", "standard"), ("resnet18", "small"), ("test_resnet", "standard")],
)
def test_stages_of_a_resnet_are_stem_and_layers_by_hand(name, stem):
    encoder = of(name, 64, stem)
    x = torch.randn(2, 3, 64, 64)
    assert layers.names(encoder) == ("stage1", "stage2", "stage3", "stage4", "stage5", "output")
    found = taken(encoder, x)
    net = encoder.backbone
    with torch.inference_mode():
        h = net.bn1(net.conv1(x)).relu()
        torch.testing.assert_close(found["stage1"], h.mean(dim=(2, 3)))
        h = net.maxpool(h)
        for stage in range(1, 5):
            h = net.get_submodule(f"layer{stage}")(h)
            torch.testing.assert_close(found[f"stage{stage + 1}"], h.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["output"], encoder(x))
    torch.testing.assert_close(found["stage5"], found["output"], atol=1e-5, rtol=1e-4)


def test_torchvisions_resnet_has_the_same_stages():
    ours = of("resnet18", 64, "standard")
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.weights())
    encoder = checked(theirs, "torchvision:resnet18", plain(64, "test"), "torchvision:resnet18")
    x = torch.randn(2, 3, 64, 64)
    found, wanted = taken(encoder, x), taken(ours, x)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_nfnet", "test_byobnet", "test_mambaout"])
def test_stages_of_other_convnets_are_timms_own_intermediate_maps(name):
    encoder = of(name, 64, "standard")
    x = torch.randn(2, 3, 64, 64)
    found = taken(encoder, x)
    with torch.inference_mode():
        maps = encoder.backbone.forward_intermediates(x, intermediates_only=True)
    stages = [n for n in found if n.startswith("stage")]
    assert len(stages) == len(maps)
    for stage, out in zip(stages, maps, strict=True):  # timm gives them channels first
        torch.testing.assert_close(found[stage], out.mean(dim=(2, 3)), atol=1e-4, rtol=1e-3)


def test_a_swins_maps_are_read_in_their_own_layout():
    net = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=64,
        window_size=4,
        embed_dim=16,
        depths=(1, 1),
        num_heads=(1, 2),
    )
    encoder = checked(net, "swin", plain(64, "test"), "swin")  # maps (N, 16, 16, 16) and (N, 8, 8, 32)
    x = torch.randn(2, 3, 64, 64)
    found = taken(encoder, x)
    with torch.inference_mode():
        maps = net.forward_intermediates(x, intermediates_only=True)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 16, 16), (2, 32, 8, 8)]
    for stage, out in zip(("stage1", "stage2"), maps, strict=True):
        torch.testing.assert_close(found[stage], out.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "token"), [("test_vit", True), ("vit_tiny_patch16_224", True), ("test_vit3", False)])
def test_blocks_of_a_vit_are_its_tokens(name, token):
    encoder = of(name, 32, "standard")
    net = encoder.backbone
    blocks = [n for n in layers.names(encoder) if n.startswith("block")]
    assert len(blocks) == len(net.blocks)
    assert layers.names(encoder)[-1] == "output"
    x = torch.randn(2, 3, 32, 32)
    found = taken(encoder, x)
    seen = {}
    for i, block in enumerate(net.blocks):
        block.register_forward_hook(lambda module, given, out, i=i: seen.__setitem__(i, out.clone()))
    with torch.inference_mode():
        encoder(x)
    for i, block in enumerate(blocks):
        tokens = seen[i]
        wanted = tokens[:, 0] if token else tokens[:, net.num_prefix_tokens :].mean(dim=1)
        torch.testing.assert_close(found[block], wanted)


def test_torchvisions_networks_have_layers_too():
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=1000)
    vit.heads.head = nn.Identity()
    encoder = checked(vit, "vit", plain(32, "test"), "vit")
    assert layers.names(encoder) == ("block1", "block2", "output")
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(vit.encoder.ln(taken(encoder, x)["block2"]), encoder(x), atol=1e-5, rtol=1e-4)
    mobile = open_encoder("torchvision:mobilenet_v3_small@random", overrides=config.PreprocessFlags(size=32))
    assert len(layers.names(mobile)) == 14
    assert taken(mobile, x)["stage1"].shape == (2, 16)


def test_widths_are_found_and_the_encoder_stays_as_it_was():
    encoder = of("resnet10").train()
    before = encoder.hash()
    assert layers.widths(encoder, ("stage1", "stage4", "output")) == {"stage1": 32, "stage4": 128, "output": 256}
    assert encoder.training
    assert encoder.hash() == before
    assert not any(module._forward_hooks for module in encoder.modules())


def test_unknown_layers_offer_the_nearest():
    encoder = of("resnet10")
    for wanted, words in (
        ("stage6", "did you mean 'stage"),
        ("outptu", "did you mean 'output'"),
        ("projector.hidden", "keeps no projector"),
    ):
        with pytest.raises(SlmlpError, match=words):
            layers.outputs(encoder, torch.zeros(1, 3, 32, 32), [wanted])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "behind"), [("sl-mlp", 2), ("sl", 0), ("byol", 2)])
def test_a_finished_run_keeps_its_projector(shapes, tmp_path, method, behind, monkeypatch):
    from slmlp.train import pretrain

    kept = []
    save = pretrain.save_projector
    monkeypatch.setattr(pretrain, "save_projector", lambda run, p, dim: (kept.append(p), save(run, p, dim)))
    training = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=1)
    run = api.pretrain(str(shapes), tmp_path / "run", method=method, training=training, progress=False)
    encoder = open_encoder(str(run.path))
    loaded = load_projector(run.path, encoder.dim)
    names = layers.names(encoder, loaded)
    assert names[-1 - behind :] == ("output", "projector.hidden", "projector.output")[: behind + 1]
    assert encoder.hash() == run.encoder().hash(), "the projector is no part of the encoder"
    if not behind:
        assert not (run.path / "projector.safetensors").exists()
        return
    projector = kept[0].eval()
    x = torch.randn(5, 3, 16, 16)
    found = taken(encoder, x, projector=loaded)
    with torch.inference_mode():
        h = run.encoder().eval()(x)
        z = projector(h)
        hidden = projector[:-1](h)
    torch.testing.assert_close(found["projector.output"], z, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(found["projector.hidden"], hidden, atol=1e-5, rtol=1e-3)
    image_cache = ImageCache(
        data.load(str(shapes)), config.DataOptions(), None, encoder.preprocess.resize, progress=False
    )
    made = extract_layers(
        encoder,
        image_cache,
        image_cache.images,
        tmp_path / "c",
        "cpu",
        ("output", "projector.hidden"),
        projector=loaded,
    )
    assert made["projector.hidden"].x.min() >= 0, "behind a ReLU"
    # another projector is another cache entry, though the encoder is the same
    next(loaded.parameters()).data.add_(1)
    again = extract_layers(
        encoder,
        image_cache,
        image_cache.images,
        tmp_path / "c",
        "cpu",
        ("output", "projector.hidden"),
        projector=loaded,
    )
    assert not np.allclose(again["projector.hidden"].x, made["projector.hidden"].x)
    np.testing.assert_array_equal(again["output"].x, made["output"].x)


def test_a_projector_that_does_not_fit_is_refused(shapes, tmp_path):
    training = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=1)
    run = api.pretrain(str(shapes), tmp_path / "run", training=training, progress=False)
    text = (run.path / "config.json").read_text()
    (run.path / "config.json").write_text(text.replace('"depth": 1', '"depth": 2').replace('"sha256"', '"before"'))
    with pytest.raises(SlmlpError, match=r"projector.safetensors does not fit"):
        load_projector(run.path, 256)
    (run.path / "projector.safetensors").write_bytes(b"none")
    with pytest.raises(SlmlpError, match="cannot be read as safetensors"):
        load_projector(run.path, 256)
