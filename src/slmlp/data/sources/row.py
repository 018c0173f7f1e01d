"""One image of a source, before anything is checked."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One image; its index in the list of rows is its position in the reader."""

    id: str
    label: str
    size: int  # bytes
    part: str | None = None  # "train", "test", or None where the data has no parts
    superclass: str | None = None
    group: str | None = None
    problem: str | None = None  # why it cannot be read, if known already
