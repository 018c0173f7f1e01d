"""The structure of the package in numbers: ``python benchmarks/house.py [CHECKOUT ...]``.

For each checkout: names at the top of src/slmlp, lines, the longest module and function, modules that one other module
imports, and for each room how many modules of slmlp the first import of one of its modules loads: the median and the
most. Followed are the imports at the top of modules, of parent packages too; nothing is run.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median


def main() -> None:
    """Print the numbers of every checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    for checkout in parser.parse_args().checkouts:
        print(f"\n{checkout.resolve().name}")
        for name, value in structure(checkout / "src" / "slmlp"):
            print(f"  {name:<40}{value}")


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
    graph = {name: at_import(name, tree, files) for name, tree in trees.items()}
    counts = {name: len(closure(name, graph)) for name in files}
    for room in sorted(path.name for path in top if path.is_dir()):
        inside = {name: count for name, count in counts.items() if name.split(".")[1:2] == [room]}
        if inside:
            most = max(inside, key=inside.__getitem__)
            value = f"{median(inside.values()):g}; at most {inside[most]} ({most.removeprefix('slmlp.')})"
            rows.append((f"slmlp modules loaded by {room}", value))
    return rows


def module_name(package: Path, path: Path) -> str:
    """Return the dotted name of a file below the package's parent."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(name: str, tree: ast.Module, files: Mapping[str, Path]) -> set[str]:
    """Return the modules of the package that one module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slmlp"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in files else node.module or "")
    return found - {name}


def at_import(name: str, tree: ast.Module, files: Mapping[str, Path]) -> set[str]:
    """Return what importing a module imports first: its parents, and the imports of its body."""
    body: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.ImportFrom | ast.Import)]
    parts = name.split(".")
    parents = {".".join(parts[:k]) for k in range(1, len(parts))}
    return imported(name, ast.Module(body, []), files) | parents


def closure(name: str, graph: Mapping[str, set[str]]) -> set[str]:
    """Return all modules that are loaded with one, itself among them."""
    reached, open_ = set(), [name]
    while open_:
        module = open_.pop()
        if module in graph and module not in reached:
            reached.add(module)
            open_ += graph[module]
    return reached


if __name__ == "__main__":
    main()
