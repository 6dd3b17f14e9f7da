"""Whole trainings of tiny classifiers: the same however they are cut short, split or computed."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from domix.data.loading.loader import Batch, Batches
from domix.model.checkpoint import load_tensors
from domix.model.classifier import load_classifier
from domix.runtime.errors import DomixError, Interrupted, ParameterError
from domix.runtime.files import read_json
from domix.train.fit import fit
from domix.train.job import Job
from tests.tiny import WORDS
from tests.tiny_supervised import DROPPING, NORMLESS, RESNET, TIMM, make_job

UNTIMED = ("step", "epoch", "samples", "loss", "lr", "accuracy")


def run(job: Job, folder: Path) -> Path:
    fit(job, out=folder / "model", resume=folder / "resume", about={})
    return folder / "model"


def rows(model: Path) -> list[dict[str, float]]:
    with open(model / "log.csv", newline="") as file:
        return [{key: float(row[key]) for key in UNTIMED} for row in csv.DictReader(file)]


def same(one: Path, other: Path) -> bool:
    weights = (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    return weights and rows(one) == rows(other)


def assert_close(one: Path, other: Path, *, rtol: float = 1e-4, atol: float = 5e-6) -> None:
    for row, wanted in zip(rows(one), rows(other), strict=True):
        assert row == pytest.approx(wanted, rel=rtol)
    weights, expected = (load_tensors(model / "model.safetensors") for model in (one, other))
    assert weights.keys() == expected.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], expected[name], rtol=rtol, atol=atol)


def test_a_training_publishes_a_classifier(tmp_path: Path) -> None:
    model = run(make_job(checkpoints=[0, 1, 4]), tmp_path)
    names = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    epochs = {f"checkpoints/epoch_{epoch:03d}.safetensors" for epoch in (0, 1, 4)}
    assert names == {"model.safetensors", "config.json", "log.csv", "done.json"} | epochs
    config = read_json(model / "config.json")
    assert (config["classes"], config["first_class"], config["encoder"]) == (WORDS, 0, RESNET)
    assert (config["recipe"]["momentum"], config["seed"]) == (0.9, 0)
    assert [row["step"] for row in rows(model)] == [5, 10, 12]
    loaded, _ = load_classifier(model)
    assert loaded(torch.zeros(2, 3, 32, 32)).shape == (2, len(WORDS))


def test_every_seed_is_a_seed(tmp_path: Path) -> None:
    """Seed 0 included, which the reference study's trainer leaves out."""
    torch.manual_seed(1)
    first = run(make_job(seed=0), tmp_path / "a")
    torch.manual_seed(2)
    assert same(first, run(make_job(seed=0), tmp_path / "b"))
    assert not same(first, run(make_job(seed=1), tmp_path / "c"))


def test_training_learns_what_it_is_shown(tmp_path: Path) -> None:
    still: dict[str, Any] = {"hflip": 0.0, "crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}
    log = rows(run(make_job(8, samples=8 * 60, milestones=[50], **still), tmp_path))
    assert log[0]["accuracy"] < 0.8
    assert log[-1]["accuracy"] == 1
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]


@pytest.mark.parametrize("encoder", [RESNET, DROPPING], ids=["resnet", "vit with dropout"])
def test_a_training_cut_short_twice_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: dict[str, Any]
) -> None:
    job = make_job(encoder=encoder, accumulate=2)
    whole = run(job, tmp_path / "whole")
    make = Batches.make
    for step in (2, 7):

        def signalled(self: Batches, at: int, step: int = step) -> Any:
            if at == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return make(self, at)

        with monkeypatch.context() as patch:
            patch.setattr(Batches, "make", signalled)
            with pytest.raises(Interrupted, match=rf"stopped after step {step + 1} of 12; run it again"):
                run(job, tmp_path / "cut")
    assert same(run(job, tmp_path / "cut"), whole)


@pytest.mark.parametrize("encoder", [NORMLESS, TIMM], ids=["clip", "timm"])
def test_parts_equal_the_whole(tmp_path: Path, encoder: dict[str, Any]) -> None:
    whole = run(make_job(encoder=encoder, samples=32, log_every=1), tmp_path / "whole")
    for count in (2, 8):
        job = make_job(encoder=encoder, samples=32, log_every=1, accumulate=count)
        assert_close(run(job, tmp_path / str(count)), whole)


def test_parts_with_batch_norm_equal_groups_of_the_whole(tmp_path: Path) -> None:
    """But for the running statistics, which follow every part, and of the groups the first."""
    folders = []
    for changes in ({"accumulate": 2}, {"bn_group": 4}):
        folders.append(run(make_job(samples=32, log_every=1, **changes), tmp_path / str(len(folders))))
    parts, groups = folders
    for row, wanted in zip(rows(parts), rows(groups), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"channels_last": False}, {"fused": False}, {"grad_checkpointing": True}],
    ids=["layout", "fused", "checkpointing"],
)
def test_how_it_is_computed_changes_no_result(tmp_path: Path, changes: dict[str, Any]) -> None:
    encoder = TIMM if "grad_checkpointing" in changes else RESNET
    plain = run(make_job(encoder=encoder, samples=32), tmp_path / "plain")
    assert_close(run(make_job(encoder=encoder, samples=32, **changes), tmp_path / "other"), plain)


def test_a_compiled_model_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(make_job(encoder=NORMLESS, samples=16), tmp_path / "plain")
    compiled: list[Any] = []

    def compile(function: Any) -> Any:  # without the compiler behind it, which takes long
        compiled.append(function)
        return traced(function, backend="eager")

    traced = torch.compile
    monkeypatch.setattr(torch, "compile", compile)
    assert_close(run(make_job(encoder=NORMLESS, samples=16, compile=True), tmp_path / "compiled"), plain)
    assert [function.__name__ for function in compiled] == ["forward"]


def test_lower_precision_keeps_weights_and_loss_in_float32(tmp_path: Path) -> None:
    plain, lower = (run(make_job(precision=name, samples=32), tmp_path / name) for name in ("32", "bf16"))
    weights = load_tensors(lower / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}
    assert not same(plain, lower)
    assert [row["loss"] for row in rows(lower)] == pytest.approx([row["loss"] for row in rows(plain)], rel=0.05)


def first_batch(job: Job) -> Batch:
    batch = next(iter(job.batches(job.task.targets(None), start=0)))
    return batch._replace(images=torch.rand(len(batch.images), 3, job.task.size, job.task.size))


def test_cross_entropy_is_computed_in_float32() -> None:
    job = make_job(encoder=NORMLESS)
    model: Any = job.task.build(0)
    module = job.task.module(job, model)
    batch = first_batch(job)
    with torch.autocast("cpu", torch.bfloat16):
        told = module.step([batch])
        logits = model(batch.images)
    assert logits.dtype == torch.bfloat16
    exact = F.cross_entropy(logits.double(), batch.targets)
    assert told["loss"].dtype == torch.float32
    assert told["loss"].item() == pytest.approx(exact.item(), rel=1e-6)


def test_gradients_are_clipped_where_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, closure: Any = None) -> Any:
        value = step(self, closure)
        norms.append(torch.stack([w.grad.norm() for g in self.param_groups for w in g["params"]]).norm().item())
        return value

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    run(make_job(samples=32), tmp_path / "free")
    free, norms[:] = max(norms), []
    run(make_job(samples=32, clip_grad=free / 10), tmp_path / "clipped")
    assert max(norms) <= free / 10 * 1.001


def test_weights_decay_as_the_recipe_says() -> None:
    job = make_job(weight_decay=0.3)
    model: Any = job.task.build(0)
    optimizer = job.task.module(job, model).make_optimizer()
    decayed, exempt = ({id(w) for w in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert id(model.head.weight) in decayed
    assert {id(w) for w in model.parameters() if w.ndim < 2} <= exempt


def overflowing_first_step(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> torch.Tensor:
    """Take a step whose gradients overflow, which the scaler skips, and then one that counts."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    return weight.detach().clone()


def test_momentum_is_sound_where_the_first_step_overflows() -> None:
    """PyTorch 2.15's fused SGD would go on from memory that nobody has set."""
    job = make_job(precision="fp16", fused=True)
    model: Any = job.task.build(0)
    optimizer = job.task.module(job, model).make_optimizer()
    plain = torch.nn.Parameter(model.head.weight.detach().clone())
    expected = torch.optim.SGD([plain], lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    mine, theirs = overflowing_first_step(optimizer, model.head.weight), overflowing_first_step(expected, plain)
    assert torch.equal(mine, theirs)
    assert not any(group["fused"] for group in optimizer.param_groups)
    job = make_job(precision="bf16", fused=True)
    fused: Any = job.task.module(job, model)
    assert all(group["fused"] for group in fused.make_optimizer().param_groups)


def test_fp16_trains_as_float32_does(tmp_path: Path) -> None:
    log = rows(run(make_job(encoder=NORMLESS, precision="fp16", clip_grad=1.0), tmp_path / "half"))
    full = rows(run(make_job(encoder=NORMLESS, clip_grad=1.0), tmp_path / "full"))
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in full], rel=0.05)


def test_a_training_that_diverges_stops_and_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DomixError, match=r"lower supervised\.lr"):
        run(make_job(lr=1e30, log_every=1), tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_batch_larger_than_the_mixture_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"supervised\.batch is 21, more than the mixture's 20 samples: lower it"):
        make_job(20, batch=21)


def test_an_encoder_that_cannot_recompute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.models import VisionTransformer

    def refuse(self: Any, enable: bool = True) -> None:
        assert not enable, "gradient checkpointing not supported"

    monkeypatch.setattr(VisionTransformer, "set_grad_checkpointing", refuse)
    with pytest.raises(ParameterError, match=r"trainer\.grad_checkpointing is true, which tiny cannot do"):
        make_job(encoder=TIMM, grad_checkpointing=True).task.build(0)
