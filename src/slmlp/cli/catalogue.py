"""The commands slmlp methods and slmlp recipes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from slmlp import config
from slmlp.cli.answer import Answer
from slmlp.cli.table import Table
from slmlp.config import recipes
from slmlp.config.flags import argument
from slmlp.config.names import display
from slmlp.config.recipes import Recipe
from slmlp.config.sentences import sentences
from slmlp.runtime import plugins

COLUMNS = ("recipe", "method", "data", "epochs", "batch", "settings from", "hardware; hours", "expected", "run by us")


@dataclass(frozen=True)
class Methods:
    """List the methods with their sources; with a name, that method's settings, defaults and what they mean.

    Example: `slmlp methods byol`
    """

    name: str | None = field(default=None, metadata=argument("[NAME]", takes="method"))
    """A name of the list, or a class of yours, `FILE.py:CLASS`; without it all are listed."""

    def run(self) -> Answer:
        """Return the list, or the method."""
        if self.name is None:
            columns = ("method", "name", "summary", "source")
            rows = [(name, entry.title, entry.summary, entry.source) for name, entry in config.METHODS.items()]
            others = {name: found for name, found in plugins.installed("method").items() if name not in config.METHODS}
            rows += [(name, name, point.value, plugins.package(point)) for name, (point, *_) in others.items()]
            lines = ["slmlp methods NAME shows a method's settings; slmlp recipes lists settings to run."]
            listed = [dict(zip(columns, row, strict=True)) for row in rows]
            return Answer({"methods": listed}, [Table(columns, rows)], lines=lines)
        entry = config.method_entry(self.name)
        those = [recipe.name for recipe in recipes.RECIPES.values() if recipe.method == self.name]
        title = f"{display(self.name)}: {entry.summary} ({entry.source})"
        lines = [
            f"run it:   slmlp pretrain DATA --method {self.name} --out RUN",
            f"compare:  slmlp study DATA --methods sl,{self.name if self.name != 'sl' else 'sl-mlp'} --out STUDY",
            *([f"recipes:  {', '.join(those)}"] if those else []),
        ]
        document = {
            "method": self.name, "name": entry.title, "summary": entry.summary, "source": entry.source,
            "settings": dataclasses.asdict(entry.settings), "recipes": those,
        }  # fmt: skip
        table = Table(("setting", "default", "meaning"), settings_rows(entry.settings), title)
        return Answer(document, [table], lines=lines)


@dataclass(frozen=True)
class Recipes:
    """List recipes with the number to expect; with a name, its settings and the source of each.

    Example: `slmlp recipes simclr-in1k`, then `slmlp pretrain IMAGENET --recipe simclr-in1k --out my-run`
    """

    name: str | None = field(default=None, metadata=argument("[NAME]", takes="recipe"))
    """A recipe; without it all are listed."""
    markdown: bool = False
    """Print the list as a Markdown table, as the documentation has it."""

    def run(self) -> Answer:
        """Return the list, or the recipe."""
        if self.name is not None:
            return of_recipe(recipes.get(self.name))
        document = {"recipes": [dict(zip(COLUMNS, row, strict=True)) for row in overview()]}
        if self.markdown:
            return Answer(document, lines=[markdown()])
        table = Table(COLUMNS, overview()).leading("recipe", "method", "epochs", "expected")
        how = "slmlp recipes NAME shows a recipe's settings; slmlp pretrain DATA --recipe NAME --out RUN runs it."
        return Answer(document, [table], lines=[how])


def overview() -> list[tuple[str, ...]]:
    """Return one row of words for each recipe."""
    return [
        (
            r.name, display(r.method), r.data, f"{r.training.epochs:,}", f"{r.training.batch_size:,}",
            r.settings_from, f"{r.hardware}; {r.hours}", r.expected, "yes" if r.run_by_us else "no",
        )
        for r in recipes.RECIPES.values()
    ]  # fmt: skip


def markdown() -> str:
    """Return the overview as a Markdown table."""
    return Table(COLUMNS, [(f"`{name}`", *rest) for name, *rest in overview()]).markdown()


def of_recipe(recipe: Recipe) -> Answer:
    """Return one recipe: what it is, every setting with its source, and the commands."""
    about = [
        ("recipe", f"{recipe.name}: {display(recipe.method)}"),
        ("source", recipe.source),
        ("data", recipe.data),
        ("hardware", recipe.hardware),
        ("hours", recipe.hours),
        ("settings from", recipe.settings_from),
        ("expected", recipe.expected),
        ("run by us", "yes" if recipe.run_by_us else "no: the number is the source's"),
        *(("differs" if i == 0 else "", text) for i, text in enumerate(recipe.differs)),
    ]
    rows = [
        (name, value, recipe.cited.get(name, "slmlp's default"))
        for name, value, _ in settings_rows(recipe.training)
    ]  # fmt: skip
    rows += [(name, value, recipe.cited.get(name, meaning)) for name, value, meaning in settings_rows(recipe.settings)]
    settings = Table(("setting", "value", "where it stands"), rows)
    lines = [f"run it:       {recipe.command()}", f"spelled out:  {recipe.full_command()}"]
    return Answer(dataclasses.asdict(recipe), [Table(("", ""), about), settings], lines=lines, rows=settings)


def settings_rows(settings: Any) -> list[tuple[str, str, str]]:
    """Return (name, value, meaning) of each setting."""
    kind: Any = type(settings)
    meanings = sentences(kind)
    return [
        (field.name, as_words(getattr(settings, field.name)), meanings.get(field.name, ""))
        for field in dataclasses.fields(settings)
    ]


def as_words(value: Any) -> str:
    """Return a value as it is typed; of a group of settings, those that are not at their defaults.

    >>> as_words((0.6, 0.8)), as_words(None), as_words(config.Projector(depth=1, out=128))
    ('0.6 0.8', 'default', 'depth 1, out 128')
    """
    if isinstance(value, config.Projector):
        plain = config.Projector()
        changed = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != getattr(plain, f.name)]
        return ", ".join(f"{name} {as_words(getattr(value, name))}" for name in changed) or "none"
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
