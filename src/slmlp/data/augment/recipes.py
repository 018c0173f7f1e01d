"""Define augmentations by name, each with its source."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from slmlp.data.augment.policy import Policy
from slmlp.runtime.errors import unknown


@dataclass(frozen=True)
class Recipe:
    """The transforms of one view; probabilities are per image."""

    scale: tuple[float, float] | None = None  # random resized crop: share of the area
    shift: float = 0.0  # or a shift by up to this share of the side, the border filled with the edge's mirror image
    flip: float = 0.5
    policy: Policy | None = None
    jitter: tuple[float, float, float, float] | None = None  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    grey_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels at side 224; scaled with the side
    solarise_p: float = 0.0
    erase_p: float = 0.0  # a rectangle of the view


@dataclass(frozen=True)
class Views:
    """The recipes of an image's views (repeated for more views than recipes), and of local crops."""

    recipes: tuple[Recipe, ...]
    local: Recipe | None = None

    def of(self, view: int) -> Recipe:
        """Return the recipe of view 0, 1, ..."""
        return self.recipes[view % len(self.recipes)]

    @property
    def crop(self) -> Recipe:
        """The recipe of local crops; if the source has none, that of the first view at a smaller scale."""
        if self.local is not None:
            return self.local
        first = self.recipes[0]
        return dataclasses.replace(first, scale=(0.05, first.scale[0] if first.scale else 0.25), shift=0.0)


MOCO = Recipe(scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey_p=0.2)
BYOL = Recipe(scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), grey_p=0.2, blur_p=1.0)
SWAV = Recipe(scale=(0.14, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), grey_p=0.2, blur_p=0.5)
TREX = Recipe(scale=(0.25, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), grey_p=0.2, blur_p=0.2, solarise_p=0.2)
RAND = Policy(2, 9, shear=0.3, translate=(150 / 331, 0), rotate=30, factor=0.9, bits=4)
TRIVIAL = Policy(1, None, shear=0.99, translate=(0, 32), rotate=135, factor=0.99, bits=6)

VIEWS: dict[str, Views] = {
    # MoCo v2 (Chen et al. 2020; moco/loader.py and main_moco.py --aug-plus)
    "moco-v2": Views((dataclasses.replace(MOCO, blur_p=0.5),)),
    # MoCo v1 (He et al. 2020): jitter always, no blur
    "moco-v1": Views((dataclasses.replace(MOCO, jitter_p=1.0),)),
    # SimCLR (Chen et al. 2020, appendix A) at colour strength 1; on small images strength 0.5 and no blur (B.9)
    "simclr": Views((Recipe(scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), grey_p=0.2, blur_p=0.5),)),
    "simclr-small": Views((Recipe(scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey_p=0.2),)),
    # BYOL (Grill et al. 2020, appendix B, table 6): the two views differ
    "byol": Views((BYOL, dataclasses.replace(BYOL, blur_p=0.1, solarise_p=0.2))),
    # SwAV (Caron et al. 2020, section 3.2 and appendix A): 2 views and 6 local crops
    "swav": Views((SWAV,), dataclasses.replace(SWAV, scale=(0.05, 0.14))),
    # t-ReX and t-ReX* (Sariyildiz et al. 2023): 1 view and 8 local crops
    "t-rex": Views((TREX,), dataclasses.replace(TREX, scale=(0.05, 0.25), blur_p=0.5, solarise_p=0.0)),
    "t-rex-star": Views(
        (dataclasses.replace(TREX, scale=(0.4, 1.0)),),
        dataclasses.replace(TREX, scale=(0.05, 0.4), blur_p=0.5, solarise_p=0.0),
    ),
    # RandAugment (Cubuk et al. 2020): 2 changes at magnitude 9, torchvision's defaults; crops as usual
    "randaugment": Views((Recipe(scale=(0.08, 1.0), policy=RAND),)),
    # TrivialAugment Wide (Müller and Hutter 2021) and random erasing (Zhong et al. 2020) at 0.1, as torchvision's
    # references train ResNet-50 (references/classification, --auto-augment ta_wide --random-erase 0.1)
    "trivialaugment": Views((Recipe(scale=(0.08, 1.0), policy=TRIVIAL, erase_p=0.1),)),
    # the usual supervised ImageNet augmentation
    "crop": Views((Recipe(scale=(0.2, 1.0)),)),
    "weak": Views((Recipe(shift=0.125),)),
    "none": Views((Recipe(flip=0.0),)),
}


def named(name: str) -> Views:
    """Return the views of a named augmentation."""
    if name not in VIEWS:
        raise unknown("augmentation", name, [*VIEWS, "module:name"])
    return VIEWS[name]
