"""Settings of data loading and training, the same for every method of a study."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from slmlp.config.checks import not_negative, share
from slmlp.config.flags import HIDDEN, main
from slmlp.runtime.errors import SlmlpError, unknown

RATES = {"sgd": 0.1, "lars": 0.1, "adamw": 0.001}  # base rate by optimizer, where none is given
DECAYS = {"sgd": 1e-4, "lars": 1e-4, "adamw": 0.05}
MOST_ADAMW = 0.02
AUGMENTS = (
    "moco-v2", "moco-v1", "simclr", "simclr-small", "byol", "swav", "t-rex", "t-rex-star", "randaugment",
    "trivialaugment", "crop", "weak", "none",
)  # fmt: skip
V = TypeVar("V", str, int)


@dataclass(frozen=True)
class DataOptions:
    """How images are read."""

    superclasses: str | None = None
    """Where the superclass of each class comes from when the data does not say: a file (class<tab>superclass), or
    `wordnet:N`."""
    images_per_class: int | None = None
    """Keep at most this many training images of each class, drawn with the seed of the split."""
    unlabelled: bool = False
    """Take every image under DATA, or in a manifest without labels, for methods that use none (SimCLR, MoCo, BYOL,
    SwAV)."""
    parts: tuple[str, ...] = ()
    """Folders of the parts inside DATA, as `train=DIR test=DIR`, where their names do not say it (`train=.`: the top
    folders are classes); of a manifest, values of its part column."""
    label_separator: str | None = None
    """Splits the labels of images that have several, as `|` in `cat|dog`; an image with none has the separator alone.
    For the task linear (mean average precision), with parts in the data."""
    allow_unreadable: bool = False
    """Go on when more than 1 % of the files cannot be read."""
    memory_limit_gb: float = 4.0
    """Decoded images larger than this stay in a memory-mapped file in the cache folder instead of memory."""
    device_memory_gb: float = 4.0
    """Cached training images up to this size are copied to the GPU once, and larger sets batch by batch."""
    stream_above_gb: float = 64.0
    """Decoded images larger than this are not cached at all but decoded again in every epoch."""
    workers: int = -1
    """Processes that decode when images are streamed; -1 is one a core, less one for training."""
    cache_dir: str | None = None
    """Where decoded images and features are cached; default: the folder `cache` inside --out."""


@dataclass(frozen=True)
class Training:
    """How an encoder is pretrained; the same for every method of a study."""

    encoder: str | None = field(default=None, metadata=main("resnet10, or any convnet or ViT of timm", "network"))
    """`resnet10` (lean, for small images), or any timm convnet or ViT by name. Default: that of `--init`, else by the
    machine and the number of images, at most `resnet50`."""
    init: str = field(default="random", metadata=main("weights to start from, as timm:NAME[@FILE]", "weights"))
    """`random`, a run's folder, `timm:NAME`, `timm:NAME@FILE` or, where a file has several sets of weights,
    `timm:NAME@FILE#PART`; all of the encoder must be in it. Preprocessing is then that of the weights."""
    stem: Literal["auto", "small", "standard"] = "auto"
    """`small` is a 3x3 convolution of stride 1 without max-pool; `auto` takes it at 64 pixels and less, and with
    `--init` the stem that the weights have."""
    epochs: int | None = field(default=None, metadata=main("passes over the images; by default 100 or more"))
    """Passes over the training images. Default: 100, and more where that is fewer than 1,000 steps."""
    image_size: int | None = field(default=None, metadata=main("side in pixels; default: by images and machine"))
    """Side of the square the encoder sees, in pixels; default: chosen from the images, at most 224, on a CPU without
    `--encoder` at most 96; with `--init` the size that the weights were trained at."""
    batch_size: int | None = None
    """Images in a step, of all processes together. Default: 256, and fewer where an epoch would have under 10 steps."""
    base_lr: float | None = None
    """Learning rate per 256 images; the peak rate is base_lr * batch_size / 256. Default: 0.1, with `adamw` 0.001."""
    warmup_epochs: float = 5.0
    """Epochs in which the rate rises from 0 to its peak, at most a tenth of all."""
    schedule: Literal["cosine", "step"] = "cosine"
    """After warm-up: half a cosine down to `final_lr` (Loshchilov 2017), or a tenth of the rate at each milestone."""
    milestones: tuple[float, ...] = (0.6, 0.8)
    """Shares of training after which the step schedule divides the rate by 10 (MoCo v1: epochs 120 and 160 of 200); not
    used by the cosine."""
    final_lr: float = 0.0
    """Rate per 256 images at which the cosine ends (SwAV: 0.0003, which is 0.0048 at 4,096 images; t-ReX: 1e-6); not
    used by the step schedule."""
    optimizer: Literal["sgd", "lars", "adamw"] = "sgd"
    """`adamw` (Loshchilov 2019) is what ViTs are trained with; `lars` scales the step of each weight tensor by the norm
    of the tensor over that of its gradient, times 0.001 (You 2017; SimCLR, BYOL and SwAV train so). Each has rates of
    its own."""
    momentum: float = 0.9
    """Momentum of `sgd` and `lars`."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Shares of the old kept in the two running means of `adamw`: of gradients and of their squares."""
    nesterov: bool = True
    """Nesterov momentum; SimCLR, MoCo, BYOL and SwAV use plain momentum."""
    weight_decay: float | None = None
    """L2 penalty on weights, of `adamw` decoupled from the gradient. Default: 0.0001, with `adamw` 0.05."""
    decay_norms_and_biases: bool = False
    """Whether weight decay, and the scaling of `lars` with it, also acts on biases and normalisation parameters."""
    layer_decay: float = 1.0
    """Learning rate of each layer of the encoder as a multiple of the next one's, the last at the full rate (Bao 2021);
    0.65 to 0.9 where pretrained weights are trained on."""
    head_rate: float = 1.0
    """Learning rate of what lies behind the encoder, as a multiple of the encoder's."""
    frozen_epochs: float = 0.0
    """Epochs at the start in which only what lies behind the encoder is trained (linear probing, then fine-tuning:
    Kumar 2022)."""
    norm: Literal["batch", "frozen"] = "batch"
    """`batch`: BatchNorm of the encoder normalises by the mean and variance of each batch; `frozen`: by those that came
    with the weights of `init`, which stay as they are. Scale and shift are trained either way."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all weights together; a larger one is scaled down to it."""
    ema: float | None = None
    """Decay of a moving average of the weights, as 0.999: its encoder and projector are what is kept."""
    augment: str = field(default="moco-v2", metadata={"takes": "augmentation"})
    """`moco-v2`, `moco-v1`, `simclr`, `simclr-small`, `byol`, `swav`, `t-rex`, `t-rex-star`, `randaugment`,
    `trivialaugment` (with random erasing), `crop` (random resized crop and flip), `weak` (shift by an eighth and flip),
    `none`, or `module:name` of a torchvision v2 transform."""
    local_crops: int = 0
    """Small crops of each image beside its views (multi-crop: SwAV takes 6, t-ReX 8)."""
    local_size: int | None = None
    """Side of the local crops, in pixels; default: 96 / 224 of the image size, in steps of 8."""
    balanced: bool = False
    """Draw every class equally often in each epoch."""
    drop_path: float = 0.0
    """Probability that an image skips a block of the encoder, rising to this from the first block to the last
    (stochastic depth: Huang 2016), for networks of timm that have it; 0.1 is usual."""
    dropout: float = 0.0
    """Probability that a feature is zero in training (Srivastava 2014), for networks of timm that have it."""
    precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto` takes bfloat16 autocast where the hardware computes in it; `float16`, with a scaled loss, is for GPUs that
    do not (before Ampere)."""
    accumulate: int = 1
    """Parts of each batch that pass the network one after the other, where a batch does not fit memory; for losses that
    are a mean over images. BatchNorm sees one part at a time."""
    activation_checkpointing: bool = False
    """Compute the encoder's activations again on the way back instead of keeping them: less memory, a third more time;
    for networks of timm that can."""
    compile: bool = False
    """Compile the step by `torch.compile`: a minute or so at the start, faster steps on a GPU."""
    channels_last: bool | None = None
    """Memory layout of convolutions; default: channels last for convnets."""
    save_every: int | None = 0
    """Keep the encoder every this many epochs, for curves; 0 keeps the last only."""
    checkpoint_minutes: float = 5.0
    """Most minutes between two checkpoints; one is written at every end of an epoch that is a minute after the last."""
    track: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = ()
    """Trackers that receive the training log beside metrics.jsonl, and in a study the results: offline, each an extra
    (pip install 'slmlp[wandb]')."""
    threads: int | None = None
    """CPU threads of torch; default: torch's own choice."""
    device: str = "auto"
    """`auto` (CUDA, then MPS, then the CPU), `cpu`, `cuda`, `cuda:1`, `mps`."""

    def __post_init__(self) -> None:
        """Check the values, before anything is loaded."""
        least_of = {"epochs": 1, "batch_size": 2, "save_every": 0, "local_crops": 0, "accumulate": 1}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SlmlpError(f"--{name.replace('_', '-')} must be at least {least}, found {value}")
        if self.image_size is not None and not 8 <= self.image_size <= 2048:
            raise SlmlpError(f"--image-size must be 8 to 2048 pixels, found {self.image_size}")
        if not self.rate > 0:
            raise SlmlpError(f"--base-lr must be above 0, found {self.rate}")
        self._check_rates()
        if not 0 <= self.final_lr <= self.rate:
            raise SlmlpError(f"--final-lr must be 0 to --base-lr ({self.rate:g}), found {self.final_lr:g}")
        inside = all(0 < step < 1 for step in self.milestones)
        if not self.milestones or not inside or list(self.milestones) != sorted(set(self.milestones)):
            listed = " ".join(map(str, self.milestones)) or "none"
            raise SlmlpError(f"--milestones must be rising shares of training between 0 and 1, found {listed}")
        share(self, "momentum")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise SlmlpError(f"--{name.replace('_', '-')} must be 0 to below 1, found {getattr(self, name):g}")
        if ":" not in self.augment and self.augment not in AUGMENTS:
            raise unknown("augmentation", self.augment, [*AUGMENTS, "module:name"])
        parts = self.accumulate
        if self.batch_size is not None and (self.batch_size % parts or self.batch_size < 2 * parts):
            raise SlmlpError(
                f"--accumulate {self.accumulate} does not divide --batch-size {self.batch_size} into equal parts of at "
                "least 2 images; choose a batch that is a multiple of it"
            )
        not_negative(self, "warmup_epochs", "frozen_epochs", flags="--")
        if not self.decay >= 0:
            raise SlmlpError(f"--weight-decay must be at least 0, found {self.decay:g}")

    def _check_rates(self) -> None:
        """Check learning rates and their multiples."""
        if self.optimizer == "adamw" and self.rate > MOST_ADAMW:
            raise SlmlpError(
                f"--base-lr {self.rate:g} is a rate for sgd: adamw takes 0.0003 to 0.003 from random weights and "
                f"0.00003 to 0.0003 from pretrained ones, at most {MOST_ADAMW:g}"
            )
        if not 0 < self.layer_decay <= 1:
            raise SlmlpError(f"--layer-decay must be above 0 and at most 1 (1: one rate), found {self.layer_decay:g}")
        for name in ("head_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SlmlpError(f"--{name.replace('_', '-')} must be above 0, found {value:g}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise SlmlpError(f"--ema must lie between 0 and 1 (as 0.999), found {self.ema:g}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise SlmlpError(f"--betas must be two numbers from 0 to below 1, found {' '.join(map(str, self.betas))}")
        if self.epochs is not None and self.frozen_epochs >= self.epochs:
            raise SlmlpError(
                f"--frozen-epochs {self.frozen_epochs:g} leaves no epoch of the {self.epochs} to train the encoder in; "
                "choose fewer"
            )
        if self.norm == "frozen" and self.init == "random":
            raise SlmlpError("--norm frozen keeps the BatchNorm statistics of weights: name them with --init")

    @property
    def rate(self) -> float:
        """The base rate: as given, else the optimizer's."""
        return RATES[self.optimizer] if self.base_lr is None else self.base_lr

    @property
    def decay(self) -> float:
        """The weight decay: as given, else the optimizer's."""
        return DECAYS[self.optimizer] if self.weight_decay is None else self.weight_decay

    @property
    def peak_lr(self) -> float:
        """Learning rate at the batch in use: ``base_lr * batch_size / 256`` (linear scaling rule)."""
        return self.rate * self.batch / 256

    @property
    def last_lr(self) -> float:
        """Rate at which the cosine ends, at the batch in use: ``final_lr * batch_size / 256``."""
        return self.final_lr * self.batch / 256

    @property
    def network(self) -> str:
        """The encoder's name: as given, else as ``adapt`` chose it."""
        return _chosen(self.encoder, "encoder")

    @property
    def batch(self) -> int:
        """Images in a step: as given, else as ``adapt`` chose it."""
        return _chosen(self.batch_size, "batch_size")

    @property
    def passes(self) -> int:
        """Passes over the training images: as given, else as ``adapt`` chose it."""
        return _chosen(self.epochs, "epochs")


def _chosen(value: V | None, name: str) -> V:
    if value is None:
        raise SlmlpError(f"--{name.replace('_', '-')} is chosen when the images are known; here it must be given")
    return value


@dataclass(frozen=True)
class StudyTraining(Training):
    """Training inside a study: the rate is the study's to choose."""

    base_lr: float | None = field(default=None, metadata=HIDDEN)
    """Chosen from `Study.rates`."""
    save_every: int | None = None
    """Keep the encoder every this many epochs, for curves; 0 keeps the last only. Default: 10; where the epochs are
    chosen, a tenth of them."""


WITHOUT_COLOUR = ("weak", "crop", "none")  # augmentations that change no colour
TRANSFORM_VERSION = 2  # the same of a transform of the user's; 2: its floats in 0 to 1 are normalised
COLOUR_VERSION = 2  # raised when equal settings give other colours; 2: each image has an order of its own
LATER: tuple[str, ...] = (
    "optimizer", "nesterov", "schedule", "milestones", "final_lr", "betas", "layer_decay", "head_rate",
    "frozen_epochs", "norm", "clip_norm", "ema", "drop_path", "dropout", "accumulate", "activation_checkpointing",
    "compile",
)  # fmt: skip


def identity(training: Training) -> dict[str, Any]:
    """Return the settings by name, as runs and studies are known by.

    Settings that came after the first results were kept (``LATER``) are left out while they have their defaults, so
    that what was begun before them goes on.
    """
    values, default = dataclasses.asdict(training), Training()
    values |= {"base_lr": training.rate, "weight_decay": training.decay}
    if ":" in training.augment:
        values["transform_version"] = TRANSFORM_VERSION
    elif training.augment not in WITHOUT_COLOUR:
        values["colour_version"] = COLOUR_VERSION
    for name in LATER:
        if values[name] == getattr(default, name):
            values.pop(name)
    return values
