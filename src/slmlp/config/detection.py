"""Settings of a detection run; the defaults are those of Detectron2's Mask R-CNN R50-FPN 1x with nothing frozen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from slmlp.config.checks import at_least, not_negative, positive, share
from slmlp.config.flags import main
from slmlp.runtime.errors import SlmlpError

VERSION = 2  # increased when the same settings give different detectors; 2: boxes in float32 under bfloat16
REFERENCE_BATCH = 16  # images per update in Detectron2's schedules
EPOCHS = {"short": 12}  # 1x sees COCO's 117,266 annotated training images 12.3 times
UPDATES = {"1x": 90_000, "2x": 180_000}  # of 16 images
WITHOUT_EFFECT = (
    "allow_unreadable",
    "workers",
    "device",
    "threads",
    "checkpoint_minutes",
    "evaluate",
    "resamples",
    "pictures",
    "controls",
)


@dataclass(frozen=True)
class Detection:
    """Settings of training a detector on an encoder, and of its evaluation."""

    schedule: Literal["1x", "2x", "short"] = field(
        default="1x", metadata=main("1x (as published), 2x, or short (12 passes over the images)")
    )
    """`1x`: 90,000 updates of 16 images, rate a tenth at 60,000 and 80,000; `2x`: twice that; `short`: 12 passes over
    the training images, which is what 1x is on COCO."""
    steps: int | None = field(default=None, metadata=main("updates, in place of the schedule"))
    """Number of updates, instead of the schedule's; the rate drops at two thirds and eight ninths of them."""
    batch_size: int = field(default=REFERENCE_BATCH, metadata=main("images per update"))
    """Images per update, of all processes together; rate and number of updates are scaled by it."""
    base_lr: float = 0.02
    """Learning rate per 16 images."""
    warmup: int | None = None
    """Updates of linear warm-up; default: 1,000 of 16 images (1x, 2x), a tenth of all (short, --steps), at most
    1,000."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-4
    """L2 penalty on weights and biases; normalisation parameters have none."""
    short_side: int = field(default=800, metadata=main("largest short side in pixels"))
    """Largest short side in pixels: images are trained at six sizes from 0.8 of it (640 to 800) and tested at it; the
    long side is at most 1333/800 of it."""
    norm: Literal["sync", "batch", "frozen", "group"] = field(
        default="sync", metadata=main("sync, batch, frozen, or group (for small batches)")
    )
    """`sync`: BatchNorm over all processes in backbone, FPN and mask head; `batch`: per process; `frozen`: the
    backbone's BatchNorm fixed as pretrained, none elsewhere (Detectron2's own 1x); `group`: the backbone's BatchNorm
    fixed as pretrained, GroupNorm elsewhere, for small batches."""
    freeze: bool = False
    """Freeze the whole backbone: train FPN and heads only."""
    boxes_only: bool = False
    """Faster R-CNN even where the data has masks."""
    allow_unreadable: bool = False
    """Go on when more than 1 % of a part's images, or of its annotations, cannot be used."""
    roi_batch_size: int = 512
    """Regions sampled per image for the heads' losses; fewer are quicker on a CPU."""
    detections: int = 100
    """Most predictions per image; COCO counts 100. Fewer are quicker with masks."""
    seed: int = 0
    """Seed of the new layers, the order, flips, sizes and sampled regions."""
    controls: tuple[Literal["random", "random-frozen"], ...] = ("random",)
    """Controls trained beside the encoders: the same network with random weights, or with those frozen."""
    evaluate: tuple[Literal["train", "val", "test"], ...] = ()
    """Parts that AP is measured on; default: `test` where it has annotations, else `val`."""
    evaluate_start: bool = False
    """Measure AP before the first update too."""
    resamples: int = 1000
    """Bootstrap replicates of the images behind every interval."""
    pictures: int = 6
    """Images shown on the page, truth and predictions side by side."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto` uses bfloat16 autocast where the hardware supports it."""
    workers: int = 0
    """Worker processes that load images; 0 loads them in the main process."""
    device: str = "auto"
    """`auto` (CUDA, then the CPU), `cpu`, `cuda`, `cuda:N`."""
    threads: int | None = None
    """CPU threads of torch; default: torch's own choice."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "roi_batch_size", "detections")
        at_least(self, 32, "short_side")
        at_least(self, 100, "resamples")
        positive(self, "base_lr")
        not_negative(self, "weight_decay", "checkpoint_minutes", "workers", "pictures")
        share(self, "momentum")
        if self.steps is not None and self.steps < 1:
            raise SlmlpError(f"--steps must be at least 1, found {self.steps}")
        if self.warmup is not None and self.warmup < 0:
            raise SlmlpError(f"--warmup must be 0 or more, found {self.warmup}")
        for name in ("controls", "evaluate"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise SlmlpError(f"--{name} names something twice: {' '.join(given)}")

    @property
    def peak_lr(self) -> float:
        """Learning rate at the batch in use (linear scaling rule)."""
        return self.base_lr * self.batch_size / REFERENCE_BATCH

    @property
    def sides(self) -> tuple[int, ...]:
        """Short sides in pixels that training samples from: 640, 672, ... 800 for 800."""
        return tuple(round(self.short_side * share) for share in (0.8, 0.84, 0.88, 0.92, 0.96, 1.0))

    @property
    def long_side(self) -> int:
        """Maximum length of the long side in pixels."""
        return round(self.short_side * 1333 / 800)

    def total(self, images: int) -> int:
        """Return the number of updates on a training set of ``images`` images.

        >>> Detection().total(117_266), Detection(batch_size=8).total(117_266)
        (90000, 180000)
        >>> Detection(schedule="short", batch_size=4).total(205)
        615
        """
        if self.steps is not None:
            return self.steps
        if self.schedule in UPDATES:
            return max(1, round(UPDATES[self.schedule] * REFERENCE_BATCH / self.batch_size))
        return max(1, round(EPOCHS[self.schedule] * images / self.batch_size))

    def warmup_steps(self, total: int) -> int:
        """Return the number of warm-up updates."""
        if self.warmup is not None:
            return min(self.warmup, total)
        whole = round(1000 * REFERENCE_BATCH / self.batch_size)
        return whole if self.steps is None and self.schedule in UPDATES else min(1000, total // 10)

    def deciding(self) -> dict[str, Any]:
        """Return the settings that affect a detector's weights."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in WITHOUT_EFFECT}
        return {**values, "version": VERSION}
