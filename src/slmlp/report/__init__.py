"""Results -> table, figures, page. Reads numbers that were already written and computes nothing new."""

from __future__ import annotations

from pathlib import Path

from slmlp.report.grid import Grid
from slmlp.report.inputs import KINDS, Inputs, read
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

__all__ = ["tables", "write"]


def write(folder: str | Path) -> Path:
    """Write ``report.html`` of a study, suite, comparison or detection from the files in its folder; return its path.

    Raises:
        SlmlpError: the folder holds none of them, or a file that cannot be read.
    """
    path = Path(folder) / "report.html"
    files.write_text(path, render(read(path.parent)))
    return path


def render(inputs: Inputs) -> str:
    """Return the page as HTML."""
    from slmlp.report import detection, page, study, suite

    pages = {"study": study.page, "suite": suite.page, "detection": detection.page}
    try:
        return page.render(pages[inputs.kind](inputs))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SlmlpError(
            f"{inputs.folder / KINDS[inputs.kind]} and verdict.json lack something that the page shows "
            f"({type(error).__name__}: {error}); run the {inputs.kind} again to have them written"
        ) from error


def tables(folder: str | Path) -> list[Grid]:
    """Return the main tables of a folder: take their ``markdown()``."""
    from slmlp.report import detection, study_table, study_tasks, suite

    inputs = read(Path(folder))
    if inputs.kind == "study":
        return [study_table.grid(inputs), *study_tasks.grids(inputs)]
    return suite.grids(inputs) if inputs.kind == "suite" else detection.grids(inputs)
