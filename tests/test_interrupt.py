"""Signals to the command line: the first ends a command, a further one the process, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import slmlp
from slmlp.cli import main
from slmlp.runtime import interrupt

BURIED = """
import os, signal, time

def build():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(5)
    except KeyboardInterrupt:
        raise {error}("could not determine the shape") from None
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("error", ["TypeError", "OSError", "slmlp.SlmlpError"])
def test_a_signal_of_which_a_library_makes_an_error_of_its_own_ends_the_command(
    shapes, tmp_path, monkeypatch, capsys, name, error
):
    (tmp_path / f"buried_{name}.py").write_text("import slmlp\n" + BURIED.format(name=name, error=error))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop(f"buried_{name}", None)
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    code = main(["evaluate", f"buried_{name}:build", str(shapes), "--task", "knn", "--out", str(tmp_path / "out")])
    assert (code, capsys.readouterr().err.splitlines()[-1]) == (130, interrupt.STOPPED)
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before


def test_an_error_without_a_signal_stays_an_error(tmp_path, capsys):
    assert main(["evaluate", "timm:test_resnet@random", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] != interrupt.STOPPED


@pytest.mark.slow
def test_signals_while_a_program_unwinds_and_exits_are_no_tracebacks(tmp_path):
    """Clean-up that takes long, at the end of the command and of the process, is cut off by the second."""
    script = tmp_path / "program.py"
    script.write_text(
        "import atexit, sys, time\n"
        "from slmlp.runtime import interrupt\n"
        "atexit.register(lambda: (print('exits', flush=True), time.sleep(60)))\n"
        "with interrupt.program(ends=True):\n"
        "    try:\n"
        "        print('works', flush=True)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        print('cleans', flush=True)\n"
        "        time.sleep(float(sys.argv[1]))\n"
        "sys.exit(130)\n"
    )
    for seconds, said in ((60, ["works", "cleans"]), (0, ["works", "cleans", "exits"])):
        words = [sys.executable, str(script), str(seconds)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for word in said:
            assert process.stdout.readline().strip() == word
            if word != "exits" and (word, seconds) != ("cleans", 0):
                process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=30)[1]
        assert process.returncode == 130, error
        assert time.monotonic() - began < 20
        assert error in ("", f"{interrupt.STOPPED}\n")


def test_a_third_signal_just_behind_the_second_changes_nothing():
    """It came while the handler of the second imported a module: a traceback, exit code 1, and 60 s to wait."""
    program = (
        "import os, signal, sys, threading, time\n"
        "from slmlp.runtime import interrupt\n"
        "with interrupt.program(ends=True):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        again = lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in iter(lambda: time.sleep(0.0002), 0)]\n"
        "        threading.Thread(target=again, daemon=True).start()\n"  # one every 0.2 ms, from the second on
        "        time.sleep(60)\n"
    )
    for _ in range(5):
        words = [sys.executable, "-c", program]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (130, f"{interrupt.STOPPED}\n")


IMPORTS = """
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
    print("goes on", flush=True)
except KeyboardInterrupt:
    raise ImportError("half a library")
"""
BURIED_AGAIN = {
    "an import": "import half",
    "a destructor": "class It:\n        def __del__(self): os.kill(os.getpid(), signal.{name})\n    It()",
    "a callback": "import weakref\n    class It: pass\n    it = It()\n"
    "    w = weakref.ref(it, lambda _: os.kill(os.getpid(), signal.{name}))\n    del it",
}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("where", BURIED_AGAIN)
def test_a_signal_that_cannot_be_raised_ends_the_process_at_once(tmp_path, where, name):
    """In an import it aborted torch (exit -6) or became another error; a destructor printed and forgot it."""
    (tmp_path / "half.py").write_text(IMPORTS.format(name=name))
    program = (
        "import os, signal, sys, time\n"
        "from slmlp.runtime import interrupt\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "with interrupt.program(ends=True):\n"
        f"    {BURIED_AGAIN[where].format(name=name)}\n"
        "    print('goes on', flush=True)\n"
        "    time.sleep(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{interrupt.STOPPED}\n")


@pytest.mark.parametrize(
    "module", ["slmlp.cli", "slmlp.runtime.errors", "difflib", "slmlp.cli.parse", "torch.nn", "timm"]
)
def test_a_signal_while_the_command_line_is_loaded_is_no_traceback(tmp_path, module):
    """It was one as long as the handlers were not there, and Python's own exit by the signal (-2) after them."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        f"hook = lambda e, a: os.kill(os.getpid(), signal.SIGINT) if e == 'import' and a[0] == {module!r} else None\n"
        "sys.addaudithook(hook)\n"
    )
    words = ["-m", "slmlp", "features", "timm:test_resnet@random", "emoji", "--out", str(tmp_path / "f.npz")]
    path = os.pathsep.join([str(tmp_path), str(Path(slmlp.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if not line.startswith("starting: ")]
    assert (done.returncode, said) in [(-signal.SIGINT, []), (130, [interrupt.STOPPED])]
    assert not (tmp_path / "f.npz").exists()


def test_a_job_in_the_background_still_ignores_ctrl_c():
    program = (
        "import os, signal, time\n"
        "from slmlp.runtime import interrupt\n"
        "with interrupt.program(ends=True), interrupt.Interrupt() as inside:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(inside.requested)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(inside.requested)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True"]


def test_processes_of_a_program_that_ends_at_once_end_with_it():
    program = (
        "import multiprocessing, os, signal, time\n"
        "from slmlp.runtime import interrupt\n"
        "with interrupt.program(ends=True):\n"
        "    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "    child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    for number in (signal.SIGINT, signal.SIGTERM):\n"
        "        try:\n"
        "            os.kill(os.getpid(), number)\n"
        "            time.sleep(5)\n"
        "        except KeyboardInterrupt:\n"
        "            pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 130
    deadline = time.monotonic() + 10
    while _alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(int(done.stdout))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
