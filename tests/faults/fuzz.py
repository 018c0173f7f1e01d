"""Feed every reader mutated files: bytes flipped, cut and doubled, JSON of another shape, and pickles that run code."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import resource
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from counting import Clock, Count, Held
from PIL import Image
from world import World

SECONDS, GIGABYTES = 10, 2.0  # a reader that takes more has a fault
FORMS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
BATCH = 50  # inputs of one process


@dataclass(frozen=True)
class Reader:
    """A reader of slmlp, files that it takes, and how to call it with the path of one."""

    name: str
    samples: Callable[[World], list[bytes]]
    file: str  # the name that the mutated file gets
    read: Callable[[World, Path], object]


def counts(world: World, tries: int, seed: int, done: Held) -> Iterator[Count]:
    """Yield the count of each reader, 100 times ``tries`` inputs over all, and that of pickles."""
    readers = [reader for reader in _readers() if reader.samples(world)]  # those whose commands were not left out
    for reader in readers:
        count = Count("mutated input", reader.name)
        rng = random.Random(f"{seed} {reader.name}")
        samples = reader.samples(world)
        if ("mutated input", reader.name) in done:
            continue
        with Clock(count), world.place("fuzz") as place:
            for sample in samples:
                outcome = _batch(world, reader, place, [sample])[0]
                count.control = "read" if outcome == "read" else f"refused: {outcome}"
            for _ in range(0, max(BATCH, 100 * tries // len(readers)), BATCH):
                inputs = [mutated(rng.choice(samples), rng) for _ in range(BATCH)]
                for content, outcome in zip(inputs, _batch(world, reader, place, inputs), strict=True):
                    if outcome in ("read", "one line"):
                        count.add(outcome)
                    else:
                        keep = (
                            Path(tempfile.gettempdir()) / f"fault-{reader.name.replace(' ', '-')}-{len(count.faults)}"
                        )
                        keep.write_bytes(content)
                        count.add(outcome.partition(":")[0], f"{outcome} ({keep})")
        yield count
    if ("a pickle that runs code", "every reader") not in done:
        yield _pickles(world, readers)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a file with something wrong in it."""
    if content[:1] in b"{[" and rng.random() < 0.7:
        return _other_shape(content, rng)
    if content[:2] == b"PK" and b".npy" in content[:99] and rng.random() < 0.5:
        return _other_array(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) or 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 3:
            data[at:at] = data[max(0, at - 64) : at] * rng.choice((1, 50))
        elif kind == 4:
            data[at : at + 8] = rng.choice(
                (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"NaN,,,,,", b"\xe2\x80\xae\x1b[2J")
            )
        else:
            data[at:at] = rng.choice((b"\n", b"\0", b'"', b",", b"\xed\xa0\x80", b"../" * 9, b"-1", b"1e999"))
    return bytes(data)


def _other_shape(content: bytes, rng: random.Random) -> bytes:
    """Return JSON, or a line of JSON lines, with a value changed, taken out, or nested."""
    lines = content.split(b"\n")
    whole = len(lines) < 3 or not all(line[:1] == b"{" for line in lines if line)
    at = 0 if whole else rng.randrange(len([line for line in lines if line]))
    try:
        value = json.loads(content if whole else lines[at])
    except ValueError:
        return content[: len(content) // 2]
    value.pop("sha256", None) if isinstance(value, dict) else None  # else the checksum alone would be tried
    for _ in range(rng.choice((1, 1, 2))):
        _change(value, rng)
    text = json.dumps(value).encode()
    if rng.random() < 0.1:
        text = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    if rng.random() < 0.1:
        text = text.replace(b'": "', b'": "\\ud800', 1)
    return text if whole else b"\n".join([*lines[:at], text, *lines[at + 1 :]])


def _change(value: Any, rng: random.Random) -> None:
    """Change one place in a value of JSON, however deep."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            places.append((node, key))
            if len(places) < 3000:
                walk(child)

    walk(value)
    if not places:
        return
    node, key = rng.choice(places)
    if isinstance(node, dict) and rng.random() < 0.3:
        del node[key]
        return
    node[key] = rng.choice(
        (None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "x", "../../x", "\x1b[2J", [], {}, [[]],
         [1, "a"],
         {"a": 1}, [None], copy.deepcopy(node[key]) if rng.random() < 0.5 else [copy.deepcopy(node[key])])
    )  # fmt: skip


def _other_array(content: bytes, rng: random.Random) -> bytes:
    """Return an .npz with one array of another type, shape or name."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "sha256"}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: array[:-1], lambda: array[..., None], lambda: array.reshape(-1), lambda: array.astype(np.str_),
        lambda: array.astype(np.float16) if array.dtype.kind in "biuf" else array, lambda: np.zeros(0),
        lambda: np.array(3),
        lambda: array.astype(object), lambda: np.full(array.shape, -7), lambda: np.full(array.shape, np.nan),
        lambda: array.astype(complex) if array.dtype.kind in "biuf" else array, lambda: array[::-1],
    ]  # fmt: skip
    arrays[name] = rng.choice(changes)()
    if rng.random() < 0.2:
        del arrays[name]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _batch(world: World, reader: Reader, place: Path, inputs: list[bytes]) -> list[str]:
    """Return how each input ended, in a process of their own; one that dies is named, and the rest goes on."""
    outcomes: list[str] = []
    while len(outcomes) < len(inputs):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read_end)
            _child(world, reader, place, inputs[len(outcomes) :], write_end)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            outcomes += [json.loads(line) for line in pipe if line.endswith("\n")]
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if len(outcomes) < len(inputs):
            outcomes.append(f"died with {code}")
    return outcomes


def _child(world: World, reader: Reader, place: Path, inputs: list[bytes], end: int) -> None:
    from slmlp.runtime.errors import SlmlpError

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(place)
    before = set(place.parent.iterdir())

    def stop(*_: object) -> None:
        raise TimeoutError("too long")

    signal.signal(signal.SIGALRM, stop)
    for content in inputs:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path = place / reader.file
        path.write_bytes(content)
        began = time.monotonic()
        signal.alarm(SECONDS)
        try:
            reader.read(world, path)
            outcome = "read"
        except SlmlpError as error:
            outcome = "one line" if "\n" not in str(error) else f"several lines: {str(error)[:80]!r}"
        except BaseException as error:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place_ = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
            outcome = f"a traceback: {type(error).__name__} at {place_}: {str(error)[:120]}"
        signal.alarm(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1e6
        if grown > GIGABYTES:
            outcome = f"memory: {grown:.1f} GB"
        if time.monotonic() - began > SECONDS:
            outcome = f"slow: {time.monotonic() - began:.0f} s"
        if strangers := set(place.parent.iterdir()) - before:
            outcome = f"wrote outside: {sorted(strangers)[0]}"
        if (place / "EXECUTED").exists():
            outcome = "ran code"
        os.write(end, (json.dumps(outcome) + "\n").encode())
    os._exit(0)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("EXECUTED", "w")


def _pickles(world: World, readers: list[Reader]) -> Count:
    """Give every reader a pickle that would write a file: as itself, in a zip of torch, as an array of objects."""
    import torch

    count = Count("a pickle that runs code", "every reader")
    torch_file, numpy_file = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"conv1.weight": _Bomb()}}, torch_file)
    np.savez(numpy_file, x=np.array([_Bomb()], dtype=object), y=np.array([_Bomb()], dtype=object))
    bombs = [
        pickle.dumps(_Bomb()),
        pickle.dumps({"x": _Bomb()}, protocol=0),
        torch_file.getvalue(),
        numpy_file.getvalue(),
    ]
    with Clock(count):
        for reader in readers:
            with world.place("fuzz") as place:
                for outcome in _batch(world, reader, place, bombs):
                    good = outcome in ("one line", "read")
                    count.add("refused" if good else outcome, None if good else f"{reader.name}: {outcome}")
    return count


def _image(form: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def _readers() -> list[Reader]:
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
        import shutil

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
        Reader("COCO results", straight("straight-detect/detect/predictions/*/*.json.gz"), "r.json.gz",
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
