"""A batch in parts, on several devices, with grouped batch norm: always the gradients of the one big batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from domix.data.loading.loader import augmented
from domix.model import clip
from domix.model.checkpoint import load_tensors
from domix.model.loss import contrastive_loss
from domix.runtime.errors import DomixError, Interrupted
from domix.train.clip_module import ClipModule
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.machine import choose
from domix.train.session import Session
from tests.closeness import assert_close
from tests.processes import become_one_of_two, free_port
from tests.tiny import CONFIG, make_job

VISION = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}
RESNET, VIT = CONFIG, CONFIG | {"vision_cfg": VISION}
DROPPING = CONFIG | {"vision_cfg": VISION | {"patch_dropout": 0.5}}
BIASED = VIT | {"init_logit_bias": -10.0}


def reference(job: Job) -> dict[str, Tensor]:
    """Return the gradients of the first step: all parts in one graph, one loss, one backward pass."""
    model: Any = job.task.build(job.seed).train()
    module: Any = job.task.module(job, model)
    targets = job.task.targets(model)
    module.prepare(targets, choose(job.trainer))
    batch = next(iter(job.batches(targets, start=0)))
    batch = batch._replace(images=augmented(batch, job.task.size))
    pairs = []
    lower = job.trainer.precision == "bf16"
    for number, part in enumerate(batch.parts(job.recipe.accumulate)):
        module.seed_part(part, number)
        with torch.autocast("cpu", torch.bfloat16, enabled=lower, cache_enabled=False):
            pairs.append((model.encode_image(part.images), clip.encode_text(model, part.targets)))
    image, text = (torch.cat(features) for features in zip(*pairs, strict=True))
    contrastive_loss(image, text, model.logit_scale.exp(), model.logit_bias).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def gradients(job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return the gradients of a training's first step."""
    found: dict[str, Tensor] = {}

    def look(self: ClipModule, optimizer: torch.optim.Optimizer) -> None:
        found.update({name: weight.grad.clone() for name, weight in self.model.named_parameters()})

    with monkeypatch.context() as patch:
        patch.setattr(ClipModule, "on_before_optimizer_step", look)
        fit(job, out=folder / "model", resume=folder / "resume", about={})
    return found


def assert_alike(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    largest = max(gradient.norm().item() for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * largest, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (RESNET, {"accumulate": 2}),
        (VIT, {"accumulate": 4}),
        (DROPPING, {"accumulate": 2}),
        (BIASED, {"accumulate": 2}),
        (DROPPING, {"accumulate": 2, "precision": "bf16"}),
    ],
    ids=["resnet", "vit", "dropout", "bias", "bf16"],
)
def test_parts_have_the_gradients_of_one_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Dropout included: it must drop the same both times that a part is computed."""
    job = make_job(config=config, samples=8, **changes)
    assert_alike(gradients(job, tmp_path, monkeypatch), reference(job))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_have_the_gradients_of_the_undivided_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    divided = gradients(make_job(config=VIT, samples=8, accumulate=parts), tmp_path, monkeypatch)
    assert_alike(divided, reference(make_job(config=VIT, samples=8)))


def test_groups_have_the_gradients_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grouped = gradients(make_job(samples=8, bn_group=4), tmp_path, monkeypatch)
    assert_alike(grouped, reference(make_job(samples=8, accumulate=2)))


def test_weights_that_autocast_has_kept_from_the_pass_without_gradients_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning 2.6.6 lets autocast keep nothing, and PyTorch 2.15 minds gradients; both were otherwise once."""
    job = make_job(config=VIT, samples=8, accumulate=2, precision="bf16")
    wanted = gradients(job, tmp_path / "not kept", monkeypatch)
    monkeypatch.setattr(
        MixedPrecision,
        "autocast_context_manager",
        lambda self: torch.autocast("cpu", torch.bfloat16, cache_enabled=True),
    )
    assert_alike(gradients(job, tmp_path / "kept", monkeypatch), wanted)


# -- two processes

FEW: dict[str, Any] = {"batch": 16, "samples": 16 * 6, "log_every": 1}
# name -> model, parameters on two devices, parameters that give the same on one
ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "parts": (BIASED, {"accumulate": 2}, {}),
    "batch norm": (RESNET, {}, {"bn_group": 8}),
    "batch norm in parts": (RESNET, {"accumulate": 2}, {"accumulate": 2, "bn_group": 4}),
}


def train(name: str, job: Job, folder: Path, rank: int = 0) -> None:
    fit(job, out=folder / name / "model", resume=folder / name / f"resume {rank}", about={}, progress=False)


def one_process(rank: int, port: int, folder: Path) -> None:
    """Do what torchrun lets one of two processes do."""
    become_one_of_two(rank, port)
    for name, (config, changes, _) in ALIKE.items():
        train(name, make_job(config=config, devices=2, **FEW | changes), folder)
    try:
        train("apart", make_job(devices=2, **FEW), folder, rank)
    except DomixError as error:
        (folder / f"said {rank}").write_text(str(error))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on two devices; the first process alone has a saved state of the training `apart`."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "_stop_everywhere", lambda self, trainer: self.step == 3)
        with pytest.raises(Interrupted):
            train("apart", make_job(**FEW), folder)
    port = free_port()
    torch.multiprocessing.start_processes(one_process, (port, folder), nprocs=2, start_method="fork")
    return folder


@pytest.mark.parametrize("name", ALIKE)
def test_two_devices_train_like_one(tmp_path: Path, two: Path, name: str) -> None:
    config, _, changes = ALIKE[name]
    job = make_job(config=config, **FEW | changes)
    train(name, job, tmp_path)
    found, wanted = (load_tensors(folder / name / "model" / "model.safetensors") for folder in (two, tmp_path))
    weights = [weight for weight, _ in job.task.build(0).named_parameters()]
    parts = job.recipe.accumulate > 1  # then a first device's groups are not the first groups of all devices' parts
    assert_close(found, wanted, job.task.build(job.seed).state_dict(), names=weights if parts else None)
    rows, expected = ((folder / name / "model" / "log.csv").read_text().splitlines()[1:] for folder in (two, tmp_path))
    losses, known = ([float(row.split(",")[3]) for row in given] for given in (rows, expected))
    assert losses == pytest.approx(known, rel=1e-5)


def test_processes_with_different_states_are_refused(two: Path) -> None:
    said = [(two / f"said {rank}").read_text() for rank in range(2)]
    for rank, step in enumerate((3, 0)):
        assert f"would go on from different steps, this one after {step}: let all machines share" in said[rank]
    assert not (two / "apart" / "model").exists()
