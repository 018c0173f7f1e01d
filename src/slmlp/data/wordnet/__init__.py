"""The nouns of WordNet 3.0: the synset of a class name, its hypernyms, and classes grouped into superclasses.

A synset is named by its offset, ``n02012849``, as ImageNet's folders are. The table is made by
``scripts/build_wordnet.py`` and read when it is first needed.

Source: Fellbaum (ed.), WordNet: An Electronic Lexical Database, 1998; licence in ``WORDNET-LICENSE.txt``.
"""

from __future__ import annotations

import functools
import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from slmlp.runtime.errors import SlmlpError, unknown

ROOT = "n00001740"  # entity: above every noun
SYNSET = re.compile(r"n\d{8}")

# Endings of regular plurals; the first that leads to a known noun counts (WordNet's own rules, and -ves).
_ENDINGS = (
    ("ches", "ch"),
    ("shes", "sh"),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ies", "y"),
    ("ves", "f"),
    ("men", "man"),
    ("s", ""),
)


@dataclass(frozen=True)
class Sense:
    """The synset that a class name was taken for."""

    id: str  # "n02012849"
    lemmas: tuple[str, ...]  # ("crane",)
    kind: str  # first lemma of the first hypernym, which tells one crane from another: "wading bird"
    number: int | None = None  # place among the senses of the noun, from 1; None where a synset was named
    of: int | None = None  # how many senses the noun has

    def __str__(self) -> str:
        """Return the sense as it is printed and stored: ``n02012849 crane (wading bird)``."""
        return f"{self.id} {', '.join(self.lemmas)} ({self.kind})"


def resolve(names: Sequence[str], senses: Sequence[str] = ()) -> dict[str, Sense]:
    """Return the synset that each class name means.

    A name is a synset (``n02012849``) or a noun (``traffic light``, ``Traffic-Lights``), which means its most frequent
    sense unless ``senses`` says otherwise (``crane=n02012849``). Raises SlmlpError naming every name that is no noun of
    WordNet, and for a sense of a class that is not there.

    >>> [str(sense) for sense in resolve(["crane", "Traffic-Lights"], ["crane=n02012849"]).values()]
    ['n02012849 crane (wading bird)', 'n06874185 traffic light, traffic signal, stoplight (light)']
    """
    given = _overrides(names, senses)
    found: dict[str, Sense] = {}
    missing = []
    for name in names:
        noun = given.get(name, name)
        if noun in _synsets():
            found[name] = _sense(noun)
        elif synsets := _meanings(noun):
            found[name] = _sense(synsets[0], 1, len(synsets))
        else:
            missing.append(name)
    if missing:
        raise SlmlpError(
            f"WordNet 3.0 has no noun for {len(missing)} of {len(names)} classes: {', '.join(map(repr, missing))}; "
            f"say what they mean, as --senses '{missing[0]}=n02012849' (in a study --split.senses)"
        )
    return found


def lemma(synset: str) -> str:
    """Return the first word of a synset; raise SlmlpError for what is none."""
    if synset not in _synsets():
        raise SlmlpError(f"{synset!r} is no noun of WordNet 3.0: expected a synset, as n03575240")
    return _lemmas(synset)[0]


@functools.cache
def ancestors(synset: str) -> frozenset[str]:
    """Return the synset itself and every synset on any of its hypernym paths."""
    lemma(synset)
    return frozenset({synset}).union(*(ancestors(parent) for parent in _parents(synset)))


def hypernyms() -> dict[str, tuple[str, ...]]:
    """Return every synset -> those directly above it."""
    return {synset: _parents(synset) for synset in _synsets()}


def cut(classes: Sequence[str], n: int, senses: Sequence[str] = ()) -> dict[str, str]:
    """Return class -> superclass name: classes cut into ``n`` superclasses along WordNet, from the top down.

    All classes start as one superclass. In every step one superclass is split in two, those of its classes under some
    synset and the rest, where the smaller half is as large as any split can make it (of equals, the larger and more
    general superclass is split); so superclasses come out balanced, and small leftovers stay together in the rest they
    were left in. A superclass is named by the most specific synset above all its classes, with "other" before it where
    that synset also holds classes of another superclass. The result depends on the set of classes only. There are fewer
    than ``n`` superclasses only where classes share a synset; SlmlpError when ``n`` exceeds the classes.
    """
    if not 1 <= n <= len(classes):
        raise SlmlpError(
            f"wordnet:{n} asks for {n} superclasses of {len(classes)} classes: expected 1 to {len(classes)}"
        )
    synsets = {name: sense.id for name, sense in resolve(classes, senses).items()}
    members = tuple(sorted(set(synsets.values())))
    superclasses = [_Superclass(_most_specific(members, ROOT), members)]
    while len(superclasses) < n:
        best = max(
            superclasses,
            key=lambda superclass: (*superclass.split[:2], -len(ancestors(superclass.head)), superclass.head),
        )
        if not best.split[0]:
            break
        superclasses.remove(best)
        superclasses += best.halves()
    names = _names(superclasses)
    of_synset = {
        synset: name for superclass, name in zip(superclasses, names, strict=True) for synset in superclass.members
    }
    return {name: of_synset[synset] for name, synset in synsets.items()}


@dataclass(frozen=True)
class _Superclass:
    head: str  # the most specific synset above all members
    members: tuple[str, ...]

    @functools.cached_property
    def split(self) -> tuple[int, int, str]:
        """(size of the smaller half, size of the superclass, synset whose classes are split off); 0 if it cannot be."""
        size = len(self.members)
        counts = Counter(above for member in self.members for above in ancestors(member))
        under = [(s, k) for s, k in counts.items() if k < size and self.head in ancestors(s)]
        smaller, _, _, synset = max(
            ((min(k, size - k), -k, len(ancestors(s)), s) for s, k in under), default=(0, 0, 0, "")
        )
        return smaller, size, synset

    def halves(self) -> list[_Superclass]:
        """Return the members under the splitting synset, and the rest."""
        synset = self.split[2]
        inside = tuple(m for m in self.members if synset in ancestors(m))
        rest = tuple(m for m in self.members if synset not in ancestors(m))
        return [_Superclass(_most_specific(inside, synset), inside), _Superclass(_most_specific(rest, self.head), rest)]


def _most_specific(members: Sequence[str], under: str) -> str:
    """Return the deepest synset, at or under ``under``, that stands above all members."""
    common = frozenset.intersection(*(ancestors(m) for m in members))
    return max((c for c in common if under in ancestors(c)), key=lambda c: (len(ancestors(c)), c))


def _names(superclasses: Sequence[_Superclass]) -> list[str]:
    """Return the name of each superclass; the synset stands behind a name that two superclasses would share."""
    names = []
    for superclass in superclasses:
        shared = any(superclass.head in ancestors(m) for g in superclasses if g is not superclass for m in g.members)
        names.append(f"other {lemma(superclass.head)}" if shared else lemma(superclass.head))
    counts = Counter(names)
    return [
        f"{name} ({superclass.head})" if counts[name] > 1 else name
        for name, superclass in zip(names, superclasses, strict=True)
    ]


def _sense(synset: str, number: int | None = None, of: int | None = None) -> Sense:
    kind = next((lemma(parent) for parent in _parents(synset)), "everything")
    return Sense(synset, _lemmas(synset), kind, number, of)


def _overrides(names: Sequence[str], senses: Sequence[str]) -> dict[str, str]:
    """Return class name -> synset as ``senses`` say."""
    by_plain = {_plain(name): name for name in names}
    given = {}
    for text in senses:
        name, _, synset = text.rpartition("=")
        if not name or synset not in _synsets():
            raise SlmlpError(f"sense {text!r} must be a class and a noun of WordNet 3.0, as crane=n02012849")
        if name not in names and _plain(name) not in by_plain:
            raise unknown("class", name, names)
        given[name if name in names else by_plain[_plain(name)]] = synset
    return given


def _meanings(noun: str) -> list[str]:
    """Return the synsets of a noun, singular or plural, the most frequent first; none where it is unknown."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", noun)  # TrafficLight
    for form in (_plain(noun), _plain(spaced)):
        for singular in (form, *_singulars(form)):
            if singular in _nouns():
                return _nouns()[singular]
    return []


def _plain(name: str) -> str:
    """Return a noun in lower case with single spaces for spaces, hyphens and underscores."""
    return re.sub(r"[-_\s]+", " ", name).strip().lower()


def _singulars(form: str) -> Iterator[str]:
    """Yield what a noun might be the plural of, judged by its last word."""
    *rest, last = form.split(" ")
    if last in _irregular():
        yield " ".join([*rest, _irregular()[last]])
    for ending, instead in _ENDINGS:
        if last.endswith(ending) and last != ending:
            yield " ".join([*rest, last.removesuffix(ending) + instead])


def _lemmas(synset: str) -> tuple[str, ...]:
    words = _synsets()[synset].partition("\t")[0]
    return tuple(word.partition(":")[0].replace("_", " ") for word in words.split("|"))


def _parents(synset: str) -> tuple[str, ...]:
    return tuple(f"n{offset}" for offset in _synsets()[synset].partition("\t")[2].split())


@functools.cache
def _sections() -> list[str]:
    packed = resources.files("slmlp.data.wordnet").joinpath("wordnet.tsv.gz").read_bytes()
    return gzip.decompress(packed).decode("ascii").strip().split("\n\n")


@functools.cache
def _synsets() -> dict[str, str]:
    """Return synset -> rest of its line; only what is asked for is taken apart further."""
    return {f"n{line[:8]}": line[9:] for line in _sections()[0].split("\n")}


@functools.cache
def _nouns() -> dict[str, list[str]]:
    """Return noun in plain form -> its synsets, the most frequent first."""
    places: dict[str, list[tuple[int, str]]] = {}
    for synset, row in _synsets().items():
        for word in row.partition("\t")[0].lower().replace("_", " ").replace("-", " ").split("|"):
            noun, _, place = word.partition(":")
            places.setdefault(noun, []).append((int(place or 1), synset))
    return {noun: [synset for _, synset in sorted(found)] for noun, found in places.items()}


@functools.cache
def _irregular() -> dict[str, str]:
    """Return irregular plural -> singular, one word each."""
    return dict(line.split("\t") for line in _sections()[1].split("\n"))
