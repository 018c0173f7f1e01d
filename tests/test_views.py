"""Views are made where the images are: on any device, from draws of the host, and nobody waits for the device."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from slmlp import config, data
from slmlp.data.augment import Augment, draws, views
from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import VIEWS
from slmlp.data.cache import ImageCache
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.transfer import on_device
from slmlp.train.batches import Batches, Plan
from waiting import Waiting

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
N = 40


def test_waiting_is_seen():
    """The proof below can fail."""
    x = torch.tensor([0.0, 2.0])
    for ask in (
        lambda: x[1].item(), lambda: x.nonzero(), lambda: x[x > 0], lambda: bool((x > 0).any()),
        lambda: x.masked_select(x > 0), lambda: torch.equal(x, x),
    ):  # fmt: skip
        with Waiting() as waiting:
            ask()
        assert waiting.found
    with FakeTensorMode(allow_non_fake_inputs=True):
        y = torch.ones(3, device="cuda")
        for copy in (y.cpu, lambda: torch.ones(3).to("cuda"), lambda: y.new_tensor([1, 2])):
            with Waiting() as waiting:
                copy()
            assert waiting.found
        with Waiting() as waiting:
            torch.ones(3).to("cuda", non_blocking=True)
        assert not waiting.found


def made(name: str, size: int) -> list[tuple[Augment, draws.Choices]]:
    """Two views and a local crop, each with its draws."""
    return [(v, v.draw(Draws(seeds.torch_generator(0, i), N))) for i, v in enumerate(views(name, size, 2, 1))]


def pixels(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (N, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [16, 72])  # without blur, and with it
@pytest.mark.parametrize("name", sorted(VIEWS))
def test_an_augmentation_never_asks_the_device(name, size):
    squares = pixels(size + 4)
    for view, choices in made(name, size):
        with Waiting() as waiting:
            view.apply(squares, choices)
        assert not waiting.found
        uncut = dataclasses.replace(choices, boxes=None, mirrored=None)
        with Waiting() as waiting:
            view.apply(pixels(view.size), uncut)
        assert not waiting.found


@pytest.mark.parametrize("size", [16, 72])
@pytest.mark.parametrize("name", sorted(VIEWS))
def test_an_augmentation_runs_on_a_gpu(name, size):
    """Shapes and devices as a GPU has them, by tensors without values."""
    for view, choices in made(name, size):
        with FakeTensorMode(allow_non_fake_inputs=True):
            squares = torch.empty(N, size + 4, size + 4, 3, dtype=torch.uint8, device=CUDA)
            with Waiting() as waiting:
                out = view.apply(squares, choices)
        assert (out.device.type, out.dtype, tuple(out.shape)) == ("cuda", torch.float32, (N, 3, view.size, view.size))
        assert not waiting.found


@pytest.mark.parametrize("name", ["moco-v2", "byol", "t-rex"])
def test_views_made_a_few_at_a_time_are_the_views(name, monkeypatch):
    squares = pixels(90)
    for view, choices in made(name, 72):
        whole = view.apply(squares, choices)
        monkeypatch.setitem(draws.AT_A_TIME, "cpu", 7 * view.size**2)
        assert [len(range(N)[part]) for part in draws.parts(N, view.size, CPU)] == [7, 7, 7, 7, 7, 5]
        torch.testing.assert_close(view.apply(squares, choices), whole, atol=1e-6, rtol=0)
        monkeypatch.undo()
    assert list(draws.parts(3, 10**6, CUDA)) == [slice(i, i + 1) for i in range(3)]


def test_small_arrays_go_to_a_device_in_one_copy():
    rng = np.random.default_rng(0)
    arrays = [
        rng.random((3, 5), np.float32), rng.random(7) < 0.5, np.arange(4), np.empty((0, 4), np.float32),
        rng.random((5, 4, 3), np.float32)[:, ::2],
    ]  # fmt: skip
    for found, array in zip(on_device(CPU, *arrays), arrays, strict=True):
        np.testing.assert_array_equal(found, array)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = on_device(CUDA, *arrays)
    for fake, array in zip(fakes, arrays, strict=True):
        assert (fake.device.type, tuple(fake.shape)) == ("cuda", array.shape)
        assert fake.dtype == torch.from_numpy(array.copy()).dtype
    if torch.cuda.is_available():
        for found, array in zip(on_device(CUDA, *arrays), arrays, strict=True):
            np.testing.assert_array_equal(found.cpu(), array)


@pytest.fixture(scope="module")
def image_cache(shapes):
    images = data.load(str(shapes)).of_part("train")
    return ImageCache(images, config.DataOptions(), None, 20, progress=False)


def batches(image_cache, name="moco-v2", device=CPU, **options):
    cache = image_cache
    if options:
        cache = ImageCache(image_cache.images, config.DataOptions(**options), None, 20, progress=False)
    plan = Plan.of_epochs(cache.images.labels, 12, 2, 0)
    return Batches(cache, cache.rows(cache.images), plan, views(name, 16, 2), device=device)


def test_what_the_host_prepares_depends_on_where_images_are(image_cache):
    size = len(image_cache.images) * 20**2 * 3 / 1e9
    on_cpu, on_gpu = batches(image_cache), batches(image_cache, device=CUDA, device_memory_gb=size)
    copied = batches(image_cache, device=CUDA, device_memory_gb=0.99 * size)
    streamed = batches(image_cache, device=CUDA, stream_above_gb=0.0)
    host_made = batches(image_cache, device=CPU, stream_above_gb=0.0)
    shapes = {name: [tuple(x.shape) for x in b[3].images] for name, b in {
        "cpu": on_cpu, "gpu": on_gpu, "copied": copied, "streamed": streamed, "host": host_made,
    }.items()}  # fmt: skip
    assert shapes == {
        "cpu": [(12, 20, 20, 3)], "gpu": [], "copied": [(12, 20, 20, 3)], "streamed": [(12, 16, 16, 3)] * 2,
        "host": [(12, 3, 16, 16)] * 2,
    }  # fmt: skip
    for b in (on_gpu, copied):  # the same draws for every device
        for ours, theirs in zip(on_cpu[3].choices, b[3].choices, strict=True):
            for one, other in zip(dataclasses.astuple(ours), dataclasses.astuple(theirs), strict=True):
                np.testing.assert_equal(one, other)
    assert [b.chosen.tolist() for b in copied.iterate(20, 0)] == [b.chosen.tolist() for b in on_cpu.iterate(20, 0)]


def test_views_of_images_that_the_gpu_holds_are_made_there(image_cache):
    resident = batches(image_cache, device=CUDA)
    first, second = resident[3], resident[4]
    with FakeTensorMode(allow_non_fake_inputs=True):
        compute = Compute(CUDA, precision="bfloat16", channels_last=True)
        resident.inputs(first, compute)  # the first step copies all images
        with Waiting() as waiting:
            made, labels = resident.inputs(second, compute)
    assert [(x.device.type, tuple(x.shape)) for x in made] == [("cuda", (12, 3, 16, 16))] * 2
    assert labels.device.type == "cuda"
    assert made[0].is_contiguous(memory_format=torch.channels_last)
    assert not waiting.found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{"device_memory_gb": 4.0}, {"device_memory_gb": 0.0}, {"stream_above_gb": 0.0}])
def test_a_gpu_makes_the_views_that_a_cpu_makes(image_cache, options):
    streamed = {k: v for k, v in options.items() if k == "stream_above_gb"}
    gpu, cpu = batches(image_cache, device=CUDA, **options), batches(image_cache, **streamed)
    for ours, theirs in zip(gpu.iterate(18, 1), cpu.iterate(18, 1), strict=True):
        on_gpu, _ = gpu.inputs(ours, Compute(CUDA, precision="float32", channels_last=False))
        on_cpu, _ = cpu.inputs(theirs, Compute(CPU, precision="float32", channels_last=False))
        for a, b in zip(on_gpu, on_cpu, strict=True):
            torch.testing.assert_close(a.cpu(), b, atol=1e-4, rtol=0)
