"""Retrieval, and nearest neighbours among unseen classes.

The claims: Recall@K is that of a loop, mAP@R and Recall@1 are those of pytorch-metric-learning; blocks, the order of
images and memory change nothing; ties go to the earlier id; no image of a query's group is in its gallery; what cannot
be a query is left out and counted; the values of queries survive their file; bad input is named.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from slmlp import api, config
from slmlp.cli import main
from slmlp.evaluation.tasks import knn
from slmlp.evaluation.tasks import retrieval as retrieval_module
from slmlp.evaluation.tasks.retrieval import retrieval
from slmlp.probes import nearest
from slmlp.probes.features import Features
from slmlp.results import records
from slmlp.results.comparison import compare, pair
from slmlp.results.intervals import clustered_mean
from slmlp.runtime.errors import SlmlpError
from task_features import blobs

CFG = config.Retrieval()


def by_loop(gallery: Features, queries: Features, ks: tuple[int, ...], *, own_group: bool) -> dict[str, list[float]]:
    """Every query's numbers as their definitions say them, one image at a time."""
    found: dict[str, list[float]] = {f"recall_at_{k}": [] for k in ks} | {"map_at_r": []}
    unit = [f.x.astype(np.float64) / np.linalg.norm(f.x.astype(np.float64), axis=1, keepdims=True)
            for f in (gallery, queries)]  # fmt: skip
    for q in range(len(queries)):
        cosines = np.round(unit[0] @ unit[1][q], 6)
        its = [i for i in range(len(gallery)) if own_group or gallery.groups[i] != queries.groups[q]]
        its.sort(key=lambda i: (-cosines[i], gallery.ids[i]))
        hits = [gallery.y[i] == queries.y[q] for i in its]
        total = sum(hits)
        if not total:
            continue
        for k in ks:
            found[f"recall_at_{k}"].append(float(any(hits[:k])))
        found["map_at_r"].append(sum(sum(hits[: i + 1]) / (i + 1) for i in range(total) if hits[i]) / total)
    return found


def alone(images: Features, cfg: config.Retrieval = CFG) -> dict[str, records.Score]:
    return {score.metric: score for score in retrieval_module.among_unseen(SimpleNamespace(features=[images]), cfg)}


def library(queries: Features, gallery: Features, *, itself: bool) -> dict[str, float]:
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()), device=torch.device("cpu"),
    )  # fmt: skip
    return calculator.get_accuracy(
        torch.from_numpy(queries.x), torch.from_numpy(queries.y), torch.from_numpy(gallery.x),
        torch.from_numpy(gallery.y), ref_includes_query=itself,
    )  # fmt: skip


def test_numbers_are_those_of_pytorch_metric_learning():
    images = blobs(230, d=16, classes=7, separation=0.6)
    images = images.select((images.y != 3) | (np.arange(230) % 3 > 0))  # classes of different sizes
    train, test = images.select(np.arange(len(images)) % 3 > 0), images.select(np.arange(len(images)) % 3 == 0)
    for own, expected in (
        (alone(images), library(images, images, itself=True)),
        ({s.metric: s for s in retrieval(train, test, CFG)}, library(test, train, itself=False)),
    ):
        assert own["recall_at_1"].value == pytest.approx(expected["precision_at_1"], abs=1e-6)
        assert own["map_at_r"].value == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
        assert 0.1 < own["map_at_r"].value < own["recall_at_1"].value < own["recall_at_5"].value < 1


@pytest.mark.parametrize("per_group", [1, 3])
def test_every_query_is_that_of_a_loop_in_blocks_of_any_size_and_any_order(monkeypatch, per_group):
    images = blobs(90, classes=6, separation=0.5, per_group=per_group)
    images.x[20:45] = images.x[20]  # equal images: cuts at K and R go through them
    mixed = images.select(np.random.default_rng(1).permutation(90))
    for rows, queries, held in ((8192, 512, 10**6), (7, 11, 0), (64, 5, 10**6)):
        monkeypatch.setattr(nearest, "ROWS", rows)
        monkeypatch.setattr(nearest, "QUERIES", queries)
        monkeypatch.setattr(nearest, "HELD", held)
        scores = alone(mixed, config.Retrieval((10, 1, 5, 1)))
        expected = by_loop(mixed, mixed, (1, 5, 10), own_group=False)
        assert list(scores) == list(expected)
        for metric, score in scores.items():
            np.testing.assert_allclose(score.predictions.values, expected[metric], rtol=1e-12)
            assert score.value == pytest.approx(np.mean(expected[metric]))
            assert score.interval == clustered_mean(np.array(expected[metric]), mixed.groups).share_interval
    test = blobs(40, classes=6, separation=0.5, start=1000)
    for score in retrieval(images, test, CFG):
        expected = by_loop(images, test, (1, 5, 10), own_group=True)
        np.testing.assert_allclose(score.predictions.values, expected[score.metric], rtol=1e-12)


def test_no_image_of_a_querys_group_is_found():
    images = blobs(40, per_group=2)
    images.x[:] = np.random.default_rng(0).normal(size=images.x.shape)
    order = np.argsort(images.ids)
    images.x[order[1::2]] = images.x[order[::2]]  # the two of a group are equal, and of one class
    grouped, single = alone(images), alone(dataclasses.replace(images, groups=images.ids))
    assert single["recall_at_1"].value == 1
    assert grouped["recall_at_1"].value < 0.6
    vote = knn.among_unseen(SimpleNamespace(features=[images]), config.Knn(1))[0]
    assert vote.value == grouped["recall_at_1"].value
    assert (vote.predictions.predictions == grouped["recall_at_1"].predictions.predictions).all()


def test_ties_go_to_the_earlier_id():
    x = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    for ids, hit in ((["q", "a", "b", "x", "y"], 1.0), (["q", "b", "a", "x", "y"], 0.0)):
        names = np.array(ids)
        gallery = Features(x[1:], np.array([0, 1, 1, 0]), ("a", "b"), names[1:], names[1:])
        query = Features(x[:1], np.array([0]), ("a", "b"), names[:1], names[:1])
        assert retrieval(gallery, query, config.Retrieval((1,)))[0].value == hit


def test_a_neighbour_vote_of_the_other_images_is_that_of_scikit_learn():
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    images = blobs(120, d=16, classes=5, separation=0.6)
    [accuracy, _] = knn.among_unseen(SimpleNamespace(features=[images]), config.Knn(9, 0.07))
    other = KNeighborsClassifier(9, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    predicted = cross_val_predict(other, images.x.astype(np.float64), images.y, cv=LeaveOneOut())
    assert accuracy.predictions.predictions.tolist() == [images.classes[p] for p in predicted]


def test_classes_of_one_image_ask_for_nothing_and_are_counted():
    images = blobs(60, classes=6)
    single = images.select((images.y > 1) | (np.arange(60) == np.flatnonzero(images.y == 1)[0]) | (images.y == 0))
    scores = alone(single)
    assert {s.n for s in scores.values()} == {50}
    assert {s.warnings["queries_left_out"] for s in scores.values()} == {1}
    assert (scores["map_at_r"].predictions.labels != "c1").all()
    kept = by_loop(single, single, (1, 5, 10), own_group=False)
    np.testing.assert_allclose(scores["map_at_r"].predictions.values, kept["map_at_r"])
    assert alone(images)["map_at_r"].warnings == {}


def test_encoders_are_paired_by_query(tmp_path):
    a, b = (alone(dataclasses.replace(blobs(80), x=blobs(80).x[:, :d]))["map_at_r"].predictions for d in (3, 8))
    records.write_predictions(tmp_path / "b.csv", b)
    again = records.read_predictions(tmp_path / "b.csv")
    np.testing.assert_array_equal(again.values, b.values)
    c = compare("a", "b", "map_at_r", pair("d", {0: (a, again)}))
    expected = clustered_mean(b.values - a.values, a.groups)
    assert c.difference == pytest.approx(100 * expected.value)
    assert c.estimate.standard_error == pytest.approx(100 * expected.standard_error)
    assert c.winner == "b"


def test_bad_input_is_named():
    images = blobs(40)
    ones = images.select(np.unique(images.y, return_index=True)[1])
    broken = dataclasses.replace(images, x=np.where(np.arange(40)[:, None] == 7, np.nan, images.x))
    for ask, words in (
        (lambda: alone(ones), "none of the 4 queries has an image of its class in another group"),
        (lambda: alone(blobs(40, classes=10, per_group=4)), "none of the 40 queries"),
        (lambda: alone(images, config.Retrieval((1, 40))), "recall-at is 40, and an image has 39 others to search"),
        (lambda: retrieval(images.select(np.arange(9)), images, CFG), "is 10, and there are 9 training images"),
        (
            lambda: retrieval(images.select(images.y == 0), images.select(images.y == 1), CFG),
            "its class in the gallery",
        ),
        (lambda: retrieval(images, dataclasses.replace(images, x=images.x[:, :5]), CFG), "8 dimensions and query"),
        (lambda: alone(broken), "features of the gallery images are NaN or infinite"),
        (lambda: config.Retrieval((0,)), "--retrieval.recall-at must be one or more numbers above 0, found 0"),
        (lambda: config.Retrieval(()), "found nothing"),
        (lambda: knn.among_unseen(SimpleNamespace(features=[images]), config.Knn(40)), "an image has 39 others"),
    ):
        with pytest.raises(SlmlpError, match=words):
            ask()


def test_a_file_of_features_through_the_command(tmp_path, capsys):
    images = blobs(60, classes=6)
    parts = np.where(np.arange(60) % 4 > 0, "train", "test")
    lonely = images.y == images.y[np.flatnonzero(parts == "test")[0]]
    parts[lonely] = "test"  # a class that nothing in the gallery is of
    dataclasses.replace(images, parts=parts).save(tmp_path / "f.npz")
    words = ["evaluate", str(tmp_path / "f.npz"), "--out", str(tmp_path / "o"), "--task", "retrieval"]
    assert main(words) == 0
    out, said = capsys.readouterr()
    assert "\tretrieval\toutput\tmap_at_r\t" in out
    assert f"left out: {lonely.sum()} (retrieval)" in said
    train, test = (images.select(parts == part) for part in ("train", "test"))
    expected = {s.metric: s for s in retrieval(train, test, CFG)}
    for row in records.read(tmp_path / "o" / "results.jsonl"):
        assert (row.value, row.n) == (expected[row.metric].value, int((parts == "test").sum() - lonely.sum()))
        held = records.read_predictions(tmp_path / "o" / row.predictions)
        np.testing.assert_array_equal(held.values, expected[row.metric].predictions.values)
    limited = config.TaskSettings(probe=config.Probe(memory_limit_gb=1e-6))
    rows = api.evaluate(tmp_path / "f.npz", task=["retrieval"], out=tmp_path / "mapped", cfg=limited)
    assert [row.value for row in rows] == [score.value for score in expected.values()]

    ones = images.select(np.unique(images.y, return_index=True)[1])
    dataclasses.replace(ones, parts=np.array(["train"] * 3 + ["test"] * 3)).save(tmp_path / "ones.npz")
    for more, words in (
        ([str(tmp_path / "ones.npz"), "--task", "retrieval"], "none of the 3 queries has an image of its class"),
        ([str(tmp_path / "f.npz"), "--task", "retrieval", "--retrieval.recall-at", "99"], "recall-at is 99"),
        ([str(tmp_path / "f.npz"), "--task", "unseen-retrieval"], "--task unseen-retrieval needs images"),
        ([str(tmp_path / "f.npz"), "--task", "unseen-knn"], "--task unseen-knn needs images"),
    ):
        assert main(["evaluate", *more, "--out", str(tmp_path / "bad")]) == 2
        [line] = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
        assert words in line
