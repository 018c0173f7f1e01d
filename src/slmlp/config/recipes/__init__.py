"""Recipes: settings with their sources and the number to expect. Importable without torch.

>>> from slmlp import recipes
>>> recipes.get("byol-in1k").training.peak_lr  # 0.2 * 4096 / 256
3.2
>>> recipes.get("moco-v2-in1k").expected
'67.5 +- 0.1 % top-1 of a linear classifier, 5 runs (README.md)'
"""

from __future__ import annotations

from slmlp.config.methods import METHODS
from slmlp.config.recipes.imagenet_supervised import SUPERVISED
from slmlp.config.recipes.imagenet_unsupervised import UNSUPERVISED
from slmlp.config.recipes.recipe import Recipe
from slmlp.config.recipes.small import SMALL
from slmlp.runtime.errors import SlmlpError, unknown

__all__ = ["RECIPES", "Recipe", "chosen", "get"]

# a name says method, data and, where there are several rows, what tells them apart
_IMAGENET = sorted((*SUPERVISED, *UNSUPERVISED), key=lambda recipe: list(METHODS).index(recipe.method))
RECIPES = {recipe.name: recipe for recipe in (*_IMAGENET, *SMALL)}


def get(name: str) -> Recipe:
    """Return a recipe by name.

    >>> get("simclr-in1")
    Traceback (most recent call last):
    slmlp.runtime.errors.SlmlpError: unknown recipe 'simclr-in1': did you mean 'simclr-in1k', ...
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def chosen(name: str | None, method: str | None) -> Recipe | None:
    """Return the recipe that ``--recipe`` names, None without one; with a ``method`` beside it, it must be of that."""
    if name is None:
        return None
    recipe = get(name)
    if method not in (None, recipe.method):
        those = [other for other in RECIPES if get(other).method == method]
        raise SlmlpError(
            f"recipe {name} is of method {recipe.method}, found --method {method}; leave --method out"
            + (f", or take a recipe of {method}: {', '.join(those)}" if those else "")
        )
    return recipe
