"""AdamW as timm trains with it: ``python benchmarks/adamw.py [--encoder vit_small_patch16_224] [--steps 300]``.

slmlp's loop, and a plain loop of timm's parts (``create_optimizer_v2`` with its layer decay, its cosine scheduler
stepped by update, its cross-entropy), from the same random weights on the same views in the same order, in float32.
Printed are the losses of both, means over some steps each, and the largest difference of a step. Images come from
``SLMLP_DATA`` (tiny-imagenet.tar) where it is set, else from the embedded emoji.
"""

from __future__ import annotations

import argparse
import copy
import itertools

import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from slmlp import config, methods
from slmlp.data import augment
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.data.decode import Resize
from slmlp.encoders import build
from slmlp.runtime import device, seeds
from slmlp.train import optim
from slmlp.train.batches import Batches, Plan
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings
from training import CLASSES, load_images


def main() -> None:
    """Train twice and print the losses side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--stem", default="standard")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--base-lr", type=float, default=0.004)
    parser.add_argument("--layer-decay", type=float, default=0.9)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = load_images()
    epochs = -(-given.steps // (len(images) // given.batch_size))
    cfg = config.Training(
        optimizer="adamw", base_lr=given.base_lr, layer_decay=given.layer_decay, batch_size=given.batch_size,
        epochs=epochs, augment="crop", warmup_epochs=0.0,
    )  # fmt: skip
    plan = Plan.of_epochs(images.labels, given.batch_size, epochs, 0)
    cache = ImageCache(images, config.DataOptions(), None, Resize(training_side(given.side)), progress=False)
    batches = Batches(cache, cache.rows(images), plan, augment.views("crop", given.side))
    compute = device.Compute(torch.device("cpu"), "float32", channels_last=False)
    with seeds.seeded(0, "encoder"):
        encoder = build(given.encoder, given.side, given.stem)
    with seeds.seeded(0, "head"):
        method = methods.build("sl", encoder, CLASSES, config.method_config("sl"))
    theirs = _timm(copy.deepcopy(method), batches, plan, cfg, compute, given.steps)
    state, schedule = State(method, optim.build(method, cfg)), optim.schedule(cfg, plan, 0)
    readings, ours = Readings(state, schedule, given.every), list[float]()
    print(f"{given.encoder}, {given.side} px, {given.steps} of {plan.total} steps, batch {given.batch_size}")
    for step in itertools.islice(train(state, batches, schedule, compute, 0), given.steps):
        ours += [row["loss"] for row in readings.add(step)]
    ours += [row["loss"] for row in readings.rest()]
    for first in range(0, given.steps, given.every):
        part = slice(first, first + given.every)
        mean = [sum(losses[part]) / len(losses[part]) for losses in (ours, theirs)]
        print(f"steps {first + 1:4} to {first + len(ours[part]):4}: slmlp {mean[0]:.5f}, timm {mean[1]:.5f}")
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    print(f"largest difference of a step {max(apart):.2e}; of the first ten {max(apart[:10]):.2e}")


def _timm(
    method: nn.Module, batches: Batches, plan: Plan, cfg: config.Training, compute: device.Compute, steps: int
) -> list[float]:
    """Train with timm's parts; return the losses."""
    encoder, classifier = method.encoder, method.classifier
    assert isinstance(encoder, nn.Module)
    assert isinstance(classifier, nn.Module)
    network = nn.Sequential(encoder, classifier).train()
    backbone = encoder.backbone
    assert isinstance(backbone, nn.Module)
    # the head behind the network is of the last layer: full rate
    optimizer = create_optimizer_v2(
        backbone, "adamw", lr=cfg.peak_lr, weight_decay=cfg.decay, layer_decay=cfg.layer_decay, filter_bias_and_bn=True
    )
    for decay, weights in ((cfg.decay, [classifier.weight]), (0.0, [classifier.bias])):
        optimizer.add_param_group({"params": weights, "weight_decay": decay, "lr_scale": 1.0, "lr": cfg.peak_lr})
    scheduler = CosineLRScheduler(optimizer, t_initial=plan.total, t_in_epochs=False)
    criterion, losses = LabelSmoothingCrossEntropy(0.0), list[float]()
    for step in range(steps):
        scheduler.step_update(step)
        (x,), labels = batches.inputs(batches[step], compute)
        loss = criterion(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


if __name__ == "__main__":
    main()
