"""Pages in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PICTURES = Path(__file__).parent.parent / "build" / "pages"  # ignored by git
OVER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"""


def found() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def chromium() -> Iterator[Any]:
    """Yield a browser, gone afterwards; the tests are skipped where there is none."""
    if found() is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=found(), args=["--no-sandbox"])
    yield browser
    browser.close()
    playwright.stop()


class Opened:
    """A page and everything that it asked for or complained of."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, *, dark: bool = False, **more: Any) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width < 500, **more
        )
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(file.resolve().as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page, for a person to look at."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def check(browser: Any, file: Path, name: str, width: int, *, dark: bool) -> None:
    """Assert what must hold of every page: nothing overflows, is asked for, is complained of, or is out of reach."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with Opened(browser, file, width, dark=dark) as opened:
        page = opened.page
        opened.picture(f"{name}-{width}-{'dark' if dark else 'light'}")
        for is_open in (False, True):
            page.evaluate("open => document.querySelectorAll('details').forEach(d => { d.open = open; })", is_open)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(OVER) == []
        violations = axe.run(page).response["violations"]
        assert [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in violations] == []
        assert {url for url in opened.requests if not url.startswith("data:")} == {file.resolve().as_uri()}
        assert opened.messages == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(21, 23, 27)" if dark else "rgb(255, 255, 255)")
