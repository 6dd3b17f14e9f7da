"""Two hosts that share nothing but a cable: one training, published by the first of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from domix.model.checkpoint import load_tensors
from domix.settings.load import load
from stages import train
from tests.closeness import assert_close
from tests.tiny import REPOSITORY, make_job, write_project

SCRIPT = REPOSITORY / "tools/two_hosts.sh"
MODEL = Path("artifacts/models/clip/tiny-s0")
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(REPOSITORY / "src"),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


def why_not() -> str | None:
    """Say why there can be no second host on this machine."""
    if shutil.which("ip") is None:
        return "there is no program `ip` (iproute2)"
    name = f"dx-try-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if done.returncode:
        return f"network namespaces may not be made here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


@pytest.mark.slow
def test_two_hosts_train_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    folders = {name: tmp_path / name for name in ("first", "second", "alone")}
    for name, folder in folders.items():
        changes: dict[str, Any] = {"bn_group": 4} if name == "alone" else {"nodes": 2}
        write_project(folder, **changes)
    command = [SCRIPT, folders["first"], folders["second"], "tiny", "0"]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    left = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert "dx" not in left
    assert not (folders["second"] / "artifacts/models").exists()
    assert not list(folders["second"].glob(".cache/resume/*"))

    monkeypatch.chdir(folders["alone"])
    train.main(load(Path("params.yaml").read_text()), "tiny", "0")
    found, wanted = (load_tensors(folders[name] / MODEL / "model.safetensors") for name in ("first", "alone"))
    assert_close(found, wanted, make_job().task.build(0).state_dict())


def test_wrong_words_are_answered_with_the_right_ones() -> None:
    done = subprocess.run([SCRIPT, "only"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    subprocess.run(["bash", "-n", SCRIPT], check=True)
