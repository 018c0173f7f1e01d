"""Every setting of a run, of each method and of a study: frozen dataclasses, importable without torch.

The sentence under a field is its help text on the command line. Each default is written here and nowhere else; nothing
changes a config after parsing, and what is derived from it gets a name of its own (``base_lr`` -> ``peak_lr``).
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from slmlp.errors import SlmlpError, unknown

T = TypeVar("T")
Width = int | Literal["encoder"]


@dataclass(frozen=True)
class Projector:
    """What stands between encoder and loss in pretraining and is thrown away afterwards.

    ``depth`` blocks of [Linear - norm - act], then a last Linear of width ``out``. ``sl`` is depth 0, ``sl-mlp`` is
    depth 1: Linear(D, D) - BatchNorm - ReLU - Linear(D, D), with D the encoder's width (the paper's Figure of SL-MLP).
    """

    depth: int = 0
    """Number of [Linear - norm - act] blocks; 0 means none."""
    hidden: Width = "encoder"
    """Width of the blocks; `encoder` is the encoder's own width (2048 for ResNet-50)."""
    out: Width | Literal["auto", "none"] = "auto"
    """Width of the last Linear; `auto` is the encoder's width behind blocks and no last Linear at depth 0."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside a block."""
    act: Literal["relu", "gelu", "none"] = "relu"
    """Activation inside a block."""
    bias: bool = True
    """Whether the Linear layers carry a bias."""
    l2_input: bool = False
    """Whether features are divided by their L2 norm before the projector."""

    def __post_init__(self) -> None:
        """Refuse widths and depths that no projector can have."""
        if self.depth < 0:
            raise SlmlpError(f"projector.depth must be 0 or more, found {self.depth}")
        for name in ("hidden", "out"):
            width = getattr(self, name)
            if isinstance(width, int) and width < 1:
                raise SlmlpError(f"projector.{name} must be at least 1, found {width}")

    def override(self, **given: Any) -> Projector:
        """Return this spec with the given settings; depth 0 drops ``out`` too unless ``out`` is given."""
        if given.get("depth") == 0 and "out" not in given:
            given["out"] = "none"
        return dataclasses.replace(self, **given)

    def widths(self, encoder_dim: int) -> tuple[int, int | None]:
        """Return (hidden, out) as numbers for an encoder of width ``encoder_dim``; out None means no last Linear."""
        hidden = encoder_dim if self.hidden == "encoder" else self.hidden
        if self.out == "none" or (self.out == "auto" and self.depth == 0):
            return hidden, None
        return hidden, encoder_dim if self.out in ("auto", "encoder") else int(self.out)


@dataclass(frozen=True)
class ProjectorFlags:
    """Overrides of the method's own projector; a setting that is not given stays as the method has it."""

    depth: int | None = None
    """Number of [Linear - norm - act] blocks; 0 removes the projector (and `out` too, unless it is given)."""
    hidden: Width | None = None
    """Width of the blocks; `encoder` is the encoder's own width."""
    out: Width | Literal["auto", "none"] | None = None
    """Width of the last Linear; `none` for no last Linear."""
    norm: Literal["batch", "layer", "none"] | None = None
    """Normalisation inside a block."""
    act: Literal["relu", "gelu", "none"] | None = None
    """Activation inside a block."""
    bias: bool | None = None
    """Whether the Linear layers carry a bias."""
    l2_input: bool | None = None
    """Whether features are divided by their L2 norm before the projector."""

    def given(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclass(frozen=True)
class MethodConfig:
    """What every method has."""

    projector: Projector = Projector()
    """What stands between encoder and loss."""


@dataclass(frozen=True)
class SL(MethodConfig):
    """Supervised learning: cross-entropy over a linear classifier behind the projector."""

    label_smoothing: float = 0.0
    """Share of the target spread over all classes, 0 to 1."""


# name -> settings; ``methods.METHODS`` holds the classes under the same names.
METHOD_CONFIGS: dict[str, MethodConfig] = {
    "sl": SL(),
    "sl-mlp": SL(projector=Projector(depth=1)),
}


def method_config(name: str, overrides: ProjectorFlags | None = None) -> MethodConfig:
    """Return the settings of a method by name, with the projector overridden where flags were given."""
    if name not in METHOD_CONFIGS:
        raise unknown("method", name, METHOD_CONFIGS)
    preset = METHOD_CONFIGS[name]
    given = overrides.given() if overrides else {}
    return dataclasses.replace(preset, projector=preset.projector.override(**given)) if given else preset


@dataclass(frozen=True)
class DataOptions:
    """How the images are taken in."""

    groups: str | None = None
    """Where the group of each class comes from when the data does not say: a file (class<tab>group), or `wordnet:N`."""
    images_per_class: int | None = None
    """Keep at most this many training images of each class, drawn with the seed of the split."""
    allow_unreadable: bool = False
    """Go on when more than 1 % of the files cannot be read."""
    memory_limit_gb: float = 4.0
    """Decoded images larger than this stay in a memory-mapped file in the cache folder instead of memory."""
    stream_above_gb: float = 64.0
    """Decoded images larger than this are not cached at all but decoded again in every epoch."""
    workers: int = -1
    """Processes that decode when images are streamed; -1 is one a core, less one for training."""
    cache_dir: str | None = None
    """Where decoded images and features are cached; default: the folder `cache` inside --out."""


@dataclass(frozen=True)
class Training:
    """How an encoder is pretrained; the same for every method of a study."""

    encoder: str = "resnet50"
    """`resnet10` (lean, for small images), or any timm convnet or ViT by name."""
    init: str = "random"
    """`random`, a run's folder, `timm:NAME` or `timm:NAME@FILE`; keys must match exactly."""
    stem: Literal["auto", "small", "standard"] = "auto"
    """`small` is a 3x3 convolution of stride 1 without max-pool; `auto` takes it at 64 pixels and less."""
    epochs: int = 100
    """Passes over the training images."""
    image_size: int | None = None
    """Side of the square the encoder sees, in pixels; default: chosen from the images, at most 224."""
    batch_size: int = 256
    """Images in a step."""
    base_lr: float = 0.1
    """Learning rate per 256 images; the peak rate is base_lr * batch_size / 256."""
    warmup_epochs: float = 5.0
    """Epochs in which the rate rises from 0 to its peak, at most a tenth of all."""
    momentum: float = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: float = 1e-4
    """L2 penalty on weights."""
    decay_norms_and_biases: bool = False
    """Whether weight decay also acts on biases and normalisation parameters."""
    augment: str = "moco-v2"
    """`moco-v2`, `crop` (random resized crop and flip), `weak` (shift by an eighth and flip), `none`, or
    `module:name` of a torchvision v2 transform."""
    balanced: bool = False
    """Draw every class equally often in each epoch."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto` takes bfloat16 autocast where the hardware computes in it."""
    channels_last: bool | None = None
    """Memory layout of convolutions; default: channels last for convnets."""
    keep_every: int = 0
    """Keep the encoder every this many epochs, for curves; 0 keeps the last only."""
    checkpoint_minutes: float = 5.0
    """Most minutes between two checkpoints; one is written at every end of an epoch that is a minute after the last."""
    threads: int | None = None
    """CPU threads of torch; default: torch's own choice."""
    device: str = "auto"
    """`auto` (CUDA, then MPS, then the CPU), `cpu`, `cuda`, `cuda:1`, `mps`."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is loaded."""
        for name, least in (("epochs", 1), ("batch_size", 2), ("keep_every", 0)):
            if getattr(self, name) < least:
                raise SlmlpError(f"--{name.replace('_', '-')} must be at least {least}, found {getattr(self, name)}")
        if self.image_size is not None and not 8 <= self.image_size <= 2048:
            raise SlmlpError(f"--image-size must be 8 to 2048 pixels, found {self.image_size}")
        if not self.base_lr > 0:
            raise SlmlpError(f"--base-lr must be above 0, found {self.base_lr}")

    @property
    def peak_lr(self) -> float:
        """Learning rate at the batch in use: ``base_lr * batch_size / 256`` (linear scaling rule)."""
        return self.base_lr * self.batch_size / 256


@dataclass(frozen=True)
class StudyTraining(Training):
    """Training inside a study: the rate is the study's to choose."""

    keep_every: int = 10
    """Keep the encoder every this many epochs, for curves; 0 keeps the last only."""


@dataclass(frozen=True)
class Probe:
    """The linear probe: multinomial logistic regression on standardised features."""

    strengths: tuple[float, ...] = tuple(10.0 ** (e / 2) for e in range(-12, 3))
    """L2 strengths per image that are tried: the penalty is strength / 2 * ||W||^2 beside the mean loss."""
    folds: int = 5
    """Parts of the cross-fitting for held-out classes; images of one unit stay in one part."""
    inner_fraction: float = 0.2
    """Share of each training fold on which the strength is chosen."""
    tolerance: float = 1e-5
    """The fit stops when no entry of the gradient of the mean loss exceeds this."""
    max_iterations: int = 1000
    """Most iterations for one strength; reaching it is reported."""
    seed: int = 0
    """Seed of the folds and of the inner split; the same for every run, so that any two lines pair."""


@dataclass(frozen=True)
class Measures:
    """The paper's measures of a feature space."""

    mixtureness_k: tuple[int, ...] = (10, 5, 20, 50)
    """Neighbours counted by mixtureness; the first is the headline, the rest are logged."""
    mixtureness_distance: Literal["cosine", "euclidean"] = "cosine"
    """Distance between class centres."""
    images_per_class: int = 0
    """Take this many images of each class (bias of the ratio depends on it); 0 takes the largest number all have."""
    seed: int = 0
    """Seed of that draw."""


@dataclass(frozen=True)
class Split:
    """Which classes are held out."""

    by: str = "auto"
    """`wordnet`, `groups`, `random`, `file`; `auto` is groups where the data has them, else random."""
    node: str = "n03575240"
    """WordNet node whose classes are held out (default instrumentality); any hypernym path counts."""
    senses: tuple[str, ...] = ()
    """Sense of a class name, as `crane=n02012849`, where the chosen one is wrong."""
    unseen_groups: tuple[str, ...] = ()
    """Groups that are held out; default: drawn with the seed until `unseen_fraction` of the classes is reached."""
    unseen_fraction: float = 0.36
    """Share of the classes to hold out (the paper: 358 of 1,000)."""
    file: str | None = None
    """Text file of held-out class names, one a line, or another split file."""
    test_fraction: float = 0.3
    """Share of each class put aside for testing where the data has no test part."""
    within: str | None = None
    """Another split file: only its source classes take part, so that choices made here never see its held-out ones."""
    seed: int = 0
    """Seed of every draw made here."""


@dataclass(frozen=True)
class Study:
    """The main job: split, choose the rate, pretrain every method over seeds, evaluate, verdict, page."""

    methods: tuple[str, ...] = ("sl", "sl-mlp")
    """Methods compared; the first is the baseline of every difference. `sl-mlp:projector.out=256` overrides."""
    seeds: int = 5
    """Seeds a method."""
    curve_seeds: int = 1
    """Seeds whose kept epochs are evaluated for the curves (with --keep-every)."""
    parallel: int | None = None
    """Runs trained side by side, each on its share of the CPU; default: two on CPUs of two cores and more, else one."""
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """Base learning rates tried, per 256 images; chosen by source validation, the same rule for every method."""
    validation_fraction: float = 0.1
    """Share of the source training images held back while rates are chosen."""
    labels: Literal["class", "class_group"] = "class"
    """What pretraining is told: the classes themselves or the coarser groups."""
    training: Training = field(default_factory=StudyTraining)
    """Settings shared by all methods."""
    split: Split = field(default_factory=Split)
    """Held-out classes."""
    data: DataOptions = field(default_factory=DataOptions)
    """How the images are taken in."""
    probe: Probe = field(default_factory=Probe)
    """The linear probe."""
    measures: Measures = field(default_factory=Measures)
    """The paper's measures."""


# The demo: source = People, Smileys, Animals, Food, Flags of the embedded emoji; held out = the other groups.
DEMO = Study(
    seeds=1,
    rates=(0.2,),
    training=StudyTraining(
        encoder="resnet10", image_size=32, batch_size=64, epochs=30, augment="weak", keep_every=10, warmup_epochs=2
    ),
    split=Split(by="groups", unseen_groups=("Activities", "Objects", "Symbols", "Travel & Places")),
)


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Return the dataclass that ``dataclasses.asdict`` took apart, as JSON gives it back (lists for tuples)."""
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise unknown("setting", name, hints)
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)
