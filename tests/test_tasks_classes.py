"""Tasks that cut accuracy up by class: levels of distance, and fine labels within coarse superclasses.

The claims: Lin's similarity by hand on a small hierarchy with two parents; levels are equal in size, ordered by
distance and the same in any order; accuracies per level add up to the whole; superclass and within-superclass
accuracies are those of a loop, and tell features that fold superclasses from features that keep them; bad input is
named.
"""

from __future__ import annotations

import dataclasses
from math import log

import numpy as np
import pytest

from slmlp import config
from slmlp.data import wordnet
from slmlp.data.wordnet.similarity import Hierarchy, hierarchy, nearest
from slmlp.evaluation.tasks.coarse_to_fine import coarse_to_fine
from slmlp.evaluation.tasks.semantic_distance import by_level, wordnet_levels
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.linear import evaluate, train_probe
from slmlp.runtime.errors import SlmlpError
from task_features import blobs

PROBE = config.Probe(l2=(1e-2, 1e-1), folds=3)

#         thing
#        /     \
#     animal   tool        ten synsets; amphicar is a boat and a car
#     /   \    /   \
#   cat  dog boat   car
#              \   /  \
#            amphicar  van       and: root above thing
SMALL = {
    "root": (), "thing": ("root",), "animal": ("thing",), "tool": ("thing",), "cat": ("animal",), "dog": ("animal",),
    "boat": ("tool",), "car": ("tool",), "amphicar": ("boat", "car"), "van": ("car",),
}  # fmt: skip


def test_similarity_by_hand():
    tree = Hierarchy(SMALL)
    assert dict(tree.sizes) == {
        "root": 10, "thing": 9, "animal": 3, "tool": 5, "cat": 1, "dog": 1, "boat": 2, "car": 3, "amphicar": 1,
        "van": 1,
    }  # fmt: skip

    def ic(size):
        return 1 - log(size) / log(10)

    assert tree.information("root") == 0
    assert tree.information("cat") == 1
    assert tree.lin("cat", "dog") == pytest.approx(ic(3))  # 2 IC(animal) / (1 + 1)
    assert tree.lin("cat", "van") == pytest.approx(ic(9))  # only thing in common
    assert tree.lin("amphicar", "van") == pytest.approx(ic(3))  # car says more than tool
    assert tree.lin("boat", "car") == pytest.approx(2 * ic(5) / (ic(2) + ic(3)))
    assert tree.lin("boat", "amphicar") == pytest.approx(2 * ic(2) / (ic(2) + 1))  # one above the other
    assert tree.lin("van", "van") == 1
    assert tree.lin("root", "cat") == 0
    assert tree.lin("cat", "van") == tree.lin("van", "cat")
    near = nearest(["cat", "boat"], ["dog", "van", "amphicar"], tree)
    expected = {"dog": tree.lin("cat", "dog"), "van": tree.lin("boat", "van"), "amphicar": tree.lin("boat", "amphicar")}
    assert near == pytest.approx(expected)


@pytest.mark.slow
def test_wordnet_itself():
    tree = hierarchy()
    assert tree.sizes[wordnet.ROOT] == len(tree.parents) > 80_000
    dog, wolf, eagle, car = (wordnet.resolve([noun])[noun].id for noun in ("dog", "wolf", "eagle", "car"))
    assert tree.above(dog) == wordnet.ancestors(dog)
    assert 1 > tree.lin(dog, wolf) > tree.lin(dog, eagle) > tree.lin(dog, car) > 0


def test_levels_are_equal_ordered_and_the_same_in_any_order():
    source = ["dog", "cat", "trout", "oak"]
    unseen = [
        "wolf",
        "lion",
        "eagle",
        "salmon",
        "maple",
        "car",
        "boat",
        "hammer",
        "guitar",
        "teapot",
        "violin",
        "truck",
    ]
    levels = wordnet_levels(source, unseen, 5)
    assert np.bincount(list(levels.values())).tolist() == [0, 3, 3, 2, 2, 2]
    assert {name for name, level in levels.items() if level == 1} <= {"wolf", "lion", "salmon", "maple"}
    assert wordnet_levels(source[::-1], unseen[::-1], 5) == levels
    synsets = {name: sense.id for name, sense in wordnet.resolve([*source, *unseen]).items()}
    near = {name: max(hierarchy().lin(synsets[name], synsets[s]) for s in source) for name in unseen}
    for level in range(1, 5):
        inside = [near[name] for name in unseen if levels[name] == level]
        beyond = [near[name] for name in unseen if levels[name] == level + 1]
        assert min(inside) >= max(beyond)
    assert set(wordnet_levels(source, unseen, 1).values()) == {1}


def test_bad_levels_are_named():
    with pytest.raises(SlmlpError, match="13 levels of 2 held-out classes: expected 1 to 2"):
        wordnet_levels(["dog"], ["cat", "car"], 13)
    with pytest.raises(SlmlpError, match="no source classes"):
        wordnet_levels([], ["cat", "car"], 2)
    with pytest.raises(SlmlpError, match=r"WordNet 3\.0 has no noun for 1 of 3 classes: 'qwertz'"):
        wordnet_levels(["dog"], ["cat", "qwertz"], 2)
    rows = cross_validate(blobs(60), PROBE).predictions
    with pytest.raises(SlmlpError, match=r"class 'c2' has no level \(2 of 4 classes\)"):
        by_level(rows, {"c0": 1, "c1": 2})


def test_accuracy_by_level_is_the_cross_fit_cut_up():
    features = blobs(120, separation=0.5)
    whole = cross_validate(features, PROBE)
    scores = by_level(whole.predictions, {"c0": 2, "c1": 1, "c2": 2, "c3": 1, "other": 3})
    assert [s.metric for s in scores] == ["accuracy_at_level_1", "accuracy_at_level_2"]
    assert sum(s.value * s.n for s in scores) == pytest.approx(whole.accuracy * 120)
    for score, members in zip(scores, (["c1", "c3"], ["c0", "c2"]), strict=True):
        right = [
            p == t for p, t in zip(whole.predictions.predictions, whole.predictions.labels, strict=True) if t in members
        ]
        assert score.value == pytest.approx(np.mean(right))
        assert (score.n, score.extra["classes"]) == (60, members)
        assert set(score.predictions.labels.tolist()) == set(members)
        assert score.interval[0] < score.value < score.interval[1]
    named = by_level(whole.predictions, {"c0": "pets", "c1": "cars", "c2": "pets", "c3": "cars"})
    assert [s.metric for s in named] == ["accuracy_in_cars", "accuracy_in_pets"]
    assert [s.value for s in named] == [s.value for s in scores]


GROUPS = {"c0": "a", "c1": "a", "c2": "a", "c3": "b", "c4": "b", "c5": "alone"}


def test_fine_accuracies_are_those_of_a_loop():
    train, test = blobs(240, classes=6, separation=0.5), blobs(150, classes=6, separation=0.5, start=5000)
    scores = {s.metric: s for s in coarse_to_fine(train, test, GROUPS, PROBE)}
    linear = evaluate(train, test, PROBE)
    assert scores["accuracy"].value == linear.accuracy
    assert scores["mean_class_accuracy"].value == pytest.approx(linear.mean_class_accuracy)
    logits = train_probe(train, PROBE, ("evaluate",))[0].decision(test.x)
    by_superclass, within, chance = [], [], []
    for row, label in zip(logits, test.y, strict=True):
        own = GROUPS[f"c{label}"]
        by_superclass.append(GROUPS[f"c{row.argmax()}"] == own)
        members = [c for c in range(6) if GROUPS[f"c{c}"] == own]
        if len(members) > 1:
            within.append(max(members, key=lambda c: row[c]) == label)
            chance.append(1 / len(members))
    assert scores["superclass_accuracy"].value == pytest.approx(np.mean(by_superclass))
    assert scores["superclass_accuracy"].n == 150
    assert scores["within_superclass_accuracy"].value == pytest.approx(np.mean(within))
    assert scores["within_superclass_accuracy"].n == len(within) == 125
    assert scores["within_superclass_accuracy"].extra["chance"] == pytest.approx(np.mean(chance))
    assert set(scores["superclass_accuracy"].predictions.labels.tolist()) == {"a", "b", "alone"}


def test_features_that_fold_superclasses_keep_the_superclass_and_lose_the_class():
    random = np.random.default_rng(0)

    def images(n, kept, start):
        base = blobs(n, d=6, classes=6, start=start)
        superclass = np.array([0, 0, 0, 1, 1, 2])[base.y]
        x = random.normal(size=(n, 6))
        x[:, :3] += 8 * np.eye(3)[superclass]
        x[:, 3:] += kept * np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0], [0, 3, 0], [0, 0, 0]])[base.y]
        return dataclasses.replace(base, x=x.astype(np.float32))

    for kept in (0, 1):
        found = {s.metric: s for s in coarse_to_fine(images(300, kept, 0), images(300, kept, 5000), GROUPS, PROBE)}
        assert found["superclass_accuracy"].value > 0.97
        within = found["within_superclass_accuracy"]
        if kept:
            assert within.value > 0.9
        else:
            assert within.interval[0] < within.extra["chance"] < within.interval[1]


def test_bad_superclasses_are_named():
    train, test = blobs(60), blobs(40, start=5000)
    with pytest.raises(SlmlpError, match=r"class 'c3' has no superclass \(1 of them\)"):
        coarse_to_fine(train, test, {"c0": "a", "c1": "a", "c2": "b"}, PROBE)
    for superclasses in ("aaaa", "abcd"):
        with pytest.raises(SlmlpError, match="at least two superclasses, one of them with two classes"):
            coarse_to_fine(train, test, {f"c{k}": g for k, g in enumerate(superclasses)}, PROBE)
    some = test.select(test.y == 3)
    with pytest.raises(SlmlpError, match="no test image is of a superclass with several classes"):
        coarse_to_fine(train, some, {"c0": "a", "c1": "a", "c2": "b", "c3": "c"}, PROBE)
