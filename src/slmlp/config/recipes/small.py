"""Small images, 32 to 64 pixels: every method, with its source's small-image settings where there are any."""

from __future__ import annotations

from slmlp.config.recipes.imagenet_supervised import SL_SOURCE, TREX_SOURCE
from slmlp.config.recipes.recipe import OURS, Given, Recipe, cited, make

UNKNOWN = "not known for these settings"
CONFIGURED = "public configuration, CIFAR-10"
LIGHTLY = "lightly's CIFAR-10 benchmark"
SCRIPT = "swav_200ep_bs256_pretrain.sh"


def _small(
    method: str, training: Given, source: str, expected: str, *, labels: bool, settings: Given | None = None,
    differs: tuple[str, ...] = (),
) -> Recipe:  # fmt: skip
    given: Given = {
        "encoder": ("resnet18", OURS),
        "stem": ("small", "SimCLR, appendix B.9: a first convolution of 3x3 and stride 1, no max-pool"),
        "image_size": (32, "give --image-size 64 for images of 64 px"),
        "schedule": ("cosine", OURS),
        **training,
    }
    return make(
        f"{method}-small",
        method,
        training=given,
        settings=settings,
        source=source,
        data=f"images of 32 to 64 px, such as torchvision:CIFAR10, labels {'used' if labels else 'not used'}",
        hardware="one GPU",
        hours="hours not measured",
        expected=expected,
        differs=differs,
    )


def _sl(method: str, expected: str) -> Recipe:
    he = "He et al. 2016, section 4.2"
    return _small(
        method,
        {
            **cited(he, batch_size=128, momentum=0.9, nesterov=False, weight_decay=1e-4),
            "epochs": (100, OURS),
            "base_lr": (0.2, f"{he}: 0.1 at 128 images"),
            "augment": ("weak", f"{he}: shift by an eighth and flip; the same for SL and SL-MLP"),
        },
        f"{SL_SOURCE}. Small-image settings: He et al. 2016 (arXiv 1512.03385), CIFAR-10",
        expected,
        labels=True,
        differs=("the source of the settings divides its rate at steps and decays every parameter",),
    )


def _moco(method: str, differs: tuple[str, ...]) -> Recipe:
    demo = "CIFAR-10 demo"
    return _small(
        method,
        {
            **cited(demo, epochs=200, warmup_epochs=0.0, momentum=0.9, nesterov=False, weight_decay=5e-4),
            "batch_size": (256, f"{OURS}; 512 in the source"),
            "base_lr": (0.03, f"{demo}: 0.06 at 512 images"),
            "decay_norms_and_biases": (True, f"{demo}: every parameter"),
            "augment": ("simclr-small", f"{demo}: any crop, colour strength 0.5, no blur"),
        },
        "He et al. 2020 (arXiv 1911.05722); public configuration facebookresearch/moco, its CIFAR-10 demo",
        f"{UNKNOWN}; 82.6 % of a nearest-neighbour classifier on CIFAR-10 in the demo (linear head, 200 epochs)",
        labels=False,
        settings=cited(demo, temperature=0.1, ema_momentum=0.99, queue_size=4096, bn_groups=8),
        differs=("queries see BatchNorm over the whole batch, in the demo in 8 parts as the keys do", *differs),
    )


def _trex(method: str) -> Recipe:
    public = "the authors' ImageNet-1K settings"
    return _small(
        method,
        {
            **cited(public, epochs=100, base_lr=0.1, final_lr=1e-6, warmup_epochs=10.0, momentum=0.9, nesterov=False),
            **cited(public, weight_decay=1e-4, augment=method),
            "batch_size": (128, OURS),
            "local_crops": (8, f"{public}; 16 px beside 32"),
        },
        f"{TREX_SOURCE}; it has no small-image runs",
        UNKNOWN,
        labels=True,
        settings=cited(public, temperature=0.1, ema_momentum=0.999),
        differs=("the settings are those of ImageNet-1K; a memory shrinks with the data",),
    )


SMALL = (
    _sl("sl", f"the baseline of sl-mlp-small; {UNKNOWN}"),
    _sl("sl-mlp", f"{UNKNOWN}; compare with sl-small on held-out classes (slmlp study)"),
    _small(
        "supcon",
        {
            "epochs": (200, f"{OURS}; the source's 1,000 gain more"),
            "batch_size": (256, f"{OURS}; 1,024 in the source"),
            "base_lr": (0.125, f"{CONFIGURED}: 0.5 at 1,024 images"),
            **cited(CONFIGURED, warmup_epochs=10.0, momentum=0.9, nesterov=False, weight_decay=1e-4),
            "decay_norms_and_biases": (True, f"{CONFIGURED}: every parameter"),
            "augment": ("moco-v2", f"{CONFIGURED}: crops of 0.2 to 1, colour strength 0.5; no blur at this size"),
        },
        "Khosla et al. 2020 (arXiv 2004.11362); public configuration HobbitLong/SupContrast, README.md",
        f"{UNKNOWN}; 96.0 % top-1 of a linear classifier on CIFAR-10 with ResNet-50, 1,000 epochs (README.md)",
        labels=True,
        settings={"temperature": (0.1, CONFIGURED)},
        differs=("the source multiplies its loss by temperature / 0.07, and with it the rate, by 1.43",),
    ),
    _small(
        "simclr",
        {
            "epochs": (200, f"{OURS}; 1,000 in the source"),
            "batch_size": (256, f"{OURS}; 512 in the source"),
            "base_lr": (1.0, f"appendix B.9; {CONFIGURED}"),
            **cited(CONFIGURED, optimizer="lars", warmup_epochs=10.0, momentum=0.9, nesterov=False, weight_decay=1e-6),
            "augment": ("simclr-small", "appendix B.9: colour strength 0.5, no blur"),
        },
        "Chen et al. 2020 (arXiv 2002.05709), appendix B.9; public configuration google-research/simclr, README.md",
        f"{UNKNOWN}; about 91 % top-1 of a linear classifier on CIFAR-10, 1,000 epochs of batches of 512 (README.md)",
        labels=False,
        settings={"temperature": (0.5, f"appendix B.9; {CONFIGURED}")},
    ),
    _moco("moco-v1", ("v1's step schedule is a cosine here, as in the demo",)),
    _moco("moco-v2", ("the demo has no MLP; temperature and augmentation stay the demo's",)),
    _small(
        "byol",
        {
            **cited(LIGHTLY, epochs=200, warmup_epochs=0.0, momentum=0.9, nesterov=False, weight_decay=5e-4),
            "batch_size": (256, f"{OURS}; 128 and 512 in the source"),
            "base_lr": (0.12, f"{LIGHTLY}: 0.06 at 128 images"),
            "decay_norms_and_biases": (True, f"{LIGHTLY}: every parameter"),
            "augment": ("simclr-small", f"{LIGHTLY}: SimCLR's without blur"),
        },
        "Grill et al. 2020 (arXiv 2006.07733); settings of lightly's CIFAR-10 benchmark (BYOL has none)",
        f"{UNKNOWN}; 87.2 % of a nearest-neighbour classifier on CIFAR-10 in that benchmark",
        labels=False,
        settings={"ema_momentum": (0.99, "BYOL, public configuration: preset of 100 and 300 epochs")},
    ),
    _small(
        "swav",
        {
            **cited(SCRIPT, epochs=200, batch_size=256, warmup_epochs=0.0, base_lr=0.6, final_lr=0.0006),
            "weight_decay": (1e-6, SCRIPT),
            "optimizer": ("lars", "appendix A.1"),
            **cited("main_swav.py", momentum=0.9, nesterov=False),
            "decay_norms_and_biases": (True, "main_swav.py decays and adapts every parameter"),
            "augment": ("moco-v2", f"{OURS}: colour strength 0.5, as SimCLR's B.9 has on small images; no blur"),
            "local_crops": (6, f"{SCRIPT}; 16 px beside 32"),
        },
        "Caron et al. 2020 (arXiv 2006.09882); public configuration facebookresearch/swav at batches of 256 (SwAV has "
        "no small-image runs)",
        UNKNOWN,
        labels=False,
        settings=cited(SCRIPT, temperature=0.1, epsilon=0.05, freeze_epochs=1.0),
        differs=("the settings are those of ImageNet-1K; prototypes and queue shrink with the data",),
    ),
    _trex("t-rex-star"),
    _trex("t-rex"),
)
