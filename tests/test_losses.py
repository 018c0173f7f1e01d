"""Each loss against a second form of other authors, against loops in float64, and under what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from pytorch_metric_learning.losses import SupConLoss

from loss_checks import T, agree, drawn, gradients, lists, near
from slmlp.methods.base import Queue
from slmlp.methods.losses import (
    info_nce,
    nt_xent,
    products,
    regression,
    sinkhorn,
    soft_cross_entropy,
    sup_con,
    unit,
    variance_covariance,
)

LABELS = {
    "pairs": [0, 0, 1, 1, 2, 2],
    "alone": [0, 0, 0, 1, 1, 2],  # class 2 has one image
    "one": [0, 0, 0, 0, 0, 0],
}


# --- other authors' code ---


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("shape", [(2, 3), (9, 16)])
def test_nt_xent_equals_lightlys(shape, temperature):
    z1, z2 = drawn(*shape), drawn(*shape, seed=1)
    agree(nt_xent(z1, z2, temperature), NTXentLoss(temperature)(z1, z2), [z1, z2])


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_info_nce_and_the_queue_equal_lightlys_memory_bank_over_steps(temperature):
    n, width, size = 4, 6, 12
    theirs = NTXentLoss(temperature, memory_bank_size=(size, width)).double()
    queue = Queue(size, width).double()
    queue.rows.copy_(unit(drawn(size, width, seed=9, grad=False)))
    theirs.memory_bank.bank.copy_(queue.rows)
    for step in range(7):  # the ring comes round twice
        q, k = drawn(n, width, seed=2 * step), drawn(n, width, seed=2 * step + 1, grad=False)
        agree(info_nce(q, k, queue.rows, temperature), theirs(q, k), [q])
        queue.push(unit(k))
        torch.testing.assert_close(queue.rows, theirs.memory_bank.bank, atol=1e-12, rtol=0)


def test_regression_is_twice_one_plus_lightlys_negative_cosine():
    p, t = drawn(7, 5), drawn(7, 5, seed=1)
    agree(regression(p, t), 2 + 2 * NegativeCosineSimilarity()(p, t), [p, t])


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("queue", [0, 10])
def test_swapped_prediction_equals_lightlys_swav(local, queue):
    """Written as ``SwAV.forward`` composes it; that the method does so is tested with the method."""
    prototypes = unit(drawn(5, 4, seed=7, grad=False)).requires_grad_()
    z = [drawn(6, 4, seed=i) for i in range(2 + local)]
    scores = [products(unit(e), prototypes) for e in z]
    held = [products(unit(drawn(queue, 4, seed=20 + i)), prototypes) for i in range(2)] if queue else None
    terms = []
    for view in range(2):
        beside = [scores[view].detach()] + ([held[view].detach()] if held else [])
        codes = sinkhorn(torch.cat(beside), 0.05, 3)[:6]
        terms += [soft_cross_entropy(s / 0.1, codes) for other, s in enumerate(scores) if other != view]
    theirs = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)(scores[:2], scores[2:], held)
    agree(torch.stack(terms).mean(), theirs.squeeze(0), [prototypes, *z])


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("labels", ["pairs", "alone"])
def test_sup_con_equals_pytorch_metric_learnings(views, labels):
    """Its reducer averages over losses that are not zero, which are those of anchors with a positive."""
    y = torch.tensor(LABELS[labels])
    z = [drawn(6, 5, seed=i) for i in range(views)]
    theirs = SupConLoss(temperature=T)(torch.cat(z), y.repeat(views))
    agree(sup_con(z, y, T), theirs, z)


def test_sup_con_of_two_views_and_no_labels_in_common_is_nt_xent():
    z1, z2 = drawn(6, 5), drawn(6, 5, seed=1)
    for form in ("out", "in"):
        agree(sup_con([z1, z2], torch.arange(6), T, form), nt_xent(z1, z2, T), [z1, z2])


# --- loops in float64 ---


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def nt_xent_by_hand(z1, z2):
    z, n, total = lists(z1, z2), len(z1), 0.0
    for i in range(2 * n):
        rest = sum(math.exp(cosine(z[i], z[k]) / T) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(cosine(z[i], z[(i + n) % (2 * n)]) / T) / rest)
    return total / (2 * n)


def sup_con_by_hand(views, labels, form):
    z, y = lists(*views), labels.tolist() * len(views)
    anchors = []
    for i in range(len(z)):
        mates = [p for p in range(len(z)) if p != i and y[p] == y[i]]
        if not mates:
            continue
        rest = sum(math.exp(cosine(z[i], z[k]) / T) for k in range(len(z)) if k != i)
        shares = [math.exp(cosine(z[i], z[p]) / T) / rest for p in mates]
        if form == "out":
            anchors.append(-sum(math.log(s) for s in shares) / len(mates))
        else:
            anchors.append(-math.log(sum(shares) / len(mates)))
    return sum(anchors) / len(anchors)


def info_nce_by_hand(q, k, queue):
    total, negatives = 0.0, lists(queue)
    for query, key in zip(lists(q), lists(k), strict=True):
        own = math.exp(cosine(query, key) / T)
        total -= math.log(own / (own + sum(math.exp(cosine(query, m) / T) for m in negatives)))
    return total / len(q)


def regression_by_hand(p, t):
    total = 0.0
    for a, b in zip(lists(p), lists(t), strict=True):
        a, b = ([x / math.sqrt(sum(y * y for y in v)) for x in v] for v in (a, b))
        total += sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return total / len(p)


def soft_cross_entropy_by_hand(logits, codes):
    total = 0.0
    for row, target in zip(lists(logits), lists(codes), strict=True):
        rest = sum(math.exp(x) for x in row)
        total -= sum(c * math.log(math.exp(x) / rest) for x, c in zip(row, target, strict=True))
    return total / len(logits)


def test_nt_xent_by_hand():
    z1, z2 = drawn(4, 3), drawn(4, 3, seed=1)
    near(nt_xent(z1, z2, T), nt_xent_by_hand(z1, z2))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("form", ["out", "in"])
def test_sup_con_by_hand(form, labels, views):
    y, z = torch.tensor(LABELS[labels]), [drawn(6, 3, seed=i) for i in range(views)]
    near(sup_con(z, y, T, form), sup_con_by_hand(z, y, form))


def test_info_nce_by_hand():
    q, k, queue = drawn(3, 4), drawn(3, 4, seed=1), unit(drawn(5, 4, seed=2))
    near(info_nce(q, k, queue, T), info_nce_by_hand(q, k, queue))


def test_regression_by_hand():
    p, t = drawn(5, 3), drawn(5, 3, seed=1)
    near(regression(p, t), regression_by_hand(p, t))
    assert regression(p, 3 * p).item() == pytest.approx(0, abs=1e-12)
    assert regression(p, -p).item() == pytest.approx(4)


def test_soft_cross_entropy_by_hand():
    logits, codes = drawn(4, 3), drawn(4, 3, seed=1, grad=False).softmax(1)
    near(soft_cross_entropy(logits, codes), soft_cross_entropy_by_hand(logits, codes))


def test_variance_and_covariance_by_numpy_and_hand():
    h = drawn(7, 4) * torch.tensor([0.2, 1.0, 3.0, 0.9], dtype=torch.float64)  # two fall short of 1
    cov = np.cov(h.detach().numpy(), rowvar=False)
    short = [max(0.0, 1 - math.sqrt(cov[j, j] + 1e-4)) for j in range(4)]
    assert sum(s > 0 for s in short) in (2, 3)
    variance, covariance = variance_covariance(h)
    near(variance, sum(short) / 4)
    near(covariance, sum(cov[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4)
    constant = torch.ones(5, 2, dtype=torch.float64, requires_grad=True)  # the root's slope at 0 would be infinite
    variance, covariance = variance_covariance(constant)
    near(variance, 1 - 0.01)
    near(covariance, 0.0)
    assert torch.isfinite(gradients(variance + covariance, [constant])[0]).all()


CODES = drawn(4, 3, seed=2, grad=False).softmax(1)
GRADIENTS = {
    "nt_xent": lambda a, b: nt_xent(a, b, T),
    "sup_con out": lambda a, b: sup_con([a, b], torch.tensor([0, 0, 1, 2]), T),
    "sup_con out, one view": lambda a, b: sup_con([a + b], torch.tensor([0, 0, 1, 2]), T),
    "sup_con in": lambda a, b: sup_con([a, b], torch.tensor([0, 0, 1, 2]), T, "in"),
    "sup_con in, one view": lambda a, b: sup_con([a + b], torch.tensor([0, 0, 1, 2]), T, "in"),
    "info_nce": lambda a, b: info_nce(a, b, unit(torch.eye(3, dtype=torch.float64) + 0.2), T),
    "regression": regression,
    "soft_cross_entropy": lambda a, b: soft_cross_entropy(a + b, CODES),
    "variance": lambda a, b: variance_covariance(0.3 * torch.cat([a, b]))[0],
    "covariance": lambda a, b: variance_covariance(torch.cat([a, b]))[1],
}


@pytest.mark.parametrize("loss", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_gradients_are_those_of_small_differences(loss):
    assert torch.autograd.gradcheck(loss, (drawn(4, 3), drawn(4, 3, seed=1)))


# --- edges ---


@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("n", [1, 5])
def test_sup_con_without_any_positive_is_zero_and_its_gradient_too(form, n):
    z = drawn(n, 4)
    loss = sup_con([z], torch.arange(n), T, form)
    assert loss.item() == 0
    assert torch.equal(gradients(loss, [z])[0], torch.zeros_like(z))


@pytest.mark.parametrize("form", ["out", "in"])
def test_a_class_alone_is_a_negative_of_the_others_and_no_anchor(form):
    y, z = torch.tensor(LABELS["alone"]), drawn(6, 4)
    loss = sup_con([z], y, T, form)
    (grad,) = gradients(loss, [z])
    assert torch.isfinite(grad).all()
    assert grad[5].abs().max() > 1e-4
    assert loss.item() > sup_con([z[:5]], y[:5], T, form).item()  # fewer negatives: an easier task


def test_a_zero_embedding_gives_no_nan():
    z = torch.zeros(4, 3, requires_grad=True)
    y = torch.tensor([0, 0, 1, 1])
    for loss in (nt_xent(z, z, T), sup_con([z], y, T), sup_con([z], y, T, "in"), regression(z, z)):
        assert torch.isfinite(loss)
        assert torch.isfinite(gradients(loss, [z])[0]).all()


# --- what must not change a loss ---

Y = torch.tensor([0, 1, 0, 2, 1, 0])
QUEUE = unit(drawn(9, 4, seed=5, grad=False))
TWO_VIEWS = {
    "nt_xent": lambda a, b, turn, order: nt_xent(a, b, T),
    "sup_con out": lambda a, b, turn, order: sup_con([a, b], Y[order], T),
    "sup_con in": lambda a, b, turn, order: sup_con([a, b], Y[order], T, "in"),
    "info_nce": lambda a, b, turn, order: info_nce(a, b, QUEUE @ turn, T),
    "regression": lambda a, b, turn, order: regression(a, b),
}
SAME, STILL = torch.arange(6), torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("loss", TWO_VIEWS.values(), ids=TWO_VIEWS.keys())
def test_length_order_and_rotation_of_embeddings_do_not_matter(loss):
    a, b = drawn(6, 4), drawn(6, 4, seed=1)
    before = loss(a, b, STILL, SAME)
    lengths = torch.linspace(0.1, 30, 6, dtype=torch.float64).unsqueeze(1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turn, _ = torch.linalg.qr(drawn(4, 4, seed=3, grad=False))
    near(loss(a * lengths, b / lengths, STILL, SAME), before.item())
    near(loss(a[order], b[order], STILL, order), before.item())
    near(loss(a @ turn, b @ turn, turn, SAME), before.item())
    assert abs(loss(a[order], b, STILL, SAME).item() - before.item()) > 1e-3  # other pairs are another loss


@pytest.mark.parametrize("name", ["nt_xent", "sup_con out", "sup_con in", "regression"])
def test_views_may_change_places(name):
    a, b = drawn(6, 4), drawn(6, 4, seed=1)
    near(TWO_VIEWS[name](b, a, STILL, SAME), TWO_VIEWS[name](a, b, STILL, SAME).item())


def test_the_order_of_the_queue_does_not_matter():
    q, k = drawn(6, 4), drawn(6, 4, seed=1)
    near(info_nce(q, k, QUEUE.flip(0), T), info_nce(q, k, QUEUE, T).item())


def test_a_shift_or_another_order_leaves_variance_and_covariance():
    h = drawn(6, 4)
    for other in (h + 5, h.flip(0), h.flip(1), -h):
        for mine, before in zip(variance_covariance(other), variance_covariance(h), strict=True):
            near(mine, before.item())


# --- precision ---


def test_losses_are_float32_under_autocast_to_the_bit():
    a, b = drawn(6, 4).float(), drawn(6, 4, seed=1).float()
    queue = QUEUE.float()
    cases = [
        lambda: nt_xent(a, b, 0.1),
        lambda: sup_con([a, b], Y, 0.1),
        lambda: sup_con([a, b], Y, 0.1, "in"),
        lambda: info_nce(a, b, queue, 0.1),
        lambda: regression(a, b),
        lambda: soft_cross_entropy(products(unit(a), queue) / 0.1, products(unit(b), queue).softmax(1)),
        lambda: sinkhorn(products(unit(a), queue), 0.05, 3),
        lambda: torch.stack(variance_covariance(3 * a)),
    ]
    for loss in cases:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = loss()
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, loss())
    half = [x.bfloat16() for x in (a, b)]  # as a layer hands them over
    assert nt_xent(*half, 0.1).dtype == sup_con(half, Y, 0.1).dtype == regression(*half).dtype == torch.float32
    assert info_nce(*half, queue, 0.1).dtype == variance_covariance(half[0])[0].dtype == torch.float32


# --- Sinkhorn ---


@pytest.mark.parametrize(("n", "k"), [(12, 5), (5, 12)])
def test_sinkhorns_rows_sum_to_one_and_columns_come_near_equal_shares(n, k):
    scores = products(unit(drawn(n, 8)), unit(drawn(k, 8, seed=1))).detach()
    off = []
    for iterations in (1, 3, 10, 1000):
        codes = sinkhorn(scores, 0.1, iterations)
        torch.testing.assert_close(codes.sum(1), torch.ones(n, dtype=torch.float64), atol=1e-12, rtol=0)
        assert (codes >= 0).all()
        off.append((codes.sum(0) - n / k).abs().max().item())
    assert off == sorted(off, reverse=True)
    assert off[0] > 0.01
    assert off[-1] < 1e-9


def test_sinkhorn_equals_plain_products_of_exponentials():
    scores = drawn(7, 4, grad=False).tanh()
    plain = [[math.exp(x / 0.05) for x in row] for row in scores.tolist()]
    for _ in range(3):
        columns = [sum(row[j] for row in plain) for j in range(4)]
        plain = [[x / columns[j] for j, x in enumerate(row)] for row in plain]
        plain = [[x / sum(row) for x in row] for row in plain]
    torch.testing.assert_close(
        sinkhorn(scores, 0.05, 3), torch.tensor(plain, dtype=torch.float64), atol=1e-13, rtol=1e-10
    )


def test_sinkhorn_does_not_overflow():
    scores = drawn(9, 4, grad=False).tanh().float()
    assert torch.exp(scores / 1e-4).isinf().any()  # as plain exponentials would
    codes = sinkhorn(scores, 1e-4, 3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(9))


def test_sinkhorn_has_no_gradient_and_does_not_mind_a_constant_or_an_order():
    scores = drawn(6, 4)
    codes = sinkhorn(scores, 0.1, 3)
    assert not codes.requires_grad
    torch.testing.assert_close(sinkhorn(scores + 3, 0.1, 3), codes)
    torch.testing.assert_close(sinkhorn(scores.flip(0), 0.1, 3), codes.flip(0))
    torch.testing.assert_close(sinkhorn(scores.flip(1), 0.1, 3), codes.flip(1))
