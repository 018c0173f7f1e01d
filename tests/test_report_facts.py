"""What the page stands on: reading the folder, who is marked best, what is said of limits, contrast of the colours."""

from __future__ import annotations

import dataclasses
import doctest
import re
from pathlib import Path

import pytest

import report_folder
from report_folder import make
from slmlp import report
from slmlp.config import names
from slmlp.report import (
    choice,
    drawing,
    forests,
    inputs,
    limits,
    maps,
    page,
    study_curves,
    study_data,
    study_table,
    words,
)
from slmlp.report.forests import Difference, forest
from slmlp.results import records
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError


def comparison(low, high, p=0.01, a="sl", b="sl-mlp", seeds=5):
    return {"a": a, "b": b, "difference": (low or 0) + 1, "low": low, "high": high, "p_holm": p, "seeds": seeds}


@pytest.mark.parametrize(
    ("comparisons", "expected"),
    [
        ([comparison(1, 3)], {"sl-mlp"}),
        ([comparison(-3, -1)], {"sl"}),
        ([comparison(-1, 3)], set()),
        ([comparison(1, 3, p=0.2)], set()),
        ([comparison(1, 3, p=None)], {"sl-mlp"}),
        ([comparison(None, None)], set()),
        ([comparison(1, 3, seeds=1)], set()),
        ([comparison(1, 3), comparison(-1, 1, b="x")], {"sl-mlp"}),
        ([comparison(-3, -1), comparison(-1, 1, b="x")], set()),
        ([comparison(-3, -1), comparison(-4, -1, b="x")], {"sl"}),
        ([comparison(-3, -1), comparison(1, 4, b="x")], {"x"}),
        ([], set()),
    ],
)
def test_best_is_marked_only_where_the_verdict_supports_it(comparisons, expected):
    verdict = {"headline": "x", "tasks": {"x": {"comparisons": comparisons}}}
    assert inputs.Inputs(Path(), "study", {"methods": ["sl", "sl-mlp"]}, [], verdict).better() == expected


@pytest.mark.parametrize(
    ("low", "high", "p", "drawn"), [(-4.8, -1.0, 0.01, False), (-1, 3, 0.4, True), (1, 4, 0.2, True)]
)
def test_a_difference_that_was_found_stands_in_no_band_of_what_is_too_small_to_find(low, high, p, drawn):
    c = comparison(low, high, p) | {"detectable": 3.5}
    assert (forests.paired(["sl", "sl-mlp"], c).detectable is not None) is drawn


@pytest.mark.parametrize(
    ("value", "words_"), [(0.91, "above scale 0.54–0.88"), (0.7, "scale 0.54–0.88"), (0.5, "below ")]
)
def test_mixtureness_says_where_it_is_beyond_its_scale(tmp_path, value, words_):
    folder = make(tmp_path, with_map=False, curves=False)
    row = next(r for r in report_folder.rows() if (r.method, r.metric, r.role) == ("sl", "mixtureness", "final"))
    for seed in range(5):
        records.append(folder / "results.jsonl", dataclasses.replace(row, run=f"sl-{seed}", seed=seed, value=value))
    [shown] = [r for r in study_table.grid(inputs.read(folder)).rows if r.label == "SL"]
    assert next(cell.range for cell in shown.cells if "scale" in cell.range).startswith(words_)


def test_a_curve_begins_with_the_encoder_that_training_started_from(tmp_path):
    folder = make(tmp_path)

    def starts() -> list[tuple[int, float]]:
        return [
            line[0] for line in study_curves.along_training(inputs.read(folder), "unseen", "accuracy", "sl").values()
        ][:2]

    assert starts() == [(0, 0.27), (0, 0.28)]
    untrained = next(r for r in report_folder.rows() if (r.method, r.seed) == ("random-init", 0))
    given = dataclasses.replace(untrained, run="starting-encoder", method="starting-encoder", value=0.44)
    records.append(folder / "results.jsonl", given)
    (first, second) = starts()
    assert first == (0, 0.44)
    assert second[0] == 2  # measured for seed 0 alone


def test_names_at_the_start_of_a_sentence_are_spelt_as_given(tmp_path):
    folder = make(tmp_path)
    held = json_files.read(folder / "verdict.json", dict)
    json_files.write(folder / "verdict.json", held | {"sentences": ["no difference found", "timm:b0 beats SL"]})
    html = report.render(inputs.read(folder))
    assert ">No difference found<" in html
    assert ">timm:b0 beats SL<" in html
    assert "::first-letter" not in html  # which would spell them otherwise after all


def test_many_methods_are_told_apart_in_charts_and_key(tmp_path):
    methods = ["sl", "sl-mlp", *(f"sl:projector.out={i}" for i in range(13))]
    looks = [drawing.style_of(methods, m) for m in methods]
    assert len({(one["color"], str(one["linestyle"])) for one in looks}) == 15
    assert len({(one["color"], one["marker"]) for one in looks}) == 15
    folder = make(tmp_path)
    study = json_files.read(folder / "study.json", dict)
    json_files.write(folder / "study.json", study | {"methods": methods})
    html = report.render(inputs.read(folder))
    keys = re.findall(r'#line-(\d)" style="color: var\(--m(\d)\)"', html)[:15]
    assert keys == [
        (str(drawing.MARKERS.index(one["marker"])), str(drawing.METHOD.index(one["color"]))) for one in looks
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 9])
def test_many_sentences_stand_behind_the_picture_and_are_all_there(tmp_path, count):
    folder = make(tmp_path)
    verdict = json_files.read(folder / "verdict.json", dict)
    sentences = [f"finding {i} of some" for i in range(count)]
    json_files.write(folder / "verdict.json", verdict | {"sentences": sentences})
    html = report.render(inputs.read(folder))
    shown, picture, rest = html.partition('<figure class="forest">')
    assert picture
    assert len(re.findall(r"Finding \d of some", shown)) == (3 if count == 3 else 1)
    assert len(re.findall(r"Finding \d of some", rest)) == (0 if count == 3 else 8)


def facts(**changes):
    about = report_folder.study(**changes)
    return [
        lead
        for lead, _ in limits.of_study(inputs.Inputs(Path(), "study", about, [], {}), study_data.counts(about["data"]))
    ]


def test_limits_follow_from_the_facts():
    always = "One data set, one split, one budget."
    big = {**report_folder.study()["data"], "parts": {"train": 10**6}}
    wordnet = {**report_folder.study()["split"], "rule": "wordnet n03575240"}
    assert facts(data=big, split=wordnet) == [always]
    assert facts(data=big) == ["Held out at random.", always]
    assert facts(split=wordnet) == ["Small data.", always]
    assert "A demonstration." in facts(demo=True)
    assert "One seed." in facts(seeds=1)
    assert "Few seeds." in facts(seeds=3)
    assert "Leaks." in facts(split={**wordnet, "leaks": 2})
    rates = {**report_folder.study()["rates"], "chosen": {"sl": 0.1, "sl-mlp": 0.4}}
    assert "Rate at the edge." in facts(rates=rates)


def test_the_loaders_own_summary_is_taken_too():
    data = report_folder.study()["data"]
    del data["per_class"], data["duplicates"]
    data |= {
        "classes": {"a": {"train": 20, "test": 10, "superclass": "x"}, "b": {"train": 30, "test": 14}},
        "superclasses": {"x": 1, "y": 1},
        "ignored": {"no image": 3, "hidden": 1},
        "duplicates_across_parts": [["p", "q"]],
    }
    rows = dict(study_data.data_rows(study_data.counts(data)))
    assert rows["classes"] == "2 in 2 superclasses"
    assert rows["images per class"] == "min 30, median 37, max 44"
    assert (rows["ignored"], rows["duplicates"], rows["unreadable"]) == ("4", "1", "2")


def one_point_more(folder):
    path = folder / "tsne.json"
    path.write_text(path.read_text().replace('"xy": [', '"xy": [[0, 0], '))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "study.json").unlink(), "holds no study.json"),
        (lambda d: (d / "study.json").write_text("[]"), "Expected `object`, got `array`"),
        (lambda d: (d / "study.json").write_text('{"schema": 9}'), "newer slmlp"),
        (lambda d: (d / "study.json").write_text('{"title": "x"}'), "required field `machine`"),
        (lambda d: (d / "verdict.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "thumbnails.webp").write_bytes(b"no"), "thumbnails.webp"),
        (one_point_more, "points for"),
    ],
)  # fmt: skip
def test_broken_folders_are_told_in_one_line(tmp_path, change, message):
    folder = make(tmp_path)
    change(folder)
    with pytest.raises(SlmlpError, match=message) as error:
        maps.maps(inputs.read(folder))
    assert "\n" not in str(error.value)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_contrast_holds_in_light_dark_and_print():
    style = (page.HERE / "page.css").read_text()
    schemes = [dict(re.findall(r"(--\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)]
    assert len(schemes) == 3
    for scheme in schemes:

        def contrast(a, b, scheme=scheme):
            high, low = sorted((luminance(scheme[a]), luminance(scheme[b])), reverse=True)
            return (high + 0.05) / (low + 0.05)

        for text in ("--ink", "--soft", "--link"):
            for ground in ("--paper", "--card", "--tint"):
                assert contrast(text, ground) >= 4.5, (text, ground)
        for mark in [f"--m{i}" for i in range(6)] + [f"--c{i}" for i in range(8)]:
            assert contrast(mark, "--paper") >= 3, (mark, scheme[mark])


def test_examples_in_docstrings_run():
    for module in (words, names, choice):
        failed, tried = doctest.testmod(module)
        assert tried > 0
        assert failed == 0


@pytest.mark.parametrize(
    "ends", [(0, 0), (-3, 4), (-31, -9), (0, 0.002), (-0.0021, 0.0007), (50, 150), (-6, -1), (-0.945, 0.945)]
)
def test_numbers_at_the_ends_of_an_axis_lie_inside_the_drawing(ends):
    """Letters are at most two thirds of their size wide."""
    for chart in forest([Difference("b − a", sum(ends) / 2, *ends)], "points", "f"):
        width = float(re.search(r'viewBox="0 0 ([0-9.]+) ', chart)[1])
        ticks = re.findall(
            r'<text style="font-size: (\d+)px[^"]*text-anchor: (\w+); fill: var\(--soft\)"[^>]*? x="([0-9.-]+)"[^>]*>'
            r"([0-9.−]+)</text>",
            chart,
        )
        assert len(ticks) > 2
        for size, anchor, x, text in ticks:
            wide = len(text) * int(size) * 2 / 3
            left = float(x) - wide * {"start": 0, "middle": 0.5, "end": 1}[anchor]
            assert left > -1
            assert left + wide < width + 1


@pytest.mark.parametrize("value", [["knn"], {"knn": 3}, "knn"])
def test_task_settings_of_another_form_are_one_line(tmp_path, value):
    folder = make(tmp_path / "study")
    json_files.write(folder / "study.json", {**report_folder.study(), "task_settings": value})
    with pytest.raises(SlmlpError, match=r"study.json has another form .*task_settings"):
        inputs.read(folder)
