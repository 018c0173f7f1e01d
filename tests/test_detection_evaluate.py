"""Average precision: faster-coco-eval's numbers are pycocotools', and so are those of draws of the images."""

from __future__ import annotations

import contextlib
import copy
import io
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection_data import data_set, noisy
from slmlp.detection.evaluate import METRICS, average_precision, of_kind, with_boxes_only
from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load
from slmlp.detection.resample import bootstrap_weights, match, weighted
from slmlp.results.intervals import Bootstrap, bootstrap_mean
from slmlp.results.sentences import sentence
from slmlp.results.verdict import compare_all

KINDS = ("box", "mask")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    truth = load(find_parts(str(data_set(tmp_path_factory.mktemp("coco"))), {})["val"]).truth()
    return truth, noisy(truth, 0, masks=True)


def reference(truth, found, kind) -> dict[str, float]:
    """COCO's own evaluation, in pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = copy.deepcopy(truth if kind == "mask" else with_boxes_only(truth))
        objects.createIndex()
        judge = COCOeval(objects, objects.loadRes(of_kind(found, kind)), "segm" if kind == "mask" else "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {f"{kind}_{name}": float(v) for name, v in zip(METRICS, judge.stats, strict=False) if v >= 0}


@pytest.mark.parametrize("kind", KINDS)
def test_ap_is_that_of_pycocotools(made, kind):
    truth, found = made
    expected = reference(truth, found, kind)
    values = average_precision(truth, found, kind)
    own = weighted(match(copy.deepcopy(truth), found, kind), np.ones((1, 5)))
    assert own["ap"][0] == pytest.approx(values[f"{kind}_ap"], abs=1e-12)
    assert own["ap50"][0] == pytest.approx(values[f"{kind}_ap50"], abs=1e-12)
    assert 0.05 < values[f"{kind}_ap"] < 0.95
    assert f"{kind}_ap_large" not in values  # nothing of 96 x 96 pixels is there
    assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("data", ["tinycoco", "bccd"])
def test_ap_on_real_annotations_is_that_of_pycocotools(data):
    if "SLMLP_DATA" not in os.environ:
        pytest.skip("SLMLP_DATA names no folder of real data")
    part = load(find_parts(str(Path(os.environ["SLMLP_DATA"]) / "detection" / f"{data}.tar"), {})["val"])
    truth = part.truth()
    found = noisy(truth, 1, masks=part.masks)
    for kind in KINDS if part.masks else KINDS[:1]:
        assert average_precision(truth, found, kind) == pytest.approx(reference(truth, found, kind), abs=1e-12)


def test_an_annotation_of_id_0_counts(made):
    truth, _ = made
    perfect = [
        {k: row[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0} for row in truth["annotations"]
    ]
    perfect = [row for row, a in zip(perfect, truth["annotations"], strict=True) if not a["iscrowd"]]
    assert average_precision(truth, perfect, "box")["box_ap"] == pytest.approx(1)
    assert weighted(match(truth, perfect, "box"), np.ones((1, 5)))["ap"][0] == pytest.approx(1)


def test_nothing_found_is_an_ap_of_zero(made):
    truth, _ = made
    assert average_precision(truth, [], "mask")["mask_ap"] == 0
    assert weighted(match(truth, [], "mask"), np.ones((1, 5)))["ap"].tolist() == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_of_images_is_the_evaluation_of_the_images_drawn(made, kind):
    """The second form: every image as often as it was drawn, under ids of its own, through COCO's evaluation."""
    truth, found = made
    found = [{**row, "score": row["score"] + i * 1e-6} for i, row in enumerate(found)]  # equal scores have no order
    matches = match(copy.deepcopy(truth), found, kind)
    weights = np.concatenate([np.ones((1, 5)), bootstrap_weights(5, 6)])
    values = weighted(matches, weights)
    ids = sorted(row["id"] for row in truth["images"])
    for r, row in enumerate(weights):
        copies = [(ids[i], 100 * ids[i] + c) for i, count in enumerate(row) for c in range(int(count))]
        drawn = {
            "images": [{**im, "id": new} for old, new in copies for im in truth["images"] if im["id"] == old],
            "annotations": [
                {**a, "image_id": new} for old, new in copies for a in truth["annotations"] if a["image_id"] == old
            ],
            "categories": truth["categories"],
        }
        drawn["annotations"] = [{**a, "id": i} for i, a in enumerate(drawn["annotations"], start=1)]
        guesses = [{**f, "image_id": new} for old, new in copies for f in found if f["image_id"] == old]
        expected = average_precision(drawn, guesses, kind)
        assert values["ap"][r] == pytest.approx(expected[f"{kind}_ap"], abs=1e-9)
        assert values["ap50"][r] == pytest.approx(expected[f"{kind}_ap50"], abs=1e-9)


def test_draws_are_the_same_for_every_encoder_and_of_as_many_images():
    first, again = bootstrap_weights(7, 50), bootstrap_weights(7, 50)
    np.testing.assert_array_equal(first, again)
    assert (first.sum(axis=1) == 7).all()
    assert len(np.unique(first, axis=0)) > 40


def test_the_interval_of_a_plain_mean_is_the_usual_one():
    """For a statistic whose interval is known, draws of the images give it."""
    values = np.random.default_rng(0).normal(0.4, 0.1, 60)
    weights = bootstrap_weights(60, 4000)
    mean = bootstrap_mean([Bootstrap(float(values.mean()), weights @ values / 60, 60, 60)])
    assert mean.standard_error == pytest.approx(values.std(ddof=1) / 60**0.5, rel=0.04)
    assert mean.degrees == 59
    two = [Bootstrap(float(values.mean()) + shift, weights @ values / 60 + shift, 60, 60) for shift in (-0.05, 0.05)]
    assert bootstrap_mean(two).variance == pytest.approx(mean.variance + 0.05**2, rel=1e-6)


def test_paired_differences_are_narrower_and_find_the_better_one(made):
    truth, _ = made
    weak = noisy(truth, 3, masks=False)
    strong = [{**row, "score": 1.0} for row in noisy(truth, 4, masks=False)] + [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 2.0} for a in truth["annotations"]
    ]
    rows = {}
    weights = np.concatenate([np.ones((1, 5)), bootstrap_weights(5, 300)])
    for name, found in (("weak", weak), ("again", weak), ("strong", strong)):
        values = weighted(match(copy.deepcopy(truth), found, "box"), weights)["ap"]
        rows[name] = {0: Bootstrap(float(values[0]), values[1:], 5, 5)}
    same, better = compare_all(rows, [("weak", "again"), ("weak", "strong")], "box_ap")
    assert same.difference == same.estimate.variance == 0
    assert same.winner is None
    assert better.winner == "strong"
    assert better.estimate.interval[0] > 0
    assert "strong beats weak" in sentence(better)
    assert "over images only, one seed, 5 images" in sentence(better)


def test_a_difference_near_zero_is_told_with_its_side():
    noise = np.random.default_rng(0).normal(0, 0.001, 200)
    rows = {"a": {0: Bootstrap(0.01, 0.01 + noise, 6, 6)}, "b": {0: Bootstrap(0.0098, 0.0098 - noise, 6, 6)}}
    (only,) = compare_all(rows, [("a", "b")], "box_ap")
    assert "no difference found between b and a: -0.02 points of box AP" in sentence(only)
    assert "-0.0 " not in sentence(only)
