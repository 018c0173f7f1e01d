"""The server: who may ask, what is answered, and the headers that keep a page to itself."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from slmlp import report
from slmlp.report import inputs, page
from slmlp.runtime.errors import SlmlpError
from slmlp.serving import pages
from slmlp.serving.found import Found, find

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
COOKIE = "slmlp-token"
MOST = 24  # runs of one comparison
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


@dataclass
class Site:
    """What is answered: pages of what the folder holds now, by id."""

    root: Path
    _reports: dict[tuple[Any, ...], str] = field(default_factory=dict)
    _drawing: threading.Lock = field(default_factory=threading.Lock)  # matplotlib's settings are the process's

    def index(self, request: Request) -> Response:
        """List studies and runs."""
        return self._page(lambda: pages.index(find(self.root)))

    def run(self, request: Request) -> Response:
        """Show a run."""
        return self._page(lambda: pages.run(self._one(request.path_params["id"], runs=True)))

    def compare(self, request: Request) -> Response:
        """Show the runs that were ticked."""
        ids = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 1 <= len(ids) <= MOST:
            return _line(f"tick 1 to {MOST} runs to be compared, found {len(ids)}", 400)
        return self._page(lambda: pages.comparison([self._one(one, runs=True) for one in ids]))

    def metrics(self, request: Request) -> Response:
        """Return the training log of a run as JSON; without its lines where the asker has them."""
        try:
            one = self._one(request.path_params["id"], runs=True)
        except KeyError:
            return JSONResponse({"error": "no such run"}, 404)
        state, version = one.state, one.version
        if request.query_params.get("have") == version:
            return JSONResponse({"state": state})
        return JSONResponse({"state": state, "version": version, "rows": one.metrics()})

    def report(self, request: Request) -> Response:
        """Show the page of a study, made from its files now."""
        try:
            one = self._one(request.path_params["id"], runs=False)
            return HTMLResponse(self._report(one), headers={"content-security-policy": _policy(served=False)})
        except KeyError:
            return _line("there is no such page", 404)
        except SlmlpError as error:
            return _line(str(error), 500)

    def _report(self, one: Found) -> str:
        files = sorted(path for path in one.path.iterdir() if path.suffix in (".json", ".jsonl", ".webp"))
        key = (one.path, *((path.name, path.stat().st_mtime_ns) for path in files))
        with self._drawing:
            if key not in self._reports:
                for old in [held for held in self._reports if held[0] == one.path]:
                    del self._reports[old]
                self._reports[key] = report.render(inputs.read(one.path))
            return self._reports[key]

    def _one(self, word: str, *, runs: bool) -> Found:
        one = find(self.root)[word]
        if (one.kind == "run") != runs or not (runs or one.has_page):
            raise KeyError(word)
        return one

    def _page(self, make: Callable[[], page.Page]) -> Response:
        try:
            html = page.render(make(), served=True)
        except KeyError:
            return _line("there is no such run", 404)
        except SlmlpError as error:
            return _line(str(error), 500)
        return HTMLResponse(html, headers={"content-security-policy": _policy(served=True)})


def _policy(*, served: bool) -> str:
    return f"{page.policy(served)}; frame-ancestors 'none'"


def _line(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={"content-security-policy": "default-src 'none'"})


class Guard:
    """Lets through who may ask: by the name that the browser believes to talk to, and by a token where there is one.

    A page of another site whose name suddenly leads to this machine (DNS rebinding) sends that name.
    """

    def __init__(self, app: Any, names: tuple[str, ...] | None, token: str | None) -> None:
        self.app, self.names, self.token = app, names, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        refused = self._refused(scope)
        await (refused or self.app)(scope, receive, sending)

    def _refused(self, scope: Message) -> Response | None:
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if self.names is not None and (len(hosts) != 1 or _without_port(hosts[0]) not in self.names):
            return _line(f"this server answers to {' and '.join(self.names)} only", 421)
        if self.token is None:
            return None
        words = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in words if key == "token"]
        if given and self._is_token(given[0]):
            rest = urlencode([(key, value) for key, value in words if key != "token"])
            place = "/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else "")
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return Response(status_code=303, headers={"location": place, "set-cookie": cookie})
        cookies = SimpleCookie()
        cookies.load("; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie"))
        if COOKIE in cookies and self._is_token(cookies[COOKIE].value):
            return None
        return _line("this server needs the token: open the address that slmlp serve printed", 403)

    def _is_token(self, word: str) -> bool:
        return self.token is not None and hmac.compare_digest(word.encode(), self.token.encode())


def _without_port(host: str) -> str:
    """Return the name of a Host header.

    >>> _without_port("LOCALHOST:8765"), _without_port("[::1]:8765"), _without_port("[::1]")
    ('localhost', '[::1]', '[::1]')
    """
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def application(root: Path, names: tuple[str, ...] | None = LOOPBACK, token: str | None = None) -> Guard:
    """Return the application of a folder.

    Args:
        root: the folder.
        names: those that a browser may know this server by; None for any, which needs a token.
        token: what everybody who asks must know.
    """
    assert names is not None or token is not None
    site = Site(root)
    routes = [
        Route("/", site.index),
        Route("/page/{id}", site.report),
        Route("/run/{id}", site.run),
        Route("/run/{id}/metrics", site.metrics),
        Route("/compare", site.compare),
    ]
    return Guard(Starlette(routes=routes), names, token)
