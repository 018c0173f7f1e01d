"""The cache of pixels: what it holds, what is left out, and that nothing wrong in it is ever trusted."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from data_images import encoded, jpeg, pack, photo, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import decode_all, load, pixels, read_resized
from slmlp.data.decode import resize_image
from slmlp.runtime import progress
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import track
from slmlp.runtime.threads import in_threads

MAPPED = DataOptions(memory_limit_gb=0.0)
STREAMED = DataOptions(stream_above_gb=0.0)


@pytest.fixture
def images(tmp_path):
    files = {**two_classes(each=120), "dog/large.jpg": encoded(photo(300, 400, 300), "JPEG")}
    return load(str(pack(tmp_path / "pets.tar", files)))


@pytest.fixture
def damaged(tmp_path):
    """Return images of which two, the first and one in the middle, turn out to be cut off."""
    files = two_classes(each=120)
    for name in ("cat/0.jpg", "dog/5.jpg"):
        files[name] = files[name][:-60]
    return load(str(write(tmp_path / "pets", files)))


def cached(folder, suffix=".npy"):
    (path,) = folder.glob(f"pixels-*{suffix}")
    return path


@pytest.mark.parametrize("options", [DataOptions(), MAPPED])
@pytest.mark.parametrize("keep", [False, True])
def test_pixels_are_the_centre_squares_of_the_images(images, tmp_path, options, keep):
    cache = tmp_path / "cache" if keep else None
    found, same = decode_all(images, 16, options=options, cache=cache, progress=False)
    assert same is images
    assert found.data.shape == (241, 16, 16, 3)
    assert len(found) == 241
    assert isinstance(found.data, np.memmap) == (options is MAPPED)
    for i in (0, 7, 240):
        np.testing.assert_array_equal(found.data[i], read_resized(images, i, 16))
    np.testing.assert_array_equal(found.data[7], resize_image(images.read(7), 16))
    names = [cached(cache, suffix).name for suffix in (".json", ".npy")] if keep else []
    assert not keep or sorted(path.name for path in cache.iterdir()) == names


def test_a_second_run_reads_the_cache_however_it_was_written(images, tmp_path, monkeypatch):
    first, _ = decode_all(images, 12, cache=tmp_path, progress=False)
    monkeypatch.setattr(pixels, "read_resized", lambda *_: pytest.fail("decoded again"))
    for options in (DataOptions(), MAPPED):
        again, _ = decode_all(images, 12, options=options, cache=tmp_path, progress=False)
        np.testing.assert_array_equal(again.data, first.data)
    assert isinstance(again.data, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again.data[0] = 0


def test_what_cannot_be_decoded_is_left_out_and_listed(damaged, tmp_path):
    for options in (DataOptions(), MAPPED):
        for cache in (None, tmp_path / "a", tmp_path / "a"):
            found, kept = decode_all(damaged, 16, options=options, cache=cache, progress=False)
            assert len(found) == len(kept) == 238
            assert [name for name, _ in kept.unreadable] == ["cat/0.jpg", "dog/5.jpg"]
            assert all("truncated" in reason for _, reason in kept.unreadable)
            assert not set(kept.ids) & {"cat/0.jpg", "dog/5.jpg"}
            for i in (0, 118, 123, 124, 237):
                np.testing.assert_array_equal(found.data[i], read_resized(kept, i, 16), err_msg=kept.ids[i])


def test_rows_find_the_images_of_a_subset(damaged):
    found, kept = decode_all(damaged, 16, progress=False)
    dogs = kept.of_classes(["dog"]).select(np.array([5, 2, 0]))
    for row, i in zip(found.rows(dogs), range(3), strict=True):
        np.testing.assert_array_equal(found.data[row], read_resized(dogs, i, 16))
    with pytest.raises(KeyError, match="not decoded"):
        found.rows(damaged)
    cats, only = decode_all(kept.of_classes(["cat"]), 16, progress=False)
    with pytest.raises(KeyError):
        cats.rows(dogs)
    assert cats.rows(only).tolist() == list(range(len(only)))


def test_too_many_unreadable_images_stop_with_their_list(tmp_path):
    files = two_classes(each=10)
    files["cat/3.jpg"] = files["cat/3.jpg"][:400]
    images = load(str(write(tmp_path / "pets", files)))
    for options in (DataOptions(), dataclasses.replace(STREAMED)):
        with pytest.raises(SlmlpError, match=r"1 of 20 files cannot be read.*first: cat/3\.jpg") as caught:
            decode_all(images, 16, options=options, cache=tmp_path / "cache", progress=False)
        assert str(tmp_path / "cache" / "unreadable.txt") in str(caught.value)
    assert (tmp_path / "cache" / "unreadable.txt").read_text().startswith("cat/3.jpg\t")
    found, kept = decode_all(images, 16, options=DataOptions(allow_unreadable=True), cache=tmp_path / "cache")
    assert len(found) == len(kept) == 19


def test_a_class_that_is_lost_altogether_is_named(tmp_path):
    files = {**two_classes(), "emu/1.jpg": jpeg(50)[:400]}
    images = load(str(write(tmp_path, files)))
    with pytest.raises(SlmlpError, match="no image of class 'emu' can be read"):
        decode_all(images, 16, options=DataOptions(allow_unreadable=True), progress=False)


def test_streamed_data_is_checked_once_and_not_kept(damaged, tmp_path, monkeypatch):
    nothing, kept = decode_all(damaged, 16, options=STREAMED, cache=tmp_path / "cache", progress=False)
    assert nothing is None
    assert len(kept) == 238
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]
    monkeypatch.setattr(pixels, "read_resized", lambda *_: pytest.fail("checked again"))
    _, again = decode_all(damaged, 16, options=STREAMED, cache=tmp_path / "cache", progress=False)
    assert again.unreadable == kept.unreadable
    assert again.ids == kept.ids


@pytest.mark.parametrize(("share", "kept"), [(1.01, True), (0.99, False)])
def test_pixels_are_kept_up_to_the_limit(images, share, kept):
    gigabytes = 241 * 10 * 10 * 3 / 1e9
    found, _ = decode_all(images, 10, options=DataOptions(stream_above_gb=gigabytes * share), progress=False)
    assert (found is not None) == kept


def corruptions():
    def flip(content):
        content[1000] ^= 1

    def cut(content):
        del content[-100:]

    def cut_pixels(content):
        del content[200:500]

    def another_shape(content):
        at = content.index(b"(241,")
        content[at : at + 5] = b"(240,"

    def empty(content):
        content.clear()

    def another_key(content):
        at = content.index(b'"key": "') + 8
        content[at] = ord("0") if content[at] != ord("0") else ord("1")

    def another_count(content):
        at = content.index(b"241")
        content[at : at + 3] = b"240"

    def no_json(content):
        content[content.rindex(b"{")] = ord("[")

    pixel_file = [(".npy", damage) for damage in (flip, cut, cut_pixels, another_shape, empty)]
    return pixel_file + [(".json", damage) for damage in (another_key, another_count, no_json, empty)]


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "damage"), corruptions(), ids=lambda f: getattr(f, "__name__", f))
def test_a_wrong_cache_file_is_made_anew(images, tmp_path, suffix, damage):
    first, _ = decode_all(images, 8, cache=tmp_path, progress=False)
    path = cached(tmp_path, suffix)
    whole = path.read_bytes()
    content = bytearray(whole)
    damage(content)
    path.write_bytes(content)
    again, _ = decode_all(images, 8, cache=tmp_path, progress=False)
    np.testing.assert_array_equal(again.data, first.data)
    assert path.read_bytes() == whole


def test_pixels_without_their_json_are_made_anew(images, tmp_path):
    decode_all(images, 8, cache=tmp_path, progress=False)
    cached(tmp_path, ".json").unlink()
    decode_all(images, 8, cache=tmp_path, progress=False)
    assert np.load(cached(tmp_path)).shape == (241, 8, 8, 3)


def test_a_cache_of_other_data_is_not_taken(tmp_path):
    """The key holds ids, sizes, content or times, side and rules: change one, and the pixels are decoded anew."""
    x = np.stack([photo(i) for i in range(6)])

    def of(pixels_, y=("a", "b") * 3):
        np.savez(tmp_path / "x.npz", x=pixels_, y=np.array(y))
        return load(str(tmp_path / "x.npz"))

    cache = tmp_path / "cache"
    decode_all(of(x), 8, cache=cache, progress=False)
    other, _ = decode_all(of(255 - x), 8, cache=cache, progress=False)
    np.testing.assert_array_equal(other.data[0], resize_image(255 - x[0], 8))
    assert len(list(cache.glob("*.npy"))) == 2
    decode_all(of(x, ("a", "c") * 3), 8, cache=cache, progress=False)
    decode_all(of(x), 9, cache=cache, progress=False)
    assert len(list(cache.glob("*.npy"))) == 4
    folder = write(tmp_path / "pets", dict.fromkeys(two_classes(), encoded(photo(1), "BMP")))
    decode_all(load(str(folder)), 8, cache=cache, progress=False)
    (folder / "cat" / "0.jpg").write_bytes(encoded(photo(2), "BMP"))
    images = load(str(folder))
    swapped, _ = decode_all(images, 8, cache=cache, progress=False)
    np.testing.assert_array_equal(swapped.data[0], resize_image(photo(2), 8))


@pytest.mark.parametrize("place", ["memory", "file"])
def test_an_interrupted_run_leaves_nothing_behind(images, tmp_path, monkeypatch, place):
    real = read_resized

    def interrupt(images_, index, side):
        if index == 100:
            raise KeyboardInterrupt
        return real(images_, index, side)

    options = DataOptions() if place == "memory" else MAPPED
    monkeypatch.setattr(pixels, "read_resized", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode_all(images, 8, options=options, cache=tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").iterdir())


def test_a_killed_run_leaves_no_cache_and_its_remains_go_in_time(images, tmp_path):
    cache = tmp_path / "cache"
    program = f"""
        import time
        from pathlib import Path
        from slmlp.config import DataOptions
        from slmlp.data import decode_all, load, pixels
        pixels.read_resized = lambda *_: time.sleep(60)
        decode_all(load({images.source!r}), 8, options=DataOptions(memory_limit_gb=0.0), cache=Path({str(cache)!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    deadline = time.monotonic() + 30
    while not list(cache.glob(".pixels-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (remains,) = cache.iterdir()
    assert remains.name.endswith(".tmp")
    found, _ = decode_all(images, 8, cache=cache, progress=False)
    np.testing.assert_array_equal(found.data[3], read_resized(images, 3, 8))
    assert remains.exists(), "another run may still be writing it"
    os.utime(remains, (0, 0))
    decode_all(images, 9, cache=cache, progress=False)
    assert not remains.exists()


def test_a_full_disk_is_one_line(images, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SlmlpError, match="No space left on device"):
        decode_all(images, 8, options=MAPPED, cache=tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("options", "kept"), [(DataOptions(), True), (MAPPED, True), (MAPPED, False)], ids=["read", "mapped", "unnamed"]
)
def test_a_disk_too_small_is_said_before_anything_is_decoded(images, tmp_path, monkeypatch, options, kept):
    free = shutil.disk_usage(tmp_path)._replace(free=len(images) * 8 * 8 * 3 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(pixels, "read_resized", lambda *_: pytest.fail("it decodes"))
    options = dataclasses.replace(options, cache_dir=str(tmp_path / "scratch"))
    with pytest.raises(SlmlpError, match=r"decoded images of pets at 8 px need .* are free there; .*--cache-dir"):
        decode_all(images, 8, options=options, cache=tmp_path / "cache" if kept else None, progress=False)


def test_a_file_that_vanishes_is_unreadable(tmp_path):
    folder = write(tmp_path, two_classes(each=60))
    images = load(str(folder))
    (folder / "cat" / "7.jpg").unlink()
    _, kept = decode_all(images, 8, progress=False)
    assert kept.unreadable == (("cat/7.jpg", "No such file or directory"),)


def test_threads_give_results_in_order_and_stop_at_an_error():
    assert list(in_threads(lambda i: i * i, 1000, "x", chunk=7)) == [(i, i * i) for i in range(1000)]
    assert list(in_threads(lambda i: i, 0, "x")) == []
    done = []

    def job(index):
        if index == 50:
            raise RuntimeError("stop")
        done.append(index)

    with pytest.raises(RuntimeError, match="stop"):
        list(in_threads(job, 100_000, "x", chunk=1))
    assert len(done) < 1000, "what had not started must be cancelled"


def test_a_bar_appears_on_stderr_only_when_it_takes_long(capsys, monkeypatch):
    assert list(track(range(3), 3, "quick work")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "DELAY", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track(range(3), 3, "slow work")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "slow work" in err
    assert list(track(range(3), 3, "silent work", show=False)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


DATA = os.environ.get("SLMLP_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="SLMLP_DATA is not set: no folder of image sets for measuring")
def test_tiny_imagenet():
    images = load(str(Path(DATA) / "tiny-imagenet.tar"))
    assert len(images.classes) == 200
    assert (images.parts == "train").sum() == 40_000
    assert (images.parts == "test").sum() == 10_000
    assert not images.unreadable
    assert not images.ignored
    some = images.select(np.arange(0, 50_000, 250))
    found, kept = decode_all(some, 40, progress=False)
    assert len(found) == len(kept) == 200
    grey = (found.data == found.data[..., :1]).all(axis=(1, 2, 3)).mean()
    assert 0 < grey < 0.1, "about 2 % of Tiny-ImageNet is grey"
    assert 90 < found.data.mean() < 140
