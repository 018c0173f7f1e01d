"""The commit of the code that runs."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout slmlp runs from, with ``+`` where its code was changed; None when installed.

    A folder is slmlp's checkout by its pyproject.toml: an installed copy may lie inside somebody else's repository.
    Also None where git is missing, fails, or does not trust the folder's owner.
    """
    folder = Path(__file__).resolve().parents[3]  # of src/slmlp/runtime/checkout.py
    # what a git hook sets names the hook's repository, whatever -C says
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    words = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--", "src"]
    try:
        if not (folder / ".git").exists() or 'name = "slmlp"' not in (folder / "pyproject.toml").read_text():
            return None
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10, env=env)
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    head = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    changed = any(not line.startswith("#") for line in lines)
    return None if head == "(initial)" else head + ("+" if changed else "")
