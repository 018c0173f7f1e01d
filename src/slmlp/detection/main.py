"""Train a detector on each encoder with the same data, compare their AP and write the page: ``slmlp detect``."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from slmlp import config
from slmlp.config import command_file
from slmlp.config.sources import absolute
from slmlp.data.sources.folder import stem
from slmlp.detection import plan, summary
from slmlp.detection.announce import announce
from slmlp.detection.backbone import stages
from slmlp.detection.coco import DetectionSet, same_categories
from slmlp.detection.controls import controls_of
from slmlp.detection.detectors import Detectors, batch_part
from slmlp.detection.layout import PARTS, find_parts
from slmlp.detection.reading import load
from slmlp.detection.samples import order_plan
from slmlp.experiments.contenders import contenders
from slmlp.experiments.planning import MINUTE
from slmlp.runtime import distributed, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import locked
from slmlp.runtime.progress import plan as dry
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import on_rank0, raise_on_all_ranks, rank_by_rank

NEEDED = ("pycocotools", "faster_coco_eval")
Given = Mapping[str, tuple[str | None, str | None]]  # part -> annotations file, folder of its images


def detect(
    encoders: Sequence[str],
    data: str | None,
    out: str | Path,
    *,
    given: Given | None = None,
    cfg: config.Detection | None = None,
    dry_run: bool = False,
) -> Path:
    """Train and compare detectors; see ``api.detect``. Results already in the folder are not computed again."""
    cfg = cfg or config.Detection()
    if dry_run:
        processes.alone_only("slmlp detect --dry-run")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SlmlpError(f"slmlp detect needs {' and '.join(missing)}: pip install 'slmlp[detection]'")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with distributed.joined(), contextlib.ExitStack() as stack:
        batch_part(cfg)  # rejects a batch that the ranks cannot share
        with raise_on_all_ranks():
            if not encoders:
                raise SlmlpError(
                    "slmlp detect needs an encoder (a run's folder, timm:NAME, torchvision:NAME ...), then DATA"
                )
            trained = contenders(encoders)
            everyone = (*trained, *controls_of(trained, cfg.controls))
            for contender in everyone:
                if not contender.untrained:
                    stages(contender.open())  # reject unsupported encoders before hours of training
        parts = rank_by_rank(lambda: _parts(data, given or {}, cfg))
        folder = Path(out)
        detectors = Detectors(_name(data, given), parts, _main(parts, cfg), cfg, folder, _with_masks(parts, cfg))
        if dry_run:
            found = plan.make(detectors, everyone)
            dry(found.words, *found.details)
            say("nothing was written")
            return folder / "report.html"
        on_rank0(lambda: stack.enter_context(locked(folder, "detection", "results.jsonl")))
        on_rank0(lambda: announce(parts, folder))
        if not processes.is_distributed() and plan.long(detectors, everyone):
            found = plan.make(detectors, everyone)
            if found.seconds > MINUTE:
                say(f"plan: {found.words}")
        on_rank0(lambda: _write_command(folder, encoders, data, given or {}, cfg))
        configs = [detectors.run(contender) for contender in everyone]
        return on_rank0(lambda: summary.write(detectors, everyone, configs))


def _write_command(
    folder: Path, encoders: Sequence[str], data: str | None, given: Given, cfg: config.Detection
) -> None:
    words = [absolute(word) for word in (*encoders, *([] if data is None else [data]))]
    places = {
        f"{part}_{what}": absolute(place)
        for part, pair in given.items()
        for what, place in zip(("json", "images"), pair, strict=True) if place is not None
    }  # fmt: skip
    command_file.write(folder, "detect", {"words": words, **places}, cfg)


def _parts(data: str | None, given: Given, cfg: config.Detection) -> dict[str, DetectionSet]:
    """Load and check the training part and the evaluated parts."""
    available = find_parts(data, given)
    evaluated: tuple[str, ...] = cfg.evaluate or (("test",) if "test" in available else ("val",))
    for part in evaluated:
        if part not in available:
            names = ", ".join(part for part in PARTS if part in available)
            raise SlmlpError(
                f"no annotations of the {part} part (available: {names}): name them with --{part}-json FILE "
                f"--{part}-images FOLDER, or choose other parts with --evaluate"
            )
    parts = {part: load(available[part], cfg) for part in ("train", *evaluated)}
    for part in evaluated:
        same_categories(parts["train"], parts[part])
    usable = len(parts["train"].usable())
    if not usable:
        raise SlmlpError(f"{parts['train'].source}: no image has an annotation to train on")
    order_plan(usable, cfg, cfg.total(usable))  # rejects a batch that is too large
    for part in evaluated:
        if not parts[part].objects:
            raise SlmlpError(
                f"{parts[part].source}: the {part} part has no object that is no crowd, so that AP is undefined: "
                "add some, or evaluate another part (--evaluate)"
            )
    return parts


def _main(parts: Mapping[str, DetectionSet], cfg: config.Detection) -> str:
    """Return the part that the page compares: the first evaluated one other than "train", if any."""
    evaluated: tuple[str, ...] = cfg.evaluate or tuple(part for part in parts if part != "train")
    return next((part for part in evaluated if part != "train"), "train")


def _with_masks(parts: Mapping[str, DetectionSet], cfg: config.Detection) -> bool:
    if cfg.boxes_only or not parts["train"].masks:
        return False
    lacking = next((data for data in parts.values() if not data.masks), None)
    if lacking is not None:
        raise SlmlpError(
            f"{lacking.source}: its objects have no masks, those of training have; add them, or train on boxes with "
            "--boxes-only"
        )
    return True


def _name(data: str | None, given: Given | None) -> str:
    if data is not None:
        return stem(Path(data).expanduser().resolve())
    annotations = (given or {}).get("train", (None, None))[0]
    return Path(annotations).stem if annotations else "data"
