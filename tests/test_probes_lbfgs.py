"""The solver's memory of the curvature is L-BFGS's, and serves at every l2.

The claims: the direction is that of the BFGS matrix built up in full, in float64; remembered pairs are, at another
l2, the gradient differences of that l2; a path that remembers takes fewer passes than one that does not,
and ends in the same place.
"""

from __future__ import annotations

import numpy as np
import torch

from slmlp.probes import lbfgs
from slmlp.probes.lbfgs import Curvature, Preconditioner, evaluate
from slmlp.probes.path import walk
from slmlp.probes.solver import Design, minimise
from test_probes_linear import blobs


def penalised(design: Design, l2: float) -> torch.Tensor:
    penalty = torch.full((design.rows.width + 1,), l2, dtype=torch.float64)
    penalty[-1] = 0
    return penalty


def random_pairs(curvature: Curvature, design: Design, penalty: torch.Tensor, count: int) -> torch.Tensor:
    """Walk at random and remember; return where it ends."""
    torch.manual_seed(0)
    theta = torch.randn(4, design.rows.width + 1, dtype=torch.float64) / 5
    gradient = evaluate(design.double, design.loss, theta, penalty).gradient
    curvature.begin(theta, gradient, penalty)
    for _ in range(count):
        moved = theta + torch.randn_like(theta) / 10
        new = evaluate(design.double, design.loss, moved, penalty).gradient
        curvature.add(moved - theta, new - gradient)
        theta, gradient = moved, new
    curvature.last = theta, gradient
    return theta


def test_the_direction_is_that_of_the_bfgs_matrix():
    x, y = blobs(80, 5, 4)
    design, curvature = Design(x, y, 4), Curvature()
    penalty = penalised(design, 0.1)
    theta = random_pairs(curvature, design, penalty, 6)
    now = evaluate(design.double, design.loss, theta, penalty, spread=True)
    scale = Preconditioner(design.axes, now.spread, 0.1)
    columns = torch.eye(now.gradient.numel(), dtype=torch.float64)
    inverse = torch.stack([scale(column.reshape(now.gradient.shape)).reshape(-1) for column in columns], dim=1)
    s, z = (torch.stack([getattr(p, name).reshape(-1) for p in curvature.pairs]) for name in ("change", "bend"))
    inverse *= (s[-1] @ z[-1]) / (z[-1] @ inverse @ z[-1])
    for change, bend in zip(s, z, strict=True):  # Nocedal and Wright (2006), equation 6.17
        rho = 1 / (change @ bend)
        turn = torch.eye(len(change), dtype=torch.float64) - rho * torch.outer(change, bend)
        inverse = turn @ inverse @ turn.T + rho * torch.outer(change, change)
    np.testing.assert_allclose(
        curvature.direction(now.gradient, scale).reshape(-1), -(inverse @ now.gradient.reshape(-1)), rtol=1e-9
    )


def test_pairs_serve_at_another_l2():
    x, y = blobs(80, 5, 4)
    design, curvature = Design(x, y, 4), Curvature()
    end = random_pairs(curvature, design, penalised(design, 0.1), 3)
    penalty = penalised(design, 0.003)

    def slope(theta: torch.Tensor) -> torch.Tensor:
        return evaluate(design.double, design.loss, theta, penalty).gradient

    start = end + 0.1
    curvature.begin(start, slope(start), penalty)
    assert len(curvature.pairs) == 4  # the last is the step from the end of the fit before
    torch.testing.assert_close(curvature.pairs[-1].change, start - end)
    theta = end
    for pair in list(curvature.pairs)[-2::-1]:
        before = theta - pair.change
        torch.testing.assert_close(pair.bend, slope(theta) - slope(before), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(1 / pair.inverse, (pair.change * pair.bend).sum())
        theta = before
    curvature.last = start, slope(start)
    curvature.begin(start, slope(start), penalty)
    assert len(curvature.pairs) == 4  # no step, no pair


def test_a_path_that_remembers_takes_fewer_passes_and_ends_in_the_same_place(monkeypatch):
    x, y = blobs(600, 40, 8, separation=0.5)
    design, passes = Design(x, y, 8), 0

    def counted(*words, **named):
        nonlocal passes
        passes += 1
        return evaluate(*words, **named)

    monkeypatch.setattr(lbfgs, "evaluate", counted)
    l2_values, tolerance = np.logspace(0, -2, 9).tolist(), 1e-5
    found = dict(walk(design, l2_values, tolerance, 1000, exact=False))
    remembering, passes = passes, 0
    monkeypatch.setattr(Curvature, "begin", lambda self, *_: self.pairs.clear())
    list(walk(design, l2_values, tolerance, 1000, exact=False))
    assert remembering < 0.9 * passes
    for l2, solution in found.items():
        assert solution.finished
        exact = minimise(design, l2, tolerance=1e-10, max_iterations=5000).theta
        # weights go up to 1; all biases may shift together
        torch.testing.assert_close(solution.theta[:, :-1], exact[:, :-1], rtol=0, atol=2e-3)
