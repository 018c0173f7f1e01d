"""A transform of the user's own: seeded, normalised as evaluation does it, and tried before anything is written."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from slmlp import api, config
from slmlp.data.augment import Augment, normalise
from slmlp.data.augment.draws import Draws
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError
from test_train import SMALL

CHANNELS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
MINE = """
import torch
from torchvision.transforms import v2
floats = v2.ToDtype(torch.float32, scale=True)
as_uint8 = v2.Resize((8, 8))
as_floats = v2.Compose([v2.Resize((8, 8)), floats])
as_doubles = v2.Compose([as_floats, v2.ToDtype(torch.float64)])
itself = v2.Compose([as_floats, v2.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))])
drawn = v2.Compose([v2.RandomResizedCrop(8), floats])
wide = v2.Resize((8, 9))
to_255 = v2.Compose([v2.Resize((8, 8)), v2.ToDtype(torch.float32)])
whole_numbers = v2.Compose([v2.Resize((8, 8)), v2.ToDtype(torch.int64)])
raising = v2.Compose([v2.Resize((8, 8)), v2.Normalize((0.5,) * 3, (0.5,) * 3)])  # of uint8: torchvision refuses
image = v2.ToPILImage()
number = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_views.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)  # found from here, as an encoder's module is
    sys.modules.pop("mine_views", None)


def draws():
    return Draws(seeds.torch_generator(0, "x"), 4)


def squares(side=10):
    return torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_floats_are_normalised_as_uint8_is_and_what_is_normalised_stays():
    views = {
        name: Augment(f"mine_views:{name}", 8, channels=CHANNELS)(squares(8), draws())
        for name in ("as_uint8", "as_floats", "as_doubles", "itself")
    }
    expected = normalise(squares(8).permute(0, 3, 1, 2).float() / 255, CHANNELS)
    for name, found in views.items():
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_it_is_seeded_and_leaves_the_global_state():
    state = torch.random.get_rng_state()
    drawn = Augment("mine_views:drawn", 8)
    one = drawn(squares(), draws())
    assert torch.equal(one, drawn(squares(), draws()))
    assert not torch.equal(one, drawn(squares(), Draws(seeds.torch_generator(0, "y"), 4)))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine_views:wide", r"must return a tensor of shape \(3, 8, 8\).*found uint8 \(3, 8, 9\)"),
        ("mine_views:to_255", "returns floats up to 255, .*scale=True"),
        ("mine_views:whole_numbers", "uint8 or floating point.*found int64"),
        ("mine_views:raising", "mine_views:raising fails .TypeError"),
        ("mine_views:image", "found Image"),
        ("mine_views:number", "is a int"),
        ("mine_views:nothing", "has no attribute 'nothing'"),
        ("nowhere_views:it", "No module named 'nowhere_views'"),
    ],
)
def test_what_makes_no_views_is_one_line(name, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        Augment(name, 8)
    assert "\n" not in str(caught.value)


def test_a_run_says_what_is_normalised_and_a_bad_one_leaves_nothing(shapes, tmp_path):
    training = dataclasses.replace(SMALL, epochs=1, image_size=8, augment="mine_views:as_floats", batch_size=48)
    run = api.pretrain(str(shapes), tmp_path / "run", training=training, method="sl", progress=False)
    (note,) = (note for note in run.config["resolved"]["notes"] if "mine_views" in note)
    assert "normalised by the mean and std of the encoder" in note
    other = dataclasses.replace(training, augment="mine_views:itself")
    assert config.identity(other)["transform_version"] == config.training.TRANSFORM_VERSION
    words = f"pretrain {shapes} --encoder resnet10 --image-size 8 --epochs 1 --augment mine_views:to_255 --out bad"
    ended = subprocess.run([sys.executable, "-m", "slmlp", *words.split()], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("slmlp: --augment mine_views:to_255 returns floats")
    assert not (tmp_path / "bad").exists()
