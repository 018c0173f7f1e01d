"""slmlp detect: every encoder in a detector of its own on the same data, then the comparison and the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from slmlp import config
from slmlp.detection import summary
from slmlp.detection.backbone import stages
from slmlp.detection.coco import DetectionSet, load, same_categories
from slmlp.detection.contest import Contest, share
from slmlp.detection.controls import controls_of
from slmlp.detection.layout import PARTS, places
from slmlp.experiments.contenders import contenders
from slmlp.runtime import distributed
from slmlp.runtime.errors import SlmlpError
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
) -> Path:
    """Train and compare detectors; see ``api.detect``. What the folder holds already is not computed again."""
    cfg = cfg or config.Detection()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SlmlpError(f"slmlp detect needs {' and '.join(missing)}: pip install 'slmlp[detection]'")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with distributed.joined():
        share(cfg)  # refuses a batch that cannot be shared
        with raise_on_all_ranks():
            if not encoders:
                raise SlmlpError(
                    "slmlp detect needs an encoder (a run's folder, timm:NAME, torchvision:NAME ...), then DATA"
                )
            found = contenders(encoders)
            rows = (*found, *controls_of(found, cfg.controls))
            for row in rows:
                if not row.untrained:
                    stages(row.open())  # refuses what has none, before another encoder is trained for hours
        parts = rank_by_rank(lambda: _parts(data, given or {}, cfg))
        for part in parts.values():
            say(part.describe())
        folder = Path(out)
        contest = Contest(_name(data, given), parts, _main(parts, cfg), cfg, folder, _with_masks(parts, cfg))
        told = [contest.enter(row) for row in rows]
        return on_rank0(lambda: summary.write(contest, rows, told))


def _parts(data: str | None, given: Given, cfg: config.Detection) -> dict[str, DetectionSet]:
    """Return the parts that are needed, checked: training, and those that AP is measured on."""
    found = places(data, given)
    wanted: tuple[str, ...] = cfg.evaluate or (("test",) if "test" in found else ("val",))
    for part in wanted:
        if part not in found:
            there = ", ".join(part for part in PARTS if part in found)
            raise SlmlpError(
                f"no annotations of the {part} part (there are: {there}): name them with --{part}-json FILE "
                f"--{part}-images FOLDER, or choose other parts with --evaluate"
            )
    parts = {part: load(found[part]) for part in ("train", *wanted)}
    for part in wanted:
        same_categories(parts["train"], parts[part])
    if not parts["train"].usable():
        raise SlmlpError(f"{parts['train'].source}: no image has anything to learn from")
    return parts


def _main(parts: Mapping[str, DetectionSet], cfg: config.Detection) -> str:
    """Return the part of the page's comparison: the last that is not trained on, where there is one."""
    judged: tuple[str, ...] = cfg.evaluate or tuple(part for part in parts if part != "train")
    return next((part for part in judged if part != "train"), "train")


def _with_masks(parts: Mapping[str, DetectionSet], cfg: config.Detection) -> bool:
    if cfg.boxes_only:
        return False
    lacking = {part: data.without_masks() for part, data in parts.items()}
    total = {part: sum(len(p.annotations) for p in data.pictures) for part, data in parts.items()}
    if not any(lacking.values()):
        return True
    if lacking["train"] >= total["train"] * 0.999:
        return False
    part = next(part for part, count in lacking.items() if count)
    raise SlmlpError(
        f"{parts[part].source}: {lacking[part]:,} of {total[part]:,} objects have no mask; add them, or train on boxes "
        "with --boxes-only"
    )


def _name(data: str | None, given: Given | None) -> str:
    if data is not None:
        name = Path(data).expanduser().resolve().name
        for suffix in (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"):
            name = name.removesuffix(suffix)
        return name
    annotations = (given or {}).get("train", (None, None))[0]
    return Path(annotations).stem if annotations else "data"
