"""The names of timm's and torchvision's networks, read from their files: importing either takes seconds."""

from __future__ import annotations

import functools
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from slmlp.runtime.errors import unknown

OURS = ("resnet10",)
FEWEST = 40  # names below which the files are not as they are known to be; then nothing is refused by them
_NAMED = re.compile(rb"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)", re.MULTILINE)
_RENAMED = re.compile(rb"^register_model_deprecations\(__name__, \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_KEY = re.compile(rb"""^\s*["'](\w+)["']\s*:""", re.MULTILINE)


def check(source: str) -> None:
    """Check that the library has the network of ``timm:NAME[@...]`` or ``torchvision:NAME[@...]``."""
    library, _, rest = source.partition(":")
    name = rest.partition("@")[0]
    known, old = names(library)
    # timm's names end at the dot, where the name of the weights begins
    if known and (name.partition(".")[0] if library == "timm" else name) not in known | old:
        raise unknown(f"{library} model", name, known)


def check_encoder(name: str) -> None:
    """Check that timm or slmlp has the network of ``--encoder``."""
    known, old = names("timm")
    if known and name.partition(".")[0] not in known | old and name not in OURS:
        raise unknown("encoder", name, [*OURS, *known])


def names(library: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of ``timm`` or ``torchvision``, and old names that it takes too; none where they cannot be told.

    Once a library is imported, as by the file of a plug-in that adds networks to it, they are not told either: then it
    is asked itself, later.
    """
    return (frozenset(), frozenset()) if library in sys.modules else read(library)


@functools.cache
def read(library: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that stand in the files of a library: 20 ms for timm's 119 files."""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        return frozenset(), frozenset()
    found: set[bytes] = set()
    old: set[bytes] = set()
    for file in Path(spec.origin).with_name("models").glob("*.py"):
        text = file.read_bytes()
        found.update(_NAMED.findall(text))
        for block in _RENAMED.findall(text):
            old.update(_KEY.findall(block))
    if len(found) < FEWEST:
        return frozenset(), frozenset()
    return frozenset(map(bytes.decode, found)), frozenset(map(bytes.decode, old))
