"""Would a projector help here? Asked of images before training, of a run, and of a study's contenders."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from slmlp import config, data
from slmlp.config.names import named
from slmlp.data.augment import recipes
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders.layers import EMBEDDING, OUTPUT
from slmlp.experiments import features as of_encoder
from slmlp.experiments.study.specs import parse, without_projector
from slmlp.probes.features import Features
from slmlp.probes.measures.measures import measure
from slmlp.results import advice, records
from slmlp.results.advice import KINDS, Against
from slmlp.results.advised import CALLS, RATIO, SIDES, Advice, by_rule, of_contenders
from slmlp.results.sentences import points
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.runtime.plugins import is_file
from slmlp.train.run import Run


def advise(
    target: str, *, settings: config.MethodConfig, augment: str, options: config.DataOptions,
    data_source: str | None = None,
) -> list[Advice]:  # fmt: skip
    """Return what to expect of a projector; see ``api.advise``."""
    folder = Path(target)
    if (folder / "study.json").is_file():
        found = of_study(folder)
        if not found:
            raise SlmlpError(f"{folder}: no contender was trained without a projector: add sl to its --methods")
        return found
    if (folder / "config.json").is_file():
        return [of_run(Run(folder), data_source)]
    return [of_images(target, settings, augment, options)]


def of_images(source: str, settings: config.MethodConfig, augment: str, options: config.DataOptions) -> Advice:
    """Return what is known before training: the gain of the same kind of loss in other settings."""
    if ":" not in augment:  # a transform of the user's changes colours, for all that is known
        recipes.named(augment)
    images = data.load(source, options, seed=0)
    kind, known = advice.kind_of(settings, augment), advice.pairs()
    alike = advice.of_kind(known, kind)
    gains, places = [one.gain for one in alike], list(dict.fromkeys(one.setting for one in alike))
    gain = fmean(fmean(one.gain for one in alike if one.setting == place) for place in places)
    tried = advice.trial_of_kinds(known)
    sentences = (
        f"{images.name}, {len(images.classes):,} classes, {KINDS[kind]}: {CALLS[advice.call(gain)]}",
        f"known from {plural(len(alike), 'pair')} of encoders in {plural(len(places), 'setting')} of slmlp's own "
        f"studies (small images, ResNet-10): {points(gain, plus=True)} points of unseen accuracy on average, "
        f"{points(min(gains), plus=True)} to {points(max(gains), plus=True)}",
        f"the kind of loss alone called {tried.hits} of {len(tried.measured)} pairs of other settings right; to know "
        "more, train one run without a projector and give its folder to slmlp advise",
    )
    return Advice(images.name, advice.call(gain), gain, None, None, None, None, sentences)


def of_run(run: Run, data_source: str | None) -> Advice:
    """Measure a finished run on its own images, and return what the rule makes of it."""
    if not run.finished:
        raise SlmlpError(f"{run.path} is not finished: slmlp pretrain --resume {run.path} goes on")
    job = run.config["job"]
    projector = config.from_dict(config.Projector, run.config["resolved"]["method_settings"]["projector"])
    options = config.from_dict(config.DataOptions, job["options"])
    cfg = config.TaskSettings(data=options, extraction=config.Extraction(precision="float32"))  # as in a study
    images = data_source or job["data"]

    def specialisation(layer: str) -> tuple[float, Against]:
        every = of_encoder.features(str(run.path), images, "all", "all", None, layer, cfg, None)
        return _specialisation(every, run.split, run.path)

    value, against = specialisation(OUTPUT)
    if projector.depth == 0:
        return by_rule(run.name, value, against)
    behind, _ = specialisation(EMBEDDING)
    words = (
        f"{run.name} has a projector: the discriminative ratio on the images trained on is {value:.1f} times that on "
        f"{SIDES[against]} at the encoder's output, and {behind:.1f} times behind the projector, which is thrown away"
    )
    return Advice(run.name, "unknown", None, None, None, value, against, (words, CALLS["unknown"]))


def _specialisation(every: Features, split: ConceptSplit | None, run: Path) -> tuple[float, Against]:
    """Return the ratio on the images trained on over that on unseen classes, or on other images where there are none.

    Raises:
        SlmlpError: neither is there.
    """
    unseen = [i for i, name in enumerate(every.classes) if split is not None and name in split.unseen]
    is_unseen, is_train = np.isin(every.y, unseen), every.parts == "train"
    trained, other = every.select(~is_unseen & is_train), every.select(~is_unseen & ~is_train)
    cfg = config.Measures()
    ratio = measure(trained, None, cfg)[f"{RATIO}source"]
    if not len(other):
        raise SlmlpError(f"{run}: its images have no test part, so nothing can be set beside the images trained on")
    if unseen:
        return ratio / measure(other, every.select(is_unseen), cfg)[f"{RATIO}unseen"], "unseen"
    return ratio / measure(other, None, cfg)[f"{RATIO}source"], "source"


def of_study(folder: Path) -> list[Advice]:
    """Return what the rule makes of a study's contenders without a projector, beside what the study measured."""
    about = json_files.read(folder / "study.json", dict[str, Any], "run the study again to have it written")
    verdict = json_files.read(folder / "verdict.json", dict[str, Any], "run the study again to have it written")
    means = (verdict.get("tasks", {}).get("unseen accuracy") or {}).get("means") or {}
    specs = [parse(text) for text in about["contenders"] if not is_file(named(text)[1])]
    values = {name: mean["value"] / 100 for name, mean in means.items()}
    return of_contenders(without_projector(specs), records.read(folder / "results.jsonl"), values)
