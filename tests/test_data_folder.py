"""Folders of images: which class, part and id a file has, what is left aside, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_images import encoded, jpeg, photo, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import load
from slmlp.data.sources import layout
from slmlp.runtime.errors import SlmlpError


def parts_of(images):
    return dict(zip(images.ids, images.parts.tolist(), strict=True))


def test_classes_are_the_first_folders_and_ids_the_paths(tmp_path):
    files = {**two_classes(), "cat/deeper/still/x.JPEG": jpeg(9), "dog/y.png": encoded(photo(10), "PNG")}
    images = load(str(write(tmp_path / "pets", files)))
    assert images.name == "pets"
    assert images.classes == ("cat", "dog")
    assert images.ids == tuple(sorted(files))
    assert [images.classes[y] for y in images.labels] == [name.split("/")[0] for name in images.ids]
    assert images.sizes.tolist() == [len(files[name]) for name in images.ids]
    assert not images.has_test_part
    assert not images.has_groups
    assert images.groups.tolist() == list(images.ids)
    assert images.superclasses is None
    for i, name in enumerate(images.ids):
        assert images.read(i).shape == (20, 24, 3), name
    np.testing.assert_array_equal(images.read(images.ids.index("dog/y.png")), photo(10))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train",), {"train": "train"}),
        (("train", "test"), {"train": "train", "test": "test"}),
        (("train", "val"), {"train": "train", "val": "test"}),
        (("train", "val", "test"), {"train": "train", "val": "train", "test": "test"}),
        (("Training", "Validation"), {"Training": "train", "Validation": "test"}),
        (("training", "valid", "testing"), {"training": "train", "valid": "train", "testing": "test"}),
        (("val", "test"), {"val": "train", "test": "test"}),
    ],
)
def test_part_folders(tmp_path, folders, expected):
    for i, folder in enumerate(folders):
        write(tmp_path, two_classes(f"{folder}/", start=10 * i))
    images = load(str(tmp_path))
    assert images.classes == ("cat", "dog")
    assert {name.split("/")[0]: part for name, part in parts_of(images).items()} == expected
    assert images.has_test_part == ("test" in expected.values())


@pytest.mark.parametrize("only", ["test", "val"])
def test_a_test_part_alone_is_refused(tmp_path, only):
    write(tmp_path, two_classes(f"{only}/"))
    with pytest.raises(SlmlpError, match="no training part: add train/"):
        load(str(tmp_path))
    assert len(load(str(tmp_path / only))) == 6


def test_train_can_be_a_class(tmp_path):
    write(tmp_path, {**two_classes(), "train/1.jpg": jpeg(20), "bus/1.jpg": jpeg(21)})
    assert load(str(tmp_path)).classes == ("bus", "cat", "dog", "train")


def test_parts_beside_other_folders_are_refused(tmp_path):
    write(tmp_path, {**two_classes("train/"), **two_classes("test/"), "unlabeled/more/1.jpg": jpeg(20)})
    with pytest.raises(SlmlpError, match=r"both part folders \(test, train\) and others \(unlabeled\)"):
        load(str(tmp_path))


def test_a_wrapping_folder_is_looked_through(tmp_path):
    write(tmp_path / "a", two_classes("mydata/train/"))
    write(tmp_path / "a", {**two_classes("mydata/test/", start=9), "read me.md": b"words", "notes.txt": b"words"})
    write(tmp_path / "b", {**two_classes("train/"), **two_classes("test/", start=9)})
    wrapped, plain = load(str(tmp_path / "a")), load(str(tmp_path / "b"))
    assert wrapped.ids == plain.ids
    assert wrapped.hash() == plain.hash()


def test_hidden_files_and_companions_are_passed_over_and_the_rest_is_counted(tmp_path):
    quiet = [".DS_Store", "cat/.hidden.jpg", ".git/x.jpg", "__MACOSX/cat/y.jpg", "cat/Thumbs.db", "a.txt", "cat/b.csv"]
    quiet += ["cat/c.json", "README.md", "LICENSE", "cat/annotations.xml"]
    aside = {"top.jpg": jpeg(30), "cat/d.heic": b"x", "cat/e.psd": b"x", "dog/f.heic": b"x"}
    write(tmp_path, {**two_classes(), **dict.fromkeys(quiet, b"x"), **aside})
    images = load(str(tmp_path))
    assert len(images) == 6
    assert not images.unreadable
    assert dict(images.ignored) == {
        "cat/d.heic": "unknown suffix .heic",
        "dog/f.heic": "unknown suffix .heic",
        "cat/e.psd": "unknown suffix .psd",
        "top.jpg": "in no class folder",
    }


def test_files_that_are_no_images_are_unreadable(tmp_path):
    write(tmp_path, {**two_classes(each=150), "cat/page.jpg": b"<html>", "dog/empty.png": b""})
    images = load(str(tmp_path))
    assert len(images) == 300
    assert [name for name, _ in images.unreadable] == ["cat/page.jpg", "dog/empty.png"]
    assert "no image" in images.unreadable[0][1]
    assert images.unreadable[1][1] == "empty file"


def test_more_than_one_percent_unreadable_needs_permission(tmp_path):
    write(tmp_path / "data", {**two_classes(each=10), "cat/page.jpg": b"<html>"})
    options = DataOptions(cache_dir=str(tmp_path / "cache"))
    with pytest.raises(
        SlmlpError, match=r"1 of 21 files cannot be read.*first: cat/page.jpg.*--allow-unreadable"
    ) as caught:
        load(str(tmp_path / "data"), options)
    listed = tmp_path / "cache" / "unreadable.txt"
    assert str(listed) in str(caught.value)
    assert listed.read_text().startswith("cat/page.jpg\tno image")
    images = load(str(tmp_path / "data"), DataOptions(allow_unreadable=True))
    assert len(images) == 20
    assert len(images.unreadable) == 1


def test_a_class_without_any_readable_image_is_named(tmp_path):
    write(tmp_path, {**two_classes(), "emu/1.jpg": b"<html>"})
    with pytest.raises(SlmlpError, match="no image of class 'emu' can be read"):
        load(str(tmp_path), DataOptions(allow_unreadable=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_said(tmp_path):
    write(tmp_path, two_classes())
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(SlmlpError, match="Permission denied"):
            load(str(tmp_path))
    finally:
        (tmp_path / "dog").chmod(0o755)


def test_no_permission_is_said_as_the_system_says_it(tmp_path, monkeypatch):
    write(tmp_path, two_classes())

    def walk(root, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "dog")))
        yield from ()

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(SlmlpError, match=r"cannot list .*dog: Permission denied"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "contains no images: .*found no files"),
        ({"cat/x.heic": b"x", "dog/y.heic": b"x"}, "contains no images: .*found 2 files with unknown suffix .heic"),
        ({"x.jpg": b"x", "y.jpg": b"x"}, "no class folders: .*found x.jpg"),
        ({"train/x.jpg": b"x", "test/y.jpg": b"x"}, "no class folders"),
    ],
)
def test_folders_without_classes(tmp_path, files, words):
    with pytest.raises(SlmlpError, match=words):
        load(str(write(tmp_path / "d", {"notes.txt": b"", **files})))


def test_one_class_is_too_few(tmp_path):
    write(tmp_path, {f"cat/{i}.jpg": jpeg(i) for i in range(3)})
    with pytest.raises(SlmlpError, match="at least two classes, found one class \\('cat'\\)"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "does not exist"), ("x.docx", "of no known kind"), ("x.zip", "unpack it first")],
)
def test_sources_that_are_none(tmp_path, name, words):
    if name != "missing":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SlmlpError, match=words) as caught:
        load(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    real = write(tmp_path / "real", two_classes())
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(real / "cat")
    (linked / "tom").symlink_to(real / "cat")
    (real / "cat" / "loop").symlink_to(real)
    (real / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    options = DataOptions(cache_dir=str(tmp_path), allow_unreadable=True)
    images = load(str(linked), options)
    assert images.classes == ("cat", "tom")
    assert [name for name in images.ids if "loop" not in name] == [
        f"{c}/{i}.jpg" for c in ("cat", "tom") for i in range(3)
    ]
    (real / "dog" / "notes.xyz").symlink_to(tmp_path / "nowhere")
    direct = load(str(real), options)
    assert len(direct) == 6
    assert dict(direct.unreadable)["dog/gone.jpg"].startswith("broken link")
    assert dict(direct.ignored)["dog/notes.xyz"].startswith("broken link")
    with pytest.raises(SlmlpError, match=r"1 of 7 files cannot be read, .*first: dog/gone.jpg: broken link"):
        load(str(real), DataOptions(cache_dir=str(tmp_path)))


def test_a_pipe_is_never_opened(tmp_path):
    write(tmp_path, two_classes())
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    images = load(str(tmp_path))
    assert len(images) == 6
    assert images.ignored == (("cat/pipe.jpg", "no regular file"),)


def test_names_outside_utf8_can_be_printed_and_hashed(tmp_path):
    write(tmp_path, two_classes())
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(40))
    images = load(str(tmp_path))
    index = images.ids.index("cat/caf\\xe9.jpg")
    assert images.read(index).shape == (20, 24, 3)
    assert len(images.hash()) == 64


def test_the_hash_follows_names_classes_and_sizes_only(tmp_path):
    write(tmp_path / "a", two_classes())
    write(tmp_path / "b", two_classes())
    first, again = load(str(tmp_path / "a")), load(str(tmp_path / "b"))
    assert first.hash() == again.hash()
    assert first.fingerprint != again.fingerprint, "caches must tell other files apart"
    write(tmp_path / "b", {"dog/more.jpg": jpeg(50)})
    assert load(str(tmp_path / "b")).hash() != first.hash()


def test_images_per_class_limits_training_images_only_and_nests(tmp_path):
    write(tmp_path, {**two_classes("train/", each=12), **two_classes("test/", each=5, start=50)})
    sets = [load(str(tmp_path), DataOptions(images_per_class=n), seed=3) for n in (2, 5)]
    for images, n in zip(sets, (2, 5), strict=True):
        train, test = images.of_part("train"), images.of_part("test")
        assert np.bincount(train.labels).tolist() == [n, n]
        assert len(test) == 10
    assert set(sets[0].ids) < set(sets[1].ids)
    again = load(str(tmp_path), DataOptions(images_per_class=5), seed=3)
    other = load(str(tmp_path), DataOptions(images_per_class=5), seed=4)
    assert again.ids == sets[1].ids
    assert other.ids != sets[1].ids
    assert len(load(str(tmp_path), DataOptions(images_per_class=99))) == 34
    with pytest.raises(SlmlpError, match="--images-per-class must be at least 1"):
        load(str(tmp_path), DataOptions(images_per_class=0))


steps = st.sampled_from(["train", "test", "val", "cat", "dog", "x.jpg", "y.png", ".z", "manifest.csv", "a.heic"])


@example(["cat/train/x.jpg", "dog/train/x.jpg", "train/test/train"])  # a folder of no image where the parts stand
@given(st.lists(st.lists(steps, min_size=1, max_size=4).map("/".join), max_size=8, unique=True))
def test_any_layout_places_each_image_at_most_once_or_is_refused(names):
    try:
        placed, ignored, _ = layout.arrange(names, "here")
    except SlmlpError:
        return
    images = [i for i, name in enumerate(names) if layout.kind(name) == "image"]
    aside = {name for name, _ in ignored}
    assert len({p.row for p in placed}) == len(placed)
    assert {p.row for p in placed} <= set(images)
    assert all(names[p.row].endswith(p.id) and p.label in p.id.split("/")[:-1] for p in placed)
    assert len(placed) + sum(layout.kind(name) == "image" for name in aside) == len(images)
