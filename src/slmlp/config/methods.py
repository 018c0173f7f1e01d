"""The settings of every method; constants are those of the source named under each."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from slmlp.config.checks import at_least, not_negative, positive, share
from slmlp.config.parse import from_dict
from slmlp.config.projector import Projector
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import Source

Auto = Literal["auto"]

NO_PROJECTOR = Projector()
MLP = Projector(depth=1)  # Linear - BatchNorm - ReLU - Linear at the encoder's width: the paper's
MLP_128 = Projector(depth=1, out=128)
LINEAR_128 = Projector(depth=0, out=128)
MLP_PLAIN_128 = Projector(depth=1, out=128, norm="none")
BYOL_MLP = Projector(depth=1, hidden="encoder*2", out=256)
TREX_MLP = Projector(depth=3, out=256, act="gelu", out_bias=False, l2_input=True)
TREX_STAR_MLP = dataclasses.replace(TREX_MLP, depth=1)


@dataclass(frozen=True)
class MethodConfig:
    """Settings of every method, and its properties that are read before torch is loaded."""

    supervised: ClassVar[bool] = False  # whether the loss reads labels
    multi_crop: ClassVar[bool] = False  # whether local crops may follow the views
    later: ClassVar[tuple[str, ...]] = ()  # settings that came after the first results; see ``method_identity``

    projector: Projector = NO_PROJECTOR
    """What stands between encoder and loss."""

    @property
    def whole_batch(self) -> str | None:
        """Why the loss needs all images of a batch at once; None where it is a mean over images."""
        return "its loss compares the images of a batch"


@dataclass(frozen=True)
class SavedSettings(MethodConfig):
    """The settings of a plug-in's run, read without its code."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)  # all but the projector

    @classmethod
    def of(cls, saved: dict[str, Any]) -> SavedSettings:
        """Return what a run has saved."""
        values = {name: value for name, value in saved.items() if name != "projector"}
        return cls(from_dict(Projector, saved["projector"]), values)


@dataclass(frozen=True)
class SL(MethodConfig):
    """Supervised learning: cross-entropy over a linear classifier behind the projector."""

    supervised = True
    multi_crop = True
    later = ("margin",)

    label_smoothing: float = 0.0
    """Share of the target spread over all classes, 0 to 1."""
    cosine: bool = False
    """Cosine softmax: class weights and embeddings are unit vectors, logits are their products over `temperature`."""
    temperature: float = 0.1
    """Of the cosine softmax (t-ReX: 0.1); not used without it."""
    margin: float = 0.0
    """ArcFace (Deng 2019; 0.5 there, at temperature 1/64): radians added to the angle between an image and its class, 0
    to below pi/2; 0 is none. Needs `cosine`."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang 2018; 0.2 is usual); 0 is none. With both, each batch is mixed by one of the two."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun 2019; 1.0 is usual); 0 is none."""
    variance: float = 0.0
    """Weight of VCReg's variance term on the encoder's output (Zhu 2023; 0.16 is usual); 0 is none."""
    covariance: float = 0.0
    """Weight of VCReg's covariance term on the encoder's output (Zhu 2023; 0.01 is usual); 0 is none."""

    @property
    def whole_batch(self) -> str | None:
        """VCReg is of the batch; mixing draws for each part."""
        return "VCReg is computed over a batch" if self.variance or self.covariance else None

    def __post_init__(self) -> None:
        positive(self, "temperature")
        not_negative(self, "label_smoothing", "mixup", "cutmix", "variance", "covariance")
        if self.label_smoothing >= 1:
            raise SlmlpError(f"label_smoothing must be below 1, found {self.label_smoothing}")
        if not 0 <= self.margin < math.pi / 2:
            raise SlmlpError(f"margin must be 0 to below pi/2 (1.5708 radians), found {self.margin}")
        if self.margin and not self.cosine:
            raise SlmlpError(
                f"margin {self.margin} is an angle, which only the cosine softmax has: add --cosine (in --methods "
                "cosine=true), or leave the margin out"
            )
        if self.margin and (self.mixup or self.cutmix):
            raise SlmlpError(
                f"margin {self.margin} is for images of one class each, and mixup and cutmix mix two: leave the margin "
                "or the mixing out"
            )


@dataclass(frozen=True)
class SupCon(MethodConfig):
    """Supervised contrastive learning (Khosla 2020): views of one class attract, all others repel."""

    supervised = True
    multi_crop = True

    projector: Projector = MLP_128
    """What stands between encoder and loss (Khosla 2020, section 3.1: one hidden layer, 128 wide output)."""
    temperature: float = 0.1
    """Of the softmax (section 4.4)."""
    form: Literal["out", "in"] = "out"
    """Sum over positives outside the logarithm (equation 2, better in the source) or inside (equation 3)."""

    def __post_init__(self) -> None:
        positive(self, "temperature")


@dataclass(frozen=True)
class SimCLR(MethodConfig):
    """SimCLR (Chen 2020): two views of an image attract, the other images of the batch repel (NT-Xent)."""

    projector: Projector = MLP_128
    """What stands between encoder and loss (Chen 2020, section 2.1: one hidden layer of the encoder's width, 128)."""
    temperature: float | Auto = "auto"
    """Of the softmax; `auto` is the source's: 0.1 for ImageNet encoders, 0.5 for those below 1,024 channels."""

    def __post_init__(self) -> None:
        positive(self, "temperature")


@dataclass(frozen=True)
class MoCo(MethodConfig):
    """Momentum contrast (He 2020; v2: Chen 2020): a view against its key from an EMA encoder and a queue of keys."""

    projector: Projector = LINEAR_128
    """What stands between encoder and loss (v1: a linear head, 128 wide; v2: Linear - ReLU - Linear)."""
    temperature: float = 0.07
    """Of the softmax (v1, section 3.1: 0.07; v2: 0.2)."""
    ema_momentum: float = 0.999
    """Of the key encoder (section 3.2)."""
    queue_size: int | Auto = "auto"
    """Keys kept, a multiple of the batch; `auto` is the source's 65,536, or half the training images where fewer."""
    bn_groups: int = 2
    """On one process, BatchNorm of the key encoder sees this many shuffled parts of the batch one by one, in place of
    the source's shuffling across GPUs; 1 is none."""

    def __post_init__(self) -> None:
        positive(self, "temperature")
        share(self, "ema_momentum")
        at_least(self, 1, "bn_groups", "queue_size")


@dataclass(frozen=True)
class BYOL(MethodConfig):
    """BYOL (Grill 2020): each view predicts the EMA target's embedding of the other; no negatives."""

    projector: Projector = BYOL_MLP
    """What stands between encoder and predictor (Grill 2020, section 3.3: hidden 4096 on 2048 channels, output 256)."""
    predictor: Projector = BYOL_MLP
    """What predicts the target from the embedding; its output has the embedding's width (section 3.3).
    Depth 0 is no predictor, or with `out` a linear one."""
    ema_momentum: float = 0.99
    """Of the target at the start; it rises to 1 along a cosine (section 3.3: 0.996 at 1,000 epochs, 0.99 at 100)."""

    @property
    def whole_batch(self) -> str | None:
        """Each image has its own target."""
        return None

    def __post_init__(self) -> None:
        share(self, "ema_momentum")


@dataclass(frozen=True)
class SwAV(MethodConfig):
    """SwAV (Caron 2020): each view predicts the cluster codes of another, codes by optimal transport."""

    multi_crop = True

    projector: Projector = MLP_128
    """What stands between encoder and prototypes (Caron 2020, appendix A.1: hidden 2048, output 128)."""
    prototypes: int | Auto = "auto"
    """Clusters; `auto` is the source's 3,000, or a tenth of the training images where fewer."""
    temperature: float = 0.1
    """Of the softmax over prototypes (section 4.1)."""
    epsilon: float = 0.05
    """Entropy of the codes (appendix A.1)."""
    sinkhorn_iterations: int = 3
    """Rounds of the transport (appendix A.1)."""
    queue_size: int | Auto = "auto"
    """Embeddings kept for the codes of small batches (section 4.2: 3,840 with batches of 256); `auto` takes 15 batches
    where the batch holds fewer than the prototypes, else none; 0 is none."""
    queue_start: float = 0.075
    """Share of training after which the queue is used (public configuration: 15 of 200 epochs)."""
    freeze_epochs: float = 1.0
    """Epochs at the start in which the prototypes stay as they are (public configuration: 1)."""

    def __post_init__(self) -> None:
        positive(self, "temperature", "epsilon")
        not_negative(self, "freeze_epochs", "queue_start", "queue_size")
        at_least(self, 1, "sinkhorn_iterations")
        at_least(self, 2, "prototypes")


@dataclass(frozen=True)
class TReX(MethodConfig):
    """t-ReX (Sariyildiz 2023): cosine softmax behind an MLP on L2-normalised features, with multi-crop."""

    supervised = True
    multi_crop = True

    projector: Projector = TREX_MLP
    """What stands between encoder and loss (section 3; depth 1 for t-ReX*, 3 for t-ReX)."""
    temperature: float = 0.1
    """Of the cosine softmax."""
    memory_size: int | Auto = "auto"
    """Embeddings of an EMA model from which class prototypes are made; `auto` is the source's 8,192, or half the
    training images where fewer; 0 learns class weights instead (t-ReX*)."""
    ema_momentum: float = 0.999
    """Of the EMA model; not used without a memory."""

    @property
    def whole_batch(self) -> str | None:
        """The memory of t-ReX moves once a batch."""
        return "its memory takes the embeddings of a whole batch" if self.memory_size else None

    def __post_init__(self) -> None:
        positive(self, "temperature")
        share(self, "ema_momentum")
        not_negative(self, "memory_size")


@dataclass(frozen=True)
class MethodEntry:
    """One method: the class that implements it, its settings, and what tables and listings print."""

    implementation: str  # module:class, imported when the method is built
    settings: MethodConfig
    title: str
    summary: str
    source: str
    plugin: Source | None = None  # the file of the user's that it is of


METHODS: dict[str, MethodEntry] = {
    "sl": MethodEntry(
        "slmlp.methods.sl:SL", SL(), "SL",
        "supervised learning: cross-entropy of a linear classifier on the encoder", "the usual supervised pretraining",
    ),
    "sl-mlp": MethodEntry(
        "slmlp.methods.sl:SL", SL(projector=MLP), "SL-MLP", "the same behind an MLP projector", "arXiv 2112.00496"
    ),
    "supcon": MethodEntry(
        "slmlp.methods.supcon:SupCon", SupCon(), "SupCon",
        "views of one class attract, all others repel", "Khosla 2020, arXiv 2004.11362",
    ),
    "simclr": MethodEntry(
        "slmlp.methods.simclr:SimCLR", SimCLR(), "SimCLR",
        "two views of an image attract, other images repel", "Chen 2020, arXiv 2002.05709",
    ),
    "moco-v1": MethodEntry(
        "slmlp.methods.moco:MoCo", MoCo(), "MoCo v1",
        "a view against its key and a queue of keys of an EMA encoder", "He 2020, arXiv 1911.05722",
    ),
    "moco-v2": MethodEntry(
        "slmlp.methods.moco:MoCo", MoCo(projector=MLP_PLAIN_128, temperature=0.2), "MoCo v2",
        "MoCo with an MLP head and temperature 0.2", "Chen 2020, arXiv 2003.04297",
    ),
    "byol": MethodEntry(
        "slmlp.methods.byol:BYOL", BYOL(), "BYOL",
        "each view predicts the EMA target's embedding of the other", "Grill 2020, arXiv 2006.07733",
    ),
    "swav": MethodEntry(
        "slmlp.methods.swav:SwAV", SwAV(), "SwAV",
        "each crop predicts the cluster codes of another view", "Caron 2020, arXiv 2006.09882",
    ),
    "t-rex-star": MethodEntry(
        "slmlp.methods.trex:TReX", TReX(projector=TREX_STAR_MLP, memory_size=0), "t-ReX*",
        "cosine softmax of several crops behind an MLP", "Sariyildiz 2023, arXiv 2206.15369",
    ),
    "t-rex": MethodEntry(
        "slmlp.methods.trex:TReX", TReX(), "t-ReX",
        "the same with class prototypes from a memory", "Sariyildiz 2023, arXiv 2206.15369",
    ),
}  # fmt: skip

METHOD_CONFIGS: dict[str, MethodConfig] = {name: entry.settings for name, entry in METHODS.items()}


def method_identity(settings: MethodConfig) -> dict[str, Any]:
    """Return a method's settings by name, as runs are known by: as ``config.identity``, of ``later`` settings."""
    values = dataclasses.asdict(settings)
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if setting.name in settings.later and value == setting.default:
            values.pop(setting.name)
        elif isinstance(value, Projector) and not value.residual:  # later than the first results, too
            values[setting.name].pop("residual")
    return values


def check_parts(name: str, cfg: MethodConfig, parts: int) -> None:
    """Raise SlmlpError where a method's batch cannot be accumulated from ``parts``."""
    if parts > 1 and cfg.whole_batch:
        raise SlmlpError(
            f"--accumulate {parts} with {name}: {cfg.whole_batch}, so that parts would train something else; leave it "
            "out and take a smaller --batch-size, --activation-checkpointing or more processes (torchrun)"
        )
