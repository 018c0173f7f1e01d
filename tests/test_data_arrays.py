"""Images in .npz files: rows, labels, pixels, and one line for every mistake."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from data_images import photo
from slmlp.data import load
from slmlp.runtime.errors import SlmlpError


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
            group=np.array([1, 1, 2, 3, 4, 4]),
            superclass=np.array(["g", "h", "g", "h", "h", "g"]),
        )
    )
    assert images.classes == ("ape", "cat")
    assert [images.classes[y] for y in images.labels] == ["cat", "ape", "cat", "ape", "ape", "cat"]
    assert images.superclasses == ("h", "g")
    assert images.groups.tolist() == ["1", "1", "2", "3", "4", "4"]
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
        ({"images": X, "y": Y}, "found images, y: save it with these names"),
        ({"train_images": X, "test_images": X}, "found train_images, test_images"),
        ({"x": X, "y": Y, "split": np.array(["train"] * 3 + ["test"])}, "the array 'split' is not read: name it part"),
        ({"x": X, "y": Y, "parts": np.array(["train"] * 3 + ["test"])}, "the array 'parts' is not read: name it part"),
        ({"x": X, "y": Y, "patient_ids": Y}, "the array 'patient_ids' is not read: name it group"),
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
        (
            {"x": X, "y": Y, "part": np.array(["train", "holdout", "train", "train"])},
            "part must be one of .*found 'holdout'",
        ),
        ({"x": X, "y": Y * 0}, "at least two classes"),
        ({"x": X, "y": np.array(["a", None, "b", "c"], dtype=object)}, "save y, part and group as arrays of strings"),
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


LAZY = ["torch", "torchvision", "rich"]


def test_torch_is_not_imported_for_other_sources(tmp_path):
    path = save(tmp_path / "x.npz", x=stack(4), y=np.arange(4) % 2)
    code = f"import sys, slmlp.data as d; d.describe(d.load({path!r})); print([m for m in sys.modules if m in {LAZY}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
