"""slmlp serve over real HTTP and in a real browser, with a run training beside it, killed and resumed."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import browser as browsers
from report_folder import make
from slmlp import report
from slmlp.cli import main
from slmlp.report import inputs
from slmlp.serving.found import find

pytestmark = pytest.mark.slow
pytest.importorskip("starlette", reason="pip install 'slmlp[serve]'")

NASTY = "a <b>&'\" \u202eb"
TRAIN = (
    "pretrain emoji --encoder resnet10 --image-size 16 --batch-size 64 --images-per-class 12 --epochs 4000 "
    "--base-lr 0.02 --checkpoint-minutes 0.01 --threads 1"
)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "slmlp", *map(str, words)]


@contextlib.contextmanager
def served(root: Path, *words: object) -> Iterator[str]:
    """Serve a folder in a process of its own; yield the address it prints."""
    process = subprocess.Popen(command("serve", root, "--port", 0, *words), stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        yield re.search(r"http://\S+", line)[0]
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest


@contextlib.contextmanager
def training(run: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Train in a process of its own, which is killed at the end."""
    process = subprocess.Popen(command(*words), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(what: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def root(once):
    """A folder with a study and, beside it, a run that was killed."""

    def fill(folder: Path) -> None:
        make(folder / NASTY / "study", methods=["sl", "sl-mlp"])
        run = folder / "run"
        with training(run, *TRAIN.split(), "--out", run):
            until(lambda: any((run / "checkpoints").glob("step-*.ckpt")) and (run / "metrics.jsonl").exists())

    return once("served", fill)


@pytest.fixture(scope="module")
def site(root):
    with served(root) as address:
        yield address


def ask(address: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    host, port = re.match(r"http://(.+):(\d+)/", address).groups()
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest(method, path, skip_host="host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    with contextlib.closing(connection):
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()


def ids(root: Path) -> dict[str, str]:
    return {one.kind: one.id for one in find(root).values()}


def test_what_is_found_is_listed_and_text_is_escaped(site, root):
    status, headers, text = ask(site)
    assert status == 200
    assert set(re.findall(r'href="/(page|run)/(\w+)"', text)) == {
        ("page", ids(root)["study"]), ("run", ids(root)["run"])
    }  # fmt: skip
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_of_a_study_is_its_report(site, root):
    status, headers, text = ask(site, f"/page/{ids(root)['study']}")
    (folder,) = [one.path for one in find(root).values() if one.kind == "study"]
    assert (status, text) == (200, report.render(inputs.read(folder)))
    digest = re.search(r"script-src ('sha256-[^']+')", text)[1]
    assert f"script-src {digest};" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"].split("script-src")[1]


@pytest.mark.parametrize(
    "path",
    ["/page/..%2f..%2fetc%2fpasswd", "/run/../../etc/passwd", "/run/%2e%2e", "/page/0123456789abcdef", "/etc/passwd",
     "/run/x/metrics", "/compare?run=..%2f..", "/compare", "/run/config.json"],
)  # fmt: skip
def test_nothing_else_is_served(site, path):
    status, _, text = ask(site, path)
    assert status in (400, 404)
    assert "root:" not in text


def test_a_run_has_no_report_and_a_study_no_curves(site, root):
    assert ask(site, f"/page/{ids(root)['run']}")[0] == 404
    assert ask(site, f"/run/{ids(root)['study']}")[0] == 404
    assert ask(site, "/", "POST")[0] == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.", ""])
def test_a_page_of_another_name_gets_nothing(site, root, host):
    status, _, text = ask(site, f"/run/{ids(root)['run']}", host=host)
    assert status == 421
    assert "pretrain" not in text
    assert ask(site, "/", host="localhost:1")[0] == 200


def test_the_training_log_is_sent_once(site, root):
    place = f"/run/{ids(root)['run']}/metrics"
    answer = json.loads(ask(site, place)[2])
    lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
    assert answer["state"] == "stopped"
    assert {**answer["rows"][-1], "sha256": None} == {**json.loads(lines[-1]), "sha256": None}
    assert len(answer["rows"]) <= min(500, len(lines))
    assert json.loads(ask(site, f"{place}?have={answer['version']}")[2]) == {"state": "stopped"}


def test_on_another_address_a_token_is_needed(root):
    with served(root, "--host", "0.0.0.0") as address:
        base = re.sub(r"//[^:]+:", "//127.0.0.1:", address.partition("?")[0])
        token = address.partition("?token=")[2]
        assert len(token) >= 32
        for given in ({}, {"cookie": "slmlp-token=x"}):
            assert ask(base, "/", **given)[0] == 403
        assert ask(base, "/?token=x")[0] == 403
        status, headers, _ = ask(base, f"/compare?token={token}&run=abc")
        assert (status, headers["location"]) == (303, "/compare?run=abc")
        assert {"HttpOnly", "SameSite=Strict"} <= set(headers["set-cookie"].split("; "))
        assert ask(base, "//evil.example/?token=" + token)[1]["location"] == "/evil.example/"  # never elsewhere
        assert ask(base, "/", cookie=headers["set-cookie"].partition(";")[0])[0] == 200


def test_bad_input_is_one_line(tmp_path, root, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to(root)
    taken = socket.create_server(("127.0.0.1", 0))
    for words, found in (
        ([tmp_path / "empty"], "no study and no run"),
        ([tmp_path / "nowhere"], "no folder"),
        ([tmp_path], "no study and no run"),  # links are not followed
        ([root, "--port", taken.getsockname()[1]], "another --port"),
        ([root, "--port", 99999], "another --port"),
        ([root, "--host", "no such host"], "--host"),
    ):
        assert main(["serve", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert found in line
    taken.close()


@pytest.mark.browser
def test_every_page_is_in_reach_of_everybody(browser, site, root):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    run = ids(root)["run"]
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, said = context.new_page(), []
        page.on("console", lambda message, said=said: said.append(message.text))
        for path, ready in (("", "input"), (f"run/{run}", "path[data-run]"), (f"compare?run={run}", "path[data-run]")):
            page.goto(site + path)
            page.wait_for_selector(ready)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(browsers.OVER) == []
            violations = axe.run(page).response["violations"]
            assert [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in violations] == []
        page.goto(site)
        page.locator("a[href^='/page/']").click()
        assert "slmlp study" in page.title()
        assert said == []
        context.close()


@pytest.mark.browser
def test_a_run_is_watched_while_it_trains_is_killed_and_resumed(browser, site, root):
    run = root / "run"
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{site}run/{ids(root)['run']}")
    state = page.locator("td.state")

    def step() -> int:
        found = re.search(r"step ([\d,]+)", state.inner_text())
        return int(found[1].replace(",", "")) if found else 0

    until(lambda: state.inner_text().startswith("stopped") and step() > 0)
    for _ in range(2):
        with training(run, "pretrain", "--resume", run):
            until(lambda: state.inner_text().startswith("training"))
            at = step()
            until(lambda at=at: step() > at)
            curve = page.locator("path[data-run]").get_attribute("d")
            assert len(curve) > 20
        until(lambda: state.inner_text().startswith("stopped"))
    page.select_option("select", "lr")
    assert page.locator("svg.curves").get_attribute("aria-label") == "Training curves of lr"
    assert said == []
    page.close()


def test_the_server_opens_no_file_that_is_a_link(tmp_path, root):
    (tmp_path / "bad").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "bad" / name).symlink_to(root / "run" / name)
    make(tmp_path / "study")
    assert {one.kind for one in find(tmp_path).values()} == {"study"}
