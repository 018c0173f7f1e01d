"""The linear probe against scikit-learn, in turns: ``python benchmarks/probe.py [--rounds 3] [--parts sweep few]``.

``sweep``: the job of the ssl-transfer protocol (Ericsson et al. 2021): 45 strengths, 1e-6 to 1e5 over the number of
images, each judged on a fifth of the training images, and a fit of all of them at the best. Contenders: ours;
scikit-learn's multinomial L-BFGS, each fit from zero (``cold``); the same, each from the last, strong to weak
(``warm``). scikit-learn stops at 100 iterations, as in that protocol and by its default.
``few``: five strengths, warm, on more images. ``agree``: the same five on fewer images to a hundredth of the tolerance,
with as many iterations as it takes: how far apart the objectives are. ``scale``: one fit from a memory-mapped float16
file of more and more images, with peak memory.

Both sides get the same float32 features (simulated: ReLU of class centres and noise with a power-law spectrum),
standardise them themselves and stop at the same largest gradient entry of the mean objective. Every turn is a process
of its own, timed without its imports and reading. OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, where set, hold
scikit-learn's products back and are taken out of its environment.

The default sizes take scikit-learn a quarter of an hour and more a round on one core: ``--parts`` and the sizes make it
less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
HOLD_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = ("sweep", "few", "agree", "scale")
SWEEP = [float(v) for v in np.logspace(5, -6, 45)]  # penalties of the summed loss, strong to weak
MOST = 20000  # iterations where nothing is to be cut off
FEW = [1e3, 1e2, 1e1, 1e0, 1e-1]  # five of them, where validation chooses


def main() -> None:
    """Run the parts that are asked for, or be a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest gradient entry; scikit-learn's default")
    parser.add_argument("--iterations", type=int, default=100, help="most of scikit-learn's for one strength")
    parser.add_argument("--sweep", type=int, nargs=3, default=[8000, 2048, 100], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--few", type=int, nargs=3, default=[50000, 512, 200], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--agree", type=int, nargs=3, default=[8000, 512, 100], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--scale", type=int, nargs="+", default=[50000, 100000, 200000, 400000], metavar="IMAGES")
    parser.add_argument("--scale-features", type=int, default=512)
    parser.add_argument("--scale-classes", type=int, default=200)
    parser.add_argument("--memory-limits", type=float, nargs="+", default=[0.3, 2.0], help="in GB, of ``scale``")
    parser.add_argument("--turn", help=argparse.SUPPRESS)  # a contender's settings, as JSON
    given = parser.parse_args()
    if given.turn:
        settings = json.loads(given.turn)
        contender = {"ours": _ours, "sklearn": _theirs, "scale": _scale}[settings["who"]]
        print(json.dumps(contender(settings)))
        return
    print(f"{given.threads} threads, tolerance {given.tolerance:g}", flush=True)
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            {"sweep": _sweep, "few": _few, "agree": _agree, "scale": _cost}[part](given, Path(folder))


def make(folder: Path, images: int, features: int, classes: int, dtype: str = "float32") -> None:
    """Write ``x.npy`` (N, D) and ``y.npy`` (N,), ReLU of class centres and noise under a spectrum of 1/k."""
    fixed = np.random.default_rng(0)
    spectrum = np.arange(1, features + 1, dtype=np.float32) ** -0.5
    mix = fixed.standard_normal((features, features), dtype=np.float32) * spectrum[:, None]
    mix *= 2 / np.linalg.norm(spectrum)
    centres = fixed.standard_normal((classes, features), dtype=np.float32)
    centres[:, 64:] = 0  # classes differ along the strongest directions
    random = np.random.default_rng(1)
    y = random.permutation(np.arange(images) % classes)
    file = np.lib.format.open_memmap(folder / "x.npy", "w+", np.dtype(dtype), (images, features))
    for start in range(0, images, 4096):
        of = y[start : start + 4096]
        latent = 0.55 * centres[of] + random.standard_normal((len(of), features), dtype=np.float32)
        file[start : start + 4096] = np.maximum(latent @ mix - 0.5, 0)
    file.flush()
    np.save(folder / "y.npy", y)


def split(images: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return positions to train on, to choose on and to test on; of training and choice a fifth is for choice."""
    order = np.random.default_rng(2).permutation(images)
    test, rest = np.sort(order[: images // 5]), order[images // 5 :]
    return np.sort(rest[len(rest) // 5 :]), np.sort(rest[: len(rest) // 5]), test


def turn(given: argparse.Namespace, folder: Path, who: str, **settings: Any) -> dict[str, Any]:
    """Run a contender in a process of its own and return what it found."""
    environment = {k: v for k, v in os.environ.items() if who != "sklearn" or k not in HOLD_BACK}
    environment.update(dict.fromkeys(THREADS, str(given.threads)))
    settings = {"who": who, "folder": str(folder), "threads": given.threads, **settings}
    command = [sys.executable, __file__, "--turn", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Return seconds of both sides and their ratio, round by round, by the clock and by the CPU time used."""
    shown = []
    for kind, word in (("seconds", "s"), ("cpu", "s of CPU")):
        a, b = ([turn[kind] for turn in turns] for turns in (ours, theirs))
        ratios = [other / mine for mine, other in zip(a, b, strict=True)]
        shown.append(
            f"ours {statistics.median(a):.2f} {word}, scikit-learn {statistics.median(b):.2f}, "
            f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        )
    return f"{name:5} {'; '.join(shown)}; aim 5"


def _sweep(given: argparse.Namespace, folder: Path) -> None:
    images, features, classes = given.sweep
    make(folder, images * 5 // 4, features, classes)  # a fifth of them is to test on
    print(f"sweep of {len(SWEEP)} strengths and a last fit, {images} x {features}, {classes} classes", flush=True)
    common = {"penalties": SWEEP, "tolerance": given.tolerance, "choose": True, "iterations": given.iterations}
    turns: dict[str, list[dict[str, Any]]] = {"ours": [], "cold": [], "warm": []}
    for _ in range(given.rounds):
        turns["ours"].append(turn(given, folder, "ours", **common))
        for kind in ("cold", "warm"):
            turns[kind].append(turn(given, folder, "sklearn", warm=kind == "warm", **common))
    for kind in ("cold", "warm"):
        print(_line(kind, turns["ours"], turns[kind]))
    for name, (first, *_) in turns.items():
        print(
            f"{name:5} chose {first['chosen']:.3g} an image of {first['tried']} tried, accuracy on "
            f"{images // 4} test images {100 * first['accuracy']:.2f} %, fits cut off {first['unfinished']}"
        )


def _few(given: argparse.Namespace, folder: Path) -> None:
    images, features, classes = given.few
    make(folder, images * 5 // 4, features, classes)
    print(f"{len(FEW)} strengths, {images} x {features}, {classes} classes", flush=True)
    common = {"penalties": FEW, "tolerance": given.tolerance, "choose": False, "iterations": given.iterations}
    ours, theirs = [], []
    for _ in range(given.rounds):
        ours.append(turn(given, folder, "ours", **common))
        theirs.append(turn(given, folder, "sklearn", warm=True, **common))
    print(_line("warm", ours, theirs))
    _apart(ours[0], theirs[0])


def _agree(given: argparse.Namespace, folder: Path) -> None:
    images, features, classes = given.agree
    make(folder, images * 5 // 4, features, classes)
    tolerance = given.tolerance / 100
    print(f"agreement at tolerance {tolerance:g}, {images} x {features}, {classes} classes", flush=True)
    common = {"penalties": FEW, "tolerance": tolerance, "choose": False, "iterations": MOST}
    ours = turn(given, folder, "ours", **common)
    _apart(ours, turn(given, folder, "sklearn", warm=True, wide=True, **common))


def _apart(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Print objective and accuracy of both sides, a line a strength; the objective is computed in float64."""
    for mine, other in zip(ours["fits"], theirs["fits"], strict=True):
        apart = (mine["objective"] - other["objective"]) / other["objective"]
        print(
            f"strength {mine['strength']:8.2g}  objective {mine['objective']:.6f}, ours less scikit-learn's "
            f"{apart:+.1e} of it ({other['iterations']} iterations of its), test accuracy "
            f"{100 * mine['accuracy']:.2f} % and {100 * other['accuracy']:.2f} %"
        )


def _cost(given: argparse.Namespace, folder: Path) -> None:
    make(folder, max(given.scale), given.scale_features, given.scale_classes, "float16")
    print(
        f"one fit from a float16 file, {given.scale_features} features, {given.scale_classes} classes, seconds a pass:"
    )
    for limit in given.memory_limits:
        for images in given.scale:
            found = turn(given, folder, "scale", images=images, limit=limit, tolerance=given.tolerance)
            print(
                f"limit {limit:5.2f} GB {images:8} images {found['seconds']:8.2f} s, {found['passes']:3} passes of "
                f"{1e6 * found['a_pass'] / images:6.2f} us an image, peak {found['peak']:.2f} GB, "
                f"{'held' if found['held'] else 'read anew'}",
                flush=True,
            )


def _load(settings: dict[str, Any]) -> tuple[Array, npt.NDArray[np.int64]]:
    folder = Path(settings["folder"])
    return np.load(folder / "x.npy"), np.load(folder / "y.npy")


def _ours(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit with slmlp and return seconds, choice, objectives."""
    import torch

    from slmlp import config
    from slmlp.probes.fitted import linear_fit
    from slmlp.probes.linear import fit
    from slmlp.probes.path import follow, judge_labels, walk
    from slmlp.probes.solver import Design

    torch.set_num_threads(settings["threads"])
    x, y = _load(settings)
    inner, held, test = split(len(y))
    train = np.sort(np.concatenate([inner, held]))
    classes, tolerance = int(y.max()) + 1, settings["tolerance"]
    limits = {"tolerance": tolerance, "max_iterations": MOST}
    fit(x[:500, :16], y[:500], classes, 1.0, **limits)  # what the first call starts is not timed
    began, used = time.perf_counter(), time.process_time()
    if settings["choose"]:
        strengths = tuple(penalty / len(inner) for penalty in settings["penalties"])
        cfg = config.Probe(strengths=strengths, **limits)
        design = Design(x, y, classes, rows=inner, beside=len(held))
        choice = follow(design, cfg, judge_labels(design, y, held))
        probe = fit(x, y, classes, choice.strength, start=choice.start, axes=choice.axes, rows=train, **limits)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        accuracy = float((probe.classify(x, test)[0] == y[test]).mean())
        return {
            "seconds": seconds,
            "cpu": cpu,
            "chosen": choice.strength,
            "tried": len(choice.scores),
            "accuracy": accuracy,
            "unfinished": choice.unfinished + (not probe.finished),
        }
    design = Design(x, y, classes, rows=train)
    weaker = [penalty / len(train) for penalty in settings["penalties"]]
    found = [
        linear_fit(design, solution, strength)
        for strength, solution in walk(design, weaker, tolerance, MOST, exact=True)
    ]
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    fits = [_judged(x, y, train, test, f.strength, f.weight, f.bias, f.iterations) for f in found]
    return {"seconds": seconds, "cpu": cpu, "fits": fits}


def _theirs(settings: dict[str, Any]) -> dict[str, Any]:
    """Do the same with scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")  # it warns of every fit that its iterations end
    x, y = _load(settings)
    if settings.get("wide"):
        x = x.astype(np.float64)
    inner, held, test = split(len(y))
    train = np.sort(np.concatenate([inner, held]))

    def model(penalty: float) -> Any:
        return LogisticRegression(
            C=1 / penalty, tol=settings["tolerance"], max_iter=settings["iterations"], warm_start=settings["warm"]
        )

    model(1.0).fit(x[:500, :16], y[:500])  # what the first call starts is not timed
    began, used = time.perf_counter(), time.process_time()
    rows = inner if settings["choose"] else train
    mean, std = x[rows].mean(0), x[rows].std(0)
    scaled = (x[rows] - mean) / std
    validation = (x[held] - mean) / std
    fits: list[tuple[float, Array, Array, int]] = []
    probe, best, cut = model(1.0), (-1.0, 0.0), 0
    for penalty in settings["penalties"]:
        if not settings["warm"]:
            probe = model(penalty)
        probe.C = 1 / penalty
        probe.fit(scaled, y[rows])
        iterations = int(probe.n_iter_.max())
        cut += iterations >= settings["iterations"]
        fits.append((penalty / len(rows), probe.coef_.copy(), probe.intercept_.copy(), iterations))
        if settings["choose"]:
            best = max(best, (float((probe.predict(validation) == y[held]).mean()), penalty / len(inner)))
    if not settings["choose"]:
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        return {"seconds": seconds, "cpu": cpu, "fits": [_judged(x, y, train, test, *found) for found in fits]}
    mean, std = x[train].mean(0), x[train].std(0)
    probe.C = 1 / (best[1] * len(train))
    if settings["warm"]:  # from the fit at that strength
        probe.coef_, probe.intercept_ = next(found[1:3] for found in fits if found[0] == best[1])
    probe.fit((x[train] - mean) / std, y[train])
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    accuracy = float((probe.predict((x[test] - mean) / std) == y[test]).mean())
    return {
        "seconds": seconds,
        "cpu": cpu,
        "chosen": best[1],
        "tried": len(fits),
        "accuracy": accuracy,
        "unfinished": cut,
        "iterations": sum(found[3] for found in fits),
    }


def _judged(
    x: Array,
    y: npt.NDArray[np.int64],
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    strength: float,
    weight: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    iterations: int,
) -> dict[str, float]:
    """Return the objective over training images, in float64 and by neither side's code, and accuracy on test images."""
    wide = weight.astype(np.float64)
    mean, std = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
    total, right = 0.0, 0
    for rows in (train, test):
        for start in range(0, len(rows), 4096):
            at = rows[start : start + 4096]
            logits = (x[at] - mean) / std @ wide.T + bias
            top = logits.max(1)
            if rows is test:
                right += int((logits.argmax(1) == y[at]).sum())
            else:
                norms = top + np.log(np.exp(logits - top[:, None]).sum(1))
                total += float((norms - logits[np.arange(len(at)), y[at]]).sum())
    objective = total / len(train) + strength / 2 * float((wide**2).sum())
    return {"strength": strength, "objective": objective, "accuracy": right / len(test), "iterations": iterations}


def _scale(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit once from the memory-mapped file; return seconds, passes, and how far anonymous memory rose."""
    import torch

    from slmlp.probes import solver
    from slmlp.probes.linear import fit

    torch.set_num_threads(settings["threads"])
    folder = Path(settings["folder"])
    images, limit = settings["images"], settings["limit"]
    x, y = np.load(folder / "x.npy", mmap_mode="r")[:images], np.load(folder / "y.npy")[:images]
    classes = int(y.max()) + 1
    fit(x[:500, :16], y[:500], classes, 1.0, tolerance=1e-4, max_iterations=5)
    passes: list[float] = []
    evaluate = solver.evaluate

    def counted(*words: Any, **named: Any) -> solver.Point:
        began = time.perf_counter()
        point = evaluate(*words, **named)
        passes.append(time.perf_counter() - began)
        return point

    solver.evaluate = counted
    held: list[bool] = []
    design = solver.Design.__init__

    def noted(self: Any, *words: Any, **named: Any) -> None:
        design(self, *words, **named)
        held.append(self.hold)

    solver.Design.__init__ = noted  # type: ignore[method-assign]
    most, over, before = [0], threading.Event(), _anonymous()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    fit(x, y, classes, 1e-3, tolerance=settings["tolerance"], max_iterations=MOST, memory_limit_gb=limit)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    return {
        "seconds": seconds,
        "passes": len(passes),
        "a_pass": statistics.median(passes),
        "peak": (most[0] - before) / 1e9,
        "held": held[0],
    }


def _anonymous() -> int:
    """Return the bytes of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
