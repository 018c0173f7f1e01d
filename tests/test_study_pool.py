"""The processes of a study: stopped, killed and orphaned ones, real ones each time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FLAGS = (
    "--methods sl sl-mlp --seeds 1 --rates 0.2 --parallel 2 --encoder resnet10 --epochs 400 --image-size 16 "
    "--batch-size 24 --augment weak --split.by random --split.unseen-fraction 0.5 --probe.l2 0.01 --probe.folds 3"
)


def began(process: subprocess.Popen[str]) -> str:
    """Return what a study printed until both of its runs are training."""
    text = ""
    for line in process.stderr:
        text += line
        if text.count("images/s") >= 2:
            return text
    raise AssertionError(text)


@pytest.fixture
def study(shapes, tmp_path):
    """A study of long runs that are both training; it is killed at the end."""
    command = [sys.executable, "-m", "slmlp", "study", str(shapes), *FLAGS.split(), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        began(process)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that train: those children which load torch."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def checkpoints(tmp_path) -> int:
    return len(list((tmp_path / "out").glob("runs/*/checkpoints/*.ckpt")))


def test_a_signal_to_the_study_alone_saves_every_run(study, tmp_path):
    pids = workers(study)
    assert len(pids) == 2
    study.terminate()
    text = study.communicate(timeout=60)[1]
    assert study.returncode == 130, text
    assert checkpoints(tmp_path) == 2
    assert "Traceback" not in text
    assert not any(map(alive, pids))


def test_a_killed_process_is_one_line_that_names_its_run(study):
    pids = workers(study)
    os.kill(pids[0], signal.SIGKILL)
    text = study.communicate(timeout=60)[1]
    assert study.returncode == 2, text
    assert text.splitlines()[-1].startswith("slmlp: a process was killed while ")
    assert "sl at rate 0.2, seed 0" in text.splitlines()[-1]
    assert "Traceback" not in text
    assert not any(map(alive, pids))


def test_processes_whose_study_is_killed_save_their_runs_and_end(study, tmp_path):
    pids = workers(study)
    study.kill()
    deadline = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(alive, pids))
    assert checkpoints(tmp_path) == 2


def test_a_script_without_a_main_guard_runs_once(shapes, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import slmlp\nfrom slmlp import config\nprint('begins', flush=True)\n"
        f"training = slmlp.Training(encoder='resnet10', epochs=1, image_size=16, batch_size=24, augment='weak')\n"
        "split, probe = config.Split(by='random', unseen_fraction=0.5), config.Probe(l2=(0.01,), folds=3)\n"
        "cfg = slmlp.Study(seeds=1, rates=(0.2,), parallel=2, training=training, split=split, probe=probe)\n"
        f"slmlp.study({str(shapes)!r}, {str(tmp_path / 'out')!r}, cfg)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begins") == 1
    assert (tmp_path / "out" / "report.html").exists()


def test_ctrl_c_while_processes_start_is_one_line(shapes, tmp_path):
    command = [sys.executable, "-m", "slmlp", "study", str(shapes), *FLAGS.split(), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )

    def started() -> bool:
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"popen_loky_posix" in command.read_bytes() and os.getsid(int(command.parent.name)) == process.pid:
                    return True
        return False

    while not started():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them, amid their imports
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "the same command goes on" in text.splitlines()[-1]


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGINT, signal.SIGTERM] * 2, [signal.SIGTERM] * 2])
def test_a_second_signal_ends_the_study_and_its_processes_at_once(study, signals, shapes, tmp_path):
    """They are frozen, so that they cannot save and end as the first signal asks of them."""
    pids = workers(study)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    study.send_signal(signals[0])
    time.sleep(1)
    assert study.poll() is None  # it waits for them
    for number in signals[1:]:
        study.send_signal(number)
    text = study.communicate(timeout=10)[1]
    assert study.returncode == 130, text
    assert text.splitlines()[-1].startswith("slmlp: stopped; the same command goes on")
    assert "Traceback" not in text
    assert "Warning" not in text
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))
    again = subprocess.Popen(
        [sys.executable, "-m", "slmlp", "study", str(shapes), *FLAGS.split(), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        began(again)
    finally:
        os.killpg(again.pid, signal.SIGKILL)
        again.communicate()
