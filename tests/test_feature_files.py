"""Files of features that are larger than memory: mapped, read block by block, with the numbers of those in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slmlp import config
from slmlp.cli import main
from slmlp.evaluation import feature_file
from slmlp.probes.feature_files import beside, chunks, read_arrays, rows_of
from slmlp.probes.features import Features
from slmlp.results import records
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError


def blobs(n: int, classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = 1.5 * rng.standard_normal((classes, width))[y] + rng.standard_normal((n, width))
    return x.astype(np.float16), y


def write(path: Path, x: np.ndarray, **rest: np.ndarray) -> None:
    """Write a features file whose x can be mapped."""
    np.savez(path, **rest)
    np.save(beside(path), x)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """240 images of float16 features whose training and test images are mixed, and the arrays in it."""
    x, y = blobs(240, 6, 20)
    arrays = {"note": np.arange(3), "x": x, "y": y, "parts": np.where(np.arange(240) // 6 % 3 == 0, "test", "train")}
    path = tmp_path_factory.mktemp("features") / "f.npz"
    write(path, **arrays)
    return path, arrays


def test_what_is_larger_than_the_limit_stays_on_the_disk(file, tmp_path):
    path, arrays = file
    size = 4e-9 * arrays["x"].size
    for limit, mapped in ((None, False), (size, False), (0.99 * size, True)):
        found = read_arrays(path, limit)
        assert isinstance(found["x"], np.memmap) == mapped
        for key, value in arrays.items():
            np.testing.assert_array_equal(found[key], value)
    assert Features.load(path, 0.0).x.dtype == np.float16
    assert Features.load(path).x.dtype == np.float32
    rest = {key: value for key, value in arrays.items() if key != "x"}
    write(tmp_path / "column.npz", np.asfortranarray(arrays["x"]), **rest)
    by_column = read_arrays(tmp_path / "column.npz", 0.0)["x"]
    assert isinstance(by_column, np.memmap)
    np.testing.assert_array_equal(by_column, arrays["x"])
    write(tmp_path / "names.npz", arrays["x"].astype(str), **rest)
    with pytest.raises(SlmlpError, match="x must be numbers"):
        read_arrays(tmp_path / "names.npz", 0.0)


def test_x_in_the_npz_is_read_whatever_lies_beside_it(file, tmp_path):
    path, arrays = file
    alone = tmp_path / "alone.npz"
    for save in (np.savez, np.savez_compressed):
        save(alone, **arrays)
        before = files.sha256(chunks(alone))
        np.save(beside(alone), arrays["x"] + 1)
        found = read_arrays(alone, 0.0)["x"]
        assert not isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, arrays["x"])
        assert files.sha256(chunks(alone)) == before
    assert files.sha256(chunks(path)) == files.sha256(path.read_bytes() + beside(path).read_bytes())


@pytest.mark.parametrize("content", [b"", b"nothing", None, "objects"])
def test_an_x_that_cannot_be_mapped_is_one_line(file, tmp_path, content):
    path, arrays = file
    rest = {key: value for key, value in arrays.items() if key != "x"}
    write(tmp_path / "f.npz", arrays["x"].astype(object) if content == "objects" else arrays["x"], **rest)
    if content != "objects":
        whole = beside(path).read_bytes()
        beside(tmp_path / "f.npz").write_bytes(whole[:-100] if content is None else content)
    for limit in (None, 0.0):
        with pytest.raises(SlmlpError, match=r"f\.npz cannot be read as a features file \(.npz with x and y\): .+"):
            read_arrays(tmp_path / "f.npz", limit)
    beside(tmp_path / "f.npz").unlink()
    with pytest.raises(SlmlpError, match=r"f\.npz holds note, parts, y; a features file has x"):
        read_arrays(tmp_path / "f.npz")


def test_saved_features_are_mapped_or_nothing_is_written(file, tmp_path, monkeypatch):
    made = Features.load(file[0])
    made.save(tmp_path / "f.npz")
    again = Features.load(tmp_path / "f.npz", 0.0)
    assert isinstance(again.x, np.memmap)
    np.testing.assert_array_equal(again.x, made.x)
    assert (again.classes, again.parts.tolist()) == (made.classes, made.parts.tolist())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("save", "savez"):
        with monkeypatch.context() as patch:
            patch.setattr(np, name, full)
            with pytest.raises(SlmlpError, match="No space left"):
                made.save(tmp_path / "g.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"f.npz", "f.npy"}


def test_rows_of_a_map_are_maps_and_leave_nothing_behind(file, tmp_path):
    path, arrays = file
    x = read_arrays(path, 0.0)["x"]
    kept = {"apart": arrays["parts"] == "test", "together": np.arange(240) < 7, "none": np.zeros(240, dtype=bool)}
    for keep in kept.values():
        found = rows_of(x, keep, tmp_path / "not there yet")
        assert isinstance(found, np.memmap) == keep.any()
        np.testing.assert_array_equal(found, arrays["x"][keep])
    assert rows_of(x, kept["together"], tmp_path).base is not None  # a part of the same map
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_mixed_rows_is_said_before_any_is_written(file, tmp_path, monkeypatch):
    path, arrays = file
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(SlmlpError, match=r"84 rows of a features file need [\d.]+ KB, and 100 bytes are free"):
        rows_of(read_arrays(path, 0.0)["x"], arrays["parts"] == "test", tmp_path)


@pytest.mark.parametrize("several", [False, True])
def test_tasks_on_the_disk_give_the_numbers_of_those_in_memory(file, tmp_path, monkeypatch, several):
    path, arrays = file
    if several:
        path = tmp_path / "several.npz"
        write(path, **{**arrays, "y": np.eye(6, dtype=np.int64)[arrays["y"]]})
    tasks = ["linear"] if several else ["linear", "knn", "centroid"]
    cfg = config.TaskSettings(probe=config.Probe(l2=(1e-2, 1e-1)), knn=config.Knn(neighbours=5))
    held = feature_file.evaluate_file(path, tasks, tmp_path / "memory", cfg)
    read = feature_file.read_arrays
    monkeypatch.setattr(feature_file, "read_arrays", lambda where, limit: read(where, 0.0))
    for kind in (feature_file.Features, feature_file.MultiLabel):
        load = kind.load
        monkeypatch.setattr(kind, "load", lambda where, limit, load=load: load(where, 0.0))
    seen, rows = [], feature_file.rows_of
    monkeypatch.setattr(feature_file, "rows_of", lambda x, *rest: seen.append(type(x)) or rows(x, *rest))
    mapped = feature_file.evaluate_file(path, tasks, tmp_path / "disk", cfg)
    assert seen == [np.memmap, np.memmap]
    assert {(r.task, r.metric): r.value for r in mapped} == pytest.approx({(r.task, r.metric): r.value for r in held})
    assert len(held) == (2 if several else 7)
    assert {r.hashes["data"] for r in held} == {r.hashes["data"] for r in mapped}


@pytest.mark.slow
def test_the_command_keeps_a_large_file_on_the_disk_and_says_so(tmp_path, capsys):
    x, y = blobs(9000, 2, 3000)
    path = tmp_path / "large.npz"
    write(path, x, y=y, parts=np.where(np.arange(9000) < 6000, "train", "test"))
    words = ["evaluate", str(path), "--out", str(tmp_path / "o"), "--probe.memory-limit-gb", "0.105"]
    assert main([*words, "--task", "linear", "fewshot"]) == 2
    assert "--task fewshot holds all features in memory" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert main([*words, "--task", "centroid"]) == 0
    assert "0.108 GB of features stay on the disk" in capsys.readouterr().err
    [row] = [r for r in records.read(tmp_path / "o" / "results.jsonl") if r.metric == "accuracy"]
    assert row.value == 1.0


@pytest.mark.parametrize(
    ("name", "right"), [("part", "parts"), ("split", "parts"), ("group", "groups"), ("patients", "groups")]
)
def test_an_array_by_another_name_is_not_passed_over(tmp_path, name, right):
    x, y = blobs(40, 2, 4)
    np.savez(tmp_path / "f.npz", x=x, y=y, **{name: np.where(np.arange(40) < 20, "train", "test")})
    with pytest.raises(SlmlpError, match=f"f.npz: the array '{name}' is not read: name it {right}"):
        Features.load(tmp_path / "f.npz")


def test_images_of_several_labels_in_no_part_are_not_left_out(tmp_path, capsys):
    x, y = blobs(60, 2, 4)
    parts = np.array(["train", "test", "val"])[np.arange(60) % 3]
    np.savez(tmp_path / "f.npz", x=x, y=np.eye(2, dtype=int)[y], parts=parts)
    assert main(["evaluate", str(tmp_path / "f.npz"), "--task", "linear", "--out", str(tmp_path / "out")]) == 2
    assert "parts (N,) of" in capsys.readouterr().err


def test_a_folder_in_place_of_features_is_told_what_writes_them(tmp_path):
    with pytest.raises(SlmlpError, match=rf"{tmp_path} is a folder: .*slmlp features ENCODER {tmp_path}"):
        Features.load(tmp_path)


def test_features_of_data_without_a_test_part_are_evaluated_with_a_drawn_one(tmp_path):
    """As slmlp features writes them: every image is of the training part."""
    y = np.arange(40) % 4
    for name, more in (("none", {}), ("train", {"parts": np.full(40, "train")})):
        np.savez(tmp_path / f"{name}.npz", x=np.eye(4)[y], y=y, **more)
        words = ["evaluate", str(tmp_path / f"{name}.npz"), "--task", "centroid", "--out", str(tmp_path / name)]
        assert main(words) == 0
    none, train = (records.read(tmp_path / name / "results.jsonl") for name in ("none", "train"))
    assert [line.value for line in train] == [line.value for line in none] == [1.0, 1.0]
    assert train[0].warnings["test_part_drawn"] == train[0].n == 12
    np.savez(tmp_path / "test.npz", x=np.eye(4)[y], y=y, parts=np.full(40, "test"))
    assert main(["evaluate", str(tmp_path / "test.npz"), "--task", "centroid", "--out", str(tmp_path / "out")]) == 2
