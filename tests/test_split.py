"""Concept splits.

- the paper's rule gives its 358 / 642 classes of ImageNet-1K
- every rule parts the classes into two sides, the same for the same seed, other for another
- a test part is drawn in whole groups and recorded only where the data has none
- the file comes back as it was, is not overwritten by another split, and does not pass for one when changed by hand
- a split of other data says which classes or which hashes differ
- settings that name what is not there, or that the rule does not read, are one clear line
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmlp import config
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import classes as concepts
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime.errors import SlmlpError


def images(classes, per_class=4, superclasses=None, has_test_part=True, groups=None) -> ImageSet:
    classes = tuple(sorted(classes))
    n = len(classes) * per_class
    labels = np.repeat(np.arange(len(classes)), per_class)
    ids = tuple(f"{classes[y]}/{i:06d}.png" for i, y in enumerate(labels))
    parts = np.array(["test" if has_test_part and i % per_class == 0 else "train" for i in range(n)])
    return ImageSet(
        name="toy",
        source="toy.tar",
        ids=ids,
        labels=labels,
        classes=classes,
        parts=parts,
        groups=np.array(ids if groups is None else groups),
        sizes=np.full(n, 100),
        positions=np.arange(n),
        reader=None,
        superclasses=superclasses,
        has_test_part=has_test_part,
    )


NOUNS = ("cat", "chair", "crane", "dog", "hammer", "lamp", "oak", "rose", "violin", "wolf")
GROUPS = ("animal", "thing", "animal", "animal", "thing", "thing", "plant", "plant", "music", "animal")


@pytest.fixture
def toy() -> ImageSet:
    return images(NOUNS, superclasses=GROUPS)


def check_sides(made: ConceptSplit, toy: ImageSet) -> None:
    assert set(made.source) | set(made.unseen) == set(toy.classes)
    assert not set(made.source) & set(made.unseen)
    assert list(made.source) == sorted(made.source)
    assert list(made.unseen) == sorted(made.unseen)


def test_the_papers_split():
    spec = importlib.util.find_spec("timm")
    ids = (Path(spec.submodule_search_locations[0]) / "data/_info/imagenet_synsets.txt").read_text().split()
    made = concepts.make(images(ids, per_class=1), config.Split(by="wordnet"))
    assert (len(made.source), len(made.unseen)) == (642, 358)
    assert made.rule == "wordnet n03575240 instrumentality, any path"
    assert made.unseen_hash == "220520d50af234d0b13aaa903768e6ea97589f956fab76f5c8aa8c66a9c38ccb"
    assert made.senses == {}


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SLMLP_DATA"), reason="SLMLP_DATA, the folder of tiny-imagenet.tar, is unset")
def test_tiny_imagenet():
    from slmlp import data

    loaded = data.load(str(Path(os.environ["SLMLP_DATA"]) / "tiny-imagenet.tar"))
    made = concepts.make(loaded, config.Split(by="wordnet"))
    assert (len(made.source), len(made.unseen)) == (124, 76)
    assert made.test_ids is None


def test_wordnet_rule_tells_senses(toy):
    made = concepts.make(toy, config.Split(by="wordnet", senses=("crane=n02012849",)))
    check_sides(made, toy)
    assert made.unseen == ("chair", "hammer", "lamp", "violin")
    assert made.senses["crane"] == "n02012849 crane (wading bird)"
    assert concepts.make(toy, config.Split(by="wordnet", node="animal")).unseen == ("cat", "dog", "wolf")


def test_superclasses_given(toy):
    made = concepts.make(toy, config.Split(by="superclasses", unseen_superclasses=("thing", "music")))
    check_sides(made, toy)
    assert made.unseen == ("chair", "hammer", "lamp", "violin")
    assert made.held_out_superclasses == ("music", "thing")
    assert made.rule == "superclasses music, thing"


@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=2, max_size=8), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=40)
def test_superclasses_drawn_come_near_the_fraction(seed, sizes, fraction):
    by_name = {f"g{i}": size for i, size in enumerate(sizes)}
    cfg = config.Split(by="superclasses", unseen_fraction=fraction, seed=seed)
    held = concepts._draw_superclasses(by_name, cfg)
    assert held == concepts._draw_superclasses(by_name, cfg)
    assert 1 <= len(held) < len(sizes)
    taken, wanted = sum(by_name[g] for g in held), fraction * sum(sizes)
    assert abs(taken - wanted) <= max(sizes)


@given(st.integers(0, 10_000), st.integers(4, 60), st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=40)
def test_random_parts_the_classes(seed, number, fraction):
    toy = images([f"c{i:03d}" for i in range(number)], per_class=1)
    cfg = config.Split(by="random", unseen_fraction=fraction, seed=seed)
    made = concepts.make(toy, cfg)
    check_sides(made, toy)
    assert len(made.unseen) == min(max(round(fraction * number), 2), number - 2)
    assert made == concepts.make(toy, cfg)


def test_seeds_differ():
    toy = images([f"c{i:03d}" for i in range(40)])
    drawn = {concepts.make(toy, config.Split(by="random", seed=s)).unseen for s in range(5)}
    assert len(drawn) == 5


def test_drawn_superclasses_come_as_near_as_they_can():
    sizes = {"a": 3, "b": 9, "c": 7, "d": 1, "e": 14, "f": 10, "g": 8, "h": 5, "i": 8}
    for seed in range(5):
        held = concepts._draw_superclasses(sizes, config.Split(by="superclasses", seed=seed))
        assert abs(sum(sizes[g] for g in held) - 0.36 * 65) <= 0.6


def test_auto(toy):
    assert concepts.make(toy, config.Split()).held_out_superclasses is not None
    assert (
        concepts.make(dataclasses.replace(toy, superclasses=None), config.Split()).rule == "random, 0.36 of the classes"
    )


def test_file_of_names(toy, tmp_path):
    file = tmp_path / "held-out.txt"
    file.write_text("# birds and beasts\ncrane\n\ndog\nwolf\n")
    made = concepts.make(toy, config.Split(by="file", file=str(file)))
    assert made.unseen == ("crane", "dog", "wolf")
    assert made.rule == "file held-out.txt"
    assert concepts.make(toy, config.Split(file=str(file))).unseen == made.unseen


def test_file_of_another_split_keeps_its_test_part(tmp_path):
    toy = images(NOUNS, has_test_part=False)
    made = concepts.make(toy, config.Split(by="random", seed=1))
    made.save(tmp_path / "split.json")
    again = concepts.make(toy, config.Split(by="file", file=str(tmp_path / "split.json"), seed=2))
    assert again.hash() == made.hash()
    with pytest.raises(SlmlpError, match=r"does not have class 'zebra' on either side"):
        concepts.make(images((*NOUNS, "zebra")), config.Split(file=str(tmp_path / "split.json")))


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (config.Split(by="wordnt"), "unknown rule of a split 'wordnt': did you mean 'wordnet'"),
        (config.Split(by="random", file="x.txt"), "file is read by the rule 'file' only"),
        (
            config.Split(by="random", unseen_superclasses=("plant",)),
            "unseen_superclasses is read by the rule 'superclasses' only",
        ),
        (
            config.Split(by="superclasses", unseen_superclasses=("plants",)),
            "unknown superclass 'plants': did you mean 'plant'",
        ),
        (config.Split(by="random", unseen_fraction=1.5), "unseen_fraction must be above 0 and below 1, found 1.5"),
        (config.Split(by="file"), "needs file"),
        (config.Split(by="file", file="/nowhere/x.txt"), "cannot read /nowhere/x.txt: No such file"),
        (config.Split(by="wordnet", node="n99999999"), "WordNet 3.0 has no noun"),
        (config.Split(by="wordnet", node="mineral"), "gives 0 held-out classes"),
        (config.Split(by="superclasses", unseen_superclasses=("music",)), r"gives 1 held-out classes \(violin\)"),
        (config.Split(by="superclasses", unseen_superclasses=("animal", "plant", "thing")), "gives 1 source classes"),
    ],
)
def test_clear_errors(toy, cfg, words):
    with pytest.raises(SlmlpError, match=words) as error:
        concepts.make(toy, cfg)
    assert "\n" not in str(error.value)


def test_clear_errors_of_data(toy, tmp_path):
    with pytest.raises(SlmlpError, match="has no superclasses of classes"):
        concepts.make(dataclasses.replace(toy, superclasses=None), config.Split(by="superclasses"))
    with pytest.raises(SlmlpError, match=r"all classes of toy\.tar are in one superclass"):
        concepts.make(dataclasses.replace(toy, superclasses=("all",) * 10), config.Split(by="superclasses"))
    with pytest.raises(SlmlpError, match="has 3 classes: a split needs at least 4"):
        concepts.make(images(NOUNS[:3]), config.Split(by="random"))
    file = tmp_path / "x.txt"
    file.write_text("dog\nwolff\n")
    with pytest.raises(SlmlpError, match=r"x\.txt: unknown class 'wolff': did you mean 'wolf'"):
        concepts.make(toy, config.Split(by="file", file=str(file)))


def test_test_part_is_drawn_in_whole_groups_and_recorded():
    groups = [f"u{i // 2}" for i in range(120)]
    toy = images(NOUNS, per_class=12, has_test_part=False, groups=groups)
    made = concepts.make(toy, config.Split(by="random"))
    parted = concepts.apply(made, toy)
    test = parted.parts == "test"
    assert set(np.array(toy.ids)[test]) == set(made.test_ids)
    assert not set(toy.groups[test]) & set(toy.groups[~test])
    for y in range(len(NOUNS)):
        assert 2 <= test[toy.labels == y].sum() <= 4
    again = concepts.apply(made, parted)
    assert (again.parts == parted.parts).all()
    fewer = concepts.apply(made, toy.select(np.arange(len(toy)) != int(np.flatnonzero(test)[0])))
    assert (fewer.parts == "test").sum() == test.sum() - 1


def test_a_test_part_of_the_datas_own_stays(toy):
    made = concepts.make(toy, config.Split(by="random"))
    assert made.test_ids is None
    assert (concepts.apply(made, toy).parts == toy.parts).all()
    with pytest.raises(SlmlpError, match="needs a test part"):
        concepts.apply(made, dataclasses.replace(toy, has_test_part=False))


def test_file_comes_back_and_is_not_overwritten(toy, tmp_path):
    path = tmp_path / "run" / "split.json"
    made = concepts.make(dataclasses.replace(toy, has_test_part=False), config.Split())
    made.save(path)
    assert ConceptSplit.load(path) == made
    content = json.loads(path.read_text())
    assert content["source_hash"] == made.source_hash
    found = dataclasses.replace(made, leaks=({"source": "a", "unseen": "b", "distance": 0.0},))
    assert found.hash() == made.hash()  # leaks are a finding, not a part of the split
    found.save(path)
    assert ConceptSplit.load(path) == found
    with pytest.raises(SlmlpError, match="holds another split"):
        concepts.make(toy, config.Split(by="random")).save(path)
    assert ConceptSplit.load(path) == found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["unseen"].append("zebra"), "unseen classes hash to"),
        (lambda c: c["unseen"].append(c["source"][0]), "is on both sides"),
        (lambda c: c.update(schema=2), "no split file of this version"),
        (lambda c: c.update(colour=1), "no split file of this version"),
        (lambda c: c.pop("rule"), "required field `rule`"),
        (lambda c: c.update(source="abc"), "Expected `array`, got `str` - at `source`"),
        (lambda c: c.update(seed="0"), "Expected `int`, got `str` - at `seed`"),
    ],
)
def test_a_changed_file_is_refused(toy, tmp_path, change, words):
    path = tmp_path / "split.json"
    concepts.make(toy, config.Split()).save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SlmlpError, match=r"split.json was changed or damaged .* take the line sha256 out"):
        ConceptSplit.load(path)
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(SlmlpError, match=words) as error:
        ConceptSplit.load(path)
    assert "split.json" in str(error.value) or "both sides" in str(error.value)


def test_a_split_of_other_data(toy):
    made = concepts.make(toy, config.Split(by="random"))
    made.check(toy)
    with pytest.raises(SlmlpError, match=r"toy.tar has no class 'wolf' \(1 of the split's 10\)"):
        made.check(images(NOUNS[:-1]))
    other = dataclasses.replace(toy, sizes=toy.sizes + 1)
    with pytest.raises(SlmlpError) as error:
        made.check(other)
    assert made.data_hash in str(error.value)
    assert other.hash() in str(error.value)
    made.check(other, strict=False)
    with pytest.raises(SlmlpError, match="classes that the split does not know: 'zebra'"):
        made.check(images((*NOUNS, "zebra")))


def test_global_random_state_is_untouched(toy):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    concepts.make(dataclasses.replace(toy, has_test_part=False), config.Split(by="random"))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
