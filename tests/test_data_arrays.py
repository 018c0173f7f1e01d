"""Images in arrays: .npz files, and torchvision's own classes on files that the tests write."""

from __future__ import annotations

import bz2
import inspect
import json
import pickle
import subprocess
import sys
import urllib.error

import numpy as np
import pytest

from data_images import encoded, jpeg, photo, write
from slmlp.config import DataOptions
from slmlp.data import load, torchvision_sets
from slmlp.errors import SlmlpError


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def stack(count, **size):
    return np.stack([photo(i, **size) for i in range(count)])


def test_npz_keeps_rows_labels_and_pixels(tmp_path):
    x = stack(12)
    images = load(save(tmp_path / "digits.npz", x=x, y=np.arange(12) % 3))
    assert images.name == "digits"
    assert images.classes == ("0", "1", "2")
    assert images.labels.tolist() == [0, 1, 2] * 4
    assert images.ids == tuple(f"{i:02d}" for i in range(12))
    assert images.sizes.tolist() == [x[0].nbytes] * 12
    assert not images.has_test_part
    for i in range(12):
        np.testing.assert_array_equal(images.read(i), x[i])
    images.read(0)[:] = 0
    np.testing.assert_array_equal(images.read(0), x[0], err_msg="what was read must be a copy")
    again = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again.read(5), x[5])


def test_npz_with_every_array(tmp_path):
    x = stack(6)[..., :1]
    part = np.array(["train", "train", "val", "train", "val", "val"])
    images = load(
        save(
            tmp_path / "x.npz",
            x=x,
            y=np.array([0, 1, 0, 1, 1, 0]),
            classes=np.array(["cat", "ape"]),
            part=part,
            unit=np.array([1, 1, 2, 3, 4, 4]),
            class_group=np.array(["g", "h", "g", "h", "h", "g"]),
        )
    )
    assert images.classes == ("ape", "cat")
    assert [images.classes[y] for y in images.labels] == ["cat", "ape", "cat", "ape", "ape", "cat"]
    assert images.groups == ("h", "g")
    assert images.units.tolist() == ["1", "1", "2", "3", "4", "4"]
    assert images.parts.tolist() == ["train", "train", "test", "train", "test", "test"]
    assert (images.read(2) == x[2]).all()
    assert images.read(2).shape == (20, 24, 3)


def test_npz_of_strings_and_grey_and_alpha(tmp_path):
    x = stack(2)
    assert load(save(tmp_path / "s.npz", x=x[..., 0], y=np.array(["b", "a"]))).classes == ("a", "b")
    clear = np.concatenate([x, np.zeros((2, 20, 24, 1), dtype=np.uint8)], axis=3)
    assert (load(save(tmp_path / "a.npz", x=clear, y=np.array([b"b", b"a"]))).read(0) == 255).all()


def test_npz_of_other_pixels_has_the_same_hash_but_another_fingerprint(tmp_path):
    one = load(save(tmp_path / "a.npz", x=stack(4), y=np.arange(4) % 2))
    two = load(save(tmp_path / "a.npz", x=255 - stack(4), y=np.arange(4) % 2))
    assert one.hash() == two.hash()
    assert one.fingerprint != two.fingerprint


X, Y = np.zeros((4, 8, 8, 3), dtype=np.uint8), np.arange(4) % 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X}, "needs the arrays x .* and y .*, found x"),
        ({"images": X, "y": Y}, "found y"),
        ({"x": X.astype(np.float32), "y": Y}, "x must be uint8 .*found float32"),
        ({"x": X[0, :, :, 0], "y": Y}, r"x must be \(N, H, W\).*found shape \(8, 8\)"),
        ({"x": X.transpose(0, 3, 1, 2), "y": Y}, r"found shape \(4, 3, 8, 8\)"),
        ({"x": X[:0], "y": Y[:0]}, r"found shape \(0, 8, 8, 3\)"),
        ({"x": X, "y": Y[:3]}, "x has 4 images but y has 3 labels"),
        ({"x": X, "y": Y.astype(float)}, "y must be .*found shape .* of float64"),
        ({"x": X, "y": np.eye(4, dtype=int)}, r"y must be \(N,\)"),
        ({"x": X, "y": np.array([0, 1, 2, 1]), "classes": np.array(["a", "b"])}, "y holds 2, but classes has 2 names"),
        ({"x": X, "y": np.array([0, 1, -1, 1]), "classes": np.array(["a", "b"])}, "y holds -1"),
        ({"x": X, "y": Y, "part": np.array(["train"] * 3)}, r"part must be \(4,\)"),
        ({"x": X, "y": Y, "part": np.array(["train", "dev", "train", "train"])}, "part must be one of .*found 'dev'"),
        ({"x": X, "y": Y * 0}, "at least two classes"),
        ({"x": X, "y": np.array(["a", None, "b", "c"], dtype=object)}, "save y, part and unit as arrays of strings"),
    ],
)
def test_mistakes_in_an_npz_are_one_line(tmp_path, arrays, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        load(save(tmp_path / "bad.npz", **arrays))
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"\x93NUMPY\x01\x00v\x00{}"])
def test_what_is_no_npz_is_said(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(SlmlpError, match=r"x\.npz cannot be read as \.npz"):
        load(str(tmp_path / "x.npz"))


def test_a_cut_off_npz_is_said(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=stack(6), y=np.arange(6) % 2)
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(SlmlpError, match=r"x\.npz cannot be read"):
            load(str(path))


# torchvision


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
    x = stack(8, width=28, height=28)[..., 0]
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
    x = stack(4, width=28, height=28)[..., 0]
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
    x = stack(4, width=32, height=32)
    flat = x.transpose(0, 3, 1, 2).reshape(4, -1)
    batches = {"train": (flat[:2], [1, 0]), "test": (flat[2:], [0, 1])}
    write(root / "cifar-100-python", {k: pickle.dumps({"data": d, "fine_labels": y}) for k, (d, y) in batches.items()})
    write(root / "cifar-100-python", {"meta": pickle.dumps({"fine_label_names": ["apple", "bear"]})})
    half = len(flat) // 2
    scipy.io.savemat(root / "train_32x32.mat", {"X": x[:half].transpose(1, 2, 3, 0), "y": np.array([[10], [3]])})
    scipy.io.savemat(root / "test_32x32.mat", {"X": x[half:].transpose(1, 2, 3, 0), "y": np.array([[3], [10]])})
    large = stack(4, width=96, height=96)
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


LAZY = ["torch", "torchvision", "rich"]


def test_torch_is_not_imported_for_other_sources(tmp_path):
    path = save(tmp_path / "x.npz", x=stack(4), y=np.arange(4) % 2)
    code = f"import sys, slmlp.data as d; d.describe(d.load({path!r})); print([m for m in sys.modules if m in {LAZY}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
