"""The numbers of golden.py, and all that they need of the package: every import, flag and field that may be renamed.

Keys of the numbers are this file's own words and stay; ``WORDS`` translates those of the package's files.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import detection_data
import suite_runs
import tiny
from conftest import CLASSES, draw
from slmlp import api, cli, config, detection
from slmlp.detection.detectors import bootstraps
from slmlp.detection.evaluate import average_precision
from slmlp.experiments import suite as suites
from slmlp.methods.base import Progress
from slmlp.results import records, verdict
from slmlp.results.comparison import mean_of
from slmlp.runtime import json_files, seeds
from slmlp.train import optim
from test_multilabel_images import write_several

Numbers = dict[str, list[float | None]]

WORDS: dict[str, str] = {  # words of the package's files today -> those of golden.json, where they differ
}  # fmt: skip

PLAIN = config.Projector()  # nothing between encoder and loss
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {  # key -> method, settings other than its own
    **{name: (name, {}) for name in config.METHOD_CONFIGS},
    **{f"{name} without projector": (name, {"projector": PLAIN}) for name in config.METHOD_CONFIGS if name != "sl"},
    "sl cosine": ("sl", {"cosine": True, "temperature": 0.2}),
    "sl-mlp smoothed": ("sl-mlp", {"label_smoothing": 0.1}),
    "sl-mlp mixed": ("sl-mlp", {"mixup": 0.2, "cutmix": 1.0}),
    "sl-mlp vcreg": ("sl-mlp", {"variance": 0.16, "covariance": 0.01}),
    "sl-mlp reweighted": ("sl-mlp", {"projector": config.Projector(depth=2, hidden=16, act="gelu", reweight=1.001)}),
    "sl-mlp layer norm": ("sl-mlp", {"projector": config.Projector(depth=1, norm="layer", l2_input=True, out=5)}),
    "supcon in": ("supcon", {"form": "in"}),
    "moco-v2 whole norm": ("moco-v2", {"bn_groups": 1}),
    "byol no predictor": ("byol", {"predictor": PLAIN}),
    "swav queue": ("swav", {"queue_size": 12, "queue_start": 0.25, "prototypes": 9}),
}


def losses_of(key: str, optimizer: str) -> list[float]:
    """Return the losses of 20 steps in float64: a drawn encoder of one convolution, drawn views, the real schedule."""
    name, other = VARIANTS[key]
    method = tiny.method(name, **other).double().train()
    for tensor in method.state_dict().values():
        tensor.copy_((64 * tensor).round() / 64)  # torch's normal draws differ between CPUs in float32's last digit
    cfg = config.Training(
        optimizer=optimizer, base_lr={"sgd": 4.0, "lars": 400.0}[optimizer], batch_size=tiny.N, final_lr=0.01,
        schedule={"sgd": "cosine", "lars": "step"}[optimizer], nesterov=optimizer == "sgd", weight_decay=1e-3,
    )  # fmt: skip
    moved, total, each, losses = optim.build(method, cfg), 20, 4, []
    warmup = optim.warmup_steps(total, each, cfg)
    for step in range(total):
        like, labels = tiny.batch(method.num_views, 2 * method.cfg.multi_crop)
        random = np.random.default_rng(step)
        for group in moved.param_groups:
            group["lr"] = optim.lr_at(step, total, warmup, cfg)
        with seeds.seeded(0, "golden", step):
            loss = method([torch.from_numpy(random.normal(size=view.shape)) for view in like], labels)["loss"]
        moved.zero_grad()
        loss.backward()
        moved.step()
        method.after_step(Progress(step + 1, total, each))
        losses.append(loss.item())
    return losses


def pretrained(data: str, out: Path, method: str, per_class: int, **training: object) -> Numbers:
    """Return losses and rates of a real run, and features of two images by its encoder."""
    cfg = config.Training(encoder="resnet10", image_size=16, precision="float32", threads=1, **training)
    options = config.DataOptions(images_per_class=per_class)
    run = api.pretrain(data, out, method=method, seed=1, training=cfg, options=options, progress=False)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    x = run.encoder().transform(pixels).astype(np.float64)
    steps = run.metrics()
    return {"loss": [s["loss"] for s in steps], "rate": [s["lr"] for s in steps], "features": [x.mean(), x.std()]}


def study(out: Path) -> Numbers:
    """Return the numbers of a study of two methods on few of the embedded images, through the command."""
    words = "study emoji --images-per-class 6 --encoder resnet10 --image-size 16 --batch-size 24 --epochs 2"
    words += " --augment weak --precision float32 --threads 1 --parallel 1 --seeds 2 --rates 0.1 0.3 --save-every 1"
    words += " --probe.folds 2 --probe.l2 1e-1 1 --layer-seeds 0 --methods sl,sl-mlp --out"
    assert cli.main([*words.split(), str(out)]) == 0
    found = json_files.read(out / "verdict.json", dict)["tasks"]["unseen accuracy"]
    numbers = lines_of(out)
    for c in found["comparisons"]:
        numbers[f"verdict {c['a']} {c['b']}"] = [c["difference"], *spread(c), c["p_holm"], *c["per_seed"]]
    for name, mean in found["means"].items():
        numbers[f"mean {name}"] = [mean["value"], mean["low"], mean["high"]]
    return numbers


def suite(out: Path) -> Numbers:
    """Return the numbers of a suite of two methods of two seeds, and untrained, on two small data sets."""
    for name in ("shapes", "grey"):
        shapes_into(out / "sets" / name, 1, {"train": 8, "test": 6}, CLASSES[:4], grey=name == "grey")
    shapes_into(out / "shapes", 0, {"train": 24, "test": 10}, CLASSES, grey=False)
    runs = suite_runs.trained(out / "shapes", functools.partial(folder_of, out))
    cfg = config.Suite(
        tasks=("linear", "knn", "fewshot", "centroid", "label-efficiency", "layerwise"),
        probe=config.Probe(l2=(1e-3, 1e-1)), knn=config.Knn(neighbours=5),
        fewshot=config.FewShot(ways=3, shots=2, queries=4, episodes=20),
        label_efficiency=config.LabelEfficiency(fractions=(0.25, 1.0), shots=(1, 4), draws=2),
        extraction=config.Extraction(precision="float32"),
    )  # fmt: skip
    suites.suite(runs, out / "suite", datasets=str(out / "sets"), cfg=cfg)
    numbers = lines_of(out / "suite")
    for task, found in json_files.read(out / "suite" / "verdict.json", dict)["tasks"].items():
        for c in found["comparisons"]:
            key = f"verdict {worded(task)} {c['a']} {c['b']}"
            numbers |= populations(key, c)
            for one in c["sets"]:
                numbers[f"{key} on {one['data'][0]}"] = [one[k] for k in ("difference", "low", "high", "p", "p_holm")]
        for name, mean in found["means"].items():
            numbers[f"mean {worded(task)} {name}"] = [mean["value"], mean["log_odds"]]
    return numbers


def several_labels(out: Path) -> Numbers:
    """Return mean average precision of untrained encoders on two drawn sets of several labels, and the verdict."""
    words = ["suite", "raw=timm:test_resnet@random", "other=timm:resnet10t@random", "--label-separator", "|", "--also"]
    for name, seed in (("first", 3), ("second", 4)):
        (out / name).mkdir()
        write_several(out / name, seed)
        words.append(str((out / name / "several.csv").rename(out / name / f"{name}.csv")))
    words += ["--tasks", "linear", "--probe.l2", "1e-2", "1e-1", "--preprocess.size", "32"]
    assert cli.main([*words, "--extraction.precision", "float32", "--out", str(out / "suite")]) == 0
    numbers = lines_of(out / "suite")
    found = json_files.read(out / "suite" / "verdict.json", dict)["tasks"]["linear map"]
    for c in found["comparisons"]:
        key = f"verdict {c['a']} {c['b']}"
        numbers |= {place: values[:3] for place, values in populations(key, c).items()}
        for one in c["sets"]:
            numbers[f"{key} on {one['data'][0]}"] = [one[k] for k in ("difference", "low", "high", "p", "p_holm")]
    return numbers


def detect(out: Path) -> Numbers:
    """Return losses, AP and verdict of two short trainings of Mask R-CNN on drawn data, one encoder each."""
    (out / "coco").mkdir()
    detection_data.data_set(out / "coco")
    encoders = []
    for name, seed in (("a", 1), ("b", 2)):
        encoders.append(str(out / f"{name}.safetensors"))
        detection_data.encoder(seed).save(Path(encoders[-1]))
    cfg = detection_data.settings(steps=24, base_lr=0.1, warmup=2, evaluate=("val",), controls=(), threads=1)
    detection.detect(encoders, str(out / "coco"), out / "detect", cfg=cfg)
    numbers = lines_of(out / "detect")
    for name in ("a", "b"):
        steps = json_files.read_lines(out / "detect" / "detectors" / name / "metrics.jsonl", dict)
        for key in sorted(k for k in steps[0] if k.startswith("loss")):
            numbers[f"{name} {key}"] = [s[key] for s in steps]
    for task in json_files.read(out / "detect" / "verdict.json", dict)["tasks"].values():
        for c in task["comparisons"]:
            numbers[f"verdict {c['metric']} {c['a']} {c['b']}"] = [c["difference"], *spread(c), c["p_holm"]]
    return numbers


def detection_statistics(out: Path) -> Numbers:
    """Return AP of predictions made up from the truth, and differences between them over draws of the images."""
    truth = json.loads(detection_data.part(out, "val", 12, 5).read_text())
    for number, row in enumerate(truth["annotations"], start=1):
        row["id"] = number  # 0 means "unmatched" to pycocotools
    numbers: Numbers = {}
    for kind in ("box", "mask"):
        held: dict[str, dict[int, object]] = {"a": {}, "b": {}, "c": {}}
        for i, (name, seed) in enumerate((name, seed) for name in held for seed in (0, 1)):
            made = detection_data.noisy(truth, i, masks=True)
            values = average_precision(truth, made, kind)
            numbers[f"{kind} {name} {seed}"] = [values[f"{kind}_{k}"] for k in ("ap", "ap50", "ap75", "ap_medium")]
            held[name][seed] = bootstraps(truth, made, kind, 100)[f"{kind}_ap"]
        for c in verdict.compare_all(held, [("a", "b"), ("a", "c")], "ap"):
            m = c.estimate.times(0.01)
            numbers[f"{kind} verdict {c.a} {c.b}"] = [m.value, *m.interval, m.p, c.p_holm, m.detectable, m.degrees]
    return numbers


def statistics(_: Path) -> Numbers:
    """Return the verdicts of committed result lines, each with drawn predictions of the accuracy that it states."""
    numbers: Numbers = {}
    runs: dict[str, dict[int, records.Predictions]] = {}
    for name in ("sl", "sl-mlp"):
        for line in committed("tiny-imagenet-124-76-fine", "unseen", name):
            runs.setdefault(name, {})[line.seed] = predictions(name, line.seed, "unseen", line.value, line.n)
    runs["third"] = {s: predictions("third", s, "unseen", 0.25, 7600) for s in range(4)}
    draws = {m: {s: predictions(m, s, "d", v + s / 50, 900, 3) for s in (0, 1, 2)} for m, v in (("a", 0.5), ("b", 0.6))}
    for of, baseline in ((runs, "sl"), (draws, "a")):
        for c in verdict.judge(of, baseline).comparisons:
            both = of[c.a].keys() & of[c.b].keys()
            a, b = (mean_of([of[name][seed] for seed in sorted(both)]).estimate.value for name in (c.a, c.b))
            e = c.estimate
            numbers[f"{c.a} {c.b}"] = [
                a,
                b,
                e.value,
                *e.interval,
                e.standard_error,
                e.degrees,
                e.p,
                c.p_holm,
                e.detectable,
                *c.per_seed,
            ]
    for name, by_seed in (runs | draws).items():
        mean = mean_of(list(by_seed.values())).estimate
        numbers[f"mean {name}"] = [mean.value, *mean.share_interval, mean.standard_error]
    over: dict[str, dict[str, dict[int, records.Predictions]]] = {}
    for name in ("sl", "sl-mlp", "random-init:resnet10"):
        for line in committed("domains-seven", "linear", name):
            of_data = over.setdefault(name, {}).setdefault(line.data, {})
            of_data[line.seed] = predictions(name, line.seed, line.data, line.value, line.n // 10)
    found = verdict.judge_over_datasets(over, "sl")
    for c in found.comparisons:
        effects = (("points", c.estimate, c.random_effects), ("log-odds", c.log_odds.fixed, c.log_odds.random))
        for scale, *estimates in effects:
            numbers[f"over {c.b} {scale}"] = [estimates[0].value, c.p_holm] + [
                v for e in estimates for v in (*e.interval, e.standard_error, e.degrees, e.p, e.detectable)
            ]
        for one in c.sets:
            e = one.estimate
            numbers[f"{one.data[0]} {c.b}"] = [e.value, *e.interval, e.p, one.p_holm]
    return numbers | {f"over mean {name}": [mean.value, mean.log_odds] for name, mean in found.means.items()}


def committed(name: str, task: str, method: str) -> Iterator[records.Result]:
    for line in records.read(Path(__file__).parents[1] / "docs" / "results" / f"{name}.jsonl"):
        wanted = line.task == task and line.metric == "accuracy" and line.role in ("final", "baseline")
        if wanted and line.method == method and line.layer == "output":
            yield line


def predictions(method: str, seed: int, data: str, value: float, n: int, draws: int = 1) -> records.Predictions:
    """Return drawn predictions of 10 classes, right for a share ``value`` of ``n`` images in groups of up to 7."""
    of_data, own = (np.random.default_rng(zlib.crc32(w.encode())) for w in (data, f"{data} {method} {seed}"))
    groups, labels, hard = np.sort(of_data.integers(0, n // 4, n)), of_data.integers(0, 10, n), of_data.normal(size=n)
    right = [hard + own.normal(size=n) for _ in range(draws)]
    right = [score.argsort(kind="stable").argsort(kind="stable") < round((value + r / 100) * n)
             for r, score in enumerate(right)]  # fmt: skip
    ids = np.tile(np.array([f"{i:06d}" for i in range(n)]), draws)
    labels, groups = np.tile(labels, draws), np.tile(groups, draws)
    guesses = np.where(np.concatenate(right), labels, (labels + 1) % 10)
    return records.Predictions(
        ids, groups.astype(np.str_), labels.astype(np.str_), guesses.astype(np.str_), np.arange(draws).repeat(n)
    )


def lines_of(folder: Path) -> Numbers:
    """Return value, count and interval of every line of a results file, by all that names it."""
    numbers: Numbers = {}
    for r in records.read(folder / "results.jsonl"):
        rate = r.base_lr if r.role == "grid" else None
        key = (r.run, r.method, r.seed, r.data, worded(r.task), worded(r.metric), r.role, r.epoch, rate, r.layer)
        numbers["line " + " ".join(str(k) for k in key if k is not None)] = [r.value, r.n, *(r.interval or ())]
    return numbers


def spread(c: dict) -> list[float | None]:
    """Return interval, p-value and, where there is one, the minimum detectable difference."""
    return [c["low"], c["high"], c["p"], *([c["detectable"]] if "detectable" in c else [])]


def populations(key: str, c: dict) -> Numbers:
    """Return the means of a comparison over data sets: in points and log-odds, with fixed and with random effects."""
    numbers: Numbers = {key: [c["difference"], c["p_holm"], c["log_odds"]["difference"]]}
    for scale, one in (("points", c), ("log-odds", c["log_odds"])):
        for effects, estimate in (("fixed", one), ("random", one["random_effects"])):
            numbers[f"{key} {scale} {effects}"] = spread(estimate)
    return numbers


def methods(_: Path) -> Numbers:
    return {f"{key} {kind}": list(losses_of(key, kind)) for key in VARIANTS for kind in ("sgd", "lars")}


def loop(out: Path) -> Numbers:
    runs: dict[str, dict] = {
        "sl-mlp": {"batch_size": 32, "epochs": 2, "augment": "moco-v2", "base_lr": 0.4},
        "swav": {"batch_size": 24, "epochs": 2, "augment": "swav", "base_lr": 0.4, "local_crops": 2, "local_size": 8},
        "byol": {"batch_size": 32, "epochs": 1, "augment": "byol", "base_lr": 20.0, "optimizer": "lars"},
        "moco-v2": {"batch_size": 32, "epochs": 1, "augment": "simclr", "base_lr": 0.4, "balanced": True},
    }
    found = {name: pretrained("emoji", out / name, name, 4, **settings) for name, settings in runs.items()}
    return {f"{name} {key}": values for name, numbers in found.items() for key, values in numbers.items()}


def worded(words: str) -> str:
    return " ".join(WORDS.get(word, word) for word in words.split(" "))


def folder_of(root: Path, name: str, make: Callable[[Path], object]) -> Path:
    (root / name).mkdir()
    make(root / name)
    return root / name


def shapes_into(root: Path, seed: int, parts: dict[str, int], classes: Sequence[str], *, grey: bool) -> None:
    rng = np.random.default_rng(seed)
    for part, count in parts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                image = draw(name, rng)
                (image.convert("L") if grey else image).save(root / part / name / f"{i:03d}.png")
