"""Build the embedded image set ``emoji``: every emoji as three vendors draw it, 48x48, labelled by Unicode's subgroups.

    python scripts/build_emoji.py WORKDIR                 # packages are fetched into WORKDIR, or reused from there

Sources are npm packages at fixed versions, checked against their published SHA-512; licences stand in
``src/slmlp/data/embedded/LICENSES.md``. The rules, in order:

1. Base emoji only (no skin tones), every Unicode group but "Component". The label is the Unicode subgroup
   (``animal-mammal``), its group the Unicode group (``Animals & Nature``).
2. Vendors are those whose drawings are free: Noto and Twemoji, and of Fluent the drawings that Microsoft published
   (the package also holds others: country flags, which are Noto's own, and families and couples of unclear origin;
   and Microsoft's notice excludes paperclip, technologist and video game as trademarks).
3. The *unit* of an image is its code point sequence without what makes near twins: gender, adult or child of any
   gender, hair, direction. All vendors' drawings of one emoji share the unit, and so do emoji of one class that a
   vendor draws all but alike (flags of territories, a frowning and a pouting man).
4. A drawing that repeats an earlier one of the same vendor is dropped, whatever its class, so that no picture carries
   two labels or counts twice.
5. Test part: 30 % of each class's images by whole units, taken in the order of a seeded hash of the unit.
6. Classes with fewer than 20 training images are left out.

Drawings are composited on white, since encoders take RGB. WebP at quality 95 keeps the wheel small; the archive is
the same on every machine with the same Pillow and libwebp.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import subprocess
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# name@version -> (file npm pack writes, SHA-512 published by the registry)
PACKAGES = {
    "emoji-datasource-google@16.0.0": (
        "emoji-datasource-google-16.0.0.tgz",
        "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    ),
    "emoji-datasource-twitter@16.0.0": (
        "emoji-datasource-twitter-16.0.0.tgz",
        "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
    ),
    "@lobehub/fluent-emoji-3d@1.1.0": (
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
    # The listing of microsoft/fluentui-emoji: which 3D drawings Microsoft itself published.
    "fluentui-emoji-js@1.2.1": (
        "fluentui-emoji-js-1.2.1.tgz",
        "op+kOdVGkHXpLGAHNchIgPEUTLstV/N8rjZnGa9sk+ks5J+kLZRdUEvM/MLGUFhtxlEl1nsYMlDx6k4JNWIRKA==",
    ),
}
GOOGLE, TWITTER, FLUENT, FLUENT_LISTING = PACKAGES

SIDE = 48  # pixels
TEST_FRACTION = 0.3
LEAST_TRAINING_IMAGES = 20
SEED = 0
SAME_DRAWING = 1.5  # root mean square difference of 24x24 copies, 0-255: identical but for rendering
NEAR_DRAWING = 7.0  # two emoji of one class that only a careful look tells apart

# Code points that differ between near twins -> the one that stands for all of them.
TWINS = {
    **dict.fromkeys(("1f468", "1f469", "1f9d1"), "1f9d1"),  # man, woman, person
    **dict.fromkeys(("1f466", "1f467", "1f9d2"), "1f9d2"),  # boy, girl, child
    **dict.fromkeys(("1f474", "1f475", "1f9d3"), "1f9d3"),  # old man, old woman, older person
    **dict.fromkeys(("1f934", "1f478", "1fac5"), "1fac5"),  # prince, princess, person with crown
    **dict.fromkeys(("1f930", "1fac3", "1fac4"), "1fac4"),  # pregnant woman, man, person
    **dict.fromkeys(("1f57a", "1f483"), "1f483"),  # man and woman dancing
    **dict.fromkeys(("1f935", "1f470"), "1f470"),  # in tuxedo, with veil
    **dict.fromkeys(("1f46b", "1f46c", "1f46d"), "1f9d1-1f91d-1f9d1"),  # couples holding hands
    **dict.fromkeys(("1f385", "1f936"), "1f9d1-1f384"),  # Father and Mother Christmas, Mx Claus
}
# Parts of a sequence that make a twin of the emoji without them: emoji presentation, joiner, female, male, rightwards
# arrow ("facing right"), red, curly, bald and white hair.
MARKS = {"fe0f", "200d", "2640", "2642", "27a1", "1f9b0", "1f9b1", "1f9b2", "1f9b3"}
# "Not all emojis can be open-sourced (because of trademarks)", microsoft/fluentui-emoji, README.
FLUENT_TRADEMARKS = {"1f4ce", "1f3ae", "1f468-200d-1f4bb", "1f469-200d-1f4bb", "1f9d1-200d-1f4bb"}


@dataclass
class Drawing:
    """One emoji by one vendor."""

    vendor: str
    key: str  # code points as file names have them, without the presentation mark: "1f468-200d-1f33e"
    label: str
    group: str
    unit: str
    image: Image.Image

    @property
    def path(self) -> str:
        """Name inside the archive."""
        return f"{self.vendor}/{self.key}.webp"


def fetch(package: str, folder: Path) -> tarfile.TarFile:
    """Return the opened package, downloaded by npm unless it is there; a file that is not the published one stops."""
    name, published = PACKAGES[package]
    path = folder / name
    if not path.exists():
        subprocess.run(["npm", "pack", "--silent", package, "--pack-destination", str(folder)], check=True)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != published:
        raise SystemExit(f"{path}: SHA-512 is {found}, expected {published}; remove the file and run again")
    return tarfile.open(path)


def normal(code_points: str) -> str:
    """Return code points as file names have them, without the presentation mark, which vendors use differently."""
    return "-".join(c for c in code_points.lower().replace(" ", "-").split("-") if c != "fe0f")


def unit_of(key: str) -> str:
    """Return what near twins share (rule 3).

    >>> unit_of("1f469-200d-1f33e"), unit_of("1f46e-200d-2642")
    ('1f9d1-1f33e', '1f46e')
    """
    kept = [TWINS.get(c, c) for c in key.split("-") if c not in MARKS]
    return "-".join(kept) or key  # the signs of the genders themselves


def decode(archive: tarfile.TarFile, member: str) -> Image.Image:
    """Return a drawing as RGB on white at the set's size."""
    file = archive.extractfile(member)
    assert file is not None
    drawing = Image.open(io.BytesIO(file.read())).convert("RGBA")
    page = Image.new("RGBA", drawing.size, "white")
    page.alpha_composite(drawing)
    return page.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def read_json(archive: tarfile.TarFile, member: str) -> Any:
    """Return a JSON file of a package."""
    file = archive.extractfile(member)
    assert file is not None
    return json.load(file)


def drawings(folder: Path) -> Iterator[Drawing]:
    """Yield every drawing that rules 1 and 2 let in."""
    with fetch(GOOGLE, folder) as noto, fetch(TWITTER, folder) as twemoji, fetch(FLUENT, folder) as fluent:
        with fetch(FLUENT_LISTING, folder) as listing:
            published = {
                normal(e["unicode"]) for e in read_json(listing, "package/emojiData.json") if "3D" in e["emojiStyles"]
            }
        fluent_members = {normal(Path(n).stem): n for n in sorted(fluent.getnames()) if n.endswith(".webp")}
        for emoji in read_json(noto, "package/emoji.json"):
            if emoji["category"] == "Component":
                continue
            key = normal(emoji["unified"])
            common = (key, emoji["subcategory"], emoji["category"], unit_of(key))
            if emoji["has_img_google"]:
                yield Drawing("noto", *common, decode(noto, f"package/img/google/64/{emoji['image']}"))
            if emoji["has_img_twitter"]:
                yield Drawing("twemoji", *common, decode(twemoji, f"package/img/twitter/64/{emoji['image']}"))
            if key in fluent_members and key in published - FLUENT_TRADEMARKS:
                yield Drawing("fluent", *common, decode(fluent, fluent_members[key]))


def differences(images: list[Image.Image]) -> npt.NDArray[np.float32]:
    """Return root mean square differences (N, N) of 24x24 copies, 0-255."""
    small = np.stack([np.asarray(i.reduce(2), np.float64).ravel() for i in images])  # (N, 24 * 24 * 3)
    squares = (small**2).sum(1)
    distances = squares[:, None] + squares[None] - 2 * small @ small.T
    result: npt.NDArray[np.float32] = np.sqrt(np.maximum(distances, 0) / small.shape[1]).astype(np.float32)
    return result


def without_repeats(given: Iterable[Drawing]) -> list[Drawing]:
    """Apply rules 3 and 4; of repeats the emoji that names the unit itself stays, then the first by code points."""
    kept: list[Drawing] = []
    units = UnionFind()
    for vendor, group in by(given, "vendor").items():
        group.sort(key=lambda d: (d.key != d.unit.replace("-", "-200d-"), d.key))
        distance = differences([d.image for d in group])
        first = np.array([not (distance[i, :i] < SAME_DRAWING).any() for i in range(len(group))])
        for i, j in np.argwhere(np.triu(distance < NEAR_DRAWING, 1)):
            if group[i].label == group[j].label:
                units.join(group[i].unit, group[j].unit)
        kept += [d for d, new in zip(group, first, strict=True) if new]
        print(f"{vendor}: {len(group)} drawings, {int((~first).sum())} repeats dropped")
    for drawing in kept:
        drawing.unit = units.find(drawing.unit)
    return kept


class UnionFind:
    """Merges names into sets, each known by its first member in sorted order."""

    def __init__(self) -> None:
        """Start with every name alone."""
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """Return the name of the set."""
        while (above := self.parent.get(name, name)) != name:
            name = above
        return name

    def join(self, a: str, b: str) -> None:
        """Merge the sets of two names."""
        low, high = sorted((self.find(a), self.find(b)))
        self.parent[high] = low


def by(given: Iterable[Drawing], field: str) -> dict[str, list[Drawing]]:
    """Return drawings grouped by a field, in sorted order of its values."""
    groups: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in given:
        groups[getattr(drawing, field)].append(drawing)
    return dict(sorted(groups.items()))


def test_units(given: list[Drawing]) -> set[str]:
    """Return the units of the test part (rule 5); a unit that two classes share is placed once, with the first."""
    chosen: set[str] = set()
    placed: set[str] = set()
    for members in by(given, "label").values():
        sizes = Counter(d.unit for d in members)
        room = round(TEST_FRACTION * len(members)) - sum(n for unit, n in sizes.items() if unit in chosen)
        for unit in sorted(sizes, key=lambda u: hashlib.sha256(f"{SEED}/{u}".encode()).digest()):
            if unit not in placed and sizes[unit] <= room:
                chosen.add(unit)
                room -= sizes[unit]
        placed |= sizes.keys()
    return chosen


def write(path: Path, kept: list[Drawing], in_test: set[str]) -> None:
    """Write the archive: manifest first, then images by name, without times or owners."""
    rows = sorted((d.path, d.label, "test" if d.unit in in_test else "train", d.group, d.unit) for d in kept)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("path", "label", "part", "superclass", "group"), *rows])
    images = {d.path: d.image for d in kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive, "manifest.csv", table.getvalue().encode())
        for name in sorted(images):
            content = io.BytesIO()
            images[name].save(content, "WEBP", quality=95, method=4)
            add(archive, name, content.getvalue())


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file with mode 644 and nothing that differs between machines."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def main() -> None:
    """Build the archive and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path, help="folder of the npm packages; missing ones are fetched into it")
    default = Path(__file__).parents[1] / "src/slmlp/data/embedded/emoji.tar"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    kept = without_repeats(drawings(args.workdir))
    in_test = test_units(kept)
    training = Counter(d.label for d in kept if d.unit not in in_test)
    kept = [d for d in kept if training[d.label] >= LEAST_TRAINING_IMAGES]
    write(args.out, kept, in_test)
    for group, members in by(kept, "group").items():
        labels = by(members, "label")
        print(f"{group}: " + ", ".join(f"{k} {training[k]}+{len(v) - training[k]}" for k, v in labels.items()))
    classes, groups, units = ({getattr(d, f) for d in kept} for f in ("label", "group", "unit"))
    print(
        f"{len(kept)} images ({sum(d.unit in in_test for d in kept)} test) of {len(units)} units in {len(classes)} "
        f"classes of {len(groups)} groups, vendors {dict(Counter(d.vendor for d in kept))}; "
        f"{args.out.stat().st_size} bytes, SHA-256 {hashlib.sha256(args.out.read_bytes()).hexdigest()}"
    )


if __name__ == "__main__":
    main()
