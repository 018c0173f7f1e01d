"""Every entry reads a miniature of its layout through the one reader; parts by the protocol; wrong layouts, one line.

Miniatures prove the code, not the archives.
"""

from __future__ import annotations

import dataclasses
import gzip
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import dataset_miniatures as miniatures
from data_images import write
from dataset_miniatures import pairs
from slmlp.config import DataOptions
from slmlp.data.published import ENTRIES, opening
from slmlp.data.published.entry import Draw, Torchvision
from slmlp.runtime.errors import SlmlpError


@pytest.fixture
def options(tmp_path):
    return DataOptions(cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def unchecked(monkeypatch):
    miniatures.without_checksums(monkeypatch)


def test_there_are_those_of_islam_2021_and_others():
    islam2021 = ["ChestX", "CropDisease", "DeepWeeds", "DTD", "EuroSAT", "Flowers102", "ISIC", "Kaokore", "Omniglot"]
    islam2021 += ["Resisc45", "Sketch", "SVHN"]
    assert [name for name, entry in ENTRIES.items() if entry.suite == "islam2021"] == islam2021
    others = {"Aircraft", "Cars", "Pets", "Food101", "SUN397", "CIFAR10", "CIFAR100", "Caltech101", "FashionMNIST"}
    assert {name for name, entry in ENTRIES.items() if entry.suite != "islam2021"} == others
    assert set(miniatures.FILES) == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_facts_of_an_entry_agree_with_each_other(name):
    entry = ENTRIES[name]
    assert entry.licence
    assert entry.where
    assert entry.source
    if entry.per_class is not None:
        assert len(entry.per_class) == entry.classes
        assert sum(entry.per_class.values()) == entry.images
    if entry.each is not None:
        assert entry.each * entry.classes == entry.images
    if entry.drawn() is not None:
        assert sum(entry.drawn()) == entry.images
    if entry.draw is not None:
        assert not isinstance(entry.layout, Torchvision)
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    told = f"> {entry.name} in " in page  # the report printed of the copy, below its command
    assert told == (entry.run_on_archive is not None)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("Resisc45", 22_050, 9_450), ("EuroSAT", 18_900, 8_100), ("Omniglot", 9_226, 3_954), ("ChestX", 18_090, 7_758)],
)
def test_part_sizes_follow_from_the_rule(name, train, test):
    entry = ENTRIES[name]
    per_class = entry.per_class or {f"c{i}": entry.each for i in range(entry.classes)}
    labels = [label for label, n in per_class.items() for _ in range(n)]
    found = Counter(opening.draw_parts(labels, entry.draw))
    assert (found["train"], found["test"]) == (train, test) == entry.drawn()


def test_the_draw_is_that_of_the_published_code():
    labels = np.random.default_rng(1).integers(0, 5, 203)
    random, expected = np.random.RandomState(0), {}
    for label in dict.fromkeys(labels.tolist()):  # classes as they are first met; one generator for all
        order = random.permutation(np.flatnonzero(labels == label))
        cut = int(0.7 * len(order))
        expected |= dict.fromkeys(order[:cut].tolist(), "train") | dict.fromkeys(order[cut:].tolist(), "test")
    assert opening.draw_parts([str(y) for y in labels], Draw(percent=70)) == [expected[i] for i in range(203)]


def test_a_draw_leaves_the_global_generator_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    opening.draw_parts(["a"] * 50, Draw(percent=70))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("name", ENTRIES)
def test_a_miniature_is_read(name, tmp_path, options, unchecked):
    entry = miniatures.entry(name)
    folder = miniatures.make(name, tmp_path / name)
    images = opening.open_entry(entry, folder, options)
    train = int((images.parts == "train").sum())
    assert (len(images.classes), len(images), train, len(images) - train) == miniatures.COUNTS[name]
    assert images.name == name
    assert images.has_test_part
    assert all(images.read(i).ndim == 3 for i in range(len(images)))
    again = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again.read(len(images) - 1), images.read(len(images) - 1))


TARRED = [name for name, entry in ENTRIES.items() if not isinstance(entry.layout, Torchvision)]


@pytest.mark.parametrize("name", TARRED)
def test_a_tar_gives_what_its_folder_gives(name, tmp_path, options):
    folder = miniatures.make(name, tmp_path / "data")
    with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
        tar.add(folder, "./anything")
    entry = miniatures.entry(name)
    plain, packed = (opening.open_entry(entry, path, options) for path in (folder, tmp_path / f"{name}.tar.gz"))
    assert pairs(packed) == pairs(plain)
    assert packed.hash() == plain.hash()
    np.testing.assert_array_equal(packed.read(3), plain.read(3))


def test_chestx_keeps_images_with_one_of_the_seven_findings(tmp_path, options):
    images = opening.open_entry(miniatures.entry("ChestX"), miniatures.make("ChestX", tmp_path / "x"), options)
    counts = Counter(images.classes[y] for y in images.labels)
    assert counts == {"Mass": 7, "Nodule": 5, "Effusion": 4}
    assert images.ids[0] == "00000000_000.png"
    # classes are met as Mass, Nodule, Effusion: the generator's numbers go to them in that order
    random, kept = np.random.RandomState(0), []
    for first, number in ((0, 7), (7, 5), (12, 4)):
        order = list(range(first, first + number))
        random.shuffle(order)
        kept += order[: int(0.7 * number)]
    assert np.flatnonzero(images.parts == "train").tolist() == sorted(kept)


def test_copies_of_another_size_do_not_get_in_the_way(tmp_path, options):
    folder = miniatures.make("DeepWeeds", tmp_path / "weeds")
    shutil.copytree(folder / "images", folder / "a_resized")
    images = opening.open_entry(miniatures.entry("DeepWeeds"), folder, options)
    assert len(images) == 12
    assert all("/images/" in f"/{name}" for name in images.reader.names)


def test_kaokore_classes_and_missing_pictures(tmp_path, options):
    folder = miniatures.make("Kaokore", tmp_path / "kaokore")
    images = opening.open_entry(miniatures.entry("Kaokore"), folder, options)
    assert pairs(images)["00000007.jpg"] == ("female noble", "test")
    assert "00000004.jpg" not in images.ids  # dev
    (folder / "images_256" / "00000003.jpg").unlink()
    with pytest.raises(SlmlpError, match=r"1 of 7 files cannot be read.*missing, though labels.csv lists it"):
        opening.open_entry(miniatures.entry("Kaokore"), folder, options)
    fewer = opening.open_entry(miniatures.entry("Kaokore"), folder, dataclasses.replace(options, allow_unreadable=True))
    assert [name for name, _ in fewer.unreadable] == ["00000003.jpg"]


def test_a_missing_file_does_not_move_the_others_to_another_part(tmp_path, options):
    folder = miniatures.make("DeepWeeds", tmp_path / "weeds")
    whole = pairs(opening.open_entry(miniatures.entry("DeepWeeds"), folder, options))
    (folder / "images" / "20170126-095102-0.jpg").unlink()
    options = dataclasses.replace(options, allow_unreadable=True)
    rest = pairs(opening.open_entry(miniatures.entry("DeepWeeds"), folder, options))
    assert rest.items() < whole.items()


@pytest.mark.parametrize("inner", ["", "2750", "data/eurosat/2750", "wrapped"])
def test_eurosat_lies_at_any_depth(inner, tmp_path, options):
    made = miniatures.make("EuroSAT", tmp_path / "made") / "2750"
    target = tmp_path / "EuroSAT" / inner
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, target)
    images = open_entry = opening.open_entry(miniatures.entry("EuroSAT"), tmp_path / "EuroSAT", options)
    assert open_entry.ids[0] == "Forest/Forest_1.jpg"
    assert len(images) == 30


@pytest.mark.parametrize("depth", ["", "dtd", "dtd/dtd", "Kaggle copy"])
def test_torchvision_reads_from_any_step_of_its_path(depth, tmp_path, options):
    made = miniatures.make("DTD", tmp_path / "made") / "dtd"
    target = tmp_path / "x" / depth
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, target)
    images = opening.open_entry(miniatures.entry("DTD"), tmp_path / "x", options)
    assert images.ids[0].endswith("images/a/1.jpg")
    assert pairs(images)[images.ids[2]] == ("a", "test")


def test_fashion_mnist_as_debian_packs_it(tmp_path, options):
    folder = tmp_path / "fashion-mnist"
    write(
        folder, {f"{name}.gz": gzip.compress(content) for name, content in miniatures.FILES["FashionMNIST"]().items()}
    )
    images = opening.open_entry(miniatures.entry("FashionMNIST"), folder, options)
    assert len(images) == 8
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{n}.gz" for n in miniatures.FILES["FashionMNIST"]())
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b\x08\x00 broken")
    with pytest.raises(SlmlpError, match=r"t10k-labels-idx1-ubyte.gz is broken"):
        opening.open_entry(miniatures.entry("FashionMNIST"), folder, options)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_published_counts_are_asserted(name, tmp_path, options, unchecked):
    folder = miniatures.make(name, tmp_path / name)
    with pytest.raises(SlmlpError) as caught:
        opening.open_entry(ENTRIES[name], folder, options)
    text = str(caught.value)
    assert f"is not {name} as published: expected" in text
    assert f"slmlp data check {name}" in text
    assert "\n" not in text


def test_one_image_too_few_in_one_class_is_named(tmp_path, options):
    folder = miniatures.make("EuroSAT", tmp_path / "EuroSAT")
    entry = miniatures.entry("EuroSAT", each=10, images=30)
    opening.open_entry(entry, folder, options)
    (folder / "2750/River/River_3.jpg").rename(folder / "2750/Forest/River_3.jpg")
    with pytest.raises(SlmlpError, match=r"expected 10 images of class 'Forest', found 11"):
        opening.open_entry(entry, folder, options)


def test_the_page_says_what_the_entries_say():
    from slmlp.cli.datasets import markdown

    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    assert page.rstrip().endswith(markdown()), "run: slmlp data list --markdown"
    assert "Miniatures prove the code, not the archive" in page
    assert {entry.name for entry in ENTRIES.values() if entry.run_on_archive} == {"FashionMNIST"}
    assert "**One entry was run on the real archive, FashionMNIST**" in page
