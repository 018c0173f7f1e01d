"""Look up published data sets by name, in any common spelling."""

from __future__ import annotations

from slmlp.data.published.entry import Entry
from slmlp.data.published.ericsson2021_trex import ERICSSON2021_TREX
from slmlp.data.published.islam2021 import ISLAM2021
from slmlp.runtime.errors import unknown

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (*ISLAM2021, *ERICSSON2021_TREX)}


def spelling(name: str) -> str:
    """Return a name in lower case, letters and digits only.

    >>> spelling("NWPU-RESISC45"), spelling("chest_xray")
    ('nwpuresisc45', 'chestxray')
    """
    return "".join(c for c in name.lower() if c.isalnum())


_SPELLINGS = {spelling(word): entry for entry in ENTRIES.values() for word in (entry.name, *entry.aliases)}


def known(name: str) -> Entry | None:
    """Return the entry of a name in any common spelling, or None."""
    return _SPELLINGS.get(spelling(name))


def get(name: str) -> Entry:
    """Return the entry of a name; raise SlmlpError with the nearest names if there is none."""
    entry = known(name)
    if entry is None:
        raise unknown("data set", name, ENTRIES)
    return entry
