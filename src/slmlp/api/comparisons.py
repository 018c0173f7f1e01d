"""What compares several encoders: studies, suites, runs, detectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmlp import config

if TYPE_CHECKING:
    from slmlp.results.advised import Advice


def study(
    source: str, out: str | Path, cfg: config.Study | None = None, *, demo: bool = False, overwrite: bool = False,
    dry_run: bool = False,
) -> Path:  # fmt: skip
    """Compare pretraining methods on held-out classes; return the page, ``out/report.html``.

    Holds classes out, chooses each method's rate by source validation, pretrains every method over seeds, evaluates
    the encoders, and writes results, verdict and page. Called again in the same folder it resumes; ``seeds`` may be
    raised and ``methods`` changed.

    Args:
        source: the images, as ``pretrain`` takes them.
        out: folder of the study.
        cfg: methods, seeds, rates and all settings; default ``config.Study()``.
        demo: whether the page calls itself a demonstration.
        overwrite: whether another study in ``out`` is removed; one without a finished run always is.
        dry_run: whether only the plan is said, and nothing is written; there is no page then.

    Raises:
        SlmlpError: bad input, or a folder that holds a study of other data or settings.

    Example: ``slmlp.study("MY_IMAGES", "my-study", slmlp.Study(seeds=3))``.
    """
    from slmlp.experiments.study import main

    return main.study(source, out, cfg, demo=demo, overwrite=overwrite, dry_run=dry_run)


def suite(
    encoders: Sequence[str],
    out: str | Path,
    *,
    datasets: str | None = None,
    sources: Sequence[str] = (),
    split: str | Path | None = None,
    cfg: config.Suite | None = None,
    dry_run: bool = False,
) -> Path:
    """Evaluate encoders, and untrained ones of the same networks, on every data set; return the page's path.

    Args:
        encoders: each as ``evaluate`` takes it, or as NAME=ENCODER. Runs of one method are its seeds. The name of the
            first is the baseline of every difference.
        out: folder of results.jsonl, predictions, verdict.json and report.html; what it holds is not done again.
        datasets: folder of data sets: folders or tars, known ones under their protocol.
        sources: data sets beside those, each as ``pretrain`` takes it.
        split: split file, for the tasks that need one; data sets without its classes are refused.
        cfg: tasks and their settings.
        dry_run: whether only the plan is said, and nothing is written; there is no page then.

    Raises:
        SlmlpError: bad input.

    Example: ``slmlp.suite(["sl-run", "mlp-run"], "my-suite", sources=["torchvision:FashionMNIST"])``.
    """
    from slmlp.experiments.suite import main

    return main.suite(encoders, out, datasets=datasets, sources=sources, split=split, cfg=cfg, dry_run=dry_run)


def compare(runs: Sequence[str | Path], out: str | Path, *, probe: config.Probe | None = None) -> Path:
    """Compare finished runs on the held-out classes of their split; return the page, ``out/report.html``.

    Args:
        runs: folders of runs of one data set and split. Runs of one method are its seeds; the first run's method is
            the baseline. Differences are paired over the seeds that all methods have.
        out: folder of the comparison.
        probe: settings of the linear probe.

    Raises:
        SlmlpError: runs of other data or splits, a run without a split, two runs of one method and seed, no common
            seed.

    Example: ``slmlp.compare(["sl-0", "sl-1", "mlp-0", "mlp-1"], "comparison")``.
    """
    from slmlp.experiments import compare as comparing

    return comparing.compare(runs, out, probe=probe)


def advise(
    target: str,
    *,
    method: str = "sl",
    settings: Mapping[str, Any] | None = None,
    augment: str = "weak",
    options: config.DataOptions | None = None,
    data_source: str | None = None,
) -> list[Advice]:
    """Return whether a projector would help: of images before training, of a run, or of a study's contenders.

    Args:
        target: images, as ``pretrain`` takes them; a finished run's folder, which is then measured; or a study's.
        method: the method in question, and ``settings`` of it by name; for images only.
        settings: as ``{"cosine": True}``.
        augment: the augmentation in question; for images only.
        options: how the images are taken in; for images only.
        data_source: where a run's images are now, if they were moved.

    Returns:
        One ``Advice`` a contender without a projector: ``call``, the ``gain`` to expect in points of unseen accuracy
        with its 95 % range, what it is read from, and sentences. docs/advise.md has the rule.

    Raises:
        SlmlpError: bad input, or a run or study that the rule cannot read.

    >>> advise("emoji", settings={"cosine": True})[0].call
    'pays'
    """
    from slmlp.experiments import advise as advising

    return advising.advise(
        target, settings=dataclasses.replace(config.method_config(method), **(settings or {})), augment=augment,
        options=options or config.DataOptions(), data_source=data_source,
    )  # fmt: skip


def detect(
    encoders: Sequence[str],
    data: str | None,
    out: str | Path,
    *,
    given: Mapping[str, tuple[str | None, str | None]] | None = None,
    cfg: config.Detection | None = None,
    dry_run: bool = False,
) -> Path:
    """Train a detector on every encoder and its controls, compare their AP, and return the page's path.

    Args:
        encoders: runs' folders or encoder files, each also as NAME=ENCODER; encoders of one name are its seeds. The
            first name is the baseline of every difference.
        data: a folder or tar in COCO's layout (annotations/instances_train*.json, instances_val*.json and their
            images); None where ``given`` names the files.
        out: folder of results.jsonl, predictions, pictures, detectors and report.html; what it holds is not done
            again.
        given: part (``train``, ``val``, ``test``) -> (annotations file, folder of its images).
        cfg: settings.
        dry_run: whether only the plan is said, and nothing is written; there is no page then.

    Raises:
        SlmlpError: bad input, or the extra ``detection`` is not installed; nothing is written then.

    Example: ``slmlp.detect(["sl-run", "mlp-run"], "COCO", "my-detection")``.
    """
    from slmlp.detection import main

    return main.detect(encoders, data, out, given=given, cfg=cfg, dry_run=dry_run)
