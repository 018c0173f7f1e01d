"""The worked example of CONTRIBUTING.md, put into a copy of the package, passes the contract of every method."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_method_of_the_guide_passes_the_contract(tmp_path):
    settings, entry, method, test = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src/slmlp/methods/barlow_twins.py").write_text(method)
    file = tmp_path / "src/slmlp/config/methods.py"
    before, after = file.read_text().split("METHODS: dict[str, MethodEntry] = {\n")
    head, named, rest = before.rpartition("class MethodEntry")
    decorated = head.rindex("@dataclass")
    before = head[:decorated] + settings + "\n\n" + head[decorated:] + named + rest
    file.write_text(before + "METHODS: dict[str, MethodEntry] = {\n" + entry + after)
    losses = tmp_path / "tests/test_losses.py"
    losses.write_text(losses.read_text() + "\n\n" + test)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-k", "barlow", "tests/test_methods.py", "tests/test_losses.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 10
