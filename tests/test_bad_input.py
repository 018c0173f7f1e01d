"""What cannot work gets one line that names it and the fix, exit code 2, and leaves everything as it was."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection_data import data_set
from slmlp.cli import COMMANDS, main
from slmlp.detection import predict
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError

SMALL = ["--encoder", "resnet10", "--image-size", "16", "--batch-size", "24", "--epochs", "1"]


def run(*words: object) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return code, said.getvalue()


def refused(*words: object) -> str:
    code, said = run(*words)
    assert code == 2, said
    last = [line for line in said.splitlines() if line.startswith("slmlp: ")]
    assert len(last) == 1
    assert "Traceback" not in said
    return last[0]


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def two(tmp_path):
    for name in ("a", "b"):
        for i in range(14):
            picture(tmp_path / "two" / name / f"{i}.png", seed=i + 100 * (name == "b"))
    return tmp_path / "two"


@pytest.mark.parametrize(
    ("flags", "spec", "words"),
    [
        (["--margin", "0.3"], "sl:margin=0.3", "add --cosine"),
        (["--cosine", "--margin", "1.6"], "sl:cosine=true:margin=1.6", "margin must be 0 to below pi/2"),
        (["--cosine", "--temperature", "0"], "sl:cosine=true:temperature=0", "temperature must be above 0, found 0"),
    ],
)
def test_a_margin_or_temperature_that_cannot_be(two, tmp_path, flags, spec, words):
    assert words in refused("pretrain", two, "--out", tmp_path / "run", "--method", "sl", *flags, *SMALL)
    assert words in refused("study", two, "--out", tmp_path / "study", "--methods", f"sl,{spec}", *SMALL)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing", "does not exist"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "empty"),
        (lambda p: picture(p / "one" / "a" / "0.png") or p / "one", "class"),
        (lambda p: (p / "notes.txt").write_text("x") and p / "notes.txt", "expected a folder"),
        (lambda p: (p / "m.csv").write_text("path,label\nx.png,\n") and p / "m.csv", "label"),
    ],
)
def test_data_that_is_none(tmp_path, make, words):
    assert words in refused("pretrain", make(tmp_path), "--out", tmp_path / "run", *SMALL)
    assert not (tmp_path / "run").exists()


def test_a_truncated_jpeg_is_listed_and_too_many_are_an_error(two, tmp_path):
    picture(tmp_path / "whole.jpg", 5)
    (two / "a" / "broken.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    said = refused("pretrain", two, "--out", tmp_path / "run", *SMALL)
    assert "broken.jpg" in said or "unreadable" in said
    code, said = run("pretrain", two, "--out", tmp_path / "run2", "--allow-unreadable", *SMALL)
    assert code == 0, said
    assert "broken.jpg" in (tmp_path / "run2" / "unreadable.txt").read_text()


def test_a_class_with_one_image_is_named(two, tmp_path):
    for name in ("c", "d"):
        picture(two / name / "0.png", ord(name))
    assert "'c'" in refused("split", two, "--by", "random", "--out", tmp_path / "s.json")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--encoder", "resnet_50"], "did you mean 'resnet50'"),
        (["--method", "slmlp"], "did you mean 'sl-mlp'"),
        (["--batch-size", "4000"], "--batch-size 4000 is more than"),
        (["--image-size", "4"], "--image-size must be 8 to 2048"),
        (["--augment", "moco"], "moco-v2"),
        (["--labels", "superclass"], "--superclasses FILE"),
        (["--init", "timm:resnet50"], "--encoder is resnet10"),
    ],
)
def test_settings_that_cannot_work(two, tmp_path, flags, words):
    flat = [w for i in range(0, len(SMALL), 2) if SMALL[i] not in flags for w in SMALL[i : i + 2]]
    assert words in refused("pretrain", two, "--out", tmp_path / "run", *flat, *flags)


def test_a_split_of_other_data(two, shapes, tmp_path):
    assert run("split", shapes, "--by", "random", "--out", tmp_path / "s.json")[0] == 0
    assert "split of other data" in refused(
        "pretrain", two, "--split", tmp_path / "s.json", "--out", tmp_path / "run", *SMALL
    )
    before = (tmp_path / "s.json").read_text()
    assert "holds another split" in refused(
        "split", shapes, "--by", "random", "--seed", "5", "--out", tmp_path / "s.json"
    )
    assert (tmp_path / "s.json").read_text() == before


def test_damaged_encoders_and_folders_that_hold_no_run(two, tmp_path):
    assert "no config.json" in refused("pretrain", "--resume", tmp_path / "nothing")
    assert run("pretrain", two, "--out", tmp_path / "run", *SMALL)[0] == 0
    file = tmp_path / "run" / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "cannot be read" in refused("features", tmp_path / "run", two, "--out", tmp_path / "f.npz")
    file.unlink()  # else it is finished
    settings = tmp_path / "run" / "config.json"
    saved = json.loads(settings.read_text())
    del saved["sha256"]
    for key, value in (("method", ["sl"]), ("data", {}), ("plugin", {"file": 3}), ("training", {"epochs": 1})):
        settings.write_text(json.dumps({**saved, "job": {**saved["job"], key: value}}))
        assert f"job.{key}" in refused("pretrain", "--resume", tmp_path / "run")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    assert "features file" in refused("measure", tmp_path / "bad.npz")


def test_unknown_flags_and_commands_offer_the_nearest():
    assert "did you mean 'pretrain'" in refused("pretrian")
    assert "did you mean --epochs" in refused("pretrain", "x", "--epoch", "3")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_teaches_and_loads_nothing_slow(command):
    code = (
        "import sys\nfrom slmlp.cli import main\n"
        f"try: main([{command!r}, '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join({'torch', 'numpy', 'typeguard', 'unittest', 'asyncio'} & sys.modules.keys()) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: slmlp" in done.stdout
    assert len(done.stdout) > 300


def test_debug_shows_the_traceback(tmp_path):
    code, said = run("pretrain", tmp_path / "missing", "--out", tmp_path / "run", "--debug")
    assert code == 2
    assert "Traceback" in said


@pytest.mark.parametrize("command", ["pretrain", "study", "suite", "detect"])
def test_a_folder_of_somebody_elses_files_is_left_as_it_is(two, tmp_path, command):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "report.html").write_text("mine")
    words = {
        "pretrain": [two, *SMALL],
        "study": [two, "--methods", "sl,sl-mlp", *SMALL],
        "suite": ["timm:test_resnet@random", "--also", two, "--tasks", "centroid"],
        "detect": ["timm:test_resnet@random", data_set(tmp_path / "coco"), "--steps", "1", "--batch-size", "2"],
    }[command]
    assert f"{out} is not empty and holds no " in refused(command, *words, "--out", out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"report.html": "mine"}


HALF = b"\xed\xa0\x80"  # of a surrogate pair, as no UTF-8 has it


@pytest.mark.parametrize(
    "content", [b'["' + HALF + b'"]', b'["\\uD800"]', b"[" * 100_000 + b"]" * 100_000, b'["a', b"\xff\xfe[\xd8"]
)
def test_text_that_is_none_and_json_that_is_too_deep_are_one_line(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    for read in (lambda path: json_files.read(path, list[Any]), predict.read):
        with pytest.raises(SlmlpError, match=r"x\.json (is not valid JSON|is nested too deep)"):
            read(tmp_path / "x.json")
    (tmp_path / "x.jsonl").write_bytes(b'{"a":"b"}\n{"a":"' + HALF + b'"}\n')
    assert json_files.read_lines(tmp_path / "x.jsonl", dict[str, str]) == [{"a": "b"}]
