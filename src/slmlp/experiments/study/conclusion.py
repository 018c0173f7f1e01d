"""What a study's contenders are worth beside what needs no training, and what to do next."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from slmlp import config
from slmlp.config.flags import flags
from slmlp.config.names import CHANCE
from slmlp.encoders.initial import RANDOM
from slmlp.experiments.study.baselines import STARTING
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.specs import mlp_pairs, without_projector
from slmlp.results import records, references
from slmlp.results.advised import of_contenders
from slmlp.results.comparison import BySeed, Comparison
from slmlp.results.layers import lost_by_two
from slmlp.results.records import Predictions
from slmlp.results.references import Reference
from slmlp.results.sentences import continued, gained, sentence
from slmlp.results.sentences import switched as switched_in_words
from slmlp.results.verdict import Verdict

UNTRAINED, PIXELS = "random-init", "raw-pixels"
WEIGHTS = "timm:tf_efficientnet_lite0"  # pretrained, small enough for a CPU, and to be had without a hub
LEAST_SIDE = 64  # pixels: weights that were trained at 224 see little below
PRETRAINED = config.StudyTraining(init=WEIGHTS, frozen_epochs=2)
RATES = (0.001, 0.01, 0.1)


def judged(context: Context, contenders: Mapping[str, BySeed]) -> tuple[Reference, ...]:
    """Compare the contenders with the encoder that they started from, an untrained one, raw pixels, and chance."""
    found: dict[str, Predictions] = {}
    rows = {row.method: row for row in records.read(context.engine.store.file)
            if (row.task, row.metric, row.role) == ("unseen", "accuracy", "baseline")}  # fmt: skip
    for name in (STARTING, UNTRAINED, PIXELS):
        if name in rows:
            found[name] = records.read_predictions(records.checked(context.folder, rows[name]))
    first = next(run for by_seed in contenders.values() for run in by_seed.values())
    assert isinstance(first, Predictions)
    return references.against(contenders, {**found, CHANCE: references.chance(first)}, context.images.name)


def unbeaten(context: Context, found: tuple[Reference, ...]) -> list[Reference]:
    """Return the references that no contender beats, of those that decide what to do next.

    Where training began with weights, that is the encoder as it came; else all of them.
    """
    started = context.cfg.training.init != RANDOM
    return [one for one in found if not one.beaten and (one.name == STARTING or not started)]


def opening(context: Context, result: Verdict) -> tuple[list[str], int]:
    """Return the sentences that the page opens with, and how many of them lead.

    A study whose training was worth nothing says so first. One with several pairs that differ by their MLP alone
    goes on with each pair, for that is the question, and with gains that differ; then come the comparisons with the
    first contender.
    """
    found = result.references
    pairs = switched(context, result)
    said = {sentence(c) for c in pairs}
    leading = pairs_in_words(context, pairs, {name: mean.value for name, mean in result.means.items()})
    leading += [gained(c) for c in result.gains if c.winner is not None or len(result.gains) == 1]
    sentences = [*leading, *(one for one in result.sentences if one not in said)]
    continuing = [continued(c) for one in found if one.name == STARTING for c in one.comparisons]
    rest = [one for one in found if one.name != STARTING]
    if context.cfg.training.init != RANDOM:
        return [*continuing, *sentences, *map(references.sentence, rest)], 1
    lost = unbeaten(context, found)
    worthless = [f"{references.sentence(one)}; start from pretrained weights (the command stands at the end)"
                 for one in lost[:1]] + list(map(references.sentence, lost[1:]))  # fmt: skip
    whole = [*worthless, *sentences, *(references.sentence(one) for one in rest if one not in lost)]
    return whole, max(1, len(worthless) + len(leading))


def switched(context: Context, result: Verdict) -> tuple[Comparison, ...]:
    """Return the comparisons of contenders that differ by their MLP alone, if there are several; found ones first."""
    known = set(mlp_pairs(context.specs))
    pairs = [c for c in result.pairs if (c.a, c.b) in known]
    return tuple(sorted(pairs, key=lambda c: c.winner is None)) if len(pairs) > 1 else ()


def shown(context: Context, result: Verdict) -> tuple[str, str]:
    """Return the two contenders that the page compares class by class.

    Where the page opens with pairs that differ by their MLP, that is the one that differs most, of those that were
    found if there are any; else the first contender and the best of the others.
    """
    pairs = switched(context, result)
    if pairs:
        most = max(pairs, key=lambda c: (c.winner is not None, abs(c.difference)))
        return most.a, most.b
    first, *others = (spec.name for spec in context.specs)
    return first, max(others or [first], key=lambda name: result.means[name].value)


def pairs_in_words(context: Context, pairs: tuple[Comparison, ...], means: Mapping[str, float]) -> list[str]:
    """Return what the MLP did to all pairs, then each pair's finding, and where a found one is lost in the layers."""
    rows = records.read(context.engine.store.file)
    lines = [switched_in_words(pairs, means)] if pairs else []
    for c in pairs:
        lines.append(sentence(c))
        where = lost_by_two(rows, c.a, c.b) if c.winner is not None else None
        lines += [where] if where else []
    return lines


def advice(context: Context, result: Verdict) -> list[dict[str, Any]]:
    """Return what the rule of ``slmlp advise`` makes of the contenders without a projector."""
    means = {name: mean.value for name, mean in result.means.items()}
    rows = records.read(context.engine.store.file)
    return [one.as_json() for one in of_contenders(without_projector(context.specs), rows, means)]


def following(context: Context, found: tuple[Reference, ...], full_command: str) -> dict[str, Any]:
    """Return what to do next, as study.json has it: pretrain the winner, start from weights, or keep those given."""
    if not unbeaten(context, found):
        return {"kind": "winner", "command": full_command}
    if context.cfg.training.init != RANDOM:
        words = ["slmlp", "features", context.cfg.training.init, context.source, "--out", "features.npz"]
        return {"kind": "keep", "command": shlex.join(words)}
    return {"kind": "pretrained", "command": pretrained_command(context.source, context.cfg, context.images.name)}


def pretrained_command(source: str, cfg: config.Study, name: str) -> str:
    """Return the command of the same study from pretrained weights."""
    default = config.Study()
    side = max(LEAST_SIDE, cfg.training.image_size or LEAST_SIDE)
    training = dataclasses.replace(PRETRAINED, image_size=side)
    given = dataclasses.replace(cfg, training=training, rates=RATES, parallel=None)
    return shlex.join(["slmlp", "study", source, *flags(given, default), "--out", f"{name}-pretrained"])
