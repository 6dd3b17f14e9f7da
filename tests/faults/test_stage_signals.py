"""Signals that end a stage: at whatever moment they come, its exit code is 75, and it says one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.tiny import REPOSITORY

STAGES = sorted(
    path.stem for path in (REPOSITORY / "stages").glob("*.py") if "def main(params" in path.read_text(encoding="utf-8")
)
# A package whose import takes long, and which makes do without what it cannot import, as many do.
SLOW = """
import time
from functools import partial
print("importing", flush=True)
try:
    time.sleep(60)
except Exception:
    pass
"""


def start(
    folder: Path, stage: str, *, without: Path | None = None, interrupt: signal.Handlers = signal.SIG_DFL
) -> subprocess.Popen[str]:
    """Start a stage, in a folder without params.yaml.

    What it finds set for Ctrl-C is `interrupt`, and not what these tests themselves were started with: a shell lets
    what it starts in the background ignore it, and hand that on.
    """
    path = [str(part) for part in (without, REPOSITORY, REPOSITORY / "src") if part is not None]
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *(["x"] * 2)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, interrupt),
    )


def heeds(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Tell whether a process has a handler for a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    (caught,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("stage", "package", "number"),
    [
        *((stage, "pydantic", signal.SIGTERM) for stage in STAGES),
        *(("train", "torch", number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)),
    ],
)
def test_a_signal_while_a_stage_is_importing(tmp_path: Path, stage: str, package: str, number: signal.Signals) -> None:
    (tmp_path / f"{package}.py").write_text(SLOW)
    with start(tmp_path, stage, without=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
    assert (process.returncode, said) == (75, f"{stage}: stopped by {number.name}; run it again to continue\n")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell which signals are caught")
@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.4])
def test_a_signal_soon_after_a_stage_was_started(tmp_path: Path, seconds: float) -> None:
    with start(tmp_path, "train") as process:
        while not heeds(process, signal.SIGTERM):
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)
    assert (process.returncode, said) == (75, "train: stopped by SIGTERM; run it again to continue\n")


def test_who_imports_a_stage_keeps_its_handlers(tmp_path: Path) -> None:
    code = "import signal, stages.code; print([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src")))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.count("SIG_DFL") == 2


def test_a_stage_started_in_the_background_leaves_interrupts_to_others(tmp_path: Path) -> None:
    """A shell without job control lets what it starts with `&` ignore Ctrl-C."""
    (tmp_path / "torch.py").write_text(SLOW.replace("60", "0.2"))
    with start(tmp_path, "train", without=tmp_path, interrupt=signal.SIG_IGN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=240)
    assert "SIGINT" not in said and "interrupted" not in said
