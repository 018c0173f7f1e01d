"""Find the weights of an encoder in a checkpoint, whatever lies around them and stands before their names."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slmlp.encoders import weights
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.progress import say

DEPTH = 4  # tables inside tables that are searched
# what compilation, sharding and checkpointing put into names, anywhere
WRAPPER = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
PARALLEL = "module"  # of DataParallel; tells nothing of which weights these are
SIZED = re.compile(r"pos_embed|relative_position|position_embedding")  # tables that grow with the images

Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Found:
    """Weights at one place of a checkpoint, named as the network's are."""

    path: tuple[str, ...]  # tables that they lie below, then the words taken off their names
    state: dict[str, Tensor]
    taken: int  # words of ``path`` that were taken off
    left: tuple[str, ...] = ()  # names beside them, outside of the prefix
    note: str = ""

    @property
    def words(self) -> list[str]:
        """The words that tell this place from others."""
        return [word for word in self.path if word != PARALLEL]

    @property
    def label(self) -> str:
        """The place as ``#PART`` may name it; ``.`` is the one without a name."""
        return ".".join(self.words) or "."

    def describe(self) -> str:
        """Return where the weights were found, or an empty string for a plain file."""
        below, prefix = self.path[: len(self.path) - self.taken], ".".join(self.path[len(self.path) - self.taken :])
        parts = [f"found below {'.'.join(below)!r}"] if below else []
        parts += [f"the prefix '{prefix}.' taken off"] if prefix else []
        if self.left:
            parts.append(f"{len(self.left)} tensors beside them left out ({few(self.left, 3)})")
        return ", ".join([*parts, self.note] if self.note else parts)


def matched(
    file: str, own: Mapping[str, Tensor], source: str, classifiers: Iterable[str] = (), rename: Rename | None = None
) -> dict[str, Tensor]:
    """Return the weights of ``FILE`` or ``FILE#PART`` that fit all of a network, by its names; one line says which.

    Searched are all tables of tensors in the file and every prefix of their names. Where none fits, the nearest are
    returned, for the loading to refuse with what is missing.

    Args:
        file: what stands behind ``@``; ``PART`` is a word of the place, as ``teacher`` or ``encoder_q``.
        own: the network's state; only names and shapes are read.
        source: what the user typed, for error messages.
        classifiers: names of layers that may be left over.
        rename: maps names of the network's authors to its own, tried where no place fits as it is.

    Raises:
        SlmlpError: a file that holds no tensors by name, several places with different weights that fit, or none that
            ``PART`` names.
    """
    path, part = weights.file_and_part(file)
    content = weights.read(path, source)
    tables = list(_tables(content))
    if not tables:
        described = (
            f"the keys {', '.join(map(str, list(content)[:6]))}" if content and isinstance(content, dict) else ""
        )
        raise SlmlpError(
            f"{source}: {path} holds {described or f'a {type(content).__name__}'}, no tensors by name; save "
            "model.state_dict() and give that"
        )
    tables = [(at, weights.dense(table, source)) for at, table in tables]
    classifiers = tuple(classifiers)
    places = [place for at, table in tables for place in _places(at, table, own, classifiers)]
    fitting = [place for place in places if _fits(place.state, own)]
    if not fitting and rename is not None:
        fitting = [place for place in _renamed(tables, rename, classifiers) if _fits(place.state, own)]
    chosen = _named(fitting or places, part, source, path) if part else fitting
    different = _different(chosen)
    if len(different) > 1 and fitting:
        listed = ", ".join(f"{source.removesuffix(f'#{part}')}#{word}" for word in _distinct(different))
        raise SlmlpError(
            f"{source}: {len(different)} sets of weights in {path} fit, and they differ; name one of them: {listed}"
        )
    if different and fitting:
        for at, count in _unnamed(content):
            if 2 * count >= len(own) / 2:  # an average of the parameters, without the counters and statistics
                say(f"{path}: {count} tensors without names below {at!r}, perhaps an average of these, are not read")
        if different[0].describe():
            say(f"{path}: weights {different[0].describe()}")
        return different[0].state
    nearest = max(chosen or places, key=lambda place: len(place.state.keys() & own.keys()))
    if nearest.path:
        say(f"{path}: nearest are the weights {nearest.describe()}")
    return nearest.state


def _tables(content: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield every table of tensors by name, with the keys that lead to it."""
    if not isinstance(content, dict):
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield at, tensors
    if any(WRAPPER.search(key) for key in tensors):
        yield at, {WRAPPER.sub("", key).lstrip("."): value for key, value in tensors.items()}
    if len(at) < DEPTH:
        for key, value in content.items():
            if isinstance(key, str):
                yield from _tables(value, (*at, key))


def _unnamed(content: Any, at: str = "", depth: int = DEPTH) -> Iterator[tuple[str, int]]:
    """Yield every list of tensors, as ``torch_ema`` writes averages, and how many it has."""
    for key, value in content.items() if isinstance(content, dict) and depth else ():
        tensors = [x for x in value if isinstance(x, Tensor)] if isinstance(value, list | tuple) else []
        if tensors:
            yield f"{at}{key}", len(tensors)
        else:
            yield from _unnamed(value, f"{at}{key}.", depth - 1)


def _places(
    at: tuple[str, ...], table: Mapping[str, Tensor], own: Mapping[str, Tensor], classifiers: tuple[str, ...]
) -> Iterator[Found]:
    """Yield the table under every prefix behind which names of the network stand, and as it is."""
    counts: Counter[str] = Counter({"": 0})
    for key in table:
        words = key.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in own:
                counts["".join(f"{word}." for word in words[:start])] += 1
    most = max(counts.values())
    large = [prefix for prefix, count in counts.items() if prefix and count * 2 >= most]
    for prefix, count in counts.items():
        if count * 2 < most or (count == 0 and most > 0):  # names that some inner layer shares with the network
            continue
        inside = {key.removeprefix(prefix): value for key, value in table.items() if key.startswith(prefix)}
        left = tuple(key for key in table if not key.startswith(prefix))
        taken = tuple(prefix.rstrip(".").split(".")) if prefix else ()
        yield Found((*at, *taken), weights.without(inside, classifiers), len(taken), left)
        # what stands behind a longer prefix may be another set of weights: ``ema.`` beside names without one
        longer = tuple(other for other in large if other != prefix and other.startswith(prefix)) if count else ()
        if longer:
            beside = tuple(key for key in table if key.startswith(longer))
            inside = {key: value for key, value in inside.items() if not f"{prefix}{key}".startswith(longer)}
            yield Found((*at, *taken), weights.without(inside, classifiers), len(taken), (*left, *beside))


def _renamed(
    tables: Iterable[tuple[tuple[str, ...], dict[str, Tensor]]], rename: Rename, classifiers: tuple[str, ...]
) -> Iterator[Found]:
    """Yield every table with the names that timm gives to those of a network's authors, where it knows them."""
    for at, table in tables:
        common = _common(table)
        inner = {key.removeprefix(common): value for key, value in table.items()}
        state = {}
        with contextlib.suppress(Exception):  # whatever a filter raises on names that it does not know
            state = rename(inner)
        words = tuple(common.rstrip(".").split(".")) if common else ()
        note = "renamed as timm does"
        yield Found((*at, *words), weights.without(state, classifiers), len(words), (), note)


def _common(table: Mapping[str, Tensor]) -> str:
    """Return the words, with dots, that all names begin with."""
    first, *others = (key.split(".")[:-1] for key in table)
    count = 0
    while count < len(first) and all(first[: count + 1] == words[: count + 1] for words in others):
        count += 1
    return "".join(f"{word}." for word in first[:count])


def _fits(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Return whether weights are all of a network and nothing else; tables that grow with images may be of any size."""
    sized = {
        key: own[key]
        for key, value in state.items()
        if key in own and SIZED.search(key) and value.ndim == own[key].ndim and value.shape[-1] == own[key].shape[-1]
    }
    return not weights.problems(weights.fit({**state, **sized}, own)[0], own)


def _different(places: Iterable[Found]) -> list[Found]:
    """Return the places without those that repeat the tensors of an earlier one."""
    different: list[Found] = []
    for place in places:
        if not any(_equal(place.state, other.state) for other in different):
            different.append(place)
    return different


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def _named(places: list[Found], part: str, source: str, path: str) -> list[Found]:
    """Return the places that ``part`` names: by the whole label, or by a word of it."""
    whole = [place for place in places if place.label == part]
    found = whole or [place for place in places if part in place.words or part in place.label.split(".")]
    if not found:
        names = _distinct(_different(places))
        labels = "one unnamed set of weights" if names == ["."] else ", ".join(names)
        raise SlmlpError(f"{source}: nothing in {path} is called {part!r}; it has {labels}")
    return found


def _distinct(places: list[Found]) -> list[str]:
    """Return for each place the shortest name that tells it from the others."""
    names = []
    for place in places:
        others = [word for other in places if other is not place for word in other.words]
        alone = [word for word in place.words if word not in others]
        names.append(alone[0] if alone else place.label)
    return names
