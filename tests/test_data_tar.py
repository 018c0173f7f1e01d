"""Tars: the same images as in a folder, nothing ever written by a member's name, one line for every mistake."""

from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_images import encoded, jpeg, pack, photo, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import EMOJI, load
from slmlp.data.sources import archive
from slmlp.runtime.errors import SlmlpError


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


@pytest.mark.parametrize("suffix", MODES)
def test_a_tar_holds_what_its_folder_holds(tmp_path, suffix):
    files = {**two_classes("train/"), **two_classes("test/", start=9), "classes.tsv": b"x"}
    folder = load(str(write(tmp_path / "pets", files)))
    options = DataOptions(cache_dir=str(tmp_path / "cache"))
    tar = load(str(pack(tmp_path / f"pets{suffix}", files, MODES[suffix])), options)
    assert tar.name == "pets"
    assert tar.ids == folder.ids
    assert tar.hash() == folder.hash()
    for i in range(len(tar)):
        np.testing.assert_array_equal(tar.read(i), folder.read(i))
    assert (tmp_path / "cache").exists() == (suffix != ".tar")


def test_names_with_dots_wrappers_and_long_names(tmp_path):
    long = "y" * 90 + "/" + "x" * 80 + "é.jpg"
    files = {f"./pets/{name}": content for name, content in two_classes().items()}
    files[f"./pets/cat/{long}"] = jpeg(20)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            tar.addfile(member("./", tarfile.DIRTYPE))
            for name, content in files.items():
                info = member(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        images = load(str(path))
        assert images.ids == tuple(sorted(name[7:] for name in files))
        assert images.read(images.ids.index(f"cat/{long}")).shape == (20, 24, 3)


def test_the_quick_way_through_headers_finds_what_tarfile_finds(tmp_path):
    random.seed(1)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for i in range(200):
                info = member("/".join("é" * random.randint(1, 40) for _ in range(random.randint(1, 3))) + f"{i}.jpg")
                info.size, info.mtime = random.randint(0, 3000), random.choice([0, 1.5e9, 1.5e9 + 0.5])
                tar.addfile(info, io.BytesIO(bytes(info.size)))
        with tarfile.open(path) as tar:
            expected = [(m.name, m.offset_data, m.size) for m in tar]
        found, refused = archive.index(path, path)
        assert found == expected
        assert not refused


def test_dangerous_members_are_refused_with_a_word_and_nothing_is_written(tmp_path):
    absolute = tmp_path / "evil.jpg"
    files = {**two_classes(), "../evil.jpg": jpeg(20), str(absolute): jpeg(21), "cat/../../evil.jpg": jpeg(22)}
    extra = [
        member("cat/link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        member("cat/hard.jpg", tarfile.LNKTYPE, "dog/0.jpg"),
    ]
    extra += [member("cat/null.jpg", tarfile.CHRTYPE), member("cat/pipe.jpg", tarfile.FIFOTYPE)]
    inner = tmp_path / "in"
    inner.mkdir()
    for suffix in (".tar", ".tar.gz"):
        path = pack(inner / f"bad{suffix}", files, MODES[suffix], extra)
        images = load(str(path), DataOptions(cache_dir=str(inner / "cache")))
        assert images.ids == tuple(sorted(two_classes()))
        reasons = dict(images.ignored)
        assert len(reasons) == 7
        assert all(reason.startswith("refused: ") for reason in reasons.values())
        assert {reason.split()[1] for reason in reasons.values()} == {"absolute", "path", "link", "device"}
    assert list(tmp_path.iterdir()) == [inner]
    assert not absolute.exists()


def test_a_later_member_replaces_an_earlier_one(tmp_path):
    path = pack(tmp_path / "x.tar", two_classes())
    newer = encoded(photo(99), "PNG")
    with tarfile.open(path, "a") as tar:
        info = member("cat/0.jpg")
        info.size = len(newer)
        tar.addfile(info, io.BytesIO(newer))
    images = load(str(path))
    np.testing.assert_array_equal(images.read(0), photo(99))
    assert images.ignored == (("cat/0.jpg", "replaced by a later file of the same name"),)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_cut_off_tar_is_never_taken_for_a_smaller_one(tmp_path, suffix):
    random.seed(0)
    whole = pack(tmp_path / f"whole{suffix}", two_classes(each=8), MODES[suffix]).read_bytes()
    end = len(whole) if suffix != ".tar" else len(whole.rstrip(b"\0"))
    path = tmp_path / f"cut{suffix}"
    for length in [
        *random.sample(range(10, end), 12),
        *([n * 512 for n in range(1, end // 512)][:40] if suffix == ".tar" else []),
    ]:
        path.write_bytes(whole[:length])
        with pytest.raises(SlmlpError, match="download or pack it again"):
            load(str(path), DataOptions(cache_dir=str(tmp_path / "cache")))
    assert not list((tmp_path / "cache").rglob("*.tar"))


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path):
    path = pack(tmp_path / "x.tar", two_classes())
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    content[third + 10] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SlmlpError, match=r"damaged at byte .*after 2 files"):
        load(str(path))


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, bytes(300), b"\x1f\x8bnot gzip at all"])
def test_what_is_no_tar_is_said(tmp_path, content):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(SlmlpError, match=r"x\.tar"):
        load(str(path), DataOptions(cache_dir=str(tmp_path / "cache")))


def test_a_packed_tar_is_unpacked_once_and_again_when_it_changes(tmp_path):
    options = DataOptions(cache_dir=str(tmp_path / "cache"))
    path = pack(tmp_path / "x.tar.gz", two_classes(), "w:gz")
    load(str(path), options)
    copies = list((tmp_path / "cache" / "unpacked").iterdir())
    load(str(path), options)
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == copies
    pack(path, two_classes(each=4), "w:gz")
    assert len(load(str(path), options)) == 8


def test_the_temporary_folder_of_another_user_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trap = tmp_path / f"slmlp-{os.getuid()}"
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    load(str(pack(tmp_path / "x.tar.gz", two_classes(), "w:gz")))
    assert not list(trap.iterdir())
    trap.chmod(0o700)
    load(str(tmp_path / "x.tar.gz"))
    assert list(trap.iterdir())


def test_readers_work_in_threads_and_in_other_processes(tmp_path):
    files = two_classes(each=20)
    for path in (pack(tmp_path / "x.tar", files), write(tmp_path / "folder", files)):
        images = load(str(path))
        expected = [images.read(i) for i in range(40)]
        with ThreadPoolExecutor(8) as pool:
            for i, found in enumerate(pool.map(images.read, list(range(40)) * 4)):
                np.testing.assert_array_equal(found, expected[i % 40])
        copy = pickle.loads(pickle.dumps(images))
        np.testing.assert_array_equal(copy.read(7), expected[7])
    images = load(str(tmp_path / "x.tar"))
    held = pickle.dumps(images)
    os.utime(tmp_path / "x.tar", (0, 0))
    with pytest.raises(OSError, match="changed while it was in use"):
        pickle.loads(held)
    (tmp_path / "x.tar").rename(tmp_path / "y.tar")
    with pytest.raises(FileNotFoundError):
        pickle.loads(held)
    np.testing.assert_array_equal(images.read(7), expected[7], err_msg="a failed copy must not close our file")


@pytest.mark.skipif(not EMOJI.is_file(), reason="the embedded set is not built yet")
def test_emoji_is_read_by_its_manifest():
    images = load("emoji")
    assert images.name == "emoji"
    assert images.superclasses is not None
    assert images.has_groups
    assert len(images.classes) > 10
    assert not images.unreadable
    assert images.read(0).ndim == 3


def test_a_missing_embedded_set_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("slmlp.data.EMOJI", tmp_path / "emoji.tar")
    with pytest.raises(SlmlpError, match="the embedded set 'emoji' is missing"):
        load("emoji")
