"""Where the encoders of a study differ: the map of held-out images."""

from __future__ import annotations

from slmlp.report import where
from slmlp.report.inputs import Inputs
from slmlp.report.page import WHERE, Section, block


def sections(inputs: Inputs) -> list[Section]:
    """Return where: classes gained and lost, nearest neighbours, the map."""
    return [*where.sections(inputs), _map(inputs)]


def _map(inputs: Inputs) -> Section:
    from slmlp.report import maps

    drawn = maps.maps(inputs)
    title = "Held-out images as the encoder sees them"
    if drawn is None:
        return Section("map", title, [block("text", "No map of the held-out images was made.", "absent")], WHERE)
    some = "" if drawn.count == drawn.total else f" of {drawn.total:,}"
    caption = (
        "t-SNE of features of held-out images; near means alike, distances between groups and their sizes mean little. "
        "See how clean the groups of one colour are. "
        + ("A thumbnail stands where there is room, every other image is a dot. " if drawn.sprite else "")
        + f"n = {drawn.count:,}{some} images{', the same on every map' if len(drawn.panels) > 1 else ''}, one seed"
        + ("; with over 32 classes, colours and shapes repeat." if len(drawn.legend) > 32 else ".")
    )
    return Section("map", title, [block("maps", drawn, caption)], WHERE)
