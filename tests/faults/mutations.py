"""Files with something wrong in them, as strategies of hypothesis: of one that fails it finds a smaller that fails too.

What stands first in a choice is what a failing input is shrunk to: a file cut at its first byte, one change, 0.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

Draw = Callable[[st.SearchStrategy[Any]], Any]
OVER = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"NaN,,,,,", b"\xe2\x80\xae\x1b[2J")
BETWEEN = (b"\n", b"\0", b'"', b",", b"\xed\xa0\x80", b"../" * 9, b"-1", b"1e999")
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from((-1, 2**70, "../../x", "\x1b[2J", "\ud800x", float("nan"), float("inf")))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
ARRAYS = arrays.arrays(
    arrays.scalar_dtypes() | arrays.unicode_string_dtypes(), arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)
)


def mutated(samples: Sequence[bytes]) -> st.SearchStrategy[memoryview]:
    """Return files that are one of ``samples`` with other bytes, or with other values in its JSON or its arrays.

    They are views, since hypothesis keeps all bytes that it drew, here 5 MB each, and of a view a weak reference.
    """

    @st.composite
    def one(draw: Draw) -> memoryview:
        content = _one_of(draw, samples)
        forms = [_other_bytes]
        if content[:1] in b"{[":
            forms += [_other_shape, _other_shape]
        elif content[:2] == b"PK" and b".npy" in content[:99]:
            forms += [_other_array]
        return memoryview(_one_of(draw, forms)(draw, content))

    return one()


def _one_of(draw: Draw, choices: Sequence[Any]) -> Any:
    """Draw one of many things by its place; hypothesis would write out all of them, and a file has 200 kB."""
    return choices[draw(st.integers(0, len(choices) - 1))]


def _other_bytes(draw: Draw, content: bytes) -> bytes:
    data = bytearray(content)
    for change in draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=5)):
        change(draw, data, draw(st.integers(0, max(0, len(data) - 1))))
    return bytes(data)


def _cut(draw: Draw, data: bytearray, at: int) -> None:
    del data[at:]


def _remove(draw: Draw, data: bytearray, at: int) -> None:
    del data[at : at + draw(st.integers(1, 64))]


def _flip(draw: Draw, data: bytearray, at: int) -> None:
    if data:
        data[at] ^= 1 << draw(st.integers(0, 7))


def _replace(draw: Draw, data: bytearray, at: int) -> None:
    data[at : at + 8] = draw(st.sampled_from(OVER) | st.binary(min_size=1, max_size=8))


def _insert(draw: Draw, data: bytearray, at: int) -> None:
    data[at:at] = draw(st.sampled_from(BETWEEN) | st.binary(min_size=1, max_size=16))


def _double(draw: Draw, data: bytearray, at: int) -> None:
    data[at:at] = data[max(0, at - 64) : at] * draw(st.sampled_from((1, 50)))


CHANGES = (_cut, _remove, _flip, _replace, _insert, _double)


def _other_shape(draw: Draw, content: bytes) -> bytes:
    """Return JSON, or a line of JSON lines, with values changed, taken out, wrapped or put elsewhere."""
    if draw(st.integers(0, 19)) == 19:
        return DEEP
    lines = content.split(b"\n")
    full = [at for at, line in enumerate(lines) if line]
    whole = len(lines) < 3 or not all(lines[at][:1] == b"{" for at in full)
    at = 0 if whole else _one_of(draw, full)
    value = json.loads(content if whole else lines[at])
    if isinstance(value, dict):
        value.pop("sha256", None)  # else the checksum alone would be tried
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, value)
    text = json.dumps(value).encode()
    return text if whole else b"\n".join([*lines[:at], text, *lines[at + 1 :]])


def _change(draw: Draw, value: Any) -> None:
    """Change one place in a value of JSON, however deep."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            places.append((node, key))
            if len(places) < 3000:
                walk(child)

    walk(value)
    if not places:
        return
    node, key = _one_of(draw, places)
    how = draw(st.sampled_from(("take out", "another value", "wrap", "put elsewhere", "another value")))
    if how == "take out":
        del node[key]
    elif how == "put elsewhere":
        there, other = _one_of(draw, places)
        node[key] = copy.deepcopy(there[other])
    else:
        node[key] = [copy.deepcopy(node[key])] if how == "wrap" else draw(VALUES)


def _other_array(draw: Draw, content: bytes) -> bytes:
    """Return an .npz with one array of another type, shape or content, or without it."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        held = {name: archive[name] for name in archive.files if name != "sha256"}
    name = _one_of(draw, sorted(held))
    array, number = held[name], held[name].dtype.kind in "biuf"
    changes: list[Callable[[], Any]] = [
        lambda: None, lambda: np.zeros(0), lambda: np.array(3), lambda: array[:-1], lambda: array[..., None],
        lambda: array.reshape(-1), lambda: array[::-1], lambda: np.full(array.shape, -7),
        lambda: np.full(array.shape, np.nan), lambda: array.astype(np.str_), lambda: array.astype(object),
        lambda: array.astype(np.float16) if number else array, lambda: array.astype(complex) if number else array,
        lambda: draw(ARRAYS), lambda: draw(ARRAYS),
    ]  # fmt: skip
    changed = _one_of(draw, changes)()
    held = {key: value for key, value in held.items() if key != name} | ({} if changed is None else {name: changed})
    buffer = io.BytesIO()
    np.savez(buffer, **held)
    return buffer.getvalue()
