"""The page of a study: what it shows is what was written, whatever the names are, and it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from rich.console import Console

import report_folder
from report_folder import NASTY, make
from slmlp import report
from slmlp.cli import pages
from slmlp.report import inputs, maps, page, study_table
from slmlp.results import records
from slmlp.runtime import json_files


class Page(HTMLParser):
    """The page as a flat list of (tag, attributes, text inside)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len({k for k, _ in attrs}) == len(attrs), f"an attribute stands twice in <{tag}>"
        self.tags.append((tag, dict(attrs), []))
        self.open.append((tag, self.tags[-1][2]))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _, text in self.open:
            text.append(data)

    def all(self, tag: str, **attrs: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (a, "".join(text)) for t, a, text in self.tags if t == tag and all(a.get(k) == v for k, v in attrs.items())
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def html(folder) -> str:
    path = report.write(folder)
    assert path == folder / "report.html"
    return path.read_text()


@pytest.fixture(scope="module")
def dom(html) -> Page:
    return Page(html)


def text_of(dom: Page) -> str:
    return dom.all("body")[0][1]


def test_nothing_is_loaded_from_anywhere(html, dom):
    for tag, attrs, _ in dom.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "action", "srcset", "background", "formaction"):
            if name in attrs:
                assert str(attrs[name]).startswith(("#", "data:image/webp;base64,")), (tag, name, attrs[name])
        assert not [a for a in attrs if a.startswith("on")], tag
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\s\"'<>]+", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not dom.all("link")
    assert not dom.all("iframe")
    assert not dom.all("base")


def test_policy_forbids_the_network_and_lets_only_our_script_run(html, dom):
    [attrs] = [a for a, _ in dom.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in attrs["content"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert html.index("Content-Security-Policy") < html.index("<style")


def test_names_from_data_are_shown_and_never_obeyed(html, dom):
    assert [a for a, _ in dom.all("script")] == [{"type": "application/json", "id": "map-data"}, {}]
    assert not dom.all("b")
    shown = {text for _, text in dom.all("li")}
    for name in [*NASTY, "<b>bold</b>"]:
        assert name in shown
    assert "<my>" in dom.all("h1")[0][1]
    assert dom.all("code", id="full-command")[0][1].startswith('slmlp pretrain "/data/my & images"')
    data = json.loads(dom.all("script", id="map-data")[0][1])
    assert set(NASTY) <= set(data["classes"])
    assert "49" not in [text for _, text in dom.all("li")]  # {{ 7*7 }} stays what it is


def test_a_block_escapes_text_and_is_not_escaped_again():
    drawn = page.block("text", "<b>&")
    assert isinstance(drawn, Markup)
    assert drawn.strip() == "<p>&lt;b&gt;&amp;</p>"
    assert page.fold("<i>", drawn).count("&lt;b&gt;&amp;") == 1


def row_of(dom: Page, label: str) -> str:
    [text] = [t for a, t in dom.all("tr") if t.startswith(label) and "class" in a]
    return text


def test_numbers_on_the_page_are_the_rounded_inputs(folder, dom):
    found, verdict = records.read(folder / "results.jsonl"), json.loads((folder / "verdict.json").read_text())
    unseen = verdict["tasks"][verdict["headline"]]
    [c] = unseen["comparisons"]
    for method, label in (("sl", "SL"), ("sl-mlp", "SL-MLP")):
        [shown] = [r for r in study_table.grid(inputs.read(folder)).rows if r.label == label]
        text = row_of(dom, label + ("better" if shown.better else str(shown.cells[0].value)))
        mean = unseen["means"][method]
        expected = [f"{mean['value']:.1f}", f"{mean['low']:.1f}–{mean['high']:.1f}"]
        for task, metric, scale, digits in (
            ("source", "accuracy", 100, 1),
            ("measures", "discriminative_ratio_source", 1, 2),
            ("measures", "discriminative_ratio_unseen", 1, 2),
            ("measures", "redundancy_unseen", 1, 3),
        ):
            values = [
                scale * r.value
                for r in found
                if (r.method, r.role, r.task, r.metric) == (method, "final", task, metric)
            ]
            assert len(values) == 5
            expected += [f"{np.mean(values):.{digits}f}", f"{min(values):.{digits}f}–{max(values):.{digits}f}"]
        for value in expected:
            assert value in text, (method, value)
        assert "scale 0.54–0.88" in text
    assert f"{c['difference']:+.1f}{c['low']:+.1f} to {c['high']:+.1f}" in row_of(dom, "SL-MLPbetter")
    assert "18.316.3–20.3" in row_of(dom, "raw pixels")  # one run: the interval over images
    assert "28.027.0–29.0" in row_of(dom, "untrained encoder")  # three: lowest to highest
    assert "better than SL" in row_of(dom, "SL-MLPbetter")


def test_terminal_docs_and_page_show_the_same_cells(folder, dom):
    [shown] = report.tables(folder)
    console = Console(width=200, record=True, file=io.StringIO())
    for part in pages.table(shown).fitting(200, wide=True)[0]:
        console.print(part.rich())
    terminal, markdown = console.export_text(), shown.markdown()
    for row in shown.rows:
        text = row_of(dom, row.label + (row.note or str(row.cells[0].value)))
        for cell in row.cells:
            for part in filter(None, (cell.value, cell.range)):
                assert part in terminal
                assert part in markdown
                assert part in text
    assert markdown.splitlines()[1].count("---") == len(shown.columns) + 1
    assert "**SL-MLP**" in markdown
    assert "**SL**" not in markdown


def test_every_figure_says_what_to_see_and_from_how_many(html, dom):
    captions = [text.replace("\xa0", " ") for _, text in dom.all("figcaption")]
    assert len(captions) == len(dom.all("figure")) == 8
    assert all("n = " in c for c in captions)
    assert "one seed" in captions[7]
    charts = [a for a, _ in dom.all("svg") if "chart" in (a.get("class") or "")]
    assert len(charts) == 3 * 2 + 6 + 2 + 2  # differences, levels and references, each wide and narrow
    assert all(a.get("role") == "img" and a.get("aria-label") for a in charts)
    assert any("SL-MLP minus SL" in a["aria-label"] and "by seed" in a["aria-label"] for a in charts)


def test_classes_are_marked_only_where_they_differ_beyond_chance(folder, dom):
    where = json.loads((folder / "where.json").read_text())
    marked = [text for a, text in dom.all("div") if a.get("class") == "change sure"]
    assert len(marked) == 2  # by the corrected p, not by the size of the difference
    assert all(c["name"] in text for c, text in zip(where["classes"], marked, strict=False))
    assert "+30.0 points: 50.0\xa0% with SL, 80.0\xa0% with SL-MLP, 40 images, beyond chance" in marked[0]
    labels = [a["aria-label"] for a, _ in dom.all("svg") if (a.get("class") or "").startswith("shown")]
    assert len(labels) == 4 * 3 + 2 + 2 * 2 * 6
    same = [a for a, _ in dom.all("svg") if a.get("class") == "shown same"]
    expected = [i for of in where["neighbours"].values() for query, near in zip(where["queries"], of, strict=True)
                for i in near if where["labels"][i] == where["labels"][query]]  # fmt: skip
    assert len(same) == len(expected) > 0


def test_structure_is_sound(dom):
    ids = [a["id"] for _, a, _ in dom.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in dom.tags:
        for name in ("href", "aria-labelledby"):
            target = attrs.get(name)
            if target and not target.startswith("data:"):
                assert target.lstrip("#") in ids
    assert [len(dom.all(t)) for t in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
    assert len(dom.all("caption")) == len(dom.all("table"))
    assert all(a.get("scope") in ("row", "col") for a, _ in dom.all("th"))
    order = [a["id"] for a, _ in dom.all("h2")]
    answer, why, where = ["verdict", "table", "limits"], ["epochs", "rates"], ["classes", "neighbours", "map"]
    assert order == [*answer, *why, *where, "next", "warnings", "split", "data", "settings", "machine"]
    contents = [a["href"].lstrip("#") for a, _ in dom.all("a") if a.get("class") != "skip"]
    assert [one for i, one in enumerate(contents) if one not in contents[:i]] == order
    assert dom.all("h2", id="next")[0][1] == "Next: pretrain the winner on all classes"
    assert "<svg" not in text_of(dom)


def test_writing_twice_gives_the_same_bytes_whatever_the_users_own_charts_look_like(folder, html, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 31.0)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    assert report.write(folder).read_text() == html


def test_missing_parts_are_left_out_with_a_word(tmp_path):
    for name in ("bare", "single"):
        (tmp_path / name).mkdir()
    bare = tmp_path / "bare"
    report_folder.write(bare / "study.json", report_folder.study(rates={}, warnings=[]))
    text = text_of(Page(report.write(bare).read_text()))
    for word in ("No verdict was written", "there are no curves", "No grid of rates", "No map of the held-out"):
        assert word in text
    single = make(tmp_path / "single", methods=["sl-mlp"])
    dom = Page(report.write(single).read_text())
    assert "classes" not in [a["id"] for a, _ in dom.all("h2")]
    assert dom.all("h2", id="neighbours")
    assert "nothing is compared" in text_of(dom)
    assert "difference to" not in text_of(dom)
    assert len(dom.all("figure")) == 6  # levels, references, curves, rates, neighbours and map


def test_one_seed_is_not_shown_as_if_it_were_many(tmp_path):
    folder = make(tmp_path, with_map=False, curves=False, seeds=1)
    dom = Page(report.write(folder).read_text())
    text = text_of(dom)
    assert "One seed." in text
    assert "bar: its 95\xa0% interval over images only" in text
    assert "better than" not in "".join(text for _, text in dom.all("table"))
    assert "lowest to highest" not in text


def test_a_single_rate_and_a_failed_one_are_said(tmp_path):
    rates = {"grid": [0.2], "chosen": {"sl": 0.2}, "validation": {"sl": {"0.2": 0.7}}}
    folder = make(tmp_path, with_map=False, curves=False, rates={**rates, "failed": {"sl-mlp": {"0.4": "loss <nan>"}}})
    path = folder / "results.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"role":"grid"' not in line))
    text = text_of(Page(report.write(folder).read_text()))
    assert "One base learning rate was used for every method, 0.2 per 256 images" in text
    assert "SL-MLP could not be trained at 0.4: loss <nan>" in text


def test_no_difference_names_what_could_have_been_found(tmp_path):
    folder = make(tmp_path, with_map=False, curves=False)
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict["tasks"][verdict["headline"]]["comparisons"][0].update(low=-1.0, high=2.0, p_holm=0.4)
    report_folder.write(folder / "verdict.json", verdict)
    dom = Page(report.write(folder).read_text())
    text = text_of(dom)
    assert "No difference found is not the same as no difference." in text
    assert "under 1.1 points" in text or "under 1.2 points" in text
    assert "Next: pretrain on all classes" in text
    assert "better than" not in "".join(text for _, text in dom.all("table"))


def test_large_maps_are_thinned_alike_for_every_method_and_keep_every_class(tmp_path):
    folder = make(tmp_path, with_map=False)
    report_folder.tsne(folder, count=800, classes=37, side=64)
    drawn = maps.maps(inputs.read(folder))
    assert drawn is not None
    assert drawn.sprite is not None
    assert (drawn.count, drawn.total) == (maps.MOST, 800)
    assert len(set(drawn.data["of"])) == len(drawn.legend) == len(set(drawn.data["classes"]))
    assert {len(p) for p in drawn.data["places"].values()} == {maps.MOST}
    assert drawn.sprite.side == maps.SHARP
    assert all(0 <= v <= maps.WIDTH for places in drawn.data["places"].values() for p in places for v in p)


def test_thumbnails_follow_their_images_when_thinned(tmp_path):
    """Each thumbnail is one flat colour that says which image it is; the thinned sprite must still pair them."""
    folder, count = make(tmp_path, with_map=False), 900
    report_folder.tsne(folder, count=count, side=8)
    sheet = Image.new("RGB", (20 * 8, -(-count // 20) * 8))
    for i in range(count):
        sheet.paste((i // 30 * 8, i % 30 * 8, 0), (i % 20 * 8, i // 20 * 8, i % 20 * 8 + 8, i // 20 * 8 + 8))
    sheet.save(folder / "thumbnails.webp", lossless=True)
    tsne = json_files.read(folder / "tsne.json", dict)
    every = np.unique(np.array(tsne["labels"]), return_inverse=True)[1]
    kept = maps._sample(every)
    sprite = maps._sprite(folder / "thumbnails.webp", tsne, kept)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.uri.split(",")[1]))).convert("RGB"), dtype=int)
    for at, i in list(enumerate(kept.tolist()))[::50]:
        x, y, side, _ = map(int, sprite.box(at).split())
        centre = image[y + side // 2, x + side // 2]
        assert np.abs(centre - [i // 30 * 8, i % 30 * 8, 0]).max() < 24


def test_a_map_without_thumbnails_is_drawn_as_dots(tmp_path):
    folder = make(tmp_path, curves=False)
    (folder / "thumbnails.webp").unlink()
    html = report.write(folder).read_text()
    assert 'id="sprite"' not in html
    assert 'href="#sprite"' not in html
    assert html.count('class="chart map"') == 2
