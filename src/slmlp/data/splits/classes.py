"""Split classes into those to pretrain on and those held out, by a rule; save, load and check splits.

The paper holds out ImageNet-1K's classes under WordNet's instrumentality and pretrains on the other 642: the rule
``wordnet`` with its default node. See docs/split.md for the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.data import wordnet
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.parts import ensure_test_part
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError, few, unknown
from slmlp.runtime.seeds import numpy_generator

SCHEMA = 1
LEAST = 2  # classes on either side
DRAWS = 20  # random sets of superclasses, of which the one nearest to the requested share is used


@dataclass(frozen=True)
class ConceptSplit:
    """Source and held-out classes, how they were chosen, and the test part if the data has none."""

    source: tuple[str, ...]  # sorted
    unseen: tuple[str, ...]  # sorted
    rule: str  # "wordnet n03575240 instrumentality, any path"
    seed: int
    data_hash: str  # of the images the split was made for
    senses: dict[str, str] = field(default_factory=dict)  # class -> "n02012849 crane (wading bird)"
    held_out_superclasses: tuple[str, ...] | None = None  # by the rule ``superclasses`` only
    test_ids: tuple[str, ...] | None = None  # sorted; None where the data came with a test part
    leaks: tuple[dict[str, Any], ...] = ()  # near-identical images on both sides

    def __post_init__(self) -> None:
        """Check that the sides are disjoint and have at least two classes each."""
        both = sorted(set(self.source) & set(self.unseen))
        if both:
            raise SlmlpError(f"class {both[0]!r} is on both sides of the split ({len(both)} of them)")
        for side, names in (("source", self.source), ("held-out", self.unseen)):
            if len(names) < LEAST:
                classes = ", ".join(names) or "none"
                raise SlmlpError(
                    f"the rule '{self.rule}' gives {len(names)} {side} classes ({classes}): a split needs {LEAST} on "
                    "either side; choose another rule, node, fraction or superclasses"
                )

    @property
    def source_hash(self) -> str:
        """SHA-256 over the sorted names of the source classes, joined by newlines."""
        return files.hash_names(self.source)

    @property
    def unseen_hash(self) -> str:
        """SHA-256 over the sorted names of the held-out classes, joined by newlines."""
        return files.hash_names(self.unseen)

    def hash(self) -> str:
        """Return the hash of both sides and the test part; the rule does not count."""
        return files.hash_json([self.source, self.unseen, self.test_ids])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        values = files.as_json(dataclasses.asdict(self))
        hashes = {"source_hash": self.source_hash, "unseen_hash": self.unseen_hash}
        return {"schema": SCHEMA, "rule": values.pop("rule"), **hashes, **values}

    @classmethod
    def from_json(cls, saved: Any, origin: str = "the split") -> ConceptSplit:
        """Return the split of ``to_json``'s content; raise SlmlpError if it is invalid or was edited by hand."""
        if not isinstance(saved, dict) or saved.get("schema") != SCHEMA:
            raise SlmlpError(f"{origin} is no split file of this version: expected JSON with schema {SCHEMA}")
        names = {field.name for field in dataclasses.fields(cls)}
        unknown_names = sorted(saved.keys() - names - {"schema", "source_hash", "unseen_hash"})
        if unknown_names:
            raise SlmlpError(f"{origin} is no split file of this version (it has {unknown_names[0]!r})")
        split = json_files.convert(saved, cls, origin, "make a new split")
        for side in ("source", "unseen"):
            stored, actual = saved.get(f"{side}_hash"), files.hash_names(getattr(split, side))
            if stored != actual:
                raise SlmlpError(
                    f"{origin}: {side}_hash is {stored}, but the {side} classes hash to {actual}; the list was changed "
                    "by hand: make a new split from a text file of class names with --by file"
                )
        return split

    def save(self, path: Path) -> None:
        """Write the split; raise SlmlpError if the file has another split."""
        if path.exists():
            try:
                same = ConceptSplit.load(path).hash() == self.hash()
            except SlmlpError as error:
                raise SlmlpError(f"{error}, or choose another --out: {path} is not overwritten") from error
            if not same:
                raise SlmlpError(f"{path} holds another split: choose another --out, or remove the file")
        json_files.write(path, self.to_json(), seal=True)

    @classmethod
    def load(cls, path: Path) -> ConceptSplit:
        """Read a split file."""
        return cls.from_json(json_files.read(path, dict[str, Any], "make a new split"), str(path))

    def check(self, images: ImageSet, *, strict: bool = True) -> None:
        """Raise SlmlpError if the data lacks classes of the split or, if ``strict``, has another hash."""
        known = set(images.classes)
        missing = [name for name in (*self.source, *self.unseen) if name not in known]
        if missing:
            raise SlmlpError(
                f"split of other data: {images.source} has no class {few(map(repr, missing))} "
                f"({len(missing)} of the split's {len(self.source) + len(self.unseen)}); use the data it was made for"
            )
        data_hash = images.hash() if strict else self.data_hash
        if data_hash != self.data_hash:
            extra = sorted(known - {*self.source, *self.unseen})
            more = f"; classes that the split does not know: {few(map(repr, extra))}" if extra else ""
            raise SlmlpError(
                f"split of other data: it was made for data hash {self.data_hash}, {images.source} has {data_hash}"
                f"{more}; use the same files, or make a new split"
            )


def inner(outer: ConceptSplit, images: ImageSet, cfg: config.Split) -> ConceptSplit:
    """Split the source classes of a split once more, so that a choice may be made on classes held out of training.

    By superclasses where the source classes have several, else at random; the share and the seed are those of ``cfg``.

    Raises:
        SlmlpError: fewer than two source classes on either side.
    """
    rule = config.Split(unseen_fraction=cfg.unseen_fraction, test_fraction=cfg.test_fraction, seed=cfg.seed)
    return make(images, rule, within=outer)


def make(images: ImageSet, cfg: config.Split, within: ConceptSplit | None = None) -> ConceptSplit:
    """Return a split of the images' classes by the rule in ``cfg``, with a test part if the data has none.

    ``within`` is what the setting of that name does, with a split in place of its file.

    Raises:
        SlmlpError: a setting names an unknown class, or is not read by the rule, or a side has fewer than two classes.
    """
    rules: dict[str, Callable[[ImageSet, config.Split], _Choice]] = {
        "wordnet": _by_wordnet,
        "superclasses": _by_superclasses,
        "random": _by_random,
        "file": _by_file,
    }
    outer = ConceptSplit.load(Path(cfg.within).expanduser()) if cfg.within else within
    place = Path(cfg.within).name if cfg.within else "the split"
    if outer is not None:
        images = apply(outer, images).of_classes(outer.source)
    by = _automatic(images, cfg) if cfg.by == "auto" else cfg.by
    if by not in rules:
        raise unknown("rule of a split", by, ["auto", *rules])
    for setting, reader in (("file", "file"), ("unseen_superclasses", "superclasses")):
        if getattr(cfg, setting) and by != reader:
            raise SlmlpError(f"{setting} is read by the rule {reader!r} only, found rule {by!r}: leave one of them out")
    if len(images.classes) < 2 * LEAST:
        raise SlmlpError(f"{images.source} has {len(images.classes)} classes: a split needs at least {2 * LEAST}")
    choice = rules[by](images, cfg)
    test_ids = choice.test_ids or (outer.test_ids if outer else None)
    if test_ids is None and not images.has_test_part:
        test_ids = tuple(sorted(ensure_test_part(images, cfg.test_fraction, cfg.seed).of_part("test").ids))
    return ConceptSplit(
        source=tuple(sorted(set(images.classes) - choice.unseen)),
        unseen=tuple(sorted(choice.unseen)),
        rule=choice.rule + (f", within the source classes of {place}" if outer is not None else ""),
        seed=cfg.seed,
        data_hash=images.hash(),
        senses=choice.senses,
        held_out_superclasses=choice.superclasses,
        test_ids=test_ids,
    )


def apply(split: ConceptSplit, images: ImageSet) -> ImageSet:
    """Return the images with the split's test part; idempotent.

    Unreadable images of the test part are ignored.

    Raises:
        SlmlpError: classes are missing, or neither the split nor the data has a test part.
    """
    split.check(images, strict=False)
    if split.test_ids is not None:
        return images.with_parts(split.test_ids)
    if not images.has_test_part:
        raise SlmlpError(f"split of other data: it needs a test part, which {images.source} does not have")
    return images


@dataclass(frozen=True)
class _Choice:
    unseen: frozenset[str]
    rule: str
    senses: dict[str, str] = field(default_factory=dict)
    superclasses: tuple[str, ...] | None = None
    test_ids: tuple[str, ...] | None = None


def _automatic(images: ImageSet, cfg: config.Split) -> str:
    if cfg.file:
        return "file"
    return "superclasses" if cfg.unseen_superclasses or len(set(images.superclasses or ())) > 1 else "random"


def _by_wordnet(images: ImageSet, cfg: config.Split) -> _Choice:
    node = wordnet.resolve([cfg.node])[cfg.node].id
    senses = wordnet.resolve(images.classes, cfg.senses)
    unseen = frozenset(name for name, sense in senses.items() if node in wordnet.ancestors(sense.id))
    descriptions = {name: str(sense) for name, sense in senses.items() if name != sense.id}
    return _Choice(unseen, f"wordnet {node} {wordnet.lemma(node)}, any path", descriptions)


def _by_superclasses(images: ImageSet, cfg: config.Split) -> _Choice:
    if images.superclasses is None:
        raise SlmlpError(
            f"{images.source} has no superclasses of classes to hold out: give --superclasses FILE "
            "(class<tab>superclass) or --superclasses wordnet:N, or hold classes out at random"
        )
    sizes = {superclass: images.superclasses.count(superclass) for superclass in sorted(set(images.superclasses))}
    if len(sizes) < 2:
        raise SlmlpError(f"all classes of {images.source} are in one superclass, {next(iter(sizes))!r}: two are needed")
    for superclass in cfg.unseen_superclasses:
        if superclass not in sizes:
            raise unknown("superclass", superclass, sizes)
    held_out = tuple(sorted(set(cfg.unseen_superclasses))) or _draw_superclasses(sizes, cfg)
    unseen = frozenset(
        c for c, superclass in zip(images.classes, images.superclasses, strict=True) if superclass in held_out
    )
    how = "" if cfg.unseen_superclasses else f" (drawn for {_fraction(cfg):g} of the classes)"
    return _Choice(unseen, f"superclasses {', '.join(held_out)}{how}", superclasses=held_out)


def _draw_superclasses(sizes: dict[str, int], cfg: config.Split) -> tuple[str, ...]:
    """Return superclasses with about the requested share of the classes: the best of ``DRAWS`` random sets.

    A set is built in random order from each superclass that brings the share nearer; at least one is left out.
    """
    names = list(sizes)
    target = _fraction(cfg) * sum(sizes.values())
    random = numpy_generator(cfg.seed, "unseen groups")
    best, least = [min(names, key=lambda name: sizes[name])], float("inf")
    for _ in range(DRAWS):
        held_out: list[str] = []
        missing = target
        for i in random.permutation(len(names)):
            size = sizes[names[i]]
            if len(held_out) < len(names) - 1 and abs(missing - size) < abs(missing):
                held_out.append(names[i])
                missing -= size
        if held_out and abs(missing) < least:
            best, least = held_out, abs(missing)
    return tuple(sorted(best))


def _by_random(images: ImageSet, cfg: config.Split) -> _Choice:
    total = len(images.classes)
    number = min(max(round(_fraction(cfg) * total), LEAST), total - LEAST)
    indices = numpy_generator(cfg.seed, "unseen classes").permutation(total)[:number]
    return _Choice(frozenset(images.classes[i] for i in indices), f"random, {cfg.unseen_fraction:g} of the classes")


def _fraction(cfg: config.Split) -> float:
    if not 0 < cfg.unseen_fraction < 1:
        raise SlmlpError(f"unseen_fraction must be above 0 and below 1, found {cfg.unseen_fraction}")
    return cfg.unseen_fraction


def _by_file(images: ImageSet, cfg: config.Split) -> _Choice:
    if cfg.file is None:
        raise SlmlpError("the rule 'file' needs file: a text file of held-out class names, or another split file")
    path = Path(cfg.file).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SlmlpError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    if text.lstrip().startswith("{"):
        other = ConceptSplit.load(path)
        other.check(images, strict=False)
        new = sorted(set(images.classes) - {*other.source, *other.unseen})
        if new:
            raise SlmlpError(f"{path} does not have class {few(map(repr, new))} on either side; make a new split")
        return _Choice(frozenset(other.unseen), other.rule, other.senses, other.held_out_superclasses, other.test_ids)
    names = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for name in names:
        if name not in images.classes:
            raise SlmlpError(f"{path}: {unknown('class', name, images.classes)}")
    return _Choice(frozenset(names), f"file {path.name}")
