"""The linear probe against scikit-learn, in turns: ``python benchmarks/probe.py [--rounds 3] [--parts sweep few]``.

``sweep``: the job of the ssl-transfer protocol (Ericsson et al. 2021): 45 values of l2, 1e-6 to 1e5 over the number of
images, each judged on a fifth of the training images, and a fit of all of them at the best. Contenders: ours;
scikit-learn's multinomial L-BFGS, each fit from zero (``cold``); the same, each from the last, from strong to weak
(``warm``; the protocol goes from weak to strong, on features as they come, which takes scikit-learn longer). It stops
at 100 iterations, as in that protocol and by its default.
``few``: five of the sweep's l2, warm, on more images, fitted as the sweep fits them (to a gradient that float32
measures; ``--exact``: float64, as in final fits). ``agree``: the same five on fewer images to a hundredth of the
tolerance, with as many iterations as it takes: how far apart the objectives are. ``weak``: ours at l2 whose
penalty a tenth of the tolerance hardly sees, started from several places. ``scale``: one fit from a memory-mapped
float16 file of more and more images, with peak memory.

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
from pathlib import Path
from typing import Any

import numpy as np

import probe_sides

HOLD_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = ("sweep", "few", "agree", "weak", "scale")
SWEEP = [float(v) for v in np.logspace(5, -6, 45)]  # penalties of the summed loss, strong to weak
FEW = [1e3, 1e2, 1e1, 1e0, 1e-1]  # five of them, where validation chooses
WEAK = [1e-2, 1e-4, 1e-5, 1e-6]


def main() -> None:
    """Run the parts that are asked for, or be a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest gradient entry; scikit-learn's default")
    parser.add_argument("--iterations", type=int, default=100, help="most of scikit-learn's for one l2")
    parser.add_argument("--exact", action="store_true", help="of ``few``: end our fits in float64")
    parser.add_argument("--sweep", type=int, nargs=3, default=[8000, 2048, 100], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--few", type=int, nargs=3, default=[50000, 512, 200], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--agree", type=int, nargs=3, default=[8000, 512, 100], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--weak", type=int, nargs=3, default=[4000, 1024, 50], metavar=("IMAGES", "FEATURES", "CLS"))
    parser.add_argument("--scale", type=int, nargs="+", default=[50000, 100000, 200000, 400000], metavar="IMAGES")
    parser.add_argument("--scale-features", type=int, default=512)
    parser.add_argument("--scale-classes", type=int, default=200)
    parser.add_argument("--memory-limits", type=float, nargs="+", default=[0.3, 2.0], help="in GB, of ``scale``")
    parser.add_argument("--turn", help=argparse.SUPPRESS)  # a contender's settings, as JSON
    given = parser.parse_args()
    if given.turn:
        settings = json.loads(given.turn)
        contenders = {
            "ours": probe_sides.ours,
            "sklearn": probe_sides.theirs,
            "weak": probe_sides.weak,
            "scale": probe_sides.scale,
        }
        print(json.dumps(contenders[settings["who"]](settings)))
        return
    print(f"{given.threads} threads, tolerance {given.tolerance:g}", flush=True)
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            {"sweep": _sweep, "few": _few, "agree": _agree, "weak": _weak, "scale": _cost}[part](given, Path(folder))


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
    print(f"sweep of {len(SWEEP)} values of l2 and a last fit, {images} x {features}, {classes} classes", flush=True)
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
    print(f"{len(FEW)} values of l2, {images} x {features}, {classes} classes", flush=True)
    common = {"penalties": FEW, "tolerance": given.tolerance, "choose": False, "iterations": given.iterations}
    common["exact"] = given.exact
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
    common = {"penalties": FEW, "tolerance": tolerance, "choose": False, "iterations": probe_sides.MOST}
    common["exact"] = True
    ours = turn(given, folder, "ours", **common)
    _apart(ours, turn(given, folder, "sklearn", warm=True, wide=True, **common))


def _apart(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Print objective and accuracy of both sides, a line per l2; the objective is computed in float64."""
    for mine, other in zip(ours["fits"], theirs["fits"], strict=True):
        apart = (mine["objective"] - other["objective"]) / other["objective"]
        print(
            f"l2 {mine['l2']:8.2g}  objective {mine['objective']:.6f}, ours less scikit-learn's "
            f"{apart:+.1e} of it ({other['iterations']} iterations of its), test accuracy "
            f"{100 * mine['accuracy']:.2f} % and {100 * other['accuracy']:.2f} %"
        )


def _weak(given: argparse.Namespace, folder: Path) -> None:
    images, features, classes = given.weak
    make(folder, images * 5 // 4, features, classes)
    tolerance = given.tolerance / 10
    print(f"weak penalties at tolerance {tolerance:g}, {images} x {features}, {classes} classes", flush=True)
    for name, fits in turn(given, folder, "weak", tolerance=tolerance, l2=WEAK).items():
        for fit in fits:
            print(
                f"from {name:30} l2 {fit['l2']:.0e}: test accuracy {100 * fit['accuracy']:.2f} %, "
                f"objective {fit['objective']:.5f}, {fit['passes']} passes"
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


if __name__ == "__main__":
    main()
