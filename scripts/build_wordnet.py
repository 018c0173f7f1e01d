"""Build ``src/slmlp/data/wordnet/wordnet.tsv.gz``: nouns of WordNet 3.0 with their hypernyms, and irregular plurals.

    python scripts/build_wordnet.py /usr/share/wordnet      # Debian's package wordnet-base

The folder holds WordNet's own ``data.noun``, ``index.noun`` and ``noun.exc``. The table has one line a synset, in order
of its offset, which is its name (n03126707)::

    03126707 <tab> crane:4 <tab> 03664675

offset, lemmas (joined by ``|``), hypernyms and instance hypernyms, in WordNet's order. ``crane:4`` is the fourth sense
of the word in order of frequency; the first has no number. A blank line, then ``plural <tab> singular``. Glosses are
left out for size. The file is the same wherever it is built.
"""

from __future__ import annotations

import argparse
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

HYPERNYMS = ("@", "@i")


def lines(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line; the licence at the head of WordNet's files is indented."""
    with path.open(encoding="ascii") as file:
        for line in file:
            if not line.startswith("  "):
                yield line.split()


def senses(folder: Path) -> dict[tuple[str, str], int]:
    """Return (lemma in lower case, offset) -> place among the lemma's senses, from 1, the most frequent first."""
    found = {}
    for fields in lines(folder / "index.noun"):
        count, pointers = int(fields[2]), int(fields[3])
        offsets = fields[6 + pointers :]
        assert len(offsets) == count, fields[0]
        for place, offset in enumerate(offsets, 1):
            found[fields[0], offset] = place
    return found


def synsets(folder: Path) -> Iterator[str]:
    """Yield the line of each synset."""
    place = senses(folder)
    for fields in lines(folder / "data.noun"):
        offset, words = fields[0], int(fields[3], 16)
        lemmas = fields[4 : 4 + 2 * words : 2]
        start = 4 + 2 * words + 1
        pointers = [fields[i : i + 4] for i in range(start, start + 4 * int(fields[start - 1]), 4)]
        above = [target for kind, target, _, _ in pointers if kind in HYPERNYMS]
        places = [place[lemma.lower(), offset] for lemma in lemmas]
        named = [f"{lemma}:{p}" if p > 1 else lemma for lemma, p in zip(lemmas, places, strict=True)]
        yield "\t".join((offset, "|".join(named), " ".join(above)))


def plurals(folder: Path) -> Iterator[str]:
    """Yield each irregular plural with its singular."""
    for plural, singular, *_ in lines(folder / "noun.exc"):
        if plural != singular:
            yield f"{plural}\t{singular}"


def main() -> None:
    """Build the table and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of data.noun, index.noun and noun.exc of WordNet 3.0")
    default = Path(__file__).parents[1] / "src/slmlp/data/wordnet/wordnet.tsv.gz"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    nouns, irregular = sorted(synsets(args.folder)), sorted(plurals(args.folder))
    content = "\n".join([*nouns, "", *irregular, ""]).encode("ascii")
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as file:
        file.write(content)
    args.out.write_bytes(packed.getvalue())
    print(f"{len(nouns)} synsets, {len(irregular)} irregular plurals; {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
