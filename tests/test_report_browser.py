"""The page in a real browser: its charts answer, its tables sort and copy, and it is in reach of everybody."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import browser as browsers
from browser import Opened
from report_folder import make
from slmlp import report
from slmlp.config.names import display
from slmlp.report import choice, inputs, study_table, words
from slmlp.results import records

pytestmark = [pytest.mark.browser, pytest.mark.slow]

METHODS = ("sl", "sl-mlp", "simclr")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return report.write(make(tmp_path_factory.mktemp("study"), methods=list(METHODS)))


@pytest.fixture
def opened(browser, written):
    with Opened(browser, written) as page:
        yield page
        assert page.messages == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_holds_on_every_screen(browser, written, width, dark):
    browsers.check(browser, written, "study", width, dark=dark)


def test_letters_in_charts_stay_readable_on_a_phone(browser, written):
    with Opened(browser, written, 360) as opened:
        sizes = opened.page.evaluate(
            "[...document.querySelectorAll('.chart:not(.map)')].filter(s => s.getBoundingClientRect().width > 0)"
            ".map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
        )
    assert min(sizes) > 0.95  # drawn at 10 px or more and shown at that size


def test_the_policy_refuses_what_the_page_does_not_need(browser, written):
    with Opened(browser, written) as opened:
        refused = opened.page.evaluate(
            "new Promise(done => { document.addEventListener('securitypolicyviolation', "
            "e => done(e.effectiveDirective)); const i = new Image(); i.src = 'https://example.invalid/x.png'; })"
        )
    assert refused == "img-src"


def panel(page):
    return page.locator("svg.chart[aria-label^='Unseen accuracy, %']")


def test_a_curve_tells_its_numbers_to_the_pointer_and_to_the_keys(opened, written):
    rows = [r for r in records.read(written.parent / "results.jsonl") if (r.task, r.metric) == ("unseen", "accuracy")]
    page, chart = opened.page, panel(opened.page)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 100)  # the end of training
    lines = page.locator(".tip").inner_text().split("\n")
    assert lines[0] == "epoch 60"
    for method, line in zip(METHODS, lines[1:4], strict=True):
        values = [100 * r.value for r in rows if (r.method, r.role) == (method, "final")]
        mean = sum(values) / len(values)
        span = f"{words.number(min(values))} to {words.number(max(values))}"
        assert line == f"{display(method)}: {words.number(mean)} ({span})"
    assert lines[4] == "raw pixels: 18.3"
    page.mouse.move(2, 2)
    assert page.locator(".tip").is_hidden()
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").inner_text().startswith("epoch 2\n")  # the first that all seeds have
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").inner_text().startswith("epoch 5\n")
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()


def test_what_a_finger_calls_up_stays_until_the_next_touch(browser, written):
    with Opened(browser, written, 390) as opened:
        page, chart = opened.page, panel(opened.page)
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] - 20, box["y"] + 100)
        assert page.locator(".tip").inner_text().startswith("epoch 60\n")
        tip = page.locator(".tip").bounding_box()
        assert tip["x"] >= 0
        assert tip["x"] + tip["width"] <= 390
        page.touchscreen.tap(5, 5)
        assert page.locator(".tip").is_hidden()


def test_a_contender_that_is_hidden_is_gone_from_charts_tables_and_tips(opened):
    page = opened.page
    row = page.locator("table.main tr", has_text="SL-MLP")
    assert row.is_visible()
    key = page.locator(".key button", has_text="SL-MLP").last
    key.focus()
    page.keyboard.press("Enter")
    assert row.is_hidden()
    assert {button.get_attribute("aria-pressed") for button in page.locator(".key button[data-m='1']").all()} == {
        "false"
    }
    assert page.locator(".chart [data-m='1']:visible").count() == 0
    assert page.locator(".chart [data-m='2']:visible").count() > 8
    panel(page).focus()
    page.keyboard.press("ArrowRight")
    assert [line.split(":")[0] for line in page.locator(".tip").inner_text().split("\n")[1:3]] == ["SL", "SimCLR"]
    key.click()
    assert row.is_visible()


def test_the_baseline_is_the_readers_choice_and_its_numbers_were_computed_before(opened, written):
    page, found = opened.page, inputs.read(written.parent)
    figures = page.locator(".choice .option:visible")
    assert figures.count() == 1
    page.get_by_label("Compare with").select_option("SimCLR")
    assert figures.count() == 1
    figures.locator("summary").click()
    shown = [row.inner_text().split("\t") for row in figures.locator("tbody tr").all()]
    expected = choice.against(found.task, METHODS, "simclr")
    every = {(c["a"], c["b"]): c for c in json.loads((written.parent / "verdict.json").read_text())["tasks"][
        "unseen accuracy"]["every"]}  # fmt: skip
    assert [c["b"] for c in expected] == ["sl", "sl-mlp"]
    for cells, c in zip(shown, expected, strict=True):
        own = every[c["b"], "simclr"]  # written as SimCLR minus the other
        assert cells[0] == f"{display(c['b'])} − SimCLR"
        assert cells[1] == words.signed(-own["difference"])
        assert cells[2] == words.signed_span(-own["high"], -own["low"])


def column(table, i: int) -> list[str]:
    return [row.locator("th, td").nth(i).inner_text().split("\n")[0] for row in table.locator("tbody tr").all()]


def test_a_table_is_sorted_by_a_press_on_a_heading_and_put_back_by_the_third(opened):
    page = opened.page
    table = page.locator("table.main").first
    before, heading = column(table, 1), table.locator("thead th").nth(1)
    heading.locator("button").focus()
    rising = sorted(before, key=float)
    for order, expected in (("descending", rising[::-1]), ("ascending", rising), (None, before)):
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == order
        assert column(table, 1) == expected
    difference = table.locator("thead th").nth(2)
    difference.locator("button").click()
    assert column(table, 2)[-2:] == ["reference", "–"]  # what has no number stays at the end
    difference.locator("button").click()
    assert column(table, 2)[-2:] == ["reference", "–"]
    assert table.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize("granted", [True, False])
def test_a_table_is_copied_as_csv(browser, written, granted):
    with Opened(browser, written, permissions=["clipboard-read", "clipboard-write"] if granted else []) as opened:
        page = opened.page
        page.locator("table.main").first.locator("xpath=../following-sibling::button").click()
        if granted:
            text = page.evaluate("navigator.clipboard.readText()")
        else:
            page.locator("textarea.copied").wait_for()
            text = page.locator("textarea.copied").input_value()
    header, *rows = csv.reader(io.StringIO(text))
    table = study_table.grid(inputs.read(written.parent))
    assert [h for h in header if "range" not in h] == ["method", "note", *table.headings]
    for row, shown in zip(rows, table.rows, strict=True):
        assert row[:2] == [shown.label, shown.note]
        assert row[2] == shown.cells[0].value
        assert row[3] == shown.cells[0].range.replace("–", " to ")
        values = [value for heading, value in zip(header, row, strict=True) if "range" not in heading][2:]
        assert values == [cell.value.replace("−", "-") for cell in shown.cells]


def test_the_map_answers_the_pointer_with_picture_and_class(opened):
    page = opened.page
    x, y, name = page.evaluate("""(() => {
      const svg = document.querySelector('.map'); svg.scrollIntoView({block: 'center'});
      const data = JSON.parse(document.getElementById('map-data').textContent);
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const i = data.of.findIndex(c => data.classes[c] === '<script>alert(1)</script>');
      const [px, py] = data.places['map-0'][i];
      return [box.left + px * scale, box.top + py * scale, data.classes[data.of[i]]];
    })()""")
    page.mouse.move(x, y)
    assert page.locator(".tip").text_content() == name
    assert page.locator(".tip use").count() == 1
    assert page.evaluate("[...document.querySelectorAll('.here')].every(c => c.getAttribute('r') > 0)")
    assert page.locator(".map.dim .on").count() > 1
    page.mouse.move(2, 2)
    assert page.locator(".tip").is_hidden()
    page.locator(".classes button").first.click()
    assert page.locator(".classes button").first.get_attribute("aria-pressed") == "true"


def test_the_copy_button_selects_the_command(opened):
    opened.page.locator("[data-copy]").click()
    assert opened.page.evaluate("getSelection().toString()").startswith("slmlp pretrain")


def test_without_scripts_it_reads_as_well(browser, written):
    with Opened(browser, written, java_script_enabled=False) as opened:
        page = opened.page
        assert page.locator(".choice .option:visible").count() == 1
        assert page.locator("select:visible, button.csv, .numbers button").count() == 0
        assert panel(page).locator("title").first.text_content().startswith("epoch 2\nSL: ")
        opened.picture("study-without-scripts")


def test_it_prints_what_it_says_and_no_buttons(opened, written):
    file = browsers.PICTURES / "study.pdf"
    file.parent.mkdir(parents=True, exist_ok=True)
    opened.page.pdf(path=file, prefer_css_page_size=True)
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on this machine (apt-get install poppler-utils)")
    text = subprocess.run(["pdftotext", file, "-"], capture_output=True, text=True, check=True).stdout
    [first, *_] = inputs.read(written.parent).comparisons
    assert f"{words.signed(first['difference'])} ({words.signed_span(first['low'], first['high'])})" in text
    assert "Copy as CSV" not in text
    assert "Compare with" not in text
    assert text.count("Along training") == 1  # the heading, and no table of contents
