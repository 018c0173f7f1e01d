"""WordNet's nouns.

- the table holds WordNet 3.0: published class counts under its nodes, on ImageNet-1K and Tiny-ImageNet
- names are found as people write them; what is unknown is named all at once, with the fix
- a cut gives exactly N balanced superclasses, each class in one, whatever the order of the classes
- the build script is deterministic and keeps sense order and instance hypernyms
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from slmlp.data import wordnet
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.files import hash_names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def imagenet() -> list[str]:
    """The ids of ImageNet-1K's classes, which timm ships; timm itself is not imported."""
    spec = importlib.util.find_spec("timm")
    ids = (Path(spec.submodule_search_locations[0]) / "data/_info/imagenet_synsets.txt").read_text().split()
    assert len(ids) == 1000
    return ids


@pytest.fixture(scope="module")
def tiny_imagenet() -> list[str]:
    folder = os.environ.get("SLMLP_DATA")
    if not folder:
        pytest.skip("SLMLP_DATA, the folder of tiny-imagenet.tar, is unset")
    with tarfile.open(Path(folder) / "tiny-imagenet.tar") as archive:
        return sorted({m.split("/")[1] for m in archive.getnames() if m.count("/") == 2})


@pytest.mark.parametrize(
    ("node", "name", "count"),
    [
        ("n00021939", "artifact", 522),
        ("n00004475", "organism", 410),
        ("n00015388", "animal", 398),
        ("n03575240", "instrumentality", 358),
        ("n01471682", "vertebrate", 337),
        ("n01861778", "mammal", 218),
        ("n02075296", "carnivore", 158),
        ("n03183080", "device", 130),
        ("n02084071", "dog", 118),
        ("n03094503", "container", 100),
        ("n03122748", "covering", 90),
        ("n03100490", "conveyance", 72),
        ("n03076708", "commodity", 63),
        ("n04341686", "structure", 58),
    ],
)
def test_published_counts(imagenet, node, name, count):
    assert wordnet.lemma(node) == name
    assert sum(node in wordnet.ancestors(i) for i in imagenet) == count


def test_instrumentality_is_the_published_list(imagenet):
    under = [i for i in imagenet if "n03575240" in wordnet.ancestors(i)]
    assert hash_names(under) == "220520d50af234d0b13aaa903768e6ea97589f956fab76f5c8aa8c66a9c38ccb"


@pytest.mark.slow
def test_tiny_imagenet(tiny_imagenet):
    source = [i for i in tiny_imagenet if "n03575240" not in wordnet.ancestors(i)]
    assert (len(source), len(tiny_imagenet)) == (124, 200)
    sizes = Counter(wordnet.cut(source, 14).values())
    assert len(sizes) == 14
    assert min(sizes.values()) == 6
    assert max(sizes.values()) == 21


def test_any_path_counts():
    dog = wordnet.ancestors("n02084071")
    assert {"n02084071", "n02083346", "n01317541", wordnet.ROOT} <= dog  # itself, canine, domestic animal, entity
    assert wordnet.ROOT in wordnet.ancestors("n10914447")  # Stephen Crane, an instance


@pytest.mark.parametrize(
    ("name", "synset"),
    [
        ("n02012849", "n02012849"),
        ("traffic light", "n06874185"),
        ("traffic_light", "n06874185"),
        ("Traffic-Lights", "n06874185"),
        ("TrafficLight", "n06874185"),
        ("geese", "n01855672"),
        ("wolves", "n02114100"),
        ("buses", "n02924116"),
        ("women", "n10787470"),
        ("glasses", "n04272054"),  # a noun of its own, not several of glass
        ("t-shirt", "n03595614"),
    ],
)
def test_names_as_people_write_them(name, synset):
    assert wordnet.resolve([name])[name].id == synset


def test_the_sense_is_told():
    sense = wordnet.resolve(["crane"])["crane"]
    assert (str(sense), sense.number, sense.of) == ("n10914447 Crane, Stephen Crane (writer)", 1, 5)
    for given in ("crane=n02012849", "Crane=n02012849"):
        assert str(wordnet.resolve(["crane", "dog"], [given])["crane"]) == "n02012849 crane (wading bird)"


def test_unknown_nouns_are_all_named():
    with pytest.raises(SlmlpError) as error:
        wordnet.resolve(["dog", "class_a", "xyzzy"])
    text = str(error.value)
    assert "2 of 3" in text
    assert "'class_a', 'xyzzy'" in text
    assert "--senses 'class_a=n" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("senses", "words"),
    [
        (["crane"], "must be a class and a noun"),
        (["crane=n00000000"], "must be a class and a noun"),
        (["cran=n02012849"], "did you mean 'crane'"),
    ],
)
def test_bad_senses(senses, words):
    with pytest.raises(SlmlpError, match=words):
        wordnet.resolve(["crane", "dog"], senses)


def test_bad_synset():
    with pytest.raises(SlmlpError, match="no noun of WordNet"):
        wordnet.ancestors("n99999999")


@pytest.mark.parametrize("n", [2, 14, 60, 200])
def test_cut_gives_exactly_n_balanced_superclasses(imagenet, n):
    source = [i for i in imagenet if "n03575240" not in wordnet.ancestors(i)]
    superclasses = wordnet.cut(source, n)
    assert set(superclasses) == set(source)
    assert superclasses == wordnet.cut(source[::-1], n)
    sizes = Counter(superclasses.values())
    assert len(sizes) == n
    assert max(sizes.values()) <= max(6 * len(source) / n, 0.7 * len(source) if n == 2 else 0)
    assert min(sizes.values()) > 1 or n > 60


def test_cut_into_single_classes_and_one_superclass(imagenet):
    some = imagenet[::50]
    assert len(set(wordnet.cut(some, len(some)).values())) == len(some)
    assert len(set(wordnet.cut(some, 1).values())) == 1


def test_cut_names_say_what_is_inside():
    nouns = ["dog", "cat", "wolf", "salmon", "trout", "chair", "desk", "sofa"]
    fish = ["salmon=n02534734", "trout=n02535537"]  # their first sense is the food
    assert wordnet.cut(nouns, 3, fish) == {
        **dict.fromkeys(("dog", "cat", "wolf"), "carnivore"),
        **dict.fromkeys(("salmon", "trout"), "salmon"),  # trout is a kind of salmon
        **dict.fromkeys(("chair", "desk", "sofa"), "furniture"),
    }
    assert wordnet.cut(["dog", "wolf", "cat", "goose", "swan", "trout"], 2, fish[1:]) == {
        **dict.fromkeys(("dog", "wolf", "cat"), "carnivore"),
        **dict.fromkeys(("goose", "swan", "trout"), "other vertebrate"),
    }


def test_cut_merges_names_of_one_synset():
    superclasses = wordnet.cut(["car", "automobile", "dog"], 3)
    assert superclasses["car"] == superclasses["automobile"] != superclasses["dog"]


@pytest.mark.parametrize("n", [0, 4])
def test_cut_refuses_impossible_numbers(n):
    with pytest.raises(SlmlpError, match=r"expected 1 to 3"):
        wordnet.cut(["dog", "cat", "car"], n)


def test_build_script(tmp_path):
    (tmp_path / "data.noun").write_text(
        "  1 licence\n"
        "00000010 03 n 01 entity 0 001 ~ 00000020 n 0000 | what is\n"
        "00000020 03 n 02 Bird 0 bird_of_prey 0 002 @ 00000010 n 0000 ~ 00000030 n 0000 | flies\n"
        "00000030 03 n 01 bird 1 001 @i 00000020 n 0000 | another\n"
    )
    (tmp_path / "index.noun").write_text(
        "  1 licence\n"
        "bird n 2 2 @ ~ 2 1 00000020 00000030\n"
        "bird_of_prey n 1 1 @ 1 0 00000020\n"
        "entity n 1 1 ~ 1 1 00000010\n"
    )
    (tmp_path / "noun.exc").write_text("birdies bird\nsheep sheep\n")
    contents = []
    for name in ("one.gz", "two.gz"):
        out = tmp_path / name
        subprocess.run([sys.executable, ROOT / "scripts/build_wordnet.py", tmp_path, "--out", out], check=True)
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert gzip.decompress(contents[0]).decode() == (
        "00000010\tentity\t\n00000020\tBird|bird_of_prey\t00000010\n00000030\tbird:2\t00000020\n\nbirdies\tbird\n"
    )


def test_table_is_small_and_licensed():
    folder = ROOT / "src/slmlp/data/wordnet"
    assert (folder / "wordnet.tsv.gz").stat().st_size < 2_500_000
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in (folder / "WORDNET-LICENSE.txt").read_text()
