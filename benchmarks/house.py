"""The structure of the package in numbers: ``python benchmarks/house.py [CHECKOUT ...]``.

For each checkout: names at the top of src/slmlp, lines, the longest module and function, modules that one other module
imports, and for each room the modules of slmlp that the first import of its modules loads (the most of any one).
Imports are counted in a new process per room, so heavy libraries are loaded, not stubbed.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

COUNT = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(sum(name == "slmlp" or name.startswith("slmlp.") for name in sys.modules))
"""


def main() -> None:
    """Print the numbers of every checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    for checkout in parser.parse_args().checkouts:
        print(f"\n{checkout.resolve().name}")
        for name, value in structure(checkout / "src" / "slmlp"):
            print(f"  {name:<34}{value}")


def structure(package: Path) -> list[tuple[str, str]]:
    """Return (what, its value) of a package's folder."""
    files = {module_name(package, path): path for path in sorted(package.rglob("*.py"))}
    trees = {name: ast.parse(path.read_text()) for name, path in files.items()}
    lines = {name: len(path.read_text().splitlines()) for name, path in files.items()}
    top = [path for path in package.iterdir() if not path.name.startswith("__") and path.name != "py.typed"]
    longest = max(lines, key=lines.__getitem__)
    functions = {
        f"{name}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    slow = max(functions, key=functions.__getitem__)
    importers = Counter(target for name, tree in trees.items() for target in imported(name, tree, files))
    once = [name for name, count in importers.items() if count == 1]
    rows = [
        ("names at the top", f"{len(top)}"),
        ("modules, lines", f"{len(files)}, {sum(lines.values()):,}"),
        ("longest module", f"{longest}, {lines[longest]} lines"),
        ("longest function", f"{slow}, {functions[slow]} lines"),
        ("modules with one importer", f"{len(once)}"),
    ]
    rooms = sorted(path for path in top if path.is_dir() and any(path.glob("*.py")))
    return rows + [(f"slmlp modules loaded by {room.name}", loaded(package, room)) for room in rooms]


def module_name(package: Path, path: Path) -> str:
    """Return the dotted name of a file below the package's parent."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(name: str, tree: ast.Module, files: dict[str, Path]) -> set[str]:
    """Return the modules of the package that one module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slmlp"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in files else node.module or "")
    return found - {name}


def loaded(package: Path, room: Path) -> str:
    """Return how many modules of slmlp the package of a room loads, and the most that one of its modules does."""
    names = [module_name(package, path) for path in sorted(room.glob("*.py"))]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    counts = {}
    for name in names:
        command = [sys.executable, "-c", COUNT, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        counts[name] = int(done.stdout) if done.returncode == 0 else -1
    most = max(counts, key=counts.__getitem__)
    return f"{counts[names[0]]}; at most {counts[most]} ({most.removeprefix('slmlp.')})"


if __name__ == "__main__":
    main()
