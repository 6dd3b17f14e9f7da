"""Files of weights that others have saved: tensors come out, and no code in them ever runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from domix.encoders.weight_files import read_tensors
from domix.runtime.errors import DataError

TENSORS = {"a": torch.arange(3.0), "b.c": torch.ones(2, 2, dtype=torch.float16)}
OPTIMISER = torch.optim.AdamW([torch.zeros(2, requires_grad=True)]).state_dict()
SAVED: dict[str, Callable[[Path], None]] = {
    "x.safetensors": lambda path: save_file(TENSORS, path),
    "bare.pt": lambda path: torch.save(TENSORS, path),
    "old.pth": lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False),
    "trainer.pt": lambda path: torch.save({"epoch": 3, "state_dict": TENSORS, "optimizer": OPTIMISER}, path),
    "parallel.bin": lambda path: torch.save({f"module.{k}": v for k, v in TENSORS.items()}, path),
    "compiled.pt": lambda path: torch.save({f"module._orig_mod.{k}": v for k, v in TENSORS.items()}, path),
}


@pytest.mark.parametrize("name", SAVED)
def test_tensors_come_back_under_their_names(name: str, tmp_path: Path) -> None:
    SAVED[name](tmp_path / name)
    read = read_tensors(tmp_path / name)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], tensor) and read[key].dtype == tensor.dtype for key, tensor in TENSORS.items())


def test_a_prefix_that_only_some_names_have_is_theirs(tmp_path: Path) -> None:
    mixed = {"module.a": TENSORS["a"], "b": TENSORS["b.c"]}
    torch.save(mixed, tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt").keys() == mixed.keys()


class Malicious:
    """What an attacker's file holds: an object whose unpickling runs a command of theirs."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def plain_pickle(evil: object, path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": evil}, protocol=2))


HIDDEN: dict[str, Callable[[object, Path], None]] = {
    "a pickle": plain_pickle,
    "beside the weights": lambda evil, path: torch.save({"state_dict": TENSORS, "name": evil}, path),
    "among the weights": lambda evil, path: torch.save(TENSORS | {"b.c": evil}, path),
    "in the old format": lambda evil, path: torch.save({"a": evil}, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN.keys())
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_malicious_pickle_is_refused_and_never_runs(
    hide: Callable[[object, Path], None], suffix: str, tmp_path: Path
) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"weights{suffix}"
    hide(Malicious(trace), path)
    with pytest.raises(DataError, match="holds more than tensors, which could run code, and is not read") as caught:
        read_tensors(path)
    assert not trace.exists()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_malicious_pickle_would_have_run(tmp_path: Path) -> None:
    """Guards the test above: the same bytes, read carelessly, leave their trace."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / "trace")))  # noqa: S301
    assert (tmp_path / "trace").is_dir()


def save_program(path: Path) -> None:
    """Write what torch.jit.save writes, as far as its kind can be told: an archive with constants."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/code/__torch__.py", b"")


def save_half(path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3000)}, file)
    path.write_bytes(file.getvalue()[:6000])


FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "absent": ("x.pt", lambda path: None, r"the weights .*x\.pt are missing"),
    "another ending": ("x.npz", lambda path: path.write_bytes(b"x"), r"no file of weights: known endings are"),
    "a program": ("x.pt", save_program, r"is a TorchScript program.*open_clip tag \(openai\)"),
    "cut short": ("x.pt", save_half, "are damaged, or no file of torch.save"),
    "noise": ("x.bin", lambda path: path.write_bytes(b"noise noise"), "are damaged, or no file of torch.save"),
    "empty": ("x.pth", lambda path: path.write_bytes(b""), "are damaged, or no file of torch.save"),
    "safetensors cut short": ("x.safetensors", lambda path: path.write_bytes(b"xx"), "are damaged"),
    "a list": ("x.pt", lambda path: torch.save([torch.zeros(1)], path), "holds no state dict"),
    "numbers": ("x.pt", lambda path: torch.save({"epoch": 3}, path), "its entry 'epoch' is no tensor"),
    "nothing": ("x.pt", lambda path: torch.save({"state_dict": {}}, path), "holds no state dict"),
    "a whole module": ("x.pt", lambda path: torch.save(torch.nn.Linear(1, 1), path), "holds more than tensors"),
}


@pytest.mark.parametrize(("name", "write", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_in_a_sentence(name: str, write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)
