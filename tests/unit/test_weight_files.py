"""Files of weights that others have saved: tensors come out, and no code in them ever runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from domix.encoders.weights.weight_files import read_tensors
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


def in_new_format(held: object, path: Path) -> None:
    torch.save(held, path)


def in_old_format(held: object, path: Path) -> None:
    torch.save(held, path, _use_new_zipfile_serialization=False)


HIDDEN: dict[str, Callable[[object], object]] = {
    "beside the weights": lambda evil: {"state_dict": TENSORS, "name": evil},
    "about the weights": lambda evil: {"a": evil, "model": {"more": [evil], "state_dict": TENSORS}},
    "among the weights": lambda evil: TENSORS | {"c": evil},
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN.keys())
@pytest.mark.parametrize("save", [in_new_format, in_old_format])
@pytest.mark.parametrize("suffix", [".pt", ".PTH", ".bin", ".ckpt", ".pth.tar"])
def test_a_malicious_pickle_never_runs_and_its_tensors_are_read(
    hide: Callable[[object], object], save: Callable[[object, Path], None], suffix: str, tmp_path: Path
) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"weights{suffix}"
    save(hide(Malicious(trace)), path)
    read = read_tensors(path)
    assert not trace.exists()
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in TENSORS.items())


def plain_pickle(evil: object, path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": evil}, protocol=2))


@pytest.mark.parametrize("save", [plain_pickle, in_new_format, in_old_format])
def test_a_malicious_pickle_without_tensors_is_refused_and_never_runs(
    save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "x.pt"
    save(Malicious(trace), path)
    with pytest.raises(DataError, match=r"whose code would have to be run|no file of torch\.save") as caught:
        read_tensors(path)
    assert not trace.exists()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def hand_made(*opcodes: bytes) -> bytes:
    """Return an archive of torch.save around a pickle of these opcodes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + b"".join(opcodes) + b".")
        archive.writestr("x/version", b"3")
    return file.getvalue()


CRAFTED = {
    "a call": hand_made(b"cos\nsystem\n", b"X\x01\x00\x00\x00x", b"\x85R"),
    "an import": hand_made(b"cantigravity\nfly\n", b")R"),
    "a call of what a call gave": hand_made(b"cbuiltins\ngetattr\n", b")R", b")R", b")R"),
    "a state of a known function": hand_made(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}X\x01\x00\x00\x00xK\x01sb"),
    "a state of a known class": hand_made(b"ccollections\nOrderedDict\n", b"}X\x01\x00\x00\x00xK\x01sb"),
    "a state of a type": hand_made(b"ctorch\nfloat32\n", b"}X\x01\x00\x00\x00xK\x01sb"),
    "a call of a storage": hand_made(b"ctorch\nFloatStorage\n", b")R"),
    "an instance": hand_made(b"(cos\nsystem\no"),
    "no reference": hand_made(b"K\x01Q"),
}


@pytest.mark.parametrize("content", CRAFTED.values(), ids=CRAFTED.keys())
def test_crafted_pickles_change_nothing(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("the file ran a command"))
    before = dict(vars(OrderedDict)), dict(vars(torch._utils._rebuild_tensor_v2))
    with pytest.raises(DataError):
        read_tensors(tmp_path / "x.pt")
    assert (dict(vars(OrderedDict)), dict(vars(torch._utils._rebuild_tensor_v2))) == before
    assert "antigravity" not in sys.modules


class Attributes(dict[str, Any]):
    """A dictionary of a trainer's own, as Lightning has had one for hyper-parameters."""


BESIDE: dict[str, object] = {
    "a number of NumPy": np.float64(0.5),
    "an array of NumPy": np.arange(3),
    "arguments": argparse.Namespace(lr=1e-3, out=Path("x"), more=argparse.Namespace(a=[1])),
    "a dictionary of its own": Attributes(a=1, b=Attributes(c=2)),
    "a deque": collections.deque([1, 2], maxlen=3),
    "a default dictionary": collections.defaultdict(list, {"a": [1]}),
    "a set": {1, 2},
    "a time": datetime.datetime(2026, 1, 1),
    "a module": torch.nn.Linear(2, 2),
    "a type": np.float32,
    "a function": os.path.join,
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
@pytest.mark.parametrize("save", [in_new_format, in_old_format])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_what_a_trainer_saves_beside_the_weights_is_let_be(
    beside: object, save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    save({"epoch": 3, "state_dict": TENSORS, "beside": beside}, tmp_path / "x.pt")
    read = read_tensors(tmp_path / "x.pt")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in TENSORS.items())


DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("save", [in_new_format, in_old_format])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_type_and_layout_are_read_beside_more(
    dtype: torch.dtype, save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    whole = torch.arange(24).reshape(4, 6).to(dtype)
    tensors = {
        "whole": whole,
        "a part": whole[1:, ::2],
        "turned": whole.T,
        "a number": whole[2, 3],
        "nothing": whole[:0],
        "the same": whole,
    }
    if dtype.is_floating_point:
        tensors["a parameter"] = torch.nn.Parameter(whole.clone())
    save({"model": tensors, "args": argparse.Namespace(a=1)}, tmp_path / "x.pt")
    read = read_tensors(tmp_path / "x.pt")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor), name


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)[:1], "n": argparse.Namespace()}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:4] if "/data/" in name else content.replace(b"K\x01\x85", b"K\x09\x85"))
    with pytest.raises(DataError, match="are damaged"):
        read_tensors(tmp_path / "x.pt")


CLIP = {"logit_scale": torch.tensor(1.0), "visual.conv1.weight": torch.ones(2), "positional_embedding": torch.ones(3)}
AROUND = st.lists(st.sampled_from(["module", "_orig_mod", "_fsdp_wrapped_module"]), max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    about=AROUND,
    tower=AROUND,
    held=st.sampled_from(["", "model.", "net.clip.", "model.model."]),
    keys=st.lists(st.sampled_from(["state_dict", "model", "module", "model_state_dict"]), max_size=3),
)
def test_wrappers_and_places_in_any_order_and_depth_are_taken_off(about, tower, held, keys) -> None:
    """A model wrapped, with a wrapped tower, in an attribute of another beside a loss, in dictionaries."""
    start = "".join(f"{name}." for name in about)
    inside = "visual." + "".join(f"{name}." for name in tower)
    saved: Any = {f"{held}{start}{name}".replace("visual.", inside): tensor for name, tensor in CLIP.items()}
    if held:
        saved |= {"loss.weight": torch.ones(1), "accuracy.total": torch.ones(1)}
    for key in keys:
        saved = {"epoch": torch.tensor(3), key: saved, "optimizer": OPTIMISER, "lr": np.float64(1)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        torch.save(saved, path)
        assert read_tensors(path).keys() == CLIP.keys()


def test_a_file_of_several_models_is_refused_with_their_names(tmp_path: Path) -> None:
    torch.save({f"{who}.{name}": t for who in ("student", "teacher") for name, t in CLIP.items()}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"holds 2 models, student\. and teacher\.: save the weights of one"):
        read_tensors(tmp_path / "x.pt")
    torch.save({"student": CLIP, "teacher": CLIP}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"holds several state dicts, student and teacher"):
        read_tensors(tmp_path / "x.pt")
    torch.save({"student": CLIP, "step": 3}, tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt").keys() == CLIP.keys()


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
    "numbers": ("x.pt", lambda path: torch.save({"epoch": 3}, path), "holds no state dict"),
    "nothing": ("x.pt", lambda path: torch.save({"state_dict": {}}, path), "holds no state dict"),
    "a whole module": ("x.pt", lambda path: torch.save(torch.nn.Linear(1, 1), path), "whose code would have to be run"),
}


@pytest.mark.parametrize(("name", "write", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_in_a_sentence(name: str, write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)
