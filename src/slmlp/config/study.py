"""Settings of a study: probe, measures, split, and the study itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from slmlp.config.checks import all_above, at_least, inside, positive
from slmlp.config.flags import FLAT, main
from slmlp.config.plugins import load_tasks
from slmlp.config.tasks import BESIDE, TASKS, Knn, Novelty, Retrieval
from slmlp.config.training import RATES, DataOptions, StudyTraining, Training
from slmlp.runtime.errors import unknown

PROBE_VERSION = 3  # raised when equal settings give other numbers; 3: curvature is carried along the path of l2


@dataclass(frozen=True)
class Probe:
    """The linear probe: multinomial logistic regression on standardised features."""

    l2: tuple[float, ...] = tuple(10.0 ** (e / 2) for e in range(-12, 3))
    """Values of the l2 penalty per image that are tried: the penalty is l2 / 2 * ||W||^2 beside the mean loss."""
    folds: int = 5
    """Folds of the cross-validation on held-out classes; images of one group stay in one part."""
    inner_fraction: float = 0.2
    """Share of each training fold on which the l2 is chosen."""
    tolerance: float = 1e-5
    """The fit stops when no entry of the gradient of the mean loss exceeds this."""
    max_iterations: int = 1000
    """Most iterations for one l2; reaching it is reported."""
    memory_limit_gb: float = 4.0
    """Most memory of a fit in 10^9 bytes, beside features in memory; what is larger stays on the disk."""
    seed: int = 0
    """Seed of the folds and of the inner split; the same for every run, so that any two lines pair."""

    def __post_init__(self) -> None:
        """Check what a probe needs before an encoder is trained for it."""
        all_above(self, 0, "l2", "--probe.l2")
        at_least(self, 2, "folds", flags="--probe.")
        inside(self, "inner_fraction", "--probe.inner-fraction")
        at_least(self, 1, "max_iterations", flags="--probe.")
        positive(self, "tolerance", "memory_limit_gb", flags="--probe.")

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide the probe's numbers; the memory limit does not."""
        values = dataclasses.asdict(self)
        values.pop("memory_limit_gb")
        return {**values, "version": PROBE_VERSION}


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

    def __post_init__(self) -> None:
        all_above(self, 0, "mixtureness_k", "--measures.mixtureness-k")
        at_least(self, 0, "images_per_class", flags="--measures.")


@dataclass(frozen=True)
class Split:
    """Which classes are held out."""

    by: Literal["auto", "wordnet", "superclasses", "random", "file"] = field(
        default="auto", metadata=main("wordnet, superclasses, random or file")
    )
    """`wordnet`, `superclasses`, `random`, `file`; `auto` is superclasses where the data has them, else random."""
    node: str = "n03575240"
    """WordNet node whose classes are held out (default instrumentality); any hypernym path counts."""
    senses: tuple[str, ...] = ()
    """Sense of a class name, as `crane=n02012849`, where the chosen one is wrong."""
    unseen_superclasses: tuple[str, ...] = ()
    """Superclasses to hold out; default: drawn with the seed until `unseen_fraction` of the classes is reached."""
    unseen_fraction: float = field(default=0.36, metadata=main("share of the classes to hold out"))
    """Share of the classes to hold out (the paper: 358 of 1,000)."""
    file: str | None = field(default=None, metadata={"takes": "file"})
    """Text file of held-out class names, one a line, or another split file."""
    test_fraction: float = 0.3
    """Share of each class put aside for testing where the data has no test part."""
    within: str | None = field(default=None, metadata={"takes": "file"})
    """Another split file: only its source classes take part, so that choices made here never see its held-out ones."""
    seed: int = 0
    """Seed of every draw made here."""


GRIDS = {
    "sgd": (0.05, 0.1, 0.2, 0.4),
    "lars": (0.05, 0.1, 0.2, 0.4),
    "adamw": (0.0003, 0.001, 0.003),
}  # of rates, by optimizer
BESIDE_HELP = (
    "Tasks beside unseen and source accuracy and the measures: "
    + "; ".join(f"`{name}`: {TASKS[name].help}" for name in BESIDE)
    + "; `FILE.py:CLASS`: yours."
)


@dataclass(frozen=True)
class Study:
    """A study: split, choose the rate, pretrain every method over seeds, evaluate, verdict, page."""

    methods: tuple[str, ...] = field(
        default=("sl", "sl-mlp"),
        metadata=main("what is compared, by commas, the first the baseline", "method"),
    )
    """Methods compared, by commas or spaces; the first is the baseline of every difference.
    `sl-mlp:projector.out=256` overrides, `narrow=sl-mlp:projector.out=256` names it too; `FILE.py:CLASS` is yours."""
    seeds: int = field(default=5, metadata=main("seeds per method"))
    """Seeds per method; the interval is over seeds and images. One seed gives images only."""
    curve_seeds: int = 1
    """Seeds whose saved epochs are evaluated for the curves (with --save-every)."""
    layer_seeds: int = 1
    """Seeds whose encoders are probed at every layer, source and unseen classes; 0 leaves that out."""
    parallel: int | None = None
    """Runs trained side by side, each on its share of the CPU; default: two on CPUs of two cores and more, else one."""
    rates: tuple[float, ...] | None = None
    """Base learning rates tried, per 256 images, the same for every method; a single one is taken as it is. Default:
    0.05 0.1 0.2 0.4; with `--optimizer adamw` 0.0003 0.001 0.003."""
    validation_fraction: float = 0.1
    """Share of the source training images held back while rates are chosen."""
    select: Literal["source", "unseen-inner"] = "source"
    """What chooses a method's rate: accuracy on source validation images, or on classes that are held out of the source
    classes for that (`unseen-inner`); the held-out classes of the study choose nothing either way."""
    vary: tuple[str, ...] = ()
    """Settings chosen together with the rate: `label_smoothing=0,0.1 training.epochs=30,60` tries every method at each
    combination and goes on with its best; `NAME:temperature=0.1,0.2` those of one contender."""
    labels: Literal["class", "superclass"] = "class"
    """Labels used for pretraining: the classes, or the coarser superclasses they belong to."""
    tasks: tuple[str, ...] = field(default=(), metadata={"help": BESIDE_HELP, "takes": "task-beside"})
    name: str | None = None
    """Title of the page; default: the data's name."""
    training: Training = field(default_factory=StudyTraining, metadata=FLAT)
    """Settings shared by all methods."""
    split: Split = field(default_factory=Split)
    """Held-out classes."""
    data: DataOptions = field(default_factory=DataOptions, metadata=FLAT)
    """How the images are taken in."""
    probe: Probe = field(default_factory=Probe)
    """The linear probe."""
    measures: Measures = field(default_factory=Measures)
    """The paper's measures."""
    knn: Knn = field(default_factory=Knn)
    """Nearest neighbours (unseen-knn)."""
    retrieval: Retrieval = field(default_factory=Retrieval)
    """Retrieval (unseen-retrieval)."""
    novelty: Novelty = field(default_factory=Novelty)
    """Novelty."""

    def __post_init__(self) -> None:
        """Raise SlmlpError for settings that would fail only after training."""
        at_least(self, 1, "seeds", flags="--")
        at_least(self, 0, "curve_seeds", "layer_seeds", flags="--")
        all_above(self, 0, "grid", "--rates")
        inside(self, "validation_fraction", "--validation-fraction")
        load_tasks(self.tasks, BESIDE)
        if self.parallel is not None:
            at_least(self, 1, "parallel", flags="--")

    @property
    def selects(self) -> bool:
        """Whether there is something to choose before the final runs: a rate, or settings that are varied."""
        return len(self.grid) > 1 or bool(self.vary)

    @property
    def grid(self) -> tuple[float, ...]:
        """The rates tried: as given, else those of the optimizer."""
        return GRIDS[self.training.optimizer] if self.rates is None else self.rates


PRESETS = ("quick", "standard", "thorough")


def preset(name: str, optimizer: str = "sgd") -> Study:
    """Return the settings of a preset: one seed at one rate; the defaults; ten seeds and a wider grid of rates.

    >>> preset("quick").grid, preset("thorough", "adamw").grid
    ((0.1,), (0.00015, 0.0003, 0.001, 0.003, 0.006))
    """
    if name == "quick":
        return Study(seeds=1, curve_seeds=0, rates=(RATES[optimizer],))
    if name == "thorough":
        grid = GRIDS[optimizer]
        return Study(seeds=10, curve_seeds=3, rates=(grid[0] / 2, *grid, 2 * grid[-1]))
    if name != "standard":
        raise unknown("preset", name, PRESETS)
    return Study()


# The demo: source = People, Smileys, Animals, Food, Flags of the embedded emoji; held out = the other superclasses.
# The plain softmax and one that specialises the encoder, each without and with the MLP. Three folds in place of five
# keep it within five minutes on two cores.
DEMO = Study(
    name="Two losses, without and with an MLP projector: emoji",
    methods=(
        "sl",
        "sl-mlp",
        "cosine SL=sl:cosine=true:temperature=0.2",
        "cosine SL-MLP=sl-mlp:cosine=true:temperature=0.2",
    ),
    seeds=1,
    rates=(0.2,),
    probe=Probe(folds=3),
    training=StudyTraining(
        encoder="resnet10", image_size=32, batch_size=64, epochs=30, augment="weak", save_every=15, warmup_epochs=2
    ),
    split=Split(by="superclasses", unseen_superclasses=("Activities", "Objects", "Symbols", "Travel & Places")),
)
