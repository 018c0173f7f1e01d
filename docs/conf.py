"""Sphinx settings of the documentation site: the pages of docs/, three of the root, and the reference of every room."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PACKAGE = ROOT / "src" / "slmlp"

project = "slmlp"
author = copyright = "the slmlp authors"
release = version = installed("slmlp")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["results"]
myst_heading_anchors = 4
default_role = "code"
smartquotes = False  # "--" begins a flag
# Types of other packages are not looked up (no network at build), and type variables have no page.
nitpick_ignore_regex = [("py:.*", r"(?!slmlp).*"), ("py:.*", r".*\.[A-Z]"), ("py:.*", r"slmlp\.[A-Za-z_]+")]
suppress_warnings = ["ref.python"]  # a short name in a signature that two modules have; one that none has still fails

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = "slmlp"
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]

# Pages of the root and the pages of the site that include them; links between them work in both places.
INCLUDED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def relinked(text: str, source: Path, page: Path) -> str:
    """Return the text of the file ``source`` with its relative links as they must be in ``page``.

    A link to a file outside docs/ offers a copy of the file.
    """

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        path = DOCS / INCLUDED.get(os.path.relpath(path, ROOT), path)
        seen = os.path.relpath(path, page.parent)
        return f"[{label}]({seen}{anchor})" if path.is_relative_to(DOCS) else f"{{download}}`{label} <{seen}>`"

    return re.sub(r"\[([^\[\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)", link, text)


def include(app: Sphinx, page: str, source: list[str]) -> None:
    """Put a page of the root before the page that includes it, and set the links of every page."""
    path = Path(app.env.doc2path(page))
    for name, target in INCLUDED.items():
        if target == path.name:
            app.env.note_dependency(ROOT / name)
            source[0] = relinked((ROOT / name).read_text(), ROOT / name, path) + "\n" + source[0]
            return
    if path.suffix == ".md":
        source[0] = relinked(source[0], path, path)


def modules_of(room: Path) -> list[str]:
    """Return the dotted names of a room and its modules, the room first."""
    files = [room] if room.is_file() else room.rglob("*.py")
    names = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files}
    return sorted(name.removesuffix(".__init__") for name in names)


def title(text: str, underline: str) -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{underline * len(text)}\n\n"


def write_reference(app: Sphinx) -> None:
    """Write a page for the public names and one for every room, from what is in the package."""
    import slmlp

    folder = DOCS / "reference"
    folder.mkdir(exist_ok=True)
    public = title("Public names", "=") + ".. automodule:: slmlp\n   :no-members:\n\n"
    for name in sorted(slmlp.__all__, key=lambda name: name[0].isupper()):
        kind = "module" if name == "recipes" else "class" if name[0].isupper() else "function"
        target = "slmlp.config.recipes" if name == "recipes" else f"slmlp.{name}"
        public += title(name, "-") + f".. auto{kind}:: {target}\n   :no-index:\n\n"
    pages = {"slmlp": public}
    for room in sorted(path for path in PACKAGE.iterdir() if path.name[0] != "_" and path.name != "py.typed"):
        modules = modules_of(room)
        text = title(room.stem, "=") + f".. automodule:: {modules[0]}\n   :ignore-module-all:\n\n"
        for module in modules[1:]:
            text += title(module, "-") + f".. automodule:: {module}\n   :ignore-module-all:\n\n"
        pages[room.stem] = text
    rooms = "\n   ".join(name for name in pages if name != "slmlp")
    pages["index"] = title("Rooms", "=") + f".. toctree::\n   :maxdepth: 1\n\n   {rooms}\n"
    for name, text in pages.items():
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
    for page in folder.glob("*.rst"):
        if page.stem not in pages:
            page.unlink()


SENTENCES: dict[str, list[str]] = {}  # name of an attribute -> its lines


def keep_sentence(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Hold the sentence under a setting before napoleon takes what stands before its first colon for a type."""
    if what in ("attribute", "data", "property"):
        SENTENCES[name] = list(lines)


def put_sentence(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Put the sentence back after napoleon."""
    if name in SENTENCES:
        lines[:] = SENTENCES.pop(name)


def setup(app: Sphinx) -> None:
    """Connect the steps above to Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", include)
    app.connect("autodoc-process-docstring", keep_sentence, priority=400)
    app.connect("autodoc-process-docstring", put_sentence, priority=600)
