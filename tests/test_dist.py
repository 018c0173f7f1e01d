"""Several processes do what one does: losses, gradients, statistics, features, files; and fail with one voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dist_work
from dist_launch import ended, started
from slmlp import config, data
from slmlp.data import augment
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.runtime import distributed, processes
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train.batches import Batches, Plan

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXACT = {"atol": 1e-9, "rtol": 1e-9}


def work(task: str, count: int, folder: Path) -> list[dict]:
    outcome = ended(started(count, HERE / "dist_work.py", task, folder))
    assert [code for code, _, _ in outcome] == [0] * count, "\n".join(said for _, _, said in outcome)
    return left_behind(task, count, folder)


def left_behind(task: str, count: int, folder: Path) -> list[dict]:
    """What each process left behind."""
    return [torch.load(folder / f"{task}-{count}-{rank}.pt", weights_only=False) for rank in range(count)]


# The parts


@pytest.fixture(scope="module")
def basics(once):
    return left_behind("basics", 2, once("dist-basics", lambda folder: work("basics", 2, folder)))


def test_a_gather_has_the_rows_of_all_and_a_gradient_that_averages_to_that_of_one(basics):
    x, w = dist_work.seeded(8, 3).requires_grad_(), dist_work.seeded(8, 8, seed=1)
    (w * (x @ x.T).tanh()).sum().backward()
    for rank, found in enumerate(part["gathers"] for part in basics):
        assert torch.equal(found["out"], x)
        # each process had the whole loss, so the sum over processes is twice the gradient
        torch.testing.assert_close(found["grad"] / 2, x.grad[4 * rank : 4 * rank + 4], atol=1e-12, rtol=1e-12)
        assert found["labels"].tolist() == list(range(8))
        assert found["images"].shape == (4, 3, 4, 4)
        assert found["images"][:, 0, 0, 0].tolist() == [0, 0, 1, 1]


def test_alone_a_gather_is_the_tensor_itself():
    x = torch.zeros(2, 3, requires_grad=True)
    assert distributed.gather(x) is x
    assert distributed.parallel(module := torch.nn.Linear(1, 1)) is module


def test_a_norm_over_processes_is_batchnorm_over_the_whole_batch(basics):
    cases = basics[0]["norms"].keys()
    assert len(cases) == 2 * len(dist_work.NORMS)
    for part in basics:
        for case in cases:
            shared, whole = part["norms"][case]["shared"], part["norms"][case]["whole"]
            if case.startswith("without statistics"):  # evaluation then looks at the batch at hand, as PyTorch's does
                del shared["eval"], whole["eval"]
            assert shared.pop("layout") in (None, case.startswith("2d"))
            torch.testing.assert_close(shared, whole, **EXACT, msg=lambda text, case=case: f"{case}: {text}")


def test_a_norm_in_bfloat16_keeps_the_type_and_its_statistics_in_float32(basics):
    for part in basics:
        found = part["bfloat16"]
        assert found["y"].dtype == found["dx"].dtype == found["expected"].dtype == torch.bfloat16
        torch.testing.assert_close(found["y"], found["expected"], atol=0.02, rtol=0.02)
        assert found["norm"].dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_our_norm_is_pytorchs_where_both_run(tmp_path):
    for found in work("cuda", 2, tmp_path):
        torch.testing.assert_close(found["ours"], found["theirs"], **EXACT)


def test_a_shuffle_is_undone_and_mixes_company(basics):
    for part in basics:
        found = part["shuffles"]
        assert torch.equal(found["out"], found["expected"])
        own = {tuple(row.flatten().tolist()) for row in found["own"]}
        company = {tuple(row.flatten().tolist()) for row in found["company"]}
        assert len(company) == 4
        assert 0 < len(own & company) < 4  # for this seed; an order drawn for all gives each some of the other's
        assert len(found["mixed"].unique(dim=0)) == 2  # statistics of two companies among the rows of one process


def test_moco_has_one_queue_and_one_set_of_weights(basics):
    one, other = (part["moco"] for part in basics)
    assert one["losses"] == other["losses"]
    same = [key for key in one["state"] if "running" not in key]
    assert any(key.startswith("queue.") for key in same)
    for key in same:
        assert torch.equal(one["state"][key], other["state"][key]), key
    assert not torch.equal(
        one["state"]["encoder.backbone.bn1.running_mean"], other["state"]["encoder.backbone.bn1.running_mean"]
    )
    rows = one["state"]["queue.rows"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows), dtype=rows.dtype))
    assert len(rows.unique(dim=0)) == dist_work.N  # of both processes, none twice


def test_processes_drop_by_draws_of_their_own_and_one_process_as_the_first(basics):
    first, second = (part["dropped"] for part in basics)
    assert not torch.equal(first, second)
    assert torch.equal(first, dist_work.dropped())


def test_features_of_several_processes_are_those_of_one_in_order(basics):
    first, second = (part["features"] for part in basics)
    assert len(first["part"]) % 2 == 1
    assert first["ids"] == first["part"]
    np.testing.assert_allclose(first["together"], first["alone"], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(first["again"], first["together"] + 1)  # read from the cache, not computed
    assert second["ids"] == []
    assert len(second["together"]) == len(second["again"]) == 0


def test_what_one_finds_out_all_act_upon(basics):
    first, second = (part["agreements"] for part in basics)
    for found in (first, second):
        assert found["none"] is None
        assert found["second"].startswith("no data for 1 (process 1 of 2, on ")
        assert found["both"] == "no data for 0"
        assert "missing1: No such file" in found["file"]
        assert found["differing"].startswith("process 1 of 2 has another command than process 0")
        assert (found["first"], found["any"], found["not any"], found["exchange"]) == (0, True, False, [0, 1])
        assert (found["mean"].tolist(), found["mean"].dtype, found["highest"]) == ([0.5, 2.0], torch.float64, 4)
    assert (first["order"], second["order"]) == ([], ["turn0"])
    assert first["share"] == [slice(0, 4), slice(0, 6)]
    assert second["share"] == [slice(4, 7), slice(6, 12)]


# Training


@pytest.fixture(scope="module")
def curve_of_one():
    return dist_work.curves()


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_loss_curves_and_weights_of_several_processes_are_those_of_one(curve_of_one, count, tmp_path):
    parts = work("curves", count, tmp_path)
    assert parts[0].keys() == (curve_of_one.keys() if count < 4 else set(dist_work.SYNCED))
    for name, found in parts[0].items():
        expected = curve_of_one[name]
        assert len(found["losses"]) == dist_work.STEPS
        np.testing.assert_allclose(found["losses"], expected["losses"], atol=1e-9, rtol=0, err_msg=name)
        for row, wanted in zip(found["logged"], expected["logged"], strict=True):
            assert row == pytest.approx(wanted, abs=1e-9), name
        assert found["scale"] == expected["scale"]
        assert found["state"].keys() == expected["state"].keys()
        for key, value in expected["state"].items():
            torch.testing.assert_close(found["state"][key], value, atol=1e-8, rtol=1e-8, msg=f"{name} {key}")
        for part in parts[1:]:
            assert all(torch.equal(part[name]["state"][k], v) for k, v in found["state"].items()), name


# What needs no second process


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_a_batch_are_the_batch(shapes, streamed, count):
    images = data.load(str(shapes)).of_part("train")
    image_cache = ImageCache(
        images, config.DataOptions(stream_above_gb=0.0 if streamed else 64.0), None, 20, progress=False
    )
    assert image_cache.streamed == streamed
    plan = Plan.of_epochs(images.labels, 12, 2, 0)
    views = augment.views("moco-v2", 16, 2, local_crops=1)
    rows = image_cache.rows(images)
    size = 12 // count

    def step_7(part=slice(None)):
        batches = Batches(image_cache, rows, plan, views, part)
        return batches.inputs(batches[7], Compute(torch.device("cpu"), "float32", False))

    whole, labels = step_7()
    parts = [step_7(slice(i * size, (i + 1) * size)) for i in range(count)]
    assert torch.equal(torch.cat([y for _, y in parts]), labels)
    for i, view in enumerate(whole):
        torch.testing.assert_close(torch.cat([x[i] for x, _ in parts]), view, atol=1e-6, rtol=0)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    assert shared_memory(config.DataOptions()).memory_limit_gb == config.DataOptions().memory_limit_gb
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert shared_memory(config.DataOptions()).memory_limit_gb == config.DataOptions().memory_limit_gb / 4


@pytest.mark.parametrize(("size", "batch", "choices"), [(2, 25, "24 or 26"), (4, 4, "8"), (3, 8, "6 or 9")])
def test_a_batch_that_cannot_be_shared_is_refused_with_those_that_can(monkeypatch, size, batch, choices):
    monkeypatch.setenv("WORLD_SIZE", str(size))
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SlmlpError, match=f"--batch-size {batch} .* choose {choices}$"):
        distributed.batch_part(batch)
    assert distributed.batch_part(6 * size) == slice(6, 12)


def test_variables_that_make_no_sense_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "four")
    with pytest.raises(SlmlpError, match="WORLD_SIZE is 'four'"):
        processes.world_size()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SlmlpError, match="RANK is ''"):
        processes.rank()
    with pytest.raises(SlmlpError, match="runs as one process"):
        processes.alone_only("a study")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    left = processes.alone_environment()
    assert "PATH" in left
    assert not any(name in left for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"))
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert (processes.world_size(), processes.rank(), processes.is_main(), processes.is_distributed()) == (
        1,
        0,
        True,
        False,
    )


def test_a_study_under_torchrun_is_refused_in_python_too(monkeypatch, tmp_path):
    from slmlp.experiments.study import main as study

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SlmlpError, match="start it without torchrun"):
        study.study("emoji", tmp_path / "study", config.DEMO)
