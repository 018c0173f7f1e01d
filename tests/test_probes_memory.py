"""A fit keeps to its memory and its answer does not depend on it.

The claims: moments and axes of blocks are those of the whole array, however the features lie; images that are held and
images that are read anew at each pass give the same fit, and so does a memory-mapped float16 file, which is never read
whole; the peak is under the setting; axes of other images lead to the same minimum; too little memory is named.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import memory_alone
from slmlp import config
from slmlp.evaluation.engine import settings_hash
from slmlp.probes import images, solver
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.images import Axes, Moments, Rows
from slmlp.probes.linear import evaluate, fit
from slmlp.probes.solver import Design, requirement
from slmlp.runtime.errors import SlmlpError
from test_probes_linear import as_features, blobs


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(images, "ROWS", 64)


def limit_that_streams(d: int, classes: int) -> float:
    return (requirement(d, classes)[0] + 1000) / 1e9


def test_moments_of_blocks_are_those_of_the_whole(small_blocks):
    x, _ = blobs(500, 6, 3)
    x = x.astype(np.float64)
    x[:, 0] = x[:, 0] * 1e-3 + 1e3  # far from zero
    x[:, 1] = np.arange(500)  # blocks far from one another
    x[:, 2] = 7.0
    x[:, 3] *= 1e6
    found = Moments.of(Rows(x), correlation=True)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-13)
    std = x.std(0)
    np.testing.assert_allclose(found.std, np.where(np.arange(6) == 2, 1.0, std), rtol=1e-9)
    assert found.varies.tolist() == [True, True, False, True, True, True]
    some = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found.correlation[some][:, some], np.corrcoef(x[:, some].T), atol=1e-9)
    assert not found.correlation[2].any()


def test_rows_are_read_as_an_index_reads_them(small_blocks):
    x, _ = blobs(300, 5, 3)
    index = np.flatnonzero(np.arange(300) % 3)
    rows = Rows(x, index)
    np.testing.assert_array_equal(torch.cat([rows.block(at) for at in rows.slices()]), x[index])
    assert len(rows.slices()) == 4
    swapped = Rows(x.astype(">f4"))  # a file of another machine
    np.testing.assert_array_equal(swapped.block(slice(0, 300)), x)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (40, 60)])
def test_axes_of_narrow_features_are_orthonormal_and_span_the_images(n, d):
    x, _ = blobs(n, d, 3)
    x[:, 5] = x[:, 4]  # one direction less
    rows = Rows(x)
    moments = Moments.of(rows, correlation=True)
    axes = Axes.of(rows, moments)
    rank = min(n - 1, d - 1)
    assert axes.axes.shape == (d, rank)
    np.testing.assert_allclose(axes.axes.T @ axes.axes, np.eye(rank), atol=1e-12)
    s = moments.standardise(rows.block(slice(0, n)), torch.float64)
    np.testing.assert_allclose(s @ axes.axes @ axes.axes.T, s, atol=1e-9)
    np.testing.assert_allclose((s @ axes.axes).square().mean(0), axes.curvature, rtol=1e-7, atol=1e-12)


def test_axes_of_wide_features_are_the_leading_ones():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 90)).astype(np.float32)
    x[:, 1:6] += 3 * x[:, :1]  # two strong directions
    x[:, 11:16] += 2 * x[:, 10:11]
    rows = Rows(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "AXES", 20)
        axes = Axes.of(rows, Moments.of(rows, correlation=False))
    correlation = np.corrcoef(x.T)
    values, vectors = np.linalg.eigh(correlation)
    np.testing.assert_allclose(axes.axes.T @ axes.axes, np.eye(20), atol=1e-5)
    np.testing.assert_allclose(axes.curvature[-2:], values[-2:], rtol=1e-3)
    np.testing.assert_allclose(np.abs(axes.axes[:, -2:].numpy().T @ vectors[:, -2:]), np.eye(2), atol=0.05)
    assert axes.rest == pytest.approx((90 - float(axes.curvature.sum())) / 70, rel=1e-3)
    assert axes.serves(Moments.of(Rows(x[:5]), correlation=False))


@pytest.mark.parametrize("n", [30, 300])
def test_wide_features_end_at_the_minimum_of_all_axes(monkeypatch, n):
    x, y = blobs(n, 60, 4, separation=0.5)
    whole = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=3000)
    monkeypatch.setattr(images, "NARROW", 10)
    monkeypatch.setattr(solver, "NARROW", 10)
    monkeypatch.setattr(images, "AXES", 5)
    monkeypatch.setattr(images, "SKETCHED", 50)
    leading = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=3000)
    assert leading.finished
    np.testing.assert_allclose(leading.weight, whole.weight, atol=2e-5 * np.abs(whole.weight).max())


@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_streamed_images_give_the_fit_of_held_ones(small_blocks, l2):
    x, y = blobs(600, 20, 4, separation=0.5)
    limit = limit_that_streams(20, 4)
    assert Design(x, y, 4).single.standardised is not None
    assert Design(x, y, 4, memory_limit_gb=limit).single.standardised is None
    held = fit(x, y, 4, l2, tolerance=1e-9, max_iterations=2000)
    streamed = fit(x, y, 4, l2, tolerance=1e-9, max_iterations=2000, memory_limit_gb=limit)
    assert streamed.finished
    np.testing.assert_allclose(streamed.weight, held.weight, atol=1e-6 * np.abs(held.weight).max())
    first, second = Design(x, y, 4, memory_limit_gb=limit), Design(x, y, 4)
    made = [solver.minimise(d, l2, tolerance=1e-4, max_iterations=500, exact=False) for d in (first, second)]
    assert abs(made[0].iterations - made[1].iterations) <= 2
    np.testing.assert_allclose(made[0].theta, made[1].theta, atol=1e-2)


@pytest.mark.slow
def test_a_memory_mapped_float16_file_gives_the_fit_of_its_numbers(tmp_path, small_blocks):
    x, y = blobs(400, 16, 4, separation=0.6)
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    cfg = config.Probe(memory_limit_gb=limit_that_streams(16, 4))
    whole = as_features(x.astype(np.float16).astype(np.float32), y)
    apart = dataclasses.replace(whole, x=mapped)
    for run in (lambda f, c: cross_validate(f, c), lambda f, c: evaluate(f, f, c)):
        ours, theirs = run(apart, cfg), run(whole, config.Probe())
        assert ours.l2 == theirs.l2
        assert (ours.predictions.predictions == theirs.predictions.predictions).mean() > 0.99
        assert max(ours.gradient_norms) <= cfg.tolerance


def test_a_file_is_never_read_whole(tmp_path, small_blocks):
    class Watched(np.ndarray):
        most = 0

        def __getitem__(self, at):
            part = super().__getitem__(at)
            Watched.most = max(Watched.most, part.size)
            return part

    x, y = blobs(400, 16, 4, separation=0.6)
    features = as_features(x.view(Watched), y)
    cross_validate(features, config.Probe(folds=2, l2=(1.0, 0.1)))
    assert 0 < Watched.most <= 64 * 16


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's memory")
@pytest.mark.parametrize(("n", "streams"), [(60_000, True), (5_000, False)])
def test_the_peak_is_under_the_setting(tmp_path, n, streams):
    d, classes, limit_gb = 256, 5, 0.15
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (n, d))
    y = np.arange(n) % classes
    random = np.random.default_rng(0)
    for start in range(0, n, 5000):
        part = slice(start, min(start + 5000, n))
        file[part] = random.normal(size=(part.stop - start, d)) + np.eye(classes, d)[y[part]]
    file.flush()
    assert (4 * n * d > limit_gb * 1e9 - requirement(d, classes)[0]) == streams
    command = [sys.executable, str(Path(__file__).with_name("memory_alone.py")), str(tmp_path / "x.npy")]
    done = subprocess.run([*command, str(classes), str(limit_gb)], capture_output=True, text=True, check=True)
    added, array = map(int, done.stdout.split())
    assert added < limit_gb * 1e9
    assert array > 0.9 * 8 * memory_alone.ARRAY  # the thread sees what is there


def test_axes_of_other_images_lead_to_the_same_minimum():
    x, y = blobs(300, 10, 4)
    other = Design(x * 3 - 1, y, 4, rows=np.arange(100)).axes
    mine = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000)
    theirs = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000, axes=other)
    assert Design(x, y, 4, axes=other).axes is other
    np.testing.assert_allclose(mine.weight, theirs.weight, atol=1e-6)
    few = Design(x, y, 4, rows=np.arange(6)).axes  # spans less than these images: of no use
    assert Design(x, y, 4, axes=few).axes is not few
    np.testing.assert_allclose(
        fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000, axes=few).weight, mine.weight, atol=1e-6
    )


def test_axes_are_found_once_for_choice_and_fit(monkeypatch):
    found = []
    original = Axes.of.__func__
    monkeypatch.setattr(Axes, "of", classmethod(lambda cls, *words: found.append(1) or original(cls, *words)))
    features = as_features(*blobs(300, 10, 4))
    evaluate(features, features, config.Probe())
    assert len(found) == 1


def test_features_that_are_all_constant_are_predicted_by_frequency():
    y = np.arange(90) % 3 % 2
    probe = fit(np.ones((90, 5), dtype=np.float32), y, 2, 1e-2, tolerance=1e-8, max_iterations=100)
    assert probe.finished
    assert probe.constant_features == 5
    assert (probe.predict(np.ones((4, 5))) == 0).all()
    np.testing.assert_allclose(probe.classify(np.ones((4, 5)))[1], 2 / 3, atol=1e-6)


def test_too_little_memory_is_named_with_what_it_takes():
    x, y = blobs(100, 30, 3)
    with pytest.raises(
        SlmlpError, match=r"--probe.memory-limit-gb 0.01 is too little .* 30 features and 3 .* least 0.1"
    ):
        fit(x, y, 3, 1e-2, tolerance=1e-4, max_iterations=10, memory_limit_gb=0.01)


def test_the_memory_setting_is_no_part_of_what_a_number_is_known_by():
    def known(**changes):
        return settings_hash("unseen", config.Study(probe=config.Probe(**changes)))

    assert known() == known(memory_limit_gb=0.5)
    assert known() != known(tolerance=1e-4)
