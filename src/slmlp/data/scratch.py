"""The folder of files that may be kept between runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from slmlp.config import DataOptions


def scratch(options: DataOptions) -> Path:
    """Return the folder for what is kept between runs: ``cache_dir``, else a private one in the temporary folder."""
    if options.cache_dir is not None:
        return Path(options.cache_dir).expanduser()
    folder = Path(tempfile.gettempdir()) / f"slmlp-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        # in a shared /tmp somebody else may have made the folder first, to read or to swap what we put there
        if folder.is_dir() and not folder.is_symlink() and about.st_uid == os.getuid() and not about.st_mode & 0o077:
            return folder
    return Path(tempfile.mkdtemp(prefix="slmlp-"))
