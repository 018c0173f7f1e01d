"""What tests/test_dist.py has done by several processes: one of them runs this, its number in the environment.

``python dist_work.py TASK FOLDER``; each process leaves FOLDER/TASK-SIZE-RANK.pt.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import tiny
from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.encoders.extract import extract
from slmlp.methods.base import Facts
from slmlp.runtime import distributed, processes, ranks, seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import optim, sync_batchnorm
from slmlp.train.average import Average
from slmlp.train.batches import Batches, Plan
from slmlp.train.loop import State, train

CPU = torch.device("cpu")
N, CLASSES, STEPS = 16, 4, 4  # of the global batch; 16 are 4 images each of 4 processes
SYNCED = [name for name in sorted(config.METHODS) if not name.startswith("moco")]
EXTRA = {  # options that look across the batch, and an encoder without BatchNorm
    "sl+vcreg": ("sl", {"variance": 0.16, "covariance": 0.01}, "resnet10", 0),
    "swav+crops": ("swav", {"freeze_epochs": 0.5, "queue_size": 0}, "resnet10", 2),
    "sl+vit": ("sl", {}, "vit_tiny_patch16_224", 0),
    "sl+efficientnet": ("sl", {}, "efficientnet_b0", 0),
    "sl-mlp+fine": ("sl-mlp", {}, "resnet10", 0),
    "sl+parts": ("sl", {}, "vit_tiny_patch16_224", 0),
}
RUNS = {name: (name, {}, "resnet10", 0) for name in SYNCED} | EXTRA
FINE = {  # rates by layer, a frozen start of two steps, a clipped gradient, an average of the weights
    "optimizer": "adamw", "base_lr": 0.01, "layer_decay": 0.7, "frozen_epochs": 1.0, "clip_norm": 0.5, "ema": 0.9,
}  # fmt: skip


def image_cache() -> ImageCache:
    images = data.load("emoji", config.DataOptions(images_per_class=2 * N // CLASSES)).of_part("train")
    return ImageCache(images.of_classes(images.classes[:CLASSES]), config.DataOptions(), None, 20, progress=False)


class InFloat64(Batches):
    """Batches of float64 views."""

    def inputs(self, batch, compute):
        views, labels = super().inputs(batch, compute)
        return [view.double() for view in views], labels


def state_of(name, settings, encoder_name, training_images, cfg):
    with seeds.seeded(0, "encoder"):
        encoder = build(encoder_name, 16, "small")
    chosen = dataclasses.replace(config.method_config(name), **settings)
    chosen, _ = methods.fit(name, chosen, Facts(training_images, N, encoder.dim))
    with seeds.seeded(0, "head"):
        method = methods.build(name, encoder, CLASSES, chosen).double()
    if method.sync_norms:
        sync_batchnorm.synchronise(method, CPU)
    average = Average(method, cfg.ema) if cfg.ema else None
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2) if cfg.accumulate > 1 else None
    return State(method, optim.build(method, cfg), average=average, scaler=scaler)


def curve(images, name, settings, encoder, crops, **changes):
    """Losses of some steps in float64, and the state they end in."""
    cfg = config.Training(encoder=encoder, batch_size=N, epochs=STEPS, base_lr=0.5, warmup_epochs=1, local_crops=crops)
    cfg = dataclasses.replace(cfg, **changes)
    plan = Plan.of_epochs(images.images.labels, N, STEPS // 2, 0)
    state = state_of(name, settings, encoder, len(images.images), cfg)
    views = augment.views("crop", 16, state.model.num_views, crops)
    batches = InFloat64(images, images.rows(images.images), plan, views, distributed.batch_part(N))
    rows = tiny.rows(state, batches, optim.schedule(cfg, plan, 0), Compute(CPU, "float32", False))
    return {
        "losses": [row["loss"] for row in rows],
        "logged": [{k: v for k, v in row.items() if k not in ("seconds", "embedding_std")} for row in rows],
        "state": state.model.state_dict() | (state.average.state_dict() if state.average else {}),
        "scale": state.scaler.get_scale() if state.scaler else None,
    }


def curves() -> dict:
    """Every method; with two processes also the options."""
    images = image_cache()
    changes = {"sl-mlp+fine": FINE, "sl+parts": {"accumulate": 2}}
    return {
        run: curve(images, *how, **changes.get(run, {}))
        for run, how in RUNS.items()
        if run in SYNCED or processes.world_size() < 4
    }


# What the parts do


def rows_of(x: torch.Tensor, counts: list[int]) -> torch.Tensor:
    start = sum(counts[: processes.rank()])
    return x[start : start + counts[processes.rank()]]


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gathers() -> dict:
    """A loss over the rows of all, with weights that tell every row from every other."""
    x, w = seeded(8, 3), seeded(8, 8, seed=1)
    mine = rows_of(x, [4, 4]).clone().requires_grad_()
    everyone = distributed.gather(mine)
    (w * (everyone @ everyone.T).tanh()).sum().backward()
    labels = distributed.gather(torch.arange(4) + 4 * processes.rank())
    images = distributed.gather(torch.full((2, 3, 4, 4), processes.rank()).to(memory_format=torch.channels_last))
    return {"out": everyone.detach(), "grad": mine.grad, "labels": labels, "images": images, "untouched": mine.detach()}


NORMS = {
    "1d": (lambda: nn.BatchNorm1d(5), (12, 5)),
    "1d of sequences": (lambda: nn.BatchNorm1d(5), (12, 5, 3)),
    "2d": (lambda: nn.BatchNorm2d(5), (12, 5, 4, 3)),
    "without weights": (lambda: nn.BatchNorm2d(5, affine=False), (12, 5, 4, 3)),
    "mean over batches": (lambda: nn.BatchNorm2d(5, momentum=None), (12, 5, 4, 3)),
    "without statistics": (lambda: nn.BatchNorm2d(5, track_running_stats=False), (12, 5, 4, 3)),
    "timm's with activation": (lambda: BatchNormAct2d(5, act_layer=nn.SiLU), (12, 5, 4, 3)),
}


def norm_pass(norm: nn.Module, x: torch.Tensor, w: torch.Tensor) -> dict:
    """Two training steps' worth of statistics, the gradients of the second, and evaluation mode."""
    norm(x.detach() * 2 + 1)
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * w).sum().backward()
    grads = {name: p.grad for name, p in norm.named_parameters()}
    statistics = {name: b.clone() for name, b in norm.named_buffers()}
    norm.eval()
    return {"y": y.detach(), "dx": x.grad, "grads": grads, "statistics": statistics, "eval": norm(x).detach()}


def norms() -> dict:
    found = {}
    for name, (make, shape) in NORMS.items():
        x, w = 3 * seeded(*shape) + 100, seeded(*shape, seed=1)
        if name == "2d":
            x = x.to(memory_format=torch.channels_last)
        for counts in ([6, 6], [5, 7]):
            whole = nn.Sequential(make()).double()
            for i, parameter in enumerate(whole.parameters()):
                parameter.data = 1 + seeded(*parameter.shape, seed=2 + i) / 2
            plain = nn.Sequential(make()).double()
            plain.load_state_dict(whole.state_dict())
            before = {id(p) for p in plain.parameters()}
            shared = sync_batchnorm.synchronise(plain, CPU)
            assert {id(p) for p in shared.parameters()} == before
            assert list(shared.state_dict()) == list(whole.state_dict())
            parts = norm_pass(shared, rows_of(x, counts), rows_of(w, counts))
            parts["grads"] = {k: distributed.summed(g) for k, g in parts["grads"].items()}
            parts["layout"] = parts["y"].is_contiguous(memory_format=torch.channels_last) if x.ndim == 4 else None
            full = norm_pass(whole, x, w)
            for key in ("y", "dx", "eval"):
                full[key] = rows_of(full[key], counts)
            found[f"{name} {counts}"] = {"shared": parts, "whole": full}
    return found


def norm_in_bfloat16() -> dict:
    x = (3 * seeded(12, 5, 4, 4) + 1).bfloat16()
    shared = sync_batchnorm.synchronise(nn.Sequential(nn.BatchNorm2d(5)), CPU)
    whole = nn.Sequential(nn.BatchNorm2d(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine = rows_of(x, [6, 6]).clone().requires_grad_()
        y, expected = shared(mine), whole(x)
    (y.float() ** 3).sum().backward()
    return {"y": y.detach(), "expected": rows_of(expected, [6, 6]).detach(), "dx": mine.grad, "norm": shared[0].weight}


def shuffles() -> dict:
    x = seeded(4, 3, 2, 2, seed=processes.rank())
    torch.manual_seed(processes.rank())  # the order is one all the same
    company = []

    def network(images):
        company.append(images)
        return images.flatten(1) * 2 + 1

    def mean(images):
        return images.mean(0, keepdim=True).flatten(1).expand(len(images), -1)

    return {
        "out": distributed.shuffled(network, x, 2),
        "expected": x.flatten(1) * 2 + 1,
        "company": company[0],
        "own": x,
        "mixed": distributed.shuffled(mean, x, 2),
    }


def moco() -> dict:
    images = image_cache()
    return curve(images, "moco-v2", {"queue_size": N}, "resnet10", 0)


def dropped() -> torch.Tensor:
    """What a method draws from the global generator in two steps."""

    class Draws(methods.base.Method):
        def __init__(self):
            super().__init__(nn.Linear(1, 1).double(), 1, config.SL())
            self.unused, self.drawn = nn.Linear(2, 2), []

        def forward(self, views, labels):
            self.drawn.append(torch.rand(3))
            loss = self.encoder(views[0].flatten()[:1]).sum()
            return {"loss": loss, "embeddings": torch.zeros(4, 2)}

    images = image_cache()
    with seeds.seeded(0, "head"):
        method = Draws()
    cfg = config.Training(batch_size=N, epochs=1)
    plan = Plan.of_epochs(images.images.labels, N, 1, 0)
    batches = InFloat64(images, images.rows(images.images), plan, augment.views("none", 16), distributed.batch_part(N))
    before = method.unused.weight.detach().clone()
    list(
        train(
            State(method, optim.build(method, cfg)),
            batches,
            optim.schedule(cfg, plan, 0),
            Compute(CPU, "float32", False),
            0,
        )
    )
    assert torch.equal(method.unused.weight, before)
    assert method.unused.weight.grad is None
    return torch.stack(method.drawn)


def features(folder: Path) -> dict:
    images = image_cache()
    part = images.images.select(torch.arange(len(images.images) - 1).numpy())  # odd, so that shares differ
    with seeds.seeded(0, "encoder"):
        encoder = build("resnet10", 16, "small").eval()
    alone = extract(encoder, images, part)
    cache = folder / "features"
    together = extract(encoder, images, part, cache, together=True)
    ranks.wait_for_all()
    if processes.is_main():
        (file,) = cache.iterdir()
        with np.load(file) as held:
            np.savez(file, x=held["x"] + 1, key=held["key"])
    ranks.wait_for_all()
    again = extract(encoder, images, part, cache, together=True)
    return {
        "alone": alone.x,
        "together": together.x,
        "ids": together.ids.tolist(),
        "part": list(part.ids),
        "again": again.x,
    }


def agreements(folder: Path) -> dict:
    rank = processes.rank()

    def failing(*failed):
        try:
            with ranks.raise_on_all_ranks():
                if rank in failed:
                    raise SlmlpError(f"no data for {rank}")
        except SlmlpError as error:
            return str(error)

    def missing():
        try:
            with ranks.raise_on_all_ranks():
                (folder / f"missing{rank}").read_text() if rank else None
        except SlmlpError as error:
            return str(error)

    def differing():
        try:
            ranks.assert_same({"data": "x", "command": f"y{rank}"})
        except SlmlpError as error:
            return str(error)

    def order():
        held = sorted(p.name for p in folder.glob("turn*"))
        (folder / f"turn{rank}").touch()
        return held

    return {
        "none": failing(), "second": failing(1), "both": failing(0, 1), "file": missing(), "differing": differing(),
        "order": ranks.rank_by_rank(order), "first": ranks.on_rank0(lambda: rank),
        "any": ranks.any_rank(rank == 1),
        "not any": ranks.any_rank(False), "exchange": ranks.all_gather_object(rank),
        "mean": ranks.mean(torch.tensor([float(rank), 2.0])), "highest": ranks.highest(3 + rank),
        "share": [distributed.share_of(7), distributed.batch_part(12)],
    }  # fmt: skip


def basics(folder: Path) -> dict:
    return {
        "gathers": gathers(), "norms": norms(), "bfloat16": norm_in_bfloat16(), "shuffles": shuffles(), "moco": moco(),
        "dropped": dropped(), "features": features(folder), "agreements": agreements(folder),
    }  # fmt: skip


def cuda() -> dict:
    """PyTorch's SyncBatchNorm and ours, both between CUDA devices."""
    device = torch.device("cuda", processes.rank())
    x, w = (rows_of(seeded(12, 5, 4, 3, seed=s), [6, 6]).to(device) for s in (0, 1))
    theirs = sync_batchnorm.synchronise(nn.Sequential(nn.BatchNorm2d(5)).double().to(device), device)
    ours = sync_batchnorm.synchronise(nn.Sequential(nn.BatchNorm2d(5)).double(), CPU).to(device)
    assert isinstance(theirs[0], nn.SyncBatchNorm)
    return {"theirs": norm_pass(theirs, x, w), "ours": norm_pass(ours, x, w)}


def main() -> None:
    task, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    with distributed.joined():
        distributed.connect(torch.device("cuda", processes.rank()) if task == "cuda" else CPU)
        found = {"curves": curves, "basics": lambda: basics(folder), "cuda": cuda}[task]()
    torch.save(found, folder / f"{task}-{processes.world_size()}-{processes.rank()}.pt")


if __name__ == "__main__":
    main()
