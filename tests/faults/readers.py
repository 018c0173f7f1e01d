"""The readers of slmlp: files that each takes, and how to call it with the path of one."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from world import World

FORMS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")


@dataclass(frozen=True)
class Reader:
    """A reader of slmlp, files that it takes, and how to call it with the path of one."""

    name: str
    samples: Callable[[World], list[bytes]]
    file: str  # the name that the mutated file gets
    read: Callable[[World, Path], object]


def _image(form: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def readers() -> list[Reader]:
    from slmlp import data
    from slmlp.config import DataOptions, Detection
    from slmlp.data.decode import decode
    from slmlp.data.splits.classes import ConceptSplit
    from slmlp.detection import predict
    from slmlp.detection.layout import find_parts
    from slmlp.detection.reading import load
    from slmlp.encoders.sources import open_encoder
    from slmlp.evaluation.feature_file import evaluate_file
    from slmlp.report import render
    from slmlp.report.inputs import read as read_folder
    from slmlp.results import records
    from slmlp.train.checkpoint import _read as read_checkpoint  # what a resumed run reads
    from slmlp.train.job import Job
    from slmlp.train.run import Run

    free = DataOptions(allow_unreadable=True)

    def straight(name: str) -> Callable[[World], list[bytes]]:
        return lambda w: [path.read_bytes() for path in sorted(w.root.glob(name))[:4]]

    def archive(w: World) -> list[bytes]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(w.images, "images")
        return [buffer.getvalue()]

    def pixels(w: World) -> list[bytes]:
        buffer = io.BytesIO()
        x = np.random.default_rng(0).integers(0, 255, (8, 12, 12, 3), dtype=np.uint8)
        np.savez(buffer, x=x, y=np.arange(8) % 2, part=np.repeat(["train", "test"], 4), group=np.arange(8).astype(str))
        return [buffer.getvalue()]

    def pages(w: World) -> list[bytes]:
        return [(w.root / f"straight-{name}" / name / f"{name}.json").read_bytes() for name in ("study", "suite")
                if (w.root / f"straight-{name}").exists()]  # fmt: skip

    def page(w: World, path: Path) -> object:
        name = "suite" if b'"encoders"' in path.read_bytes() else "study"
        folder = path.parent / "page"
        shutil.copytree(
            w.root / f"straight-{name}" / name,
            folder,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("cache", "runs"),
        )
        shutil.copy(path, folder / f"{name}.json")
        return render(read_folder(folder))

    def configured(w: World, path: Path) -> object:
        run = Run(path.parent)
        return Job.from_json(run.config["job"], str(path)).hash()

    def weights(form: str) -> Callable[[World], list[bytes]]:
        def make(w: World) -> list[bytes]:
            import timm
            import torch
            from safetensors.torch import save

            state, buffer = timm.create_model("test_resnet", num_classes=3).state_dict(), io.BytesIO()
            torch.save({"state_dict": state}, buffer)
            return [buffer.getvalue() if form == "pt" else save(state)]

        return make

    def checkpoint(w: World, path: Path) -> object:
        try:
            return read_checkpoint(path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, EOFError):
            return None  # what ``load_last`` counts as damaged

    def image(w: World, path: Path) -> object:
        try:
            return decode(path.read_bytes())
        except (OSError, ValueError):
            return None  # what is listed as unreadable

    def predicted(w: World) -> list[bytes]:
        packed = straight("straight-detect/detect/predictions/*/*.json.gz")(w)
        return [*packed[:2], *map(gzip.decompress, packed[:2])]

    def rows(w: World) -> list[bytes]:
        lines = "".join(
            f"{w.images}/train/disc/{i}.png,{'ab'[i % 2]},{'train' if i < 6 else 'test'},g{i}\n" for i in range(8)
        )
        return [b"path,label,part,group\n" + lines.encode()]

    def json_rows(w: World) -> list[bytes]:
        entries = [{"path": f"{w.images}/train/disc/{i}.png", "label": "ab"[i % 2], "part": "train"} for i in range(8)]
        return ["".join(json.dumps(entry) + "\n" for entry in entries).encode()]

    return [
        Reader("a manifest", rows, "list.csv", lambda w, p: data.load(str(p), free)),
        Reader("a manifest of JSON lines", json_rows, "list.jsonl", lambda w, p: data.load(str(p), free)),
        Reader("an array of images", pixels, "x.npz", lambda w, p: data.load(str(p), free)),
        Reader("a tar", archive, "x.tar", lambda w, p: data.load(str(p), free)),
        Reader("an image", lambda w: [_image(form) for form in FORMS], "x.img", image),
        Reader("superclasses", lambda w: [b"disc\tround\nbar\tstraight\nframe\tstraight\ncross\tstraight\n"], "s.tsv",
               lambda w, p: data.load(w.images, DataOptions(superclasses=str(p)))),
        Reader("a split", straight("straight-study/study/split.json"), "split.json", lambda w, p: ConceptSplit.load(p)),
        Reader("a run's settings", straight("straight-pretrain/run/config.json"), "config.json", configured),
        Reader("a run's encoder", straight("straight-pretrain/run/encoder.safetensors"), "e.safetensors",
               lambda w, p: open_encoder(str(p))),
        *(
            Reader(f"other people's weights, .{form}", weights(form), f"w.{form}",
                   lambda w, p: open_encoder(f"timm:test_resnet@{p}"))
            for form in ("pt", "safetensors")
        ),
        Reader("a checkpoint", straight("half/run/checkpoints/*.ckpt"), "step-000000001.ckpt", checkpoint),
        Reader("results", straight("straight-*/*/results.jsonl"), "results.jsonl", lambda w, p: records.read(p)),
        Reader("predictions", straight("straight-evaluate/evaluation/predictions/*/*.csv"), "p.csv",
               lambda w, p: records.read_predictions(p)),
        Reader("a file of features", lambda w: [_joined(p) for p in w.root.glob("straight-features/f.npz")], "f.npz",
               lambda w, p: evaluate_file(p, ("centroid",), p.parent / "evaluated", _settings())),
        Reader("the facts of a page", pages, "facts.json", page),
        Reader("COCO annotations", straight("coco/annotations/instances_train.json"), "instances_train.json",
               lambda w, p: load(find_parts(None, {"train": (str(p), f"{w.coco}/images/train")})["train"],
                                 Detection(allow_unreadable=True))),
        Reader("COCO results", predicted, "r.json.gz",
               lambda w, p: predict.read(p)),
    ]  # fmt: skip


def _settings() -> Any:
    from slmlp import config

    return config.TaskSettings()


def _joined(path: Path) -> bytes:
    """Return a features file that holds its own x."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in ("sha256", "x_sha256")}
    buffer = io.BytesIO()
    np.savez(buffer, x=np.load(path.with_suffix(".npy")), **arrays)
    return buffer.getvalue()
