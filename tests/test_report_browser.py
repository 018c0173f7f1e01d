"""The page in a real browser: no overflow on a phone, no request, no broken policy, a map that answers the pointer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform == "win32", reason="speaks to Chromium over inherited pipes"),
]

chromium = pytest.importorskip("chromium")  # tests/chromium.py
if chromium.found() is None:
    pytest.skip("no Chromium on this machine (apt-get install chromium)", allow_module_level=True)

from report_folder import make  # noqa: E402
from slmlp import report  # noqa: E402


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return report.write(make(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def tab():
    with chromium.page() as opened:
        yield opened


OVER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_overflows_and_nothing_is_asked_for(tab, written, width, dark):
    tab.requests.clear()
    tab.open(written, width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(OVER) == []
    assert {r for r in tab.requests if not r.startswith("data:")} == {written.as_uri()}
    assert not [e for e in tab.events if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    paper = tab.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_letters_in_charts_stay_readable_on_a_phone(tab, written):
    tab.open(written, 360)
    smallest = tab.run(
        "Math.min(...[...document.querySelectorAll('.chart text')].map(t => t.getBoundingClientRect())"
        ".filter(r => r.height > 0).map(r => Math.min(r.height, r.width > r.height ? r.height : r.width)))"
    )
    assert smallest >= 5
    sizes = tab.run(
        "[...document.querySelectorAll('.chart:not(.map)')].filter(s => s.getBoundingClientRect().width > 0)"
        ".map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    assert min(sizes) > 0.95  # drawn at 11 px or more and shown at that size


def test_the_policy_refuses_what_the_page_does_not_need(tab, written):
    tab.open(written)
    refused = tab.run(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        " const i = new Image(); i.src = 'https://example.invalid/x.png'; setTimeout(() => done(null), 2000); })"
    )
    assert refused == "img-src"


def test_the_map_answers_the_pointer_with_picture_and_class(tab, written):
    tab.open(written)
    x, y, name = tab.run("""(() => {
      const svg = document.querySelector('.map'); svg.scrollIntoView({block: 'center'});
      const data = JSON.parse(document.getElementById('map-data').textContent);
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const i = data.of.findIndex(c => data.classes[c] === '<script>alert(1)</script>');
      const [px, py] = data.places['map-0'][i];
      return [box.left + px * scale, box.top + py * scale, data.classes[data.of[i]]];
    })()""")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert tab.run("document.querySelector('.tip').hidden") is False
    assert tab.run("document.querySelector('.tip').textContent") == name
    assert tab.run("document.querySelectorAll('.tip use').length") == 1
    assert tab.run("[...document.querySelectorAll('.here')].every(c => c.getAttribute('r') > 0)") is True
    assert tab.run("document.querySelectorAll('.map.dim .on').length") > 1
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert tab.run("document.querySelector('.tip').hidden") is True
    tab.run("document.querySelector('.classes button').click()")
    assert tab.run("document.querySelector('.classes button').getAttribute('aria-pressed')") == "true"


def test_the_copy_button_selects_the_command(tab, written):
    tab.open(written)
    tab.run("document.querySelector('[data-copy]').click()")
    assert tab.run("getSelection().toString()").startswith("slmlp pretrain")


@pytest.mark.slow
def test_it_prints(tab, written, tmp_path):
    tab.open(written)
    tab.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
