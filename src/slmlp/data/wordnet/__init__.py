"""Look up nouns of WordNet 3.0: synsets of class names, hypernyms, and superclasses of classes.

A synset's name is its offset, ``n02012849``, as in ImageNet's folders. ``scripts/build_wordnet.py`` writes the table,
which is read on first use.

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

# endings of regular plurals: WordNet's rules, and -ves; the first that gives a known noun is used
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
    """The synset that a class name means."""

    id: str  # "n02012849"
    lemmas: tuple[str, ...]  # ("crane",)
    kind: str  # first lemma of the first hypernym, to distinguish senses: "wading bird"
    number: int | None = None  # rank among the senses of the noun, from 1; None where a synset was named
    of: int | None = None  # how many senses the noun has

    def __str__(self) -> str:
        """Return the sense as it is printed and stored: ``n02012849 crane (wading bird)``."""
        return f"{self.id} {', '.join(self.lemmas)} ({self.kind})"


def resolve(names: Sequence[str], senses: Sequence[str] = ()) -> dict[str, Sense]:
    """Return the synset of each class name.

    A name is a synset (``n02012849``) or a noun (``traffic light``, ``Traffic-Lights``), which means its most frequent
    sense unless ``senses`` chooses another (``crane=n02012849``).

    Raises:
        SlmlpError: names that are no noun of WordNet, or a sense of an unknown class.

    >>> [str(sense) for sense in resolve(["crane", "Traffic-Lights"], ["crane=n02012849"]).values()]
    ['n02012849 crane (wading bird)', 'n06874185 traffic light, traffic signal, stoplight (light)']
    """
    overrides = _overrides(names, senses)
    resolved: dict[str, Sense] = {}
    missing = []
    for name in names:
        noun = overrides.get(name, name)
        if noun in _synsets():
            resolved[name] = _sense(noun)
        elif synsets := _meanings(noun):
            resolved[name] = _sense(synsets[0], 1, len(synsets))
        else:
            missing.append(name)
    if missing:
        raise SlmlpError(
            f"WordNet 3.0 has no noun for {len(missing)} of {len(names)} classes: {', '.join(map(repr, missing))}; "
            f"choose a synset for each, as --senses '{missing[0]}=n02012849' (in a study --split.senses)"
        )
    return resolved


def lemma(synset: str) -> str:
    """Return the first word of a synset; raise SlmlpError if it is not one."""
    if synset not in _synsets():
        raise SlmlpError(f"{synset!r} is no noun of WordNet 3.0: expected a synset, as n03575240")
    return _lemmas(synset)[0]


@functools.cache
def ancestors(synset: str) -> frozenset[str]:
    """Return the synset itself and every synset on any of its hypernym paths."""
    lemma(synset)
    return frozenset({synset}).union(*(ancestors(parent) for parent in _parents(synset)))


def hypernyms() -> dict[str, tuple[str, ...]]:
    """Return synset -> its direct hypernyms, for every synset."""
    return {synset: _parents(synset) for synset in _synsets()}


def cut(classes: Sequence[str], n: int, senses: Sequence[str] = ()) -> dict[str, str]:
    """Divide classes into ``n`` superclasses along WordNet, from the top down; return class -> superclass name.

    All classes start as one superclass. Each step splits one superclass in two, its classes under some synset and the
    rest, with the largest smaller half of all possible splits (on a tie, the larger and more general superclass is
    split), so superclasses are balanced. The name is the most specific synset above all classes, with "other" before it
    if that synset also has classes of another superclass. The result depends on the set of classes only. There are
    fewer than ``n`` superclasses only if classes share a synset.

    Raises:
        SlmlpError: ``n`` exceeds the number of classes.
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
        """(size of the smaller half, size of the superclass, synset to split off); 0 if it cannot be split."""
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
    """Return the deepest synset, at or under ``under``, that is above all members."""
    common = frozenset.intersection(*(ancestors(m) for m in members))
    return max((c for c in common if under in ancestors(c)), key=lambda c: (len(ancestors(c)), c))


def _names(superclasses: Sequence[_Superclass]) -> list[str]:
    """Return the name of each superclass, with the synset after it where names would be equal."""
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
    """Return class name -> synset of the ``senses``."""
    by_plain = {_plain(name): name for name in names}
    synset_of = {}
    for text in senses:
        name, _, synset = text.rpartition("=")
        if not name or synset not in _synsets():
            raise SlmlpError(f"sense {text!r} must be a class and a noun of WordNet 3.0, as crane=n02012849")
        if name not in names and _plain(name) not in by_plain:
            raise unknown("class", name, names)
        synset_of[name if name in names else by_plain[_plain(name)]] = synset
    return synset_of


def _meanings(noun: str) -> list[str]:
    """Return the synsets of a noun, singular or plural, the most frequent first; empty if unknown."""
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
    """Yield possible singulars of a noun, judged by its last word."""
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
    """Return synset -> rest of its line, unparsed."""
    return {f"n{line[:8]}": line[9:] for line in _sections()[0].split("\n")}


@functools.cache
def _nouns() -> dict[str, list[str]]:
    """Return noun in plain form -> its synsets, the most frequent first."""
    ranked: dict[str, list[tuple[int, str]]] = {}
    for synset, row in _synsets().items():
        for word in row.partition("\t")[0].lower().replace("_", " ").replace("-", " ").split("|"):
            noun, _, rank = word.partition(":")
            ranked.setdefault(noun, []).append((int(rank or 1), synset))
    return {noun: [synset for _, synset in sorted(pairs)] for noun, pairs in ranked.items()}


@functools.cache
def _irregular() -> dict[str, str]:
    """Return irregular plural -> singular, one word each."""
    return dict(line.split("\t") for line in _sections()[1].split("\n"))
