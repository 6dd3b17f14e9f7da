"""What can go wrong in a training: nothing half-made is published, saved states stay, a sentence says what to do."""

from __future__ import annotations

import csv
import errno
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch._dynamo.exc import TorchDynamoException

from domix.data.loading.loader import Batches
from domix.model.checkpoint import load_tensors
from domix.runtime.errors import DataError, DomixError, Interrupted, ParameterError
from domix.settings.load import load
from domix.train import resume
from domix.train.clip_module import ClipModule
from domix.train.failures import explain
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.machine import Machine
from domix.train.session import Session, Validator
from tests.tiny import CONFIG, REPOSITORY, make_job

ALWAYS: dict[str, Any] = {"save_every_s": 1e-9}  # a state after every step


def run(job: Job, folder: Path, **named: Any) -> Path:
    fit(job, out=folder / "model", resume=folder / "resume", about={}, progress=False, **named)
    return folder / "model"


def states(folder: Path) -> list[int]:
    return sorted(int(path.name[-8:]) for path in (folder / "resume").glob("step_*"))


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the weights of a training in which nothing goes wrong."""
    return weights(run(make_job(), tmp_path_factory.mktemp("whole")))


def at_step(step: int, happen: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen while the batch of `step` is made."""
    make = Batches.make

    def interposed(self: Batches, at: int) -> Any:
        if at == step:
            happen()
        return make(self, at)

    monkeypatch.setattr(Batches, "make", interposed)


def in_training_step(step: int, spoil: Callable[[dict[str, Any]], dict[str, Any]], patch: pytest.MonkeyPatch) -> None:
    """Put something in the place of what one training step returns."""
    before = ClipModule.training_step

    def spoiled(self: ClipModule, batch: Any, batch_idx: int) -> dict[str, Any]:
        given = before(self, batch, batch_idx)
        return spoil(given) if batch.step == step else given

    patch.setattr(ClipModule, "training_step", spoiled)


def fail(error: BaseException) -> Callable[..., Any]:
    def raise_it(*arguments: Any, **named: Any) -> Any:
        raise error

    return raise_it


# -- divergence


def test_a_loss_that_is_no_number_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    with monkeypatch.context() as patch, pytest.raises(DomixError, match="the loss is nan at step 7 of 12"):
        in_training_step(6, lambda given: {name: value * float("nan") for name, value in given.items()}, patch)
        run(make_job(**ALWAYS), tmp_path)
    assert states(tmp_path) == [5, 6]
    assert weights(run(make_job(), tmp_path)) == whole


def test_weights_that_are_no_numbers_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    """A gradient may overflow although the loss is a number; a state of it would be taken up again and again."""
    step = ClipModule.optimizer_step

    def spoiled(self: ClipModule, epoch: int, batch_idx: int, *arguments: Any, **named: Any) -> None:
        step(self, epoch, batch_idx, *arguments, **named)
        if batch_idx == 6:
            with torch.no_grad():
                self.model.visual.bn1.running_var.fill_(float("inf"))

    with monkeypatch.context() as patch:
        patch.setattr(ClipModule, "optimizer_step", spoiled)
        with pytest.raises(DomixError, match=r"diverged: visual\.bn1\.running_var is not finite after step 7 of 12"):
            run(make_job(**ALWAYS), tmp_path)
    assert states(tmp_path) == [5, 6]
    assert weights(run(make_job(), tmp_path)) == whole


# -- memory, compiler


@pytest.mark.parametrize(
    "exhaust",
    [lambda: torch.empty(10**15), fail(MemoryError()), fail(torch.OutOfMemoryError("CUDA out of memory. Tried ..."))],
    ids=["cpu", "python", "gpu"],
)
def test_a_full_memory_is_told_with_the_parameters_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaust: Callable[[], Any]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(DomixError) as caught:
        in_training_step(4, lambda given: exhaust(), patch)
        run(make_job(accumulate=2, **ALWAYS), tmp_path)
    assert str(caught.value) == (
        "the memory does not hold 4 images of 32 x 32 pixels at a time (train.batch 8 / 1 devices / train.accumulate"
        " 2): lower train.batch, raise train.accumulate, set trainer.grad_checkpointing to true or set"
        " trainer.precision to bf16; states saved before stay"
    )
    assert states(tmp_path) == [3, 4]
    assert not (tmp_path / "model").exists()


def test_what_is_done_already_is_not_proposed() -> None:
    machine = Machine("gpu", 4, 2, "16-mixed", 0)
    told = explain(torch.OutOfMemoryError(), make_job(batch=16, grad_checkpointing=True), machine)
    assert str(told) == (
        "the GPU's memory does not hold 2 images of 32 x 32 pixels at a time (train.batch 16 / 8 devices /"
        " train.accumulate 1): lower train.batch or raise train.accumulate; states saved before stay"
    )
    assert explain(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), make_job(), machine) is not None
    assert explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), make_job(), machine) is None
    assert explain(ParameterError("no"), make_job(), machine) is None


def test_a_compiler_that_fails_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1 ...")
    monkeypatch.setattr(torch, "compile", lambda function: fail(broken))
    with pytest.raises(DomixError) as caught:
        run(make_job(compile=True), tmp_path)
    assert str(caught.value) == (
        "trainer.compile is true, but torch.compile failed (InvalidCxxCompiler: No working C++ compiler found): set it"
        " to false"
    )


# -- disk


@pytest.fixture
def small_files(whole: bytes) -> Iterator[None]:
    """Let files grow to little more than a model's weights: a state has the optimiser's moments besides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_that_does_not_fit_on_the_disk_costs_a_warning(
    tmp_path: Path, small_files: None, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert weights(run(make_job(**ALWAYS), tmp_path)) == whole
    said = [record.message for record in caplog.records if "is not saved" in record.message]
    assert len(said) == 11
    assert said[0].startswith("training goes on, but the state after step 1 is not saved: ")


def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full for tensors below a folder, as safetensors tells of it."""
    save = safetensors.torch.save_file

    def refuse(tensors: Any, path: Path, **named: Any) -> None:
        if folder in Path(path).parents:
            Path(path).write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, **named)

    monkeypatch.setattr(safetensors.torch, "save_file", refuse)


def test_an_earlier_state_stays_where_a_later_one_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="crash"):
        at_step(5, lambda: full(tmp_path / "resume", patch), patch)
        in_training_step(8, fail(RuntimeError("crash")), patch)
        run(make_job(**ALWAYS), tmp_path)
    assert states(tmp_path) == [4, 5]
    assert "the state after step 6 is not saved: no space left to write" in caplog.text
    assert {path.name for path in (tmp_path / "resume").iterdir()} == {"step_00000004", "step_00000005"}
    assert weights(run(make_job(), tmp_path)) == whole


def test_a_model_that_does_not_fit_is_not_published_and_its_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    out = tmp_path / "out" / "model"
    with monkeypatch.context() as patch:
        full(tmp_path / "out", patch)
        with pytest.raises(
            DomixError, match=r"no space left to write \S+: free some disk space and run again"
        ) as caught:
            fit(make_job(**ALWAYS), out=out, resume=tmp_path / "resume", about={}, progress=False)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert list((tmp_path / "out").iterdir()) == []
    assert states(tmp_path) == [10, 11]
    fit(make_job(), out=out, resume=tmp_path / "resume", about={}, progress=False)
    assert weights(out) == whole


def test_states_that_cannot_be_written_are_found_out_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(0, fail(AssertionError("it trained")), monkeypatch)
    (tmp_path / "resume").write_text("a file")
    with pytest.raises(DomixError, match=r"cannot write \S+resume\S*: a file stands where a folder is needed"):
        run(make_job(), tmp_path)
    (tmp_path / "resume").unlink()
    monkeypatch.setattr(tempfile, "TemporaryFile", fail(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(DomixError, match=r"may not write \S+: make the folder \S+resume writable and run again"):
        run(make_job(), tmp_path)


# -- states


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_after_a_kill_and_a_truncated_state_the_one_before_serves(tmp_path: Path, whole: bytes, moment: str) -> None:
    """A power cut may truncate what was written last; a kill while a state is saved leaves half of it."""

    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            if moment == "training":
                at_step(8, kill, patch)
            else:
                digest = resume.sha256_file
                patch.setattr(resume, "sha256_file", lambda path: kill() if "00000008" in str(path) else digest(path))
            run(make_job(**ALWAYS), tmp_path)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    last = 8 if moment == "training" else 7
    assert states(tmp_path) == [last - 1, last]
    newest = tmp_path / "resume" / f"step_{last:08d}" / "state.safetensors"
    os.truncate(newest, newest.stat().st_size // 2)
    assert weights(run(make_job(), tmp_path)) == whole
    assert not (tmp_path / "resume").exists()


@pytest.mark.parametrize(("kept", "left"), [(1, [11]), (3, [9, 10, 11])])
def test_as_many_states_are_kept_as_asked_for_even_if_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes, kept: int, left: list[int]
) -> None:
    for step, keep in ((6, 2), (10, kept)):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
            run(make_job(keep_states=keep, **ALWAYS), tmp_path)
    assert states(tmp_path) == left
    assert weights(run(make_job(), tmp_path)) == whole


def test_measurements_on_the_way_are_neither_lost_nor_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    def measure(model: torch.nn.Module) -> dict[str, float]:
        return {"scale": model.get_parameter("logit_scale").item()}

    rows: list[list[dict[str, str]]] = []
    for name, stops in (("whole", ()), ("cut", (3, 4, 10))):
        for step in stops:
            with monkeypatch.context() as patch, pytest.raises(Interrupted):
                at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
                run(make_job(), tmp_path / name, make_validator=lambda *model: Validator(2, measure))
        model = run(make_job(), tmp_path / name, make_validator=lambda *model: Validator(2, measure))
        assert weights(model) == whole
        with open(model / "validation.csv", newline="") as file:
            rows.append(list(csv.DictReader(file)))
    assert [row["step"] for row in rows[0]] == ["2", "4", "6", "8", "10", "12"]
    assert rows[1] == rows[0]


def test_states_of_another_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Session, "_stop_everywhere", lambda self, trainer: self.step == 2)
        run(make_job(), tmp_path)
    wider = make_job(config=CONFIG | {"embed_dim": 24})
    with pytest.raises(DataError) as caught:
        run(wider, tmp_path)
    assert str(caught.value).startswith(f"the saved states in {tmp_path / 'resume'} are another model's: ")
    assert caught.value.remake == tmp_path / "resume"
    assert load_tensors(tmp_path / "resume" / "step_00000002" / "state.safetensors")


# -- parameters


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            ("  devices: 4\n", "  devices: 3\n"),
            "train.batch 1024 must divide by 6: trainer.devices x trainer.nodes = 3, times train.accumulate 2",
        ),
        (
            ("  nodes: 1\n", "  nodes: 3\n"),
            "train.batch 1024 must divide by 24: trainer.devices x trainer.nodes = 12, times train.accumulate 2",
        ),
        (
            ("  bn_group: null\n", "  bn_group: 96\n"),
            "train.bn_group 96 must divide 128, a device's part of a batch (train.batch / devices / train.accumulate)",
        ),
    ],
)
def test_a_batch_that_does_not_divide_is_told_with_its_divisors(edit: tuple[str, str], says: str) -> None:
    text = (REPOSITORY / "presets" / "paper.yaml").read_text(encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        load(text.replace(*edit, 1))
    assert str(caught.value) == says
