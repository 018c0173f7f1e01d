"""The embedded emoji set.

- holds the published number of images, classes, superclasses and groups
- no group stands on both sides of the train/test cut, and every class has 20 training images
- the manifest names exactly the files of the archive, all 48x48 RGB
- the archive carries nothing of the machine that built it, and is small enough for the wheel
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

ARCHIVE = Path(__file__).parents[1] / "src/slmlp/data/embedded/emoji.tar"


@pytest.fixture(scope="module")
def archive():
    with tarfile.open(ARCHIVE) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(archive):
    return list(csv.DictReader(io.StringIO(archive.extractfile("manifest.csv").read().decode())))


def test_counts(rows):
    assert list(rows[0]) == ["path", "label", "part", "superclass", "group"]
    assert len(rows) == 4774
    assert Counter(r["part"] for r in rows) == {"train": 3402, "test": 1372}
    assert len({r["label"] for r in rows}) == 65
    assert len({r["superclass"] for r in rows}) == 9
    assert len({r["group"] for r in rows}) == 1489
    assert Counter(r["path"].split("/")[0] for r in rows) == {"noto": 1704, "twemoji": 1684, "fluent": 1386}


def test_no_group_on_both_sides(rows):
    parts = defaultdict(set)
    for row in rows:
        parts[row["group"]].add(row["part"])
    assert all(len(p) == 1 for p in parts.values())


def test_every_class_is_in_one_superclass_with_both_parts(rows):
    superclasses = defaultdict(set)
    for row in rows:
        superclasses[row["label"]].add(row["superclass"])
    assert all(len(g) == 1 for g in superclasses.values())
    counts = Counter((r["label"], r["part"]) for r in rows)
    assert all(counts[label, "train"] >= 20 for label in superclasses)
    shares = [counts[k, "test"] / (counts[k, "test"] + counts[k, "train"]) for k in superclasses]
    assert min(shares) >= 0.2
    assert max(shares) <= 0.32


def test_twins_share_a_unit(rows):
    group = {r["path"]: r["group"] for r in rows}
    for twins in (
        ("noto/1f468-200d-1f33e.webp", "twemoji/1f469-200d-1f33e.webp", "fluent/1f9d1-200d-1f33e.webp"),  # farmers
        ("noto/1f6b6.webp", "noto/1f6b6-200d-2640-200d-27a1.webp"),  # walking, woman walking to the right
        ("noto/1f9d1.webp", "noto/1f468-200d-1f9b0.webp"),  # person, man with red hair
    ):
        assert len({group[t] for t in twins}) == 1


def test_every_image_decodes(archive, rows):
    names = {m.name for m in archive.getmembers()}
    assert names == {"manifest.csv", *(r["path"] for r in rows)}
    for row in rows:
        image = Image.open(archive.extractfile(row["path"]))
        assert (image.size, image.mode) == ((48, 48), "RGB")
        image.load()


def test_archive_is_small_and_carries_no_machine(archive):
    assert ARCHIVE.stat().st_size <= 12_000_000
    members = archive.getmembers()
    assert members[0].name == "manifest.csv"
    assert [m.name for m in members[1:]] == sorted(m.name for m in members[1:])
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_licences_name_every_source():
    text = (ARCHIVE.parent / "LICENSES.md").read_text()
    for words in (
        "Noto Emoji",
        "Apache License 2.0",
        "Twemoji",
        "CC-BY 4.0",
        "Microsoft Corporation",
        "UNICODE LICENSE",
    ):
        assert words in text
