"""Draw docs/rooms.svg: the rooms of src/slmlp by floor, with their lines of code: ``python scripts/draw_rooms.py``."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write the picture; the order of the rooms is the one that the tests assert."""
    order = runpy.run_path(str(ROOT / "tests" / "test_house.py"))["ORDER"]

    mpl.rcParams["svg.hashsalt"] = "rooms"  # the same file every time
    figure, axes = plt.subplots(figsize=(8, 7.5))
    for floor, rooms in enumerate(order):
        width = 8 / len(rooms)
        for place, room in enumerate(rooms):
            corner, size = (place * width + 0.06, floor + 0.08), (width - 0.12, 0.84)
            axes.add_patch(Rectangle(corner, *size, facecolor="#e8eef7", edgecolor="#4a6fa5"))
            axes.text((place + 0.5) * width, floor + 0.62, room, ha="center", va="center", fontsize=12, weight="bold")
            note = f"{lines(room):,} lines"
            axes.text((place + 0.5) * width, floor + 0.3, note, ha="center", va="center", fontsize=9, color="#444")
    axes.set_xlim(0, 8)
    axes.set_ylim(0, len(order))
    axes.set_axis_off()
    axes.set_title("A room imports only rooms below it", fontsize=11)
    figure.savefig(ROOT / "docs" / "rooms.svg", bbox_inches="tight", metadata={"Date": None})


def lines(room: str) -> int:
    """Return the lines of code of a room."""
    package = ROOT / "src" / "slmlp"
    files = [package / f"{room}.py"] if (package / f"{room}.py").exists() else (package / room).rglob("*.py")
    return sum(len(path.read_text().splitlines()) for path in files)


if __name__ == "__main__":
    main()
