"""The page of a study, a comparison or the demo: its sections, top to bottom."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from slmlp.config.methods import METHODS
from slmlp.config.names import display, named
from slmlp.config.sentences import sentences
from slmlp.report import choice, limits, study_data, study_layers, study_table, study_tasks, words
from slmlp.report.drawing import SOFT, style_of
from slmlp.report.inputs import Inputs, found
from slmlp.report.page import ANSWER, WHY, Page, Section, block, fold, machine, settings, warnings
from slmlp.runtime import plugins
from slmlp.runtime.plain import plural

if TYPE_CHECKING:
    from slmlp.report import forests

NAMED = 6  # contenders that the first sentence names
SHOWN = 4  # methods whose definitions are not folded away


def page(inputs: Inputs) -> Page:
    """Return the page of a study."""
    from slmlp.report import study_curves, study_where

    study = inputs.about
    facts = study_data.counts(study["data"])
    sections = [
        _verdict(inputs),
        _before(inputs),
        *([] if _leading(inputs) else _mlp(inputs)),
        *study_tasks.sections(inputs),
        Section("limits", "What this can and cannot tell", [block("limits", limits.of_study(inputs, facts))], ANSWER),
        *study_layers.sections(inputs),
        *study_curves.sections(inputs),
        *_advice(inputs),
        *study_where.sections(inputs),
        _next(inputs),
        *warnings(study.get("warnings") or []),
        *study_data.sections(study),
        settings(study["settings"]),
        machine(study),
    ]
    day = words.day(study.get("finished") or study.get("started"))
    name = study["data"]["name"]
    parts = [f"slmlp {'demo' if study.get('demo') else 'study'}", *([name] if name != study["title"] else []), day]
    eyebrow = " · ".join(parts)
    return Page(study["title"], eyebrow, study["versions"].get("slmlp"), sections)


def _verdict(inputs: Inputs) -> Section:
    """Return what was compared, and the answer: in words, drawn, and in numbers."""
    comparisons = inputs.comparisons
    lead, rest = inputs.opening
    blocks = [block("text", _compared(inputs), "how")]
    defined = _defined(inputs)
    if defined and len(defined) > SHOWN:
        blocks.append(fold("What the methods are", block("findings", defined)))
    elif defined:
        blocks.append(block("text", "; ".join(defined), "how"))
    blocks.append(block("verdict", lead or ["No verdict was written for this study."]))
    if inputs.verdict.get("note"):
        blocks.append(block("text", words.opening(inputs.verdict["note"]), "also"))
    beside = _differences(inputs, inputs.pairs) if _leading(inputs) else []
    if beside:
        blocks.append(_pairs(inputs, beside=_differences(inputs, comparisons)))
    if comparisons:
        note = (
            "Differences in unseen accuracy, in percentage points. Holm's correction is for the number of comparisons; "
            "groups are what was drawn independently of one another: images, or patients, videos, drawings."
        )
        axis, caption = "difference in unseen accuracy, percentage points", functools.partial(_forest_caption, inputs)
        blocks.append(choice.differences(inputs.task, inputs.methods, axis, "forest", caption, note, beside=beside))
        if rest:
            blocks.append(fold("The comparisons in words", block("findings", rest)))
    return Section("verdict", "Verdict", blocks, ANSWER)


def _before(inputs: Inputs) -> Section:
    """Return every method against what needs no training, drawn and in the table of all of them."""
    blocks = [
        *_ranking(inputs),
        *_references(inputs),
        block("grid", study_table.grid(inputs)),
        fold("What the columns mean", block("definitions", study_table.COLUMNS)),
        fold("Every number", block("grid", study_table.every_number(inputs))),
    ]
    return Section("table", "Against baselines without training", blocks, ANSWER)


def _ranking(inputs: Inputs) -> list[Markup]:
    """Return unseen accuracy of every method, baseline and chance with its interval, the best on top."""
    from slmlp.report import forests

    rows = []
    for i, method in enumerate(inputs.methods):
        mean, spread = inputs.mean("unseen", "accuracy", method), inputs.spread("unseen", "accuracy", method)
        color = style_of(inputs.methods, method)["color"]
        if mean:
            ends = mean["value"], mean.get("low"), mean.get("high")
            rows.append(forests.Difference(display(method), *ends, color, of=i, level=True))
        elif spread:
            rows.append(forests.Difference(display(method), *spread.percent, color, of=i, level=True))
    for name in inputs.baselines:
        spread = inputs.spread("unseen", "accuracy", name)
        if spread:
            rows.append(forests.Difference(display(name), *spread.percent, SOFT, mean=False, level=True))
    for one in inputs.task.get("references") or []:
        if one["name"] not in (*inputs.baselines, *inputs.methods):
            rows.append(forests.Difference(display(one["name"]), one["value"], color=SOFT, mean=False, level=True))
    if len(rows) < 2:
        return []
    drawn = forests.forest(sorted(rows, key=lambda row: -row.value), "unseen accuracy, %", "levels")
    caption = (
        "Unseen accuracy with its 95 % interval: diamonds are what was compared, grey dots what needs no training. "
        f"Whether two differ is told by their difference, not by where their bars end. n = "
        f"{inputs.images('unseen', 'accuracy')} held-out images."
    )
    key = [block("key", inputs.methods)] if len(inputs.methods) > 2 else []
    return [*key, block("forest", *drawn, caption)]


def _references(inputs: Inputs) -> list[Markup]:
    """Return the drawing of every method against what needs no training."""
    from slmlp.report import forests

    found = inputs.task.get("references") or []
    rows = [forests.paired(inputs.methods, c) for one in found for c in one["comparisons"]]
    if not rows:
        return []
    caption = (
        "Each method minus what needs no training: the encoder before it, raw pixels, and the guess of the most "
        "frequent class. A bar that leaves out zero on the right beats it. n = "
        f"{inputs.images('unseen', 'accuracy')} held-out images."
    )
    drawn = forests.forest(rows, "difference in unseen accuracy, percentage points", "references")
    return [fold(f"The differences: {len(rows)}", block("forest", *drawn, caption))]


def _forest_caption(inputs: Inputs, comparisons: Sequence[choice.Found]) -> str:
    """Return what a drawing of differences shows."""
    one_seed = inputs.about["seeds"] == 1
    if one_seed:
        text = "Diamond: the difference of the one seed"
        if any(c["low"] is not None for c in comparisons):
            text += "; bar: its 95 % interval over images only"
    else:
        text = "Diamond and bar: mean difference and its 95 % interval; dots: one seed each"
    if any(c["detectable"] and not found(c) for c in comparisons):
        text += "; shaded, where no difference was found: smaller ones than this study finds reliably"
    chance = (
        "Another seed would give another difference."
        if one_seed
        else "Where the bar leaves out zero, chance is an unlikely explanation."
    )
    return f"{text}. {chance} n = {inputs.images('unseen', 'accuracy')} held-out images."


def _compared(inputs: Inputs) -> str:
    """Return in a few sentences what was compared, and how."""
    about, names = inputs.about, [display(method) for method in inputs.methods]
    split, seeds, facts = about["split"], about["seeds"], about["machine"]
    who = words.listed(names) if len(names) <= NAMED else f"{len(names)} contenders, {names[0]} first"
    encoder = (about["settings"].get("training") or {}).get("encoder")
    device = facts.get("device") or "cpu"
    on = plural(facts.get("cores", 1), "CPU core") if device == "cpu" else device
    labels = " by their superclasses" if about.get("labels") == "superclass" else ""
    projector = [display(method) for method in about.get("with_projector") or () if method in inputs.methods]
    mlp = (
        f" {words.listed(projector)} {'have' if len(projector) > 1 else 'has'} an MLP projector between encoder and "
        "classifier during training; the projector is thrown away afterwards."
        if 0 < len(projector) < len(names) <= NAMED
        else ""
    )
    return (
        f"Compared: {who}, {plural(seeds, 'seed')}{' each' if len(names) > 1 else ''}.{mlp} "
        f"{f'A {encoder}' if encoder else 'An encoder'} was pretrained on "
        f"{plural(len(split['source']), 'class', 'classes')}{labels} and frozen; a linear probe on its features "
        f"then told apart {plural(len(split['unseen']), 'class', 'classes')} that were held out of pretraining, "
        f"in {inputs.images('unseen', 'accuracy')} images, by cross-validation. "
        f"{words.hours(about.get('hours'))} of runs on {on}."
    )


def _defined(inputs: Inputs) -> list[str]:
    """Return what each contender is: its method, and the settings of those that were given a name."""
    lines: dict[str, str] = {}
    earlier: set[str] = set()  # settings that were explained
    for text in inputs.about.get("contenders") or ():
        title, what = named(text)
        base, settings = plugins.split(what)
        entry = METHODS.get(base)
        if entry is None:
            continue
        lines[display(base)] = f"{display(base)}: {entry.summary}"
        if title:
            kind: Any = type(entry.settings)
            explained = sentences(kind)
            switches = [s.partition("=")[0] for s in settings if s.endswith("=true")]
            new = [explained[name] for name in switches if name in explained and name not in earlier]
            earlier.update(switches)
            said = " ".join(new).replace("`", "").rstrip(".")
            given = f" with {', '.join(settings)}" if settings else ""
            lines[title] = f"{title}: {display(base)}{given}{f' ({said})' if said else ''}"
    return list(lines.values())


def _leading(inputs: Inputs) -> bool:
    """Return whether the verdict leads with what an MLP projector gained each of several methods."""
    return inputs.verdict.get("lead", 1) > 1 and len(inputs.pairs) > 1


def _mlp(inputs: Inputs) -> list[Section]:
    """Return every method with its MLP projector against the same method without, where a study has such pairs."""
    if not inputs.pairs:
        return []
    findings = block("findings", [c["sentence"] for c in inputs.pairs])
    return [Section("mlp", "The MLP as a switch", [_pairs(inputs), findings], ANSWER)]


def _differences(inputs: Inputs, comparisons: Sequence[choice.Found]) -> list[forests.Difference]:
    from slmlp.report import forests

    return [forests.paired(inputs.methods, c) for c in comparisons]


def _pairs(inputs: Inputs, beside: Sequence[forests.Difference] = ()) -> Markup:
    """Return the drawing of what its MLP projector gained each method."""
    from slmlp.report import forests

    rows = _differences(inputs, inputs.pairs)
    chosen = ", each with the settings that were chosen for it" if inputs.about["settings"].get("vary") else ""
    caption = (
        f"Each method with an MLP projector minus the same method without{chosen}, on the same images: right of zero, "
        "the projector made features that tell unseen classes apart better. "
        f"{_forest_caption(inputs, inputs.pairs)}"
    )
    axis = "difference in unseen accuracy, percentage points"
    return block("forest", *forests.forest(rows, axis, "mlp", beside=beside), caption)


def _advice(inputs: Inputs) -> list[Section]:
    """Return what the rule of slmlp advise makes of the methods without a projector."""
    found = inputs.about.get("advice") or []
    if not found:
        return []
    rule = found[0]["sentences"][-1]
    findings = ["; ".join(one["sentences"][:-1]) for one in found]
    return [
        Section(
            "advice", "Would a projector help?", [block("findings", findings), block("text", words.opening(rule))], WHY
        )
    ]


def _next(inputs: Inputs) -> Section:
    """Return what to do next, with its command."""
    following = inputs.about["next"]
    if following["kind"] == "pretrained":
        title = "Next: start from pretrained weights"
        text = (
            "No method learnt more from these images than what needs no training. Pretrained weights know more than "
            "they can teach; the same study from such weights tells by how much (without a network, the file of "
            "weights goes behind the name, as @FILE):"
        )
    elif following["kind"] == "keep":
        title = "Next: keep the weights as they came"
        text = "No method was shown to improve on the starting encoder. Its features, without any training:"
    else:
        winners = [display(m) for m in inputs.methods if m in inputs.better()]
        why = (
            f"{winners[0]} transferred better."
            if len(winners) == 1
            else "No single method was shown to be better, so this takes the study's pick."
        )
        title = f"Next: pretrain {'the winner ' if len(winners) == 1 else ''}on all classes"
        text = f"{why} An encoder for use should see every class, held-out ones included:"
    return Section("next", title, [block("text", text), block("command", following["command"], "full-command")])
