"""A run's config.json has the commit of the checkout, and of nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slmlp

PACKAGE = Path(slmlp.__file__).parent


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*")
    return subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True).stdout


def checkout(folder: Path, *, inside: str = "src", project: str = "slmlp") -> Path:
    """Make a repository that holds slmlp's code below ``inside``; return the folder of that package."""
    package = folder / inside / "slmlp"
    (package / "runtime").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "runtime" / "__init__.py").write_text("")
    shutil.copy(PACKAGE / "runtime" / "checkout.py", package / "runtime")
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return package


def said(package: Path, **env: str) -> str:
    """Return what a process that imports this copy says its commit is."""
    words = [sys.executable, "-B", "-c", "from slmlp.runtime.checkout import commit; print(commit())"]
    env = {**os.environ, "PYTHONPATH": str(package.parent), **env}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=env, cwd="/").stdout.strip()


def test_a_checkout_names_its_commit_and_whether_its_code_was_changed(tmp_path):
    package = checkout(tmp_path / "a")
    head = git(tmp_path / "a", "rev-parse", "HEAD").strip()
    assert said(package) == head
    (tmp_path / "a" / "run1").mkdir()
    (tmp_path / "a" / "run1" / "config.json").write_text("{}")  # what a user puts there is no change of the code
    assert said(package) == head
    (package / "new.py").write_text("")
    assert said(package) == f"{head}+"


def test_a_worktree_and_a_git_hook_of_another_repository(tmp_path):
    checkout(tmp_path / "a")
    git(tmp_path / "a", "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path / "a", "worktree", "add", "-q", "--detach", tmp_path / "tree", "HEAD~1")
    first = git(tmp_path / "a", "rev-parse", "HEAD~1").strip()
    other = tmp_path / "other"
    checkout(other, project="theirs")
    hook = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index")}
    assert said(tmp_path / "tree" / "src" / "slmlp", **hook) == first


@pytest.mark.parametrize("inside", ["lib/python3.11/site-packages", "src", "vendor/src"])
def test_a_copy_in_somebody_elses_repository_has_no_commit(tmp_path, inside):
    assert said(checkout(tmp_path / "theirs", inside=inside, project="theirs")) == "None"


def test_without_git_and_without_a_commit_there_is_none(tmp_path):
    package = checkout(tmp_path / "a")
    assert said(package, PATH=str(tmp_path)) == "None"
    shutil.rmtree(tmp_path / "a" / ".git")
    assert said(package) == "None"
    git(tmp_path / "a", "init", "-q")
    assert said(package) == "None"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user_has_no_commit(tmp_path):
    package = checkout(tmp_path / "a")
    for path in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        os.chown(path, 65534, 65534)
    nobody_trusts = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "SUDO_UID": ""}
    assert said(package, **nobody_trusts) == "None"


def test_the_tests_run_from_a_checkout_or_an_installed_copy():
    from slmlp.runtime.checkout import commit

    root = Path(__file__).resolve().parents[1]
    if root / "src" / "slmlp" == PACKAGE and (root / ".git").exists():
        assert (commit() or "").rstrip("+") == git(root, "rev-parse", "HEAD").strip()
    else:
        assert commit() is None
