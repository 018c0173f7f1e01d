"""Recipes: settings with their sources and the number to expect. Importable without torch.

>>> from slmlp import recipes
>>> recipes.get("byol-in1k").training.peak_lr  # 0.2 * 4096 / 256
3.2
>>> recipes.get("moco-v2-in1k").expected
'67.5 +- 0.1 % top-1 of a linear classifier, 5 runs (README.md)'
"""

from __future__ import annotations

from collections.abc import Callable

from slmlp.config.recipes import imagenet_supervised, imagenet_unsupervised, small
from slmlp.config.recipes.recipe import Recipe
from slmlp.runtime.errors import SlmlpError, unknown

__all__ = ["RECIPES", "Recipe", "chosen", "get"]

# name -> function; the name says method, data and, where there are several rows, what tells them apart
RECIPES: dict[str, Callable[[], Recipe]] = {
    "sl-in1k-100": imagenet_supervised.sl_in1k_100,
    "sl-in1k-300": imagenet_supervised.sl_in1k_300,
    "sl-mlp-in1k-100": imagenet_supervised.sl_mlp_in1k_100,
    "sl-mlp-in1k-300": imagenet_supervised.sl_mlp_in1k_300,
    "supcon-in1k": imagenet_supervised.supcon_in1k,
    "simclr-in1k": imagenet_unsupervised.simclr_in1k,
    "simclr-in1k-100": imagenet_unsupervised.simclr_in1k_100,
    "moco-v1-in1k": imagenet_unsupervised.moco_v1_in1k,
    "moco-v2-in1k": imagenet_unsupervised.moco_v2_in1k,
    "byol-in1k": imagenet_unsupervised.byol_in1k,
    "byol-in1k-300": imagenet_unsupervised.byol_in1k_300,
    "swav-in1k": imagenet_unsupervised.swav_in1k,
    "swav-in1k-256": imagenet_unsupervised.swav_in1k_256,
    "t-rex-star-in1k": imagenet_supervised.t_rex_star_in1k,
    "t-rex-in1k": imagenet_supervised.t_rex_in1k,
    "sl-small": small.sl_small,
    "sl-mlp-small": small.sl_mlp_small,
    "supcon-small": small.supcon_small,
    "simclr-small": small.simclr_small,
    "moco-v1-small": small.moco_v1_small,
    "moco-v2-small": small.moco_v2_small,
    "byol-small": small.byol_small,
    "swav-small": small.swav_small,
    "t-rex-star-small": small.t_rex_star_small,
    "t-rex-small": small.t_rex_small,
}


def get(name: str) -> Recipe:
    """Return a recipe by name.

    >>> get("simclr-in1")
    Traceback (most recent call last):
    slmlp.runtime.errors.SlmlpError: unknown recipe 'simclr-in1': did you mean 'simclr-in1k', ...
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]()


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
