"""The losses, as functions of embeddings: float32 in, scalars out, whatever precision the encoder ran in.

Letters: N images, V views, P embedding width, K prototypes or keys, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(z: Tensor) -> Tensor:
    """Return rows of length 1, at least in float32."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=-1)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products (N, M) of rows (N, P) and (M, P) in the precision of ``a``.

    Outside autocast: it would round logits to bfloat16, whose steps near 10 (a cosine over 0.1) are 0.06 wide.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.to(a.dtype).T


def arcface(logits: Tensor, labels: Tensor, margin: float, temperature: float) -> Tensor:
    """Return logits (N, C), cosines over the temperature, with the angle theta of each own class made larger.

    Deng et al. 2019, equation 3 (its scale is 1 / temperature): cos(theta + margin) in place of cos(theta), by the sum
    formula, so that no arccos is taken. Where theta + margin passes pi it would rise again; there the logit goes on
    falling as cos(theta) - margin sin(margin), as in the source's code (``easy_margin`` off). The sine is at least the
    square root of the precision, which bounds its slope at theta of 0 and pi.
    """
    own = labels[:, None]
    cosine = logits.gather(1, own) * temperature  # (N, 1)
    square = ((1 - cosine) * (1 + cosine)).clamp(min=torch.finfo(logits.dtype).eps)
    moved = cosine * math.cos(margin) - square.sqrt() * math.sin(margin)
    moved = torch.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))
    return logits.scatter(1, own, moved / temperature)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent of two views (N, P) each: Chen et al. 2020, equation 1, mean over the 2N anchors."""
    n = len(z1)
    z = unit(torch.cat([z1, z2]))  # (2N, P)
    logits = products(z, z) / temperature
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, partner)


def sup_con(views: Sequence[Tensor], labels: Tensor, temperature: float, form: str = "out") -> Tensor:
    """Return the supervised contrastive loss of V views (N, P) of images with labels (N,).

    Khosla et al. 2020: ``out`` is equation 2 (mean of log-probabilities of the positives), ``in`` is equation 3
    (logarithm of the mean probability). The mean is over anchors that have a positive: a class alone in its batch
    with one view has none and counts in the others' denominators only. With no positive pair at all the loss is 0.
    """
    z = unit(torch.cat(list(views)))  # (VN, P)
    y = labels.repeat(len(views))
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (y[:, None] == y) & ~itself
    logits = (products(z, z) / temperature).masked_fill(itself, -torch.inf)
    log_p = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(~positive, 0 if form == "out" else -torch.inf)
    count = positive.sum(1).to(z.dtype)  # the logarithm of an integer is float32
    has, least = count > 0, count.clamp(min=1)
    if form == "out":
        per_anchor = log_p.sum(1) / least
    else:  # a row without a positive would be -inf, and its gradient not a number
        per_anchor = log_p.masked_fill(~has[:, None], 0).logsumexp(1) - least.log()
    return -torch.where(has, per_anchor, 0).sum() / has.sum().clamp(min=1)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE of queries (N, P) with their keys (N, P) against a queue (K, P): He et al. 2020, equation 1."""
    q, k = unit(queries), unit(keys)
    own = (q * k).sum(1, keepdim=True)  # (N, 1)
    logits = torch.cat([own, products(q, queue)], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared distance of unit vectors, 2 - 2 cos: Grill et al. 2020, equation 2."""
    return (2 - 2 * (unit(predictions) * unit(targets)).sum(1)).mean()


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return codes (N, K) of scores (N, K): each row sums to 1, each prototype takes about N / K of the total.

    Caron et al. 2020, equations 3 to 5, in logarithms, so that no epsilon overflows.
    """
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True)  # each prototype gets the same mass
        log_q = log_q - log_q.logsumexp(1, keepdim=True)  # each image gives 1
    return log_q.exp()


def soft_cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) with target distributions (N, K)."""
    return -(codes * F.log_softmax(logits, dim=1)).sum(1).mean()


def variance_covariance(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return VICReg's variance and covariance terms of features (N, D): Bardes et al. 2022, equations 1 and 3.

    Variance: mean over channels of how far the standard deviation falls short of 1. Covariance: squared off-diagonal
    covariances, summed, over D. VCReg (Zhu et al. 2023) adds them to supervised training.
    """
    h = h if h.dtype == torch.float64 else h.float()
    centred = h - h.mean(0)
    cov = products(centred.T, centred.T) / (len(h) - 1)  # (D, D)
    variance = F.relu(1 - torch.sqrt(cov.diagonal() + 1e-4)).mean()
    covariance = (cov.square().sum() - cov.diagonal().square().sum()) / h.shape[1]
    return variance, covariance
