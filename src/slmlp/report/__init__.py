"""Results -> table, figures, page. Reads numbers that were already written and computes nothing new."""

from __future__ import annotations

from pathlib import Path

from slmlp.report.tables import markdown_table, table_text

__all__ = ["markdown_table", "table_text", "write"]


def write(folder: Path) -> Path:
    """Write ``report.html`` of a study, suite, comparison or detection from the files in its folder; return its path.

    Raises:
        SlmlpError: the folder holds none of them, or a file that cannot be read.
    """
    from slmlp.report import detection, page, suite

    if (folder / "detect.json").exists():
        return detection.write(folder)
    return suite.write(folder) if (folder / "suite.json").exists() else page.write(folder)
