"""Recipes of ImageNet-1K with ResNet-50, without labels."""

from __future__ import annotations

from slmlp.config.recipes.recipe import Given, Recipe, cited, make

DATA = "ImageNet-1K, labels not used"
MOCO_CODE = "public configuration facebookresearch/moco, README.md and main_moco.py"
SWAV_800, SWAV_200 = "swav_800ep_pretrain.sh", "swav_200ep_bs256_pretrain.sh"


def _simclr(name: str, epochs: int, hours: str, expected: str) -> Recipe:
    default, code = "section 2.3", "public configuration"
    return make(
        name,
        "simclr",
        training={
            **cited(code, image_size=224, nesterov=False, momentum=0.9),
            **cited(default, batch_size=4096, optimizer="lars", warmup_epochs=10.0, weight_decay=1e-6),
            "epochs": (epochs, "section 6" if epochs == 1000 else default),
            "base_lr": (0.3, f"{default}: 4.8 = 0.3 * 4,096 / 256"),
            "schedule": ("cosine", default),
            "augment": ("simclr", "appendix A, colour strength 1"),
        },
        settings={"temperature": (0.1, code)},
        source="Chen et al. 2020 (arXiv 2002.05709); public configuration google-research/simclr, README.md",
        data=DATA,
        hardware="128 TPU v3 cores",
        hours=hours,
        expected=expected,
        differs=("the source has BatchNorm behind the last linear layer of the projector too",),
    )


def _moco(name: str, method: str, given: Given, temperature: tuple[float, str], source: str, expected: str) -> Recipe:
    paper, code = "v1, section 4", "main_moco.py"
    return make(
        name,
        method,
        training={
            **cited(code, image_size=224, nesterov=False),
            **cited(paper, epochs=200, batch_size=256, base_lr=0.03, momentum=0.9, weight_decay=1e-4),
            "warmup_epochs": (0.0, f"{code} has none"),
            **given,
            "decay_norms_and_biases": (True, f"{code} decays every parameter"),
        },
        settings={
            "temperature": temperature,
            "ema_momentum": (0.999, "v1, section 3.2"),
            "bn_groups": (8, "v1, section 3.3: shuffling across 8 GPUs"),
        },
        source=source,
        data=DATA,
        hardware="8 V100",
        hours="53 hours (README.md)",
        expected=expected,
        differs=(
            "on one process, keys are normalised in 8 shuffled parts of the batch, in place of shuffling over GPUs",
        ),
    )


def _byol(name: str, epochs: int, rate: float, decay: float, momentum: float, hours: str, expected: str) -> Recipe:
    paper, presets = "section 3.3", f"public configuration, preset of {epochs:,} epochs"
    return make(
        name,
        "byol",
        training={
            **cited(paper, image_size=224, batch_size=4096, optimizer="lars", warmup_epochs=10.0, schedule="cosine"),
            **cited("public configuration", nesterov=False, momentum=0.9),
            **cited(presets, base_lr=rate, weight_decay=decay),
            "epochs": (epochs, paper if epochs == 1000 else "section 5"),
            "augment": ("byol", "appendix B, table 6"),
        },
        settings={"ema_momentum": (momentum, presets)},
        source="Grill et al. 2020 (arXiv 2006.07733); public configuration deepmind-research/byol",
        data=DATA,
        hardware="512 TPU v3 cores",
        hours=hours,
        expected=expected,
    )


def _swav(name: str, script: str, training: Given, hardware: str, hours: str, expected: str) -> Recipe:
    return make(
        name,
        "swav",
        training={
            **cited(script, image_size=224, schedule="cosine", weight_decay=1e-6, augment="swav"),
            **cited("main_swav.py", nesterov=False, momentum=0.9),
            **training,
            "optimizer": ("lars", "appendix A.1"),
            "decay_norms_and_biases": (True, "main_swav.py decays and adapts every parameter"),
            "local_crops": (6, f"{script}: 96 px beside 224"),
        },
        settings={
            **cited(script, temperature=0.1, epsilon=0.05, sinkhorn_iterations=3),
            "freeze_epochs": (1.0, f"{script}: as many steps as an epoch has"),
        },
        source="Caron et al. 2020 (arXiv 2006.09882); public configuration facebookresearch/swav, scripts/",
        data=DATA,
        hardware=hardware,
        hours=hours,
        expected=expected,
        differs=(
            "the source's LARS divides by the sum of two norms; the difference is what its weight decay contributes",
        ),
    )


UNSUPERVISED = (
    _simclr(
        "simclr-in1k",
        1000,
        "about 15 hours (computed from 1.5 for 100 epochs, section 2.2)",
        "69.3 % top-1 of a linear classifier (table 6)",
    ),
    _simclr(
        "simclr-in1k-100", 100, "1.5 hours (section 2.2)", "about 64.5 % top-1 of a linear classifier (README.md)"
    ),
    _moco(
        "moco-v1-in1k",
        "moco-v1",
        {
            "schedule": ("step", "v1, section 4"),
            "milestones": ((0.6, 0.8), "v1, section 4: epochs 120 and 160 of 200"),
            "augment": ("moco-v1", "v1, section 3.3"),
        },
        (0.07, "v1, section 3"),
        f"He et al. 2020 (arXiv 1911.05722); {MOCO_CODE}",
        "60.8 +- 0.2 % top-1 of a linear classifier, 5 runs (README.md)",
    ),
    _moco(
        "moco-v2-in1k",
        "moco-v2",
        {"schedule": ("cosine", "v2, section 3"), "augment": ("moco-v2", "v2, section 3: v1's with blur")},
        (0.2, "v2, section 3"),
        f"Chen et al. 2020 (arXiv 2003.04297); {MOCO_CODE}",
        "67.5 +- 0.1 % top-1 of a linear classifier, 5 runs (README.md)",
    ),
    _byol(
        "byol-in1k", 1000, 0.2, 1.5e-6, 0.996, "about 8 hours (section 3.3)",
        "74.3 % top-1 of a linear classifier (table 1)",
    ),
    _byol(
        "byol-in1k-300", 300, 0.3, 1e-6, 0.99, "hours not published",
        "72.5 % top-1 of a linear classifier (section 5; from memory, likely)",
    ),
    _swav(
        "swav-in1k",
        SWAV_800,
        {
            **cited(SWAV_800, epochs=800, batch_size=4096),
            "base_lr": (0.3, f"{SWAV_800}: 4.8 = 0.3 * 4,096 / 256"),
            "final_lr": (0.0003, f"{SWAV_800}: 0.0048 = 0.0003 * 4,096 / 256"),
            "warmup_epochs": (10.0, f"{SWAV_800}, there from 0.3, here from 0"),
        },
        "64 V100",
        "about 49 hours (computed from 3 min 40 s an epoch, README.md)",
        "75.3 % top-1 of a linear classifier (README.md)",
    ),
    _swav(
        "swav-in1k-256",
        SWAV_200,
        cited(SWAV_200, epochs=200, batch_size=256, base_lr=0.6, final_lr=0.0006, warmup_epochs=0.0),
        "4 V100",
        "about 174 hours (computed from 52 min 10 s an epoch, README.md)",
        "72.7 % top-1 of a linear classifier (README.md)",
    ),
)  # fmt: skip
