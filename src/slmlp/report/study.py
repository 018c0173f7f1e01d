"""The page of a study, a comparison or the demo: its sections, top to bottom."""

from __future__ import annotations

from statistics import median
from typing import Any

from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import limits, study_table, study_tasks, words
from slmlp.report.grid import comparison_grid
from slmlp.report.inputs import Inputs
from slmlp.report.page import Page, Section, block, fold, machine, settings

MANY = 6  # sentences of a verdict: with more, all but the first are folded away behind the figure
COLUMNS = (
    (
        "unseen accuracy",
        "Share of held-out images that a linear probe names rightly, trained on the frozen encoder's features of other "
        "images of the held-out classes.",
    ),
    ("source accuracy", "The same for test images of the classes the encoder was pretrained on."),
    (
        "discriminative ratio",
        "Squared distance between class centres over the spread within classes. High on source and low on unseen: the "
        "encoder has specialised.",
    ),
    (
        "mixtureness",
        "How evenly source and unseen class centres lie among one another; the floor is two sets apart, the ceiling "
        "full mixing.",
    ),
    ("redundancy", "Mean absolute correlation between feature channels; lower is less redundant."),
)


def page(inputs: Inputs) -> Page:
    """Return the page of a study."""
    study = inputs.about
    day = words.day(study.get("finished") or study.get("started"))
    sections = [
        _verdict(inputs),
        *_mlp(inputs),
        _table(inputs),
        *study_tasks.sections(inputs),
        _epochs(inputs),
        _rates(inputs),
        _map(inputs),
        _split(study["split"]),
        Section("data", "Data", [block("facts", data_rows(counts(study["data"])), "The images as they were read")]),
        settings(study["settings"]),
        machine(study),
        Section(
            "limits", "What this can and cannot tell", [block("limits", limits.of_study(inputs, counts(study["data"])))]
        ),
        *_next(inputs),
    ]
    eyebrow = f"slmlp {'demo' if study.get('demo') else 'study'} · {study['data']['name']} · {day}"
    return Page(study["title"], eyebrow, study["versions"].get("slmlp"), sections)


def _verdict(inputs: Inputs) -> Section:
    """Return the answer: in words, drawn, in numbers, and how it came about."""
    from slmlp.report import figures

    comparisons = inputs.comparisons
    sentences = inputs.verdict.get("sentences") or ["No verdict was written for this study."]
    is_long = len(sentences) > MANY and comparisons
    blocks = [block("verdict", sentences[:1] if is_long else sentences)]
    if inputs.verdict.get("note"):
        blocks.append(block("text", words.opening(inputs.verdict["note"]), "also"))
    if comparisons:
        first = comparisons[0]
        ends = (display(first["a"]), display(first["b"])) if len(comparisons) == 1 else None
        rows = [figures.paired(inputs.methods, c) for c in comparisons]
        drawn = figures.forest(rows, "difference in unseen accuracy, percentage points", "forest", ends=ends)
        blocks.append(block("forest", *drawn, _forest_caption(inputs)))
        if is_long:
            blocks.append(fold("The comparisons in words", block("findings", sentences[1:])))
        note = (
            "Differences in unseen accuracy, in percentage points. Holm's correction is for the number of comparisons; "
            "groups are what was drawn independently of one another: images, or patients, videos, drawings."
        )
        title = "The comparison in numbers"
        blocks.append(fold(title, block("grid", comparison_grid(comparisons, title, note))))
    blocks += _references(inputs)
    blocks += [block("text", _how(inputs), "how"), block("warnings", inputs.about.get("warnings") or [])]
    return Section("verdict", "Verdict", blocks)


def _references(inputs: Inputs) -> list[Markup]:
    """Return every method against what needs no training."""
    from slmlp.report import figures

    found = inputs.task.get("references") or []
    rows = [figures.paired(inputs.methods, c) for one in found for c in one["comparisons"]]
    if not rows:
        return []
    caption = (
        "Each method minus what needs no training: the encoder before it, raw pixels, and the guess of the most "
        "frequent class. A bar that leaves out zero on the right beats it."
    )
    drawn = figures.forest(rows, "difference in unseen accuracy, percentage points", "references")
    picture = block("forest", *drawn, caption)
    return [picture] if len(rows) <= MANY else [fold("Against what needs no training", picture)]


def _forest_caption(inputs: Inputs) -> str:
    one_seed = inputs.about["seeds"] == 1
    if one_seed:
        text = "Diamond: the difference of the one seed"
        if any(c["low"] is not None for c in inputs.comparisons):
            text += "; bar: its 95 % interval over images only"
    else:
        text = "Diamond and bar: mean difference and its 95 % interval; dots: one seed each"
    if any(c["detectable"] for c in inputs.comparisons):
        text += "; shaded: differences too small for this study to find reliably"
    chance = (
        "Another seed would give another difference."
        if one_seed
        else "Where the bar leaves out zero, chance is an unlikely explanation."
    )
    return f"{text}. {chance} n = {inputs.images('unseen', 'accuracy')} held-out images."


def _how(inputs: Inputs) -> str:
    """Return in one line how the answer was measured."""
    split, seeds, facts = inputs.about["split"], inputs.about["seeds"], inputs.about["machine"]
    device = facts.get("device") or "cpu"
    on = words.plural(facts.get("cores", 1), "CPU core") if device == "cpu" else device
    superclasses = (
        ", pretrained on superclasses instead of classes" if inputs.about.get("labels") == "superclass" else ""
    )
    return (
        f"Measured with a linear probe on the frozen encoder: {inputs.images('unseen', 'accuracy')} images of "
        f"{words.plural(len(split['unseen']), 'class', 'classes')} held out of pretraining, "
        f"{words.plural(len(split['source']), 'class', 'classes')} pretrained on, "
        f"{words.plural(seeds, 'seed')} per method{superclasses}, {words.hours(inputs.about.get('hours'))} of runs on "
        f"{on}."
    )


def _mlp(inputs: Inputs) -> list[Section]:
    """Return every method with its MLP projector against the same method without, where a study has such pairs."""
    from slmlp.report import figures

    pairs = inputs.task.get("pairs") or []
    if not pairs:
        return []
    rows = [figures.paired(inputs.methods, c) for c in pairs]
    caption = (
        "Each method with its MLP projector minus the same method without, on the same seeds and images. The paper "
        "holds that unsupervised pretraining transfers better mostly because of the MLP."
    )
    drawn = figures.forest(rows, "difference in unseen accuracy, percentage points", "mlp")
    findings = block("findings", [c["sentence"] for c in pairs])
    return [Section("mlp", "The MLP as a switch", [block("forest", *drawn, caption), findings])]


def _table(inputs: Inputs) -> Section:
    blocks = [
        block("grid", study_table.grid(inputs)),
        fold("What the columns mean", block("definitions", COLUMNS)),
        fold("Every number", block("grid", study_table.every_number(inputs))),
    ]
    return Section("table", "Methods and baselines", blocks)


def _epochs(inputs: Inputs) -> Section:
    """Return the numbers along training."""
    from slmlp.report import study_curves

    drawn = study_curves.epochs(inputs)
    if drawn:
        seeds = len({r.seed for r in inputs.rows if r.role == "curve"})
        lines = f"Thin lines: one of {seeds} seeds each; thick: their mean." if seeds > 1 else "One seed."
        caption = (
            f"{lines} Epoch 0 is the encoder that seed 0 started from. See whether unseen accuracy still rises where "
            "source accuracy does, and whether the ratio on source runs away from the ratio on unseen. "
            f"n = {inputs.images('unseen', 'accuracy')} unseen and {inputs.images('source', 'accuracy')} source images "
            "at each point."
        )
        blocks = [block("panels", drawn, inputs.methods, caption)]
    else:
        text = Markup(
            "No encoder was kept along training, so there are no curves; <code>--save-every</code> keeps them."
        )
        blocks = [block("text", text, "absent")]
    return Section("epochs", "Along training", blocks)


def _rates(inputs: Inputs) -> Section:
    """Return the grid of learning rates, what was chosen on it, and rates that could not be trained."""
    from slmlp.report import study_curves

    rates = inputs.about.get("rates") or {}
    drawn, grid = study_curves.rates(inputs), rates.get("grid") or []
    if drawn:
        images = inputs.images("validation", "accuracy", "grid")
        count = "" if images == "unknown" else f"{images} "
        seeds = len({r.seed for r in inputs.rows if r.role == "grid"})
        equal = (
            f"At equal rates, see whether one method leads at all of them: "
            f"{'one seed' if seeds == 1 else f'{seeds} seeds'} at each rate, n = "
            f"{inputs.images('unseen', 'accuracy', 'grid')} unseen images."
            if seeds
            else "Unseen accuracy was not measured on the grid."
        )
        caption = (
            f"Rings mark the rate each method was given, chosen by accuracy on {count}source images held back for "
            f"validation; held-out classes played no part. {equal}"
        )
        blocks = [block("panels", drawn, inputs.methods, caption)]
    elif len(grid) == 1:
        text = (
            f"One base learning rate was used for every method, {grid[0]} per 256 images; no grid was tried, so a "
            "better rate may exist for any of them."
        )
        blocks = [block("text", text, "absent")]
    else:
        blocks = [block("text", "No grid of rates was tried; every method ran at the rate in the settings.", "absent")]
    for method, reasons in (rates.get("failed") or {}).items():
        blocks += [
            block("text", f"{display(method)} could not be trained at {rate}: {reason}")
            for rate, reason in reasons.items()
        ]
    return Section("rates", "Learning rates", blocks)


def _map(inputs: Inputs) -> Section:
    from slmlp.report import maps

    drawn = maps.maps(inputs)
    title = "Held-out images as the encoder sees them"
    if drawn is None:
        return Section("map", title, [block("text", "No map of the held-out images was made.", "absent")])
    some = "" if drawn.count == drawn.total else f" of {drawn.total:,}"
    caption = (
        "t-SNE of features of held-out images; near means alike, distances between groups and their sizes mean little. "
        "See how clean the groups of one colour are. "
        + ("A thumbnail stands where there is room, every other image is a dot. " if drawn.sprite else "")
        + f"n = {drawn.count:,}{some} images{', the same on every map' if len(drawn.panels) > 1 else ''}, one seed"
        + ("; with over 32 classes, colours and shapes repeat." if len(drawn.legend) > 32 else ".")
    )
    return Section("map", title, [block("maps", drawn, caption)])


def _split(split: dict[str, Any]) -> Section:
    """Return how the classes were divided, and their names."""
    leaks = split.get("leaks")
    rows = [
        ("rule", split.get("rule")),
        ("seed", split.get("seed")),
        ("held-out superclasses", ", ".join(split.get("held_out_superclasses") or [])),
        ("leaks", None if leaks is None else f"{leaks:,}" if leaks else "none found"),
        ("hash of the source classes", split.get("source_hash")),
        ("hash of the unseen classes", split.get("unseen_hash")),
    ]
    facts = [(key, str(value)) for key, value in rows if value not in (None, "")]
    blocks = [block("facts", facts, "Which classes were held out of pretraining")]
    for title, classes in (("Unseen classes", split["unseen"]), ("Source classes", split["source"])):
        blocks.append(fold(f"{title}: {len(classes):,}", block("names", classes)))
    return Section("split", "The split", blocks)


def counts(data: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the data as counts, also where the loader's own, longer summary was written."""
    facts = dict(data)
    classes = facts["classes"]
    if isinstance(classes, dict):  # name -> images of each part
        sizes = [sum(n for n in of.values() if isinstance(n, int)) for of in classes.values()]
        facts.setdefault("per_class", {"min": min(sizes), "median": median(sizes), "max": max(sizes)})
    if "duplicates_across_parts" in facts:
        facts.setdefault("duplicates", facts["duplicates_across_parts"])
    if isinstance(facts.get("ignored"), dict):  # reason -> files
        facts["ignored"] = sum(facts["ignored"].values())
    for key in ("classes", "superclasses", "unreadable", "duplicates"):
        if isinstance(facts.get(key), dict | list):
            facts[key] = len(facts[key])
    return facts


def data_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the data, as ``counts`` gives them, as (name, value)."""
    parts = ", ".join(f"{n:,} {part}" for part, n in (data.get("parts") or {}).items())
    superclasses = data.get("superclasses")
    within = f" in {words.plural(superclasses, 'superclass', 'superclasses')}" if superclasses else ""
    rows = [
        ("name", data.get("name")),
        ("source", data.get("source")),
        ("images", f"{data['images']:,}" + (f" ({parts})" if parts else "")),
        ("classes", f"{data['classes']:,}{within}"),
        ("images per class", ", ".join(f"{key} {value:,g}" for key, value in (data.get("per_class") or {}).items())),
        *((key, f"{data[key]:,}") for key in ("unreadable", "duplicates", "ignored") if data.get(key) is not None),
        ("hash", data.get("hash")),
    ]
    return [(key, str(value)) for key, value in rows if value]


def _next(inputs: Inputs) -> list[Section]:
    """Return what to do next, with its command; a study of an earlier version has the command alone."""
    following = inputs.about.get("next") or {"kind": "winner", "command": inputs.about.get("full_command")}
    if not following["command"]:
        return []
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
    return [Section("next", title, [block("text", text), block("command", following["command"], "full-command")])]
