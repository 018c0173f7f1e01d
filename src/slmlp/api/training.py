"""Pretrain one encoder, and go on with a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmlp import config
from slmlp.config import recipes
from slmlp.runtime import plugins

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit
    from slmlp.train.run import Run


def pretrain(
    data_source: str,
    out: str | Path,
    *,
    method: str | None = None,
    recipe: str | None = None,
    projector: Mapping[str, Any] | None = None,
    settings: config.MethodConfig | Mapping[str, Any] | None = None,
    split: str | Path | ConceptSplit | None = None,
    labels: str = "class",
    seed: int = 0,
    training: config.Training | None = None,
    options: config.DataOptions | None = None,
    validation_fraction: float = 0.0,
    progress: bool = True,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Run:
    """Pretrain one encoder into the folder ``out`` and return the run.

    Args:
        data_source: folder of class folders, tar, manifest, .npz, ``torchvision:NAME`` or ``emoji``.
        out: a new folder.
        method: one of ``config.METHODS``, or a class of yours, ``FILE.py:CLASS``; default: the recipe's, else
            ``sl-mlp``.
        recipe: name of a recipe (``slmlp.recipes``), whose settings are the defaults of those below.
        projector: settings of the method's projector to override, by name: ``{"depth": 2, "out": 256}``.
        settings: all settings of the method, or those to override, by name.
        split: only its source classes are trained on.
        labels: labels used for pretraining, ``class`` or ``superclass``.
        seed: of encoder weights, head weights, data order and augmentation.
        training: epochs, rate, augmentation and the rest; replaces the recipe's as a whole. Encoder, epochs, image and
            batch size that are None are chosen by the images and the machine.
        options: how the images are taken in.
        validation_fraction: share of the training images held back, 0 to below 1.
        progress: whether to show progress on stderr.
        overwrite: whether another run in ``out`` is removed.
        dry_run: whether only the plan is said, and nothing is written; the run that is returned does not exist then.

    Raises:
        SlmlpError: bad input, another run in ``out``, or training that diverges.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> small = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=1)
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", training=small, progress=False)
    >>> run.encoder().transform(x[:2]).shape
    (2, 256)
    """
    from slmlp.train import launch
    from slmlp.train.job import Job

    plugins.forget()
    preset = recipes.chosen(recipe, method)
    method = preset.method if preset else method or "sl-mlp"
    base = preset.settings if preset else None
    if isinstance(settings, config.MethodConfig):
        base, settings = settings, None
    of_method = config.method_config(method, projector, base)
    job = Job(
        data=str(Path(data_source).resolve()) if Path(data_source).exists() else data_source,  # to resume from anywhere
        method=plugins.absolute(method), plugin=config.method_source(method), recipe=recipe, labels=labels,
        settings=dataclasses.replace(of_method, **(settings or {})),
        training=training or (preset.training if preset else config.Training()), seed=seed,
        options=options or config.DataOptions(), validation_fraction=validation_fraction,
    )  # fmt: skip
    return launch.start(job, Path(out), split, progress=progress, overwrite=overwrite, dry_run=dry_run)


def resume(run: str | Path, data_source: str | None = None, *, progress: bool = True, **changes: Any) -> Run:
    """Resume a run that was stopped; on a CPU its weights equal those of an uninterrupted run, bit for bit.

    Args:
        run: folder of the run.
        data_source: where the run's images are now, if they were moved; the same images, by their hash.
        progress: whether to show progress on stderr.
        changes: settings that decide no weights, in place of the run's: ``threads``, ``device``, ``workers``,
            ``checkpoint_minutes``, ``save_every``, ``memory_limit_gb``, ``device_memory_gb``, ``cache_dir``,
            ``allow_unreadable``; and ``method`` where the file of a plug-in has moved.

    Raises:
        SlmlpError: ``run`` is no run, finished, or in use; other images; a setting that decides weights.
    """
    from slmlp.train import launch

    return launch.resume(Path(run), data_source, changes, progress=progress)
