"""The contenders of ``probe.py``; each runs in a process of its own and returns what it found."""

from __future__ import annotations

import statistics
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
MOST = 20000  # iterations where nothing is to be cut off


def split(images: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return positions to train on, to choose on and to test on; of training and choice a fifth is for choice."""
    order = np.random.default_rng(2).permutation(images)
    test, rest = np.sort(order[: images // 5]), order[images // 5 :]
    return np.sort(rest[len(rest) // 5 :]), np.sort(rest[: len(rest) // 5]), test


@dataclass(frozen=True)
class Job:
    """What one of our contenders fits, and how exactly."""

    x: Array
    y: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]  # positions to train on, to choose on and to test on
    held: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    classes: int
    tolerance: float

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Job:
        """Read the features, and give torch its threads."""
        import torch

        torch.set_num_threads(settings["threads"])
        x, y = _load(settings)
        return cls(x, y, *split(len(y)), int(y.max()) + 1, settings["tolerance"])

    @property
    def train(self) -> npt.NDArray[np.int64]:
        """Positions to train on and to choose on."""
        return np.sort(np.concatenate([self.inner, self.held]))

    @property
    def limits(self) -> dict[str, Any]:
        """When a fit ends."""
        return {"tolerance": self.tolerance, "max_iterations": MOST}


def _load(settings: dict[str, Any]) -> tuple[Array, npt.NDArray[np.int64]]:
    folder = Path(settings["folder"])
    return np.load(folder / "x.npy"), np.load(folder / "y.npy")


def ours(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit with slmlp and return seconds, choice, objectives."""
    from slmlp import config
    from slmlp.probes.fitted import linear_fit
    from slmlp.probes.linear import fit
    from slmlp.probes.path import follow, judge_labels, walk
    from slmlp.probes.solver import Design

    job = Job.of(settings)
    x, y, train, test, classes, limits = job.x, job.y, job.train, job.test, job.classes, job.limits
    fit(x[:500, :16], y[:500], classes, 1.0, **limits)  # what the first call starts is not timed
    began, used = time.perf_counter(), time.process_time()
    if settings["choose"]:
        l2_values = tuple(penalty / len(job.inner) for penalty in settings["penalties"])
        cfg = config.Probe(l2=l2_values, **limits)
        design = Design(x, y, classes, rows=job.inner, beside=len(job.held))
        choice = follow(design, cfg, judge_labels(design, y, job.held))
        probe = fit(x, y, classes, choice.l2, start=choice.start, axes=choice.axes, rows=train, **limits)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        accuracy = float((probe.classify(x, test)[0] == y[test]).mean())
        return {
            "seconds": seconds,
            "cpu": cpu,
            "chosen": choice.l2,
            "tried": len(choice.scores),
            "accuracy": accuracy,
            "unfinished": choice.unfinished + (not probe.finished),
        }
    design = Design(x, y, classes, rows=train)
    weaker = [penalty / len(train) for penalty in settings["penalties"]]
    found = [
        linear_fit(design, solution, l2) for l2, solution in walk(design, weaker, **limits, exact=settings["exact"])
    ]
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    fits = [_judged(x, y, train, test, f.l2, f.weight, f.bias, f.iterations) for f in found]
    return {"seconds": seconds, "cpu": cpu, "fits": fits}


def theirs(settings: dict[str, Any]) -> dict[str, Any]:
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
    if settings["warm"]:  # from the fit at that l2
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
    l2: float,
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
    objective = total / len(train) + l2 / 2 * float((wide**2).sum())
    return {"l2": l2, "objective": objective, "accuracy": right / len(test), "iterations": iterations}


def weak(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit l2 that the tolerance hardly sees, coming from several places; return passes, objective, accuracy."""
    import torch

    from slmlp.probes import lbfgs
    from slmlp.probes.fitted import expressed, linear_fit
    from slmlp.probes.path import FIRMLY, descend, is_pinned, walk
    from slmlp.probes.solver import Design, Solution, minimise

    job = Job.of(settings)
    x, y, train, test, classes, limits = job.x, job.y, job.train, job.test, job.classes, job.limits
    part, whole = (Design(x, y, classes, rows=rows) for rows in (job.inner, train))
    grid = {*np.logspace(1, -6, 15).tolist(), *settings["l2"]}
    path = dict(walk(part, sorted(grid), **limits, exact=False))
    firm = min(s for s, found in path.items() if is_pinned(s, found.theta[:, :-1], job.tolerance, FIRMLY))

    def known(l2: float) -> tuple[float, torch.Tensor]:
        return l2, expressed(whole, linear_fit(part, path[l2], l2))

    ways: dict[str, Callable[[float], Solution]] = {
        "inner fit": lambda s: minimise(whole, s, **limits, start=known(s)[1]),
        "zero": lambda s: minimise(whole, s, **limits),
        "path from 10": lambda s: descend(whole, s, **limits),
        f"path from the inner fit at {firm:.2g}": lambda s: descend(whole, s, **limits, start=known(max(firm, s))),
    }
    passes, evaluate = [0], lbfgs.evaluate

    def counted(*words: Any, **named: Any) -> lbfgs.Point:
        passes[0] += 1
        return evaluate(*words, **named)

    def row(solution: Solution, l2: float) -> dict[str, float]:
        fit = linear_fit(whole, solution, l2)
        judged = _judged(x, y, train, test, l2, fit.weight, fit.bias, fit.iterations)
        return {**judged, "passes": passes[0]}

    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with mock.patch.object(lbfgs, "evaluate", counted):
        for name, way in ways.items():
            for l2 in settings["l2"]:
                passes[0] = 0
                found[name].append(row(way(l2), l2))
    return found


def scale(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit once from the memory-mapped file; return seconds, passes, and how far anonymous memory rose."""
    import torch

    from slmlp.probes import lbfgs, solver
    from slmlp.probes.linear import fit

    torch.set_num_threads(settings["threads"])
    folder = Path(settings["folder"])
    images, limit = settings["images"], settings["limit"]
    x, y = np.load(folder / "x.npy", mmap_mode="r")[:images], np.load(folder / "y.npy")[:images]
    classes = int(y.max()) + 1
    fit(x[:500, :16], y[:500], classes, 1.0, tolerance=1e-4, max_iterations=5)
    passes: list[float] = []
    evaluate = lbfgs.evaluate

    def counted(*words: Any, **named: Any) -> lbfgs.Point:
        began = time.perf_counter()
        point = evaluate(*words, **named)
        passes.append(time.perf_counter() - began)
        return point

    held: list[bool] = []
    design = solver.Design.__init__

    def noted(self: Any, *words: Any, **named: Any) -> None:
        design(self, *words, **named)
        held.append(self.hold)

    most, over, before = [0], threading.Event(), _anonymous()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    with mock.patch.object(lbfgs, "evaluate", counted), mock.patch.object(solver.Design, "__init__", noted):
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
