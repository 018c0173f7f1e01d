"""EncoderTransformer: scikit-learn's own checks, a Pipeline, and images of every kind.

scikit-learn's checks feed tables of numbers, which are no images. So they run on a subclass that makes a small image of
each row (``Rows``), where fitting, transforming, cloning, pickling, order and subsets are those of the class itself;
the checks that ask nothing of data run on the class itself too. All pass; none is expected to fail.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from conftest import CLASSES
from data_images import photo
from slmlp.encoders.sources import open_encoder
from slmlp.exports.sklearn import EncoderTransformer
from slmlp.runtime.errors import SlmlpError

pytestmark = pytest.mark.slow

TINY = "timm:test_resnet@random"
SIDE = 8


class Rows(EncoderTransformer):
    """Takes tables (N, F) of numbers: each row becomes an image of stripes, as bright as its numbers are large."""

    def fit(self, X, y=None):
        validate_data(self, X, dtype=np.float64)
        return super().fit(X, y)

    def transform(self, X):
        estimator_checks.check_is_fitted(self)
        validate_data(self, X, dtype=np.float64, reset=False)
        return super().transform(X)

    def _images(self, X):
        values = np.asarray(X, dtype=np.float64)
        stripes = np.tile(values, (1, SIDE * SIDE // values.shape[1] + 1))[:, : SIDE * SIDE]
        grey = np.uint8(255 / (1 + np.exp(-np.clip(stripes, -50, 50))))
        return grey.reshape(-1, SIDE, SIDE)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.no_validation = False
        return tags


@parametrize_with_checks([Rows(TINY)])
def test_scikit_learns_checks_on_rows_as_images(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
        "check_no_attributes_set_in_init", "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order",
        "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    ],
)  # fmt: skip
def test_scikit_learns_checks_on_the_class_itself(name):
    getattr(estimator_checks, name)("EncoderTransformer", EncoderTransformer(TINY))


@pytest.fixture(scope="module")
def fitted():
    return EncoderTransformer(TINY, seed=1).fit([photo(0)])


def test_it_works_in_a_pipeline_on_paths(shapes):
    paths = sorted((shapes / "train").rglob("*.png"))
    paths = [p for p in paths if p.parent.name in CLASSES[:3]]
    y = [p.parent.name for p in paths]
    test = sorted((shapes / "test").rglob("*.png"))
    pipeline = make_pipeline(EncoderTransformer(TINY), LogisticRegression(max_iter=300)).fit(paths, y)
    encoder = open_encoder(TINY)
    by_hand = LogisticRegression(max_iter=300).fit(encoder.transform(paths), y)
    np.testing.assert_array_equal(pipeline.predict_proba(test), by_hand.predict_proba(encoder.transform(test)))
    assert cross_val_score(pipeline, paths[::4], y[::4], cv=3).shape == (3,)
    names = pipeline[0].get_feature_names_out()
    assert (len(names), names[0]) == (96, "encodertransformer0")


def test_paths_pictures_and_arrays_of_one_image_are_one(fitted, tmp_path):
    pictures = [photo(i, 24, 24) for i in range(3)]
    expected = open_encoder(TINY, seed=1).transform(pictures)
    assert expected.dtype == np.float32
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    for X in (
        pictures, np.stack(pictures), [Image.fromarray(p) for p in pictures], paths, [str(p) for p in paths],
        np.array([str(p) for p in paths]), tuple(paths),
    ):  # fmt: skip
        np.testing.assert_array_equal(fitted.transform(X), expected)
    flat = EncoderTransformer(TINY, seed=1, image_shape=(24, 24, 3), batch_size=2)
    np.testing.assert_allclose(flat.fit_transform(np.stack(pictures).reshape(3, -1)), expected, rtol=1e-4, atol=1e-6)


def test_it_clones_and_pickles(fitted):
    X = [photo(i) for i in range(2)]
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "encoder_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), fitted.transform(X))
    other = clone(fitted).set_params(seed=2).fit(X)
    assert not np.allclose(other.transform(X), fitted.transform(X))


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros((3, 8, 8, 3)), "uint8 (N, H, W[, 3]), found float64 (3, 8, 8, 3)"),
        (np.zeros((3, 192), dtype=np.uint8), "give image_shape where each row is an image"),
        ([], "holds no image"),
        ("picture.png", "found a single thing"),
        ([np.zeros((8, 8))], "must be uint8"),
        (["no/such.png"], "cannot read no/such.png"),
    ],
)
def test_what_are_no_images_is_one_line(fitted, X, words):
    with pytest.raises(SlmlpError) as caught:
        fitted.transform(X)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": ""}, "name a run's folder"),
        ({"encoder": "no/such/run"}, "no encoder at"),
        ({"encoder": TINY, "batch_size": 0}, "at least 1, found 0"),
        ({"encoder": TINY, "image_shape": (5, 5)}, "(N, 25) for image_shape (5, 5), found uint8 (2, 8, 8, 3)"),
    ],
)
def test_what_it_cannot_be_fitted_with_is_one_line(options, words):
    with pytest.raises(SlmlpError) as caught:
        EncoderTransformer(**options).fit(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert words in str(caught.value)
