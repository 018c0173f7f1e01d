"""torchvision's own classes, on files that the tests write, and without a network."""

from __future__ import annotations

import bz2
import inspect
import json
import pickle
import urllib.error

import numpy as np
import pytest

from data_images import encoded, jpeg, photo, write
from slmlp.config import DataOptions
from slmlp.data import load
from slmlp.data.sources import torchvision_sets
from slmlp.runtime.errors import SlmlpError


def stack(count, side):
    return np.stack([photo(i, side, side) for i in range(count)])


@pytest.fixture
def place(tmp_path):
    return tmp_path / "torchvision", DataOptions(cache_dir=str(tmp_path))


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def idx_files(prefix, train, test, labels):
    return {
        f"{prefix[0]}-images-idx3-ubyte": idx(train),
        f"{prefix[0]}-labels-idx1-ubyte": idx(labels[: len(train)]),
        f"{prefix[1]}-images-idx3-ubyte": idx(test),
        f"{prefix[1]}-labels-idx1-ubyte": idx(labels[: len(test)]),
    }


def test_fashion_mnist(place):
    root, options = place
    x = stack(8, side=28)[..., 0]
    labels = np.array([9, 0, 9, 1, 2, 3])
    write(root / "FashionMNIST" / "raw", idx_files(("train", "t10k"), x[:6], x[6:], labels))
    images = load("torchvision:fashionmnist", options)
    assert images.name == "FashionMNIST"
    assert images.has_test_part
    assert images.ids[:3] == ("test/000000", "test/000001", "train/000000")
    assert images.parts.tolist() == ["test"] * 2 + ["train"] * 6
    assert images.classes[images.labels[2]] == "Ankle boot"
    for i, row in enumerate([6, 7, 0, 1, 2, 3, 4, 5]):
        np.testing.assert_array_equal(images.read(i)[..., 1], x[row])


def test_emnist_is_turned_upright(place):
    root, options = place
    x = stack(4, side=28)[..., 0]
    files = idx_files(("emnist-balanced-train", "emnist-balanced-test"), x[:2], x[2:], np.array([0, 46]))
    write(root / "EMNIST" / "raw", files)
    images = load("torchvision:EMNIST", options)
    assert [images.classes[y] for y in images.labels] == ["0", "t"] * 2
    np.testing.assert_array_equal(images.read(0)[..., 0], x[2].T)


def test_usps(place):
    root, options = place
    lines = "".join(f"{y + 1} " + " ".join(f"{i}:{v}" for i, v in enumerate([-1] * 255 + [1])) + "\n" for y in (4, 7))
    write(root, dict.fromkeys(("usps.bz2", "usps.t.bz2"), bz2.compress(lines.encode())))
    images = load("torchvision:USPS", options)
    assert images.classes == ("4", "7")
    assert images.read(0)[-1, -2:].tolist() == [[0] * 3, [255] * 3]


def test_cifar_svhn_and_stl(place, monkeypatch):
    import scipy.io

    root, options = place
    for module in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    monkeypatch.setattr("torchvision.datasets.svhn.SVHN._check_integrity", lambda _: True)
    x = stack(4, side=32)
    flat = x.transpose(0, 3, 1, 2).reshape(4, -1)
    batches = {"train": (flat[:2], [1, 0]), "test": (flat[2:], [0, 1])}
    write(root / "cifar-100-python", {k: pickle.dumps({"data": d, "fine_labels": y}) for k, (d, y) in batches.items()})
    write(root / "cifar-100-python", {"meta": pickle.dumps({"fine_label_names": ["apple", "bear"]})})
    half = len(flat) // 2
    scipy.io.savemat(root / "train_32x32.mat", {"X": x[:half].transpose(1, 2, 3, 0), "y": np.array([[10], [3]])})
    scipy.io.savemat(root / "test_32x32.mat", {"X": x[half:].transpose(1, 2, 3, 0), "y": np.array([[3], [10]])})
    large = stack(4, side=96)
    raw = large.transpose(0, 3, 2, 1)
    stl = {"train_X.bin": raw[:2].tobytes(), "test_X.bin": raw[2:].tobytes(), "class_names.txt": b"airplane\nbird\n"}
    write(root / "stl10_binary", {**stl, "train_y.bin": bytes([1, 2]), "test_y.bin": bytes([2, 1])})
    for name, pixels, classes in [
        ("CIFAR100", x, ["apple", "bear", "bear", "apple"]),
        ("SVHN", x, ["3", "0", "0", "3"]),
        ("STL10", large, ["bird", "airplane", "airplane", "bird"]),
    ]:
        images = load(f"torchvision:{name}", options)
        assert [images.classes[y] for y in images.labels] == classes, name
        assert images.parts.tolist() == ["test"] * 2 + ["train"] * 2
        for i, row in enumerate([2, 3, 0, 1]):
            np.testing.assert_array_equal(images.read(i), pixels[row], err_msg=name)


def test_sets_of_files(place):
    root, options = place
    ppm = encoded(photo(1), "PPM")
    write(root / "eurosat" / "2750", {"Forest/1.jpg": jpeg(1), "River/1.jpg": jpeg(2)})
    splits = {"train1": "a/1.jpg\nb/1.jpg\n", "val1": "a/2.jpg\nb/2.jpg\n", "test1": "a/3.jpg\nb/3.jpg\n"}
    write(root / "dtd" / "dtd", {f"labels/{name}.txt": text.encode() for name, text in splits.items()})
    write(root / "dtd" / "dtd" / "images", {f"{c}/{i}.jpg": jpeg(i) for c in "ab" for i in (1, 2, 3)})
    write(root / "gtsrb" / "GTSRB", {f"Training/{i:05d}/1.ppm": ppm for i in (0, 1)})
    write(root / "gtsrb", {"GTSRB/Final_Test/Images/9.ppm": ppm, "GT-final_test.csv": b"Filename;ClassId\n9.ppm;1\n"})
    write(root / "caltech101" / "101_ObjectCategories", {f"{c}/image_0001.jpg": jpeg(3) for c in ("ant", "bass")})
    write(root / "caltech101" / "101_ObjectCategories", {"BACKGROUND_Google/image_0001.jpg": jpeg(4)})
    food = {"train": {"pie": ["pie/1"], "taco": ["taco/1"]}, "test": {"pie": ["pie/2"], "taco": ["taco/2"]}}
    write(root / "food-101" / "meta", {f"{part}.json": json.dumps(of).encode() for part, of in food.items()})
    write(root / "food-101" / "images", {f"{c}/{i}.jpg": jpeg(i) for c in ("pie", "taco") for i in (1, 2)})
    pets = "Abyssinian_1 1 1 1\nbeagle_1 2 2 1\n"
    write(root / "oxford-iiit-pet" / "annotations", dict.fromkeys(("trainval.txt", "test.txt"), pets.encode()))
    write(root / "oxford-iiit-pet" / "images", {f"{name}.jpg": jpeg(5) for name in ("Abyssinian_1", "beagle_1")})
    aircraft = root / "fgvc-aircraft-2013b" / "data"
    write(aircraft, {"variants.txt": b"707\nA 300\n", "images_variant_trainval.txt": b"1 707\n2 A 300\n"})
    write(aircraft, {"images_variant_test.txt": b"3 A 300\n", **{f"images/{i}.jpg": jpeg(i) for i in (1, 2, 3)}})

    def found(name):
        images = load(f"torchvision:{name}", options)
        assert images.read(0).shape == (20, 24, 3)
        labels = [images.classes[y] for y in images.labels]
        return dict(zip(images.ids, zip(labels, images.parts.tolist(), strict=True), strict=True)), images.has_test_part

    assert found("EuroSAT") == (
        {"eurosat/2750/Forest/1.jpg": ("Forest", "train"), "eurosat/2750/River/1.jpg": ("River", "train")},
        False,
    )
    dtd = {f"dtd/dtd/images/{c}/{i}.jpg": (c, "test" if i == 3 else "train") for c in "ab" for i in (1, 2, 3)}
    assert found("DTD") == (dtd, True)
    assert found("GTSRB")[0] == {
        "gtsrb/GTSRB/Training/00000/1.ppm": ("0", "train"),
        "gtsrb/GTSRB/Training/00001/1.ppm": ("1", "train"),
        "gtsrb/GTSRB/Final_Test/Images/9.ppm": ("1", "test"),
    }
    assert set(found("Caltech101")[0].values()) == {("ant", "train"), ("bass", "train")}
    assert found("Food101")[0]["food-101/images/taco/2.jpg"] == ("taco", "test")
    assert found("FGVCAircraft")[0]["fgvc-aircraft-2013b/data/images/3.jpg"] == ("A 300", "test")
    with pytest.raises(SlmlpError, match=r"Abyssinian_1\.jpg' is listed twice"):
        found("OxfordIIITPet")


@pytest.mark.parametrize("name", torchvision_sets.SETS)
def test_every_set_can_be_called_as_the_table_says(name):
    import torchvision.datasets

    spec = torchvision_sets.SETS[name]
    signature = inspect.signature(getattr(torchvision.datasets, name))
    for settings in (*spec.train, *spec.test):
        bound = signature.bind("root", **settings)
        assert set(settings) <= set(bound.arguments) | set(bound.kwargs) | set(bound.arguments.get("kwargs", {}))


@pytest.mark.parametrize("name", ["CIFAR100", "MNIST", "Flowers102", "EuroSAT", "SVHN", "USPS", "StanfordCars"])
def test_without_a_network_one_line_says_where_files_go(place, monkeypatch, name):
    root, options = place

    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(SlmlpError) as caught:
        load(f"torchvision:{name}", options)
    text = str(caught.value)
    assert f"torchvision:{name} is not in {root}" in text
    assert ("no network" in text) or name in ("MNIST", "StanfordCars")
    assert f"put its unpacked files there by hand, as {torchvision_sets.SETS[name].at}" in text
    assert "\n" not in text


def test_an_unknown_set_is_corrected():
    with pytest.raises(SlmlpError, match="unknown torchvision data set 'CIFAR1000': did you mean 'CIFAR100'"):
        load("torchvision:CIFAR1000")
