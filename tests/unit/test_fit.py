"""Whole trainings, tiny: the same result however often they are cut short, and nothing published unless complete."""

from __future__ import annotations

import csv
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from domix.data.loading.loader import Batches
from domix.model.checkpoint import load_tensors
from domix.runtime.errors import DomixError, Interrupted, ParameterError
from domix.runtime.files import read_json
from domix.runtime.tracking.tracker import NullTracker
from domix.train.clip_module import ClipModule
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.session import Session
from tests.tiny import CONFIG, make_job

VIT = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8, "patch_dropout": 0.5}
DROPPING = CONFIG | {"vision_cfg": VIT}


def run(job: Job, folder: Path, **named: Any) -> Path:
    fit(job, out=folder / "model", resume=folder / "resume", about={"mixture": {"name": "m"}}, **named)
    return folder / "model"


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal while it makes the batch of `step`."""
    make = Batches.make

    def signalled(self: Batches, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), number)
        return make(self, at)

    monkeypatch.setattr(Batches, "make", signalled)


def rows(model: Path) -> list[dict[str, str]]:
    with open(model / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(one: Path, other: Path) -> bool:
    """Tell whether two model folders hold the same files, byte for byte."""
    held = [
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} for folder in (one, other)
    ]
    return held[0] == held[1]


def test_rates_lie_beside_the_model_and_survive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 7)
        run(make_job(), tmp_path, rates=tmp_path / "rates" / "run.csv")
    assert not (tmp_path / "rates").exists()
    model = run(make_job(), tmp_path, rates=tmp_path / "rates" / "run.csv")
    assert list(rows(model)[0]) == ["step", "epoch", "samples", "loss", "lr", "logit_scale"]
    with open(tmp_path / "rates" / "run.csv", newline="") as file:
        rates = list(csv.DictReader(file))
    assert [(row["step"], row["samples"], row["devices"]) for row in rates] == [
        ("5", "40", "1"),
        ("10", "80", "1"),
        ("12", "96", "1"),
    ]
    assert all(float(row["samples_per_s"]) > 0 and 0 <= float(row["data_wait"]) < 1 for row in rates)


def test_a_training_publishes_everything_and_keeps_no_state(tmp_path: Path) -> None:
    job = make_job(checkpoints=[0, 1, 4], save_every_s=1)
    model = run(job, tmp_path)
    names = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    epochs = {f"checkpoints/epoch_{epoch:03d}.safetensors" for epoch in (0, 1, 4)}
    assert names == {"model.safetensors", "config.json", "log.csv", "done.json"} | epochs
    assert not (tmp_path / "resume").exists()
    config = read_json(model / "config.json")
    assert (config["model"], config["seed"], config["mixture"]) == (CONFIG, 0, {"name": "m"})
    assert config["recipe"]["lr"] == 3e-3
    log = rows(model)
    assert [row["step"] for row in log] == ["5", "10", "12"]
    assert [row["samples"] for row in log] == ["40", "80", "96"]
    assert float(log[-1]["epoch"]) == 4.8
    untrained = load_tensors(model / "checkpoints/epoch_000.safetensors")
    last = load_tensors(model / "model.safetensors")
    assert untrained["visual.bn1.num_batches_tracked"] == 0
    assert last["visual.bn1.num_batches_tracked"] == 12
    fourth = load_tensors(model / "checkpoints/epoch_004.safetensors")
    assert fourth["visual.bn1.num_batches_tracked"] == 10


def test_training_is_deterministic_and_depends_on_the_seed(tmp_path: Path) -> None:
    first, second = (run(make_job(), tmp_path / name) for name in ("a", "b"))
    assert same(first, second)
    assert not same(first, run(make_job(seed=1), tmp_path / "c"))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    job = make_job(8, samples=8 * 60, lr=1e-2, hflip=0.0, crop_scale=[1.0, 1.0], crop_ratio=[1.0, 1.0])
    log = rows(run(job, tmp_path))
    assert float(log[-1]["loss"]) < 0.5 * float(log[0]["loss"])


def test_lower_precision_keeps_weights_and_loss_in_float32(tmp_path: Path) -> None:
    losses = []
    for precision in ("32", "bf16"):
        model = run(make_job(precision=precision), tmp_path / precision)
        losses.append([float(row["loss"]) for row in rows(model)])
        weights = load_tensors(model / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_progress_is_shown_on_a_terminal_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(make_job(), tmp_path)
    assert "samples" not in capfd.readouterr().err


@pytest.mark.parametrize("config", [CONFIG, DROPPING], ids=["resnet", "vit with dropout"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_cut_short_twice_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], number: int
) -> None:
    job = make_job(config=config, checkpoints=[1, 3])
    whole = run(job, tmp_path / "whole")
    for step in (2, 7):
        with monkeypatch.context() as patch:
            stop_at(patch, step, number)
            with pytest.raises(Interrupted, match=rf"stopped after step {step + 1} of 12; run it again"):
                run(job, tmp_path / "cut")
        assert not (tmp_path / "cut" / "model").exists()
    assert same(run(job, tmp_path / "cut"), whole)
    for epoch in ("001", "003"):
        name = f"checkpoints/epoch_{epoch}.safetensors"
        assert (tmp_path / "cut" / "model" / name).read_bytes() == (whole / name).read_bytes()


FP16: dict[str, Any] = {"precision": "fp16", "clip_grad": 0.5, "accumulate": 2}
COMPILED: dict[str, Any] = {"compile": True, "config": DROPPING}


@pytest.mark.parametrize("changes", [FP16, pytest.param(COMPILED, marks=pytest.mark.slow)], ids=["fp16", "compiled"])
def test_scaled_gradients_and_compiled_towers_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """With fp16, the factor of the gradients is part of the state: it halves wherever they overflow."""
    job = make_job(**changes)
    whole = run(job, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 6)
        run(job, tmp_path / "cut")
    if "precision" in changes:
        state = read_json(tmp_path / "cut" / "resume" / "step_00000007" / "state.json")
        assert state["notes"]["scaler"]["scale"] < 2**16
    assert same(run(job, tmp_path / "cut"), whole)


def test_scaled_gradients_are_clipped_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused optimiser would divide by the scale after the clipping; it must be done before."""
    scaled: dict[str, Any] = {"precision": "fp16", "samples": 8 * 8, "eps": 0.1}  # steps as large as gradients
    weights = []
    for number, changes in enumerate(({"fused": False, "clip_grad": 0.05}, {"clip_grad": 0.05}, {"clip_grad": None})):
        model = run(make_job(**scaled | changes), tmp_path / str(number))
        weights.append(load_tensors(model / "model.safetensors")["visual.conv1.weight"])
    apart, fused, free = weights
    before = make_job().task.build(0).state_dict()["visual.conv1.weight"]
    assert (fused - apart).norm() < 1e-4 * (apart - before).norm()
    assert (free - apart).norm() > 0.1 * (apart - before).norm()


def test_a_crash_resumes_from_the_last_state_and_the_one_before_if_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(make_job(), tmp_path / "whole")
    save = Session._save

    def crash(self: Session, *arguments: Any) -> None:
        save(self, *arguments)
        if self.step == 8:
            raise RuntimeError("crash")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="crash"):
        patch.setattr(Session, "_save", crash)
        run(make_job(save_every_s=1e-9), tmp_path / "cut")
    newest = tmp_path / "cut" / "resume" / "step_00000008" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert same(run(make_job(), tmp_path / "cut"), whole)


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run(make_job(), tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_training_that_diverges_stops_with_the_step_and_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ClipModule.training_step

    def spoiled(self: ClipModule, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        factor = float("nan") if batch.step == 3 else 1.0
        return {name: loss * factor for name, loss in step(self, batch, batch_idx).items()}

    monkeypatch.setattr(ClipModule, "training_step", spoiled)
    with pytest.raises(DomixError, match=r"diverged: the loss is nan at step 4 of 12, .*rate is 0\.003; lower"):
        run(make_job(), tmp_path)
    assert not (tmp_path / "model").exists()


def test_weights_spoiled_by_the_last_step_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ClipModule.optimizer_step

    def spoiled(self: ClipModule, *arguments: Any, **named: Any) -> None:
        step(self, *arguments, **named)
        with torch.no_grad():
            next(self.model.parameters()).fill_(float("inf"))

    monkeypatch.setattr(ClipModule, "optimizer_step", spoiled)
    with pytest.raises(DomixError, match=r"diverged: \S+ is not finite after step 1 of 1; lower train\.lr"):
        run(make_job(samples=8), tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_batch_larger_than_the_mixture_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"train\.batch is 21, more than the mixture's 20 samples: lower it"):
        make_job(20, batch=21)


def test_an_epoch_beyond_the_end_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"asks for epoch 5, but training ends after 4\.8 epochs"):
        _ = make_job(checkpoints=[5]).checkpoints


@pytest.mark.parametrize(("start", "kept"), [(200.0, 100.0), (0.5, 1.0)])
def test_the_logit_scale_stays_in_its_range(tmp_path: Path, start: float, kept: float) -> None:
    job = make_job(config=CONFIG | {"init_logit_scale": math.log(start)}, samples=8)
    weights = load_tensors(run(job, tmp_path) / "model.safetensors")
    assert weights["logit_scale"].exp().item() == pytest.approx(kept, rel=1e-5)


def test_gradients_are_clipped_where_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, closure: Any = None) -> Any:
        value = step(self, closure)
        norms.append(torch.stack([w.grad.norm() for g in self.param_groups for w in g["params"]]).norm().item())
        return value

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run(make_job(samples=32), tmp_path / "free")
    free, norms[:] = max(norms), []
    run(make_job(samples=32, clip_grad=free / 10), tmp_path / "clipped")
    assert max(norms) <= free / 10 * 1.001


def test_a_tracker_hears_every_row_and_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Tracker(NullTracker):
        def params(self, values: Any) -> None:
            heard.append("params")

        def metrics(self, values: Any, step: int) -> None:
            heard.append(step)

        def finish(self, *, succeeded: bool) -> None:
            heard.append(succeeded)

    run(make_job(), tmp_path / "a", open_tracker=Tracker)
    assert heard == ["params", 5, 10, 12, True]
    heard.clear()
    stop_at(monkeypatch, 6)
    with pytest.raises(Interrupted):
        run(make_job(), tmp_path / "b", open_tracker=Tracker)
    assert heard == ["params", 5, False]
