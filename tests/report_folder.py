"""A plausible study folder, with random but consistent numbers, real small images, and names made to break a page."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from slmlp.results import records
from slmlp.runtime import files

NASTY = [
    "<script>alert(1)</script>",
    'a&b "c"',
    "</script><!--",
    "$x_1$ {{ 7*7 }}",
    "snow leopard's",
    "éléphant 象",
    "x" * 70,
]
METHODS = ("sl", "sl-mlp")
HASH = "220520d50af234d0b13aaa903768e6ea97589f956fab76f5c8aa8c66a9c38ccb"
LEVEL = {"sl": 0.561, "sl-mlp": 0.603, "simclr": 0.548}


def study(**changes: Any) -> dict[str, Any]:
    unseen = [*NASTY, *(f"unseen class {i}" for i in range(31))]
    source = [f"source class {i}" for i in range(65)] + ["<b>bold</b>"]
    return {
        "schema": 1,
        "title": "Does an MLP projector help transfer on <my> images?",
        "command": 'slmlp study "/data/my & images" --out runs/first',
        "started": "2026-11-21T08:12:44+00:00",
        "finished": "2026-11-21T11:25:02+00:00",
        "hours": 3.2,
        "machine": {"cpu": "AMD EPYC 7763", "cores": 2, "device": "cpu", "precision": "float32"},
        "versions": {"slmlp": "0.1.0", "torch": "2.14.1", "timm": "1.0.31", "numpy": "2.4.6", "python": "3.11.2"},
        "commit": "0ade5ed",
        "data": {
            "name": "emoji", "source": "/data/my & images", "hash": HASH, "images": 13_240, "classes": 104,
            "superclasses": 9,
            "parts": {"train": 9_268, "test": 3_972}, "per_class": {"min": 61, "median": 128.5, "max": 190},
            "unreadable": 2, "duplicates": 14, "ignored": 3,
        },
        "split": {
            "rule": "random classes", "seed": 0, "source": source, "unseen": unseen, "source_hash": HASH,
            "unseen_hash": HASH[::-1], "leaks": 0, "held_out_superclasses": None,
        },
        "settings": {
            "methods": list(METHODS), "seeds": 5, "labels": "class",
            "training": {"encoder": "resnet10", "epochs": 60, "batch_size": 256, "image_size": None, "augment": "weak"},
            "split": {"by": "random", "unseen_fraction": 0.36}, "data": {"cache_dir": "<none>"},
            "probe": {"folds": 5, "l2": [1e-6, 0.001, 1.0]},
        },
        "methods": list(METHODS),
        "seeds": 5,
        "labels": "class",
        "rates": {
            "grid": [0.05, 0.1, 0.2, 0.4],
            "chosen": {"sl": 0.1, "sl-mlp": 0.2},
            "validation": {
                "sl": {"0.05": 0.702, "0.1": 0.731, "0.2": 0.719, "0.4": 0.655},
                "sl-mlp": {"0.05": 0.688, "0.1": 0.716, "0.2": 0.724, "0.4": 0.697},
            },
        },
        "next": {
            "kind": "winner",
            "command": 'slmlp pretrain "/data/my & images" --method sl-mlp --base-lr 0.2 --out runs/full',
        },
        "warnings": ["2 files could not be read: <broken>.png, half.jpg"],
        "demo": False,
        **changes,
    }  # fmt: skip


def _row(method: str, seed: int, task: str, metric: str, value: float, n: int, **more: Any) -> records.Result:
    return records.Result(
        f"{method}-{seed}", method, "resnet10", seed, task, "emoji", metric, round(value, 6), n, **more
    )


def _at(method: str, seed: int, share: float, rng: np.random.Generator) -> list[tuple[str, str, float, int]]:
    """Return every number of one run after a share of its training."""
    mlp, noise = method == "sl-mlp", rng.normal(0, 0.006)
    rise = 1 - np.exp(-4 * share)
    unseen = LEVEL[method] * (0.55 + 0.46 * rise) - (0 if mlp else 0.03 * max(0.0, share - 0.6)) + noise
    source = (0.735 if mlp else 0.748) * (0.4 + 0.61 * rise) + noise / 2
    ratio = (0.9 if mlp else 1.7) * rise + 6 * noise
    measures = {
        "discriminative_ratio_source": ratio,
        "discriminative_ratio_source_normalised": 1.2 * ratio,
        "discriminative_ratio_unseen": (0.41 if mlp else 0.33) * rise + noise,
        "discriminative_ratio_unseen_normalised": (0.5 if mlp else 0.4) * rise + noise,
        "mixtureness": (0.79 if mlp else 0.71) - 0.05 * share + noise,
        "mixtureness_floor": 0.5386,
        "mixtureness_ceiling": 0.8791,
        "redundancy_source": (0.05 if mlp else 0.08) + noise / 3,
        "redundancy_unseen": (0.061 if mlp else 0.094) + 0.02 * share + noise / 3,
        "effective_rank_unseen": 88.0 if mlp else 57.0,
    }
    accuracies = [("unseen", "accuracy", float(unseen), 1_476), ("source", "accuracy", float(source), 2_496)]
    return accuracies + [("measures", k, float(v), 3_972) for k, v in measures.items()]


def rows(
    methods: tuple[str, ...] = METHODS, seeds: int = 5, curves: bool = True, grid: bool = True
) -> list[records.Result]:
    rng = np.random.default_rng(0)
    found = []
    for method in methods:
        for seed in range(seeds):
            for task, metric, value, n in _at(method, seed, 1.0, rng):
                found.append(
                    _row(method, seed, task, metric, value, n, base_lr=0.1, interval=(value - 0.02, value + 0.02))
                )
            for epoch in (2, 5, 10, 20, 30, 40, 50) if curves else ():
                for task, metric, value, n in _at(method, seed, epoch / 60, rng):
                    found.append(_row(method, seed, task, metric, value, n, role="curve", epoch=epoch))
        for rate, less in ((0.05, 0.02), (0.1, 0.0), (0.2, 0.01), (0.4, 0.06)) if grid else ():
            for task, value, n in (("unseen", LEVEL[method] - less - 0.02, 1_476), ("validation", 0.7, 712)):
                row = _row(method, 0, task, "accuracy", value, n, role="grid", base_lr=rate)
                found.append(dataclasses.replace(row, run=f"{method}-rate{rate:g}"))
    for method, seeds_of, value in (("raw-pixels", 1, 0.183), ("random-init", 3, 0.27)):
        for seed in range(seeds_of):
            v = value + 0.01 * seed
            found.append(
                _row(method, seed, "unseen", "accuracy", v, 1_476, role="baseline", interval=(v - 0.02, v + 0.02))
            )
    return found


def verdict(found: list[records.Result], methods: tuple[str, ...] = METHODS) -> dict[str, Any]:
    """Return a verdict whose numbers follow from the rows, the way the study computes them or nearly so."""
    by = {
        m: np.array([100 * r.value for r in found if r.method == m and r.role == "final" and r.task == "unseen"])
        for m in methods
    }

    def compare(a: str, b: str, of_a: Any, of_b: Any) -> dict[str, Any]:
        d = of_b - of_a
        half = 2.776 * d.std(ddof=1) / len(d) ** 0.5 if len(d) > 1 else 2.1
        return {
            "a": a, "b": b, "difference": float(d.mean()), "low": float(d.mean() - half),
            "high": float(d.mean() + half), "p": 0.0004, "p_holm": 0.0004, "detectable": 1.15, "seeds": len(d),
            "images": 1_476, "groups": 1_476, "per_seed": d.tolist(), "sentence": "better",
        }  # fmt: skip

    comparisons = [compare(methods[0], other, by[methods[0]], by[other]) for other in methods[1:]]
    every = [compare(a, b, by[a], by[b]) for a, b in itertools.combinations(methods, 2)] if len(methods) > 2 else []
    references = [
        {"name": name, "value": value, "comparisons": [compare(name, m, np.float64(value), by[m]) for m in methods]}
        for name, value in (("raw-pixels", 18.3), ("chance", 2.6))
    ]
    means = {
        m: {"value": float(v.mean()), "low": float(v.mean() - 0.6), "high": float(v.mean() + 0.7)}
        for m, v in by.items()
    }
    sentences = ["On this data only one method was trained, so nothing is compared."]
    if comparisons:
        c = comparisons[0]
        sentences = [
            f"SL-MLP tells the held-out classes apart better than SL: {c['difference']:+.1f} points of unseen accuracy "
            f"(95 % interval {c['low']:.1f} to {c['high']:.1f}, {c['seeds']} seeds, {c['images']:,} images).",
            "Both are far above an untrained encoder & raw pixels.",
        ]
    task = {"comparisons": comparisons, "every": every, "references": references, "pairs": [], "means": means}
    return {"sentences": sentences, "note": None, "headline": "unseen accuracy", "tasks": {"unseen accuracy": task}}


def tsne(folder: Path, count: int = 300, classes: int = 14, side: int = 32, methods: tuple[str, ...] = METHODS) -> None:
    """Write a map of scanned digits in as many tints as there are classes."""
    rng = np.random.default_rng(1)
    digits = load_digits()
    of = np.sort(rng.integers(0, classes, count))
    tints = np.array([[0.2 + 0.8 * (c * 37 % 11) / 10, 0.3 + 0.7 * (c * 53 % 7) / 6, 0.9] for c in range(classes)])
    columns = 20
    sprite = Image.new("RGB", (columns * side, -(-count // columns) * side), "white")
    for i, c in enumerate(of.tolist()):
        scan = rng.choice(digits.images[digits.target == c % 10])[..., None] / 16 * tints[c] * 255
        tile = Image.fromarray(scan.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        sprite.paste(tile, (i % columns * side, i // columns * side))
    sprite.save(folder / "thumbnails.webp", quality=80)
    names = [*NASTY, *(f"unseen class {i}" for i in range(classes))][:classes]
    centres = rng.normal(0, 30, (classes, 2))
    places = {
        m: {"xy": (centres[of] + rng.normal(0, 13.0 - 6 * i, (count, 2))).round(3).tolist()}
        for i, m in enumerate(methods)
    }
    write(folder / "tsne.json", {
        "methods": places,
        "ids": [f"images/{i}.png" for i in range(count)], "labels": [names[c] for c in of],
        "thumbnails": "thumbnails.webp", "side": side, "columns": columns,
    })  # fmt: skip


def where(folder: Path, methods: tuple[str, ...] = METHODS, side: int = 16) -> None:
    """Write classes gained and lost, and neighbours, with the pictures of scanned digits."""
    rng, digits, columns = np.random.default_rng(2), load_digits(), 10
    sheet = Image.new("L", (columns * side, 3 * side))
    for i in range(30):
        tile = Image.fromarray((digits.images[i] * 15).astype(np.uint8)).resize((side, side))
        sheet.paste(tile, (i % columns * side, i // columns * side))
    sheet.convert("RGB").save(folder / "where.webp")
    changes = [
        {"name": name, "images": 40 + i, "a": 50.0, "b": 80.0 - 10 * i, "low": 24.0 - 10 * i, "high": 36.0 - 10 * i,
         "p_holm": 0.001 if i < 2 else 0.4, "winner": methods[-1] if i < 2 else None}
        for i, name in enumerate(NASTY)
    ]  # fmt: skip
    shown = [NASTY[0], NASTY[1], NASTY[-1], NASTY[-2]]
    several = len(methods) > 1
    write(folder / "where.json", {
        "a": methods[0], "b": methods[-1], "classes": changes if several else [],
        "pictures": {name: list(range(3 * i, 3 * i + 3)) for i, name in enumerate(shown) if several},
        "queries": [12, 13],
        "neighbours": {m: rng.integers(14, 30, (2, 6)).tolist() for m in methods},
        "labels": [NASTY[i % 7] for i in range(30)], "side": side, "columns": columns,
    })  # fmt: skip


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def make(folder: Path, with_map: bool = True, curves: bool = True, **changes: Any) -> Path:
    """Write a whole study folder; ``changes`` go into study.json."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = study(**changes)
    found = rows(tuple(facts["methods"]), facts["seeds"], curves)
    lines = [files.canonical(dataclasses.asdict(row)) for row in found]  # at once: append() syncs the disk each time
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    write(folder / "study.json", facts)
    write(folder / "verdict.json", verdict(found, tuple(facts["methods"])))
    if with_map:
        tsne(folder)
        where(folder, tuple(facts["methods"]))
    return folder
