"""Choose the folder for files shared between runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from slmlp.config import DataOptions


def scratch(options: DataOptions) -> Path:
    """Return ``cache_dir``, or else a private folder in the system's temporary folder."""
    if options.cache_dir is not None:
        return Path(options.cache_dir).expanduser()
    folder = Path(tempfile.gettempdir()) / f"slmlp-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        # in a shared /tmp another user may have created the folder, to read or replace our files
        if folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
    return Path(tempfile.mkdtemp(prefix="slmlp-"))
