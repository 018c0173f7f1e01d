"""Tars and manifests: the same images as in a folder, nothing written by a member's name, one line for mistakes."""

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
from slmlp.errors import SlmlpError


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
    long = "x" * 180 + ".jpg"
    files = {f"./pets/{name}": content for name, content in two_classes().items()}
    files[f"./pets/cat/{long}"] = jpeg(20)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
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
    held = pickle.dumps(load(str(tmp_path / "x.tar")))
    pack(tmp_path / "x.tar", two_classes(each=21))
    with pytest.raises(OSError, match="changed while it was in use"):
        pickle.loads(held)


HEADER = "path,label,part,class_group,unit\n"


def manifest(root, text, suffix=".csv"):
    write(root, {f"images/{i}.jpg": jpeg(i) for i in range(6)})
    path = root / f"list{suffix}"
    path.write_text(text)
    return str(path)


def test_a_manifest_says_label_part_group_and_unit(tmp_path):
    lines = [
        f"images/{i}.jpg,{'cat' if i % 2 else 'dog'},{'test' if i > 3 else 'train'},pet,patient {i // 2}"
        for i in range(6)
    ]
    images = load(manifest(tmp_path, HEADER + "\n".join(lines)))
    assert images.name == "list"
    assert images.ids == tuple(f"images/{i}.jpg" for i in range(6))
    assert [images.classes[y] for y in images.labels] == ["dog", "cat"] * 3
    assert images.parts.tolist() == ["train"] * 4 + ["test"] * 2
    assert images.groups == ("pet", "pet")
    assert images.has_units
    assert images.units.tolist() == ["patient 0"] * 2 + ["patient 1"] * 2 + ["patient 2"] * 2
    assert images.sizes[0] == len(jpeg(0))


def test_tsv_and_json_lines_say_the_same(tmp_path):
    rows = [(f"images/{i}.jpg", "a, b" if i % 2 else "c") for i in range(6)]
    tsv = load(manifest(tmp_path, "label\tpath\n" + "".join(f"{y}\t{p}\n" for p, y in rows), ".tsv"))
    lines = "".join(f'{{"path": "{p}", "label": "{y}", "more": 1}}\n\n' for p, y in rows)
    json_lines = load(manifest(tmp_path, lines, ".jsonl"))
    assert tsv.classes == json_lines.classes == ("a, b", "c")
    assert tsv.hash() == json_lines.hash()
    quoted = load(manifest(tmp_path, "\ufeffpath,label\r\n" + "".join(f'"{p}","{y}"\r\n' for p, y in rows)))
    assert quoted.hash() == tsv.hash()


def test_labels_are_kept_as_they_are_written(tmp_path):
    text = "path,label\nimages/0.jpg,Cat\nimages/1.jpg,cat\nimages/2.jpg, cat\nimages/3.jpg,007\n"
    assert load(manifest(tmp_path, text)).classes == (" cat", "007", "Cat", "cat")
    numbers = "".join(f'{{"path": "images/{i}.jpg", "label": {i % 2}}}\n' for i in range(4))
    assert load(manifest(tmp_path, numbers, ".jsonl")).classes == ("0", "1")


def test_absolute_paths_and_paths_beside_the_manifest(tmp_path):
    write(tmp_path / "elsewhere", {"x.jpg": jpeg(30), "y.jpg": jpeg(31)})
    inside = tmp_path / "here"
    text = f"path,label\n{inside}/images/0.jpg,cat\n{tmp_path}/elsewhere/x.jpg,dog\n"
    text += "../elsewhere/y.jpg,dog\n./images//1.jpg,cat\n"
    images = load(manifest(inside, text))
    assert images.ids == ("../elsewhere/y.jpg", f"{tmp_path}/elsewhere/x.jpg", "images/0.jpg", "images/1.jpg")
    assert all(images.read(i).shape == (20, 24, 3) for i in range(4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 'path' is missing"),
        ("path,label\n", "lists no images"),
        ("file,label\nimages/0.jpg,cat\n", r"line 1: column 'path' is missing: .*found file,label"),
        ("path;label\nimages/0.jpg;cat\n", "column 'path' is missing"),
        ("path,label\nimages/0.jpg,cat\nimages/1.jpg,\n", "line 3: the label is missing"),
        ("path,label\nimages/0.jpg,cat\nimages/1.jpg\n", "line 3: the label is missing"),
        ("path,label\nimages/0.jpg,cat\n\n,dog\n", "line 4: the path is missing"),
        ("path,label\nimages/0.jpg,cat\n./images/0.jpg,dog\n", "twice, in lines 2 and 3"),
        (
            "path,label,part\nimages/0.jpg,cat,train\nimages/1.jpg,dog,dev\n",
            "line 3: part must be one of .*found 'dev'",
        ),
        ("path,label,part\nimages/0.jpg,cat,train\nimages/1.jpg,dog,\n", "line 3: part must be one of .*found nothing"),
        ("path,label,part\nimages/0.jpg,cat,test\nimages/1.jpg,dog,test\n", "no training part"),
        (
            "path,label,class_group\nimages/0.jpg,cat,a\nimages/1.jpg,dog,a\nimages/2.jpg,cat,b\n",
            "class 'cat' is in two groups",
        ),
        ("path,label,class_group\nimages/0.jpg,cat,a\nimages/1.jpg,dog,\n", "class 'dog' has no class_group"),
        ('path,label\n"images/0.jpg,cat\n', "after line 1: .*mend the quotes"),
    ],
)
def test_mistakes_in_a_manifest_are_named_with_their_line(tmp_path, text, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        load(manifest(tmp_path, text))
    assert "list.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{bad\n", "line 1 is not valid JSON"),
        ("\n[1]\n", "line 2: expected"),
        ('{"path": "images/0.jpg"}\n', "line 1: the label"),
    ],
)
def test_mistakes_in_json_lines_are_named_with_their_line(tmp_path, text, words):
    with pytest.raises(SlmlpError, match=words):
        load(manifest(tmp_path, text, ".jsonl"))


def test_a_manifest_that_is_no_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"path,label\ncaf\xe9.jpg,cat\n")
    with pytest.raises(SlmlpError, match="not UTF-8 text"):
        load(str(path))


def test_listed_files_that_are_missing_count_as_unreadable(tmp_path):
    lines = [f"images/{i}.jpg,{'cat' if i % 2 else 'dog'}" for i in range(6)]
    os.mkfifo(tmp_path / "pipe.jpg")
    text = "path,label\n" + "\n".join([*lines, "images/gone.jpg,cat", "images,cat", "pipe.jpg,dog"])
    path = manifest(tmp_path, text)
    with pytest.raises(SlmlpError, match=r"3 of 9 files cannot be read.*first: images: no file"):
        load(path, DataOptions(cache_dir=str(tmp_path)))
    images = load(path, DataOptions(allow_unreadable=True))
    assert len(images) == 6
    assert dict(images.unreadable)["images/gone.jpg"] == "No such file or directory"
    assert images.read(5).shape == (20, 24, 3)


def test_a_unit_in_both_parts_is_refused(tmp_path):
    text = "path,label,part,unit\nimages/0.jpg,cat,train,anna\nimages/1.jpg,dog,test,anna\nimages/2.jpg,cat,test,ben\n"
    with pytest.raises(SlmlpError, match="unit 'anna' has images in both"):
        load(manifest(tmp_path, text))


def test_an_image_without_a_unit_is_its_own(tmp_path):
    text = "path,label,unit\nimages/0.jpg,cat,anna\nimages/1.jpg,dog,\n"
    assert load(manifest(tmp_path, text)).units.tolist() == ["anna", "images/1.jpg"]


@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_a_manifest_at_the_root_of_a_folder_or_tar_is_obeyed(tmp_path, prefix):
    text = "path,label,unit\n" + "".join(f"cat/{i}.jpg,{'even' if i % 2 == 0 else 'odd'},u{i}\n" for i in range(3))
    files = {prefix + name: content for name, content in {**two_classes(), "manifest.csv": text.encode()}.items()}
    sets = [load(str(pack(tmp_path / "x.tar", files))), load(str(write(tmp_path / "x", files)))]
    for images in sets:
        assert images.name == "x"
        assert images.ids == ("cat/0.jpg", "cat/1.jpg", "cat/2.jpg")
        assert images.classes == ("even", "odd")
        assert images.units.tolist() == ["u0", "u1", "u2"]
        np.testing.assert_array_equal(images.read(1), sets[0].read(1))
    assert sets[0].hash() == sets[1].hash()
    files[prefix + "manifest.jsonl"] = b"{}"
    for path in (pack(tmp_path / "x.tar", files), write(tmp_path / "x", files)):
        with pytest.raises(SlmlpError, match=r"several manifests .*manifest\.csv, .*manifest\.jsonl"):
            load(str(path))


def test_a_manifest_in_a_tar_cannot_name_files_outside(tmp_path):
    secret = write(tmp_path, {"secret.jpg": jpeg(50)}) / "secret.jpg"
    text = f"path,label\ncat/0.jpg,cat\ndog/0.jpg,dog\n../secret.jpg,cat\n{secret},cat\n"
    path = pack(tmp_path / "x.tar", {**two_classes(), "manifest.csv": text.encode()})
    images = load(str(path), DataOptions(allow_unreadable=True))
    assert images.ids == ("cat/0.jpg", "dog/0.jpg")
    assert {reason for _, reason in images.unreadable} == {"not in the archive"}


@pytest.mark.skipif(not EMOJI.is_file(), reason="the embedded set is not built yet")
def test_emoji_is_read_by_its_manifest():
    images = load("emoji")
    assert images.name == "emoji"
    assert images.groups is not None
    assert images.has_units
    assert len(images.classes) > 10
    assert not images.unreadable
    assert images.read(0).ndim == 3


def test_a_missing_embedded_set_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("slmlp.data.EMOJI", tmp_path / "emoji.tar")
    with pytest.raises(SlmlpError, match="the embedded set 'emoji' is missing"):
        load("emoji")
