"""Classifiers' training against a loop in plain PyTorch, and the reference study's steps and outputs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from domix.data.classes.imagenet import imagenet_classes
from domix.data.loading.loader import augmented
from domix.data.mixtures.labels import label_samples
from domix.data.mixtures.mixture import Mixture
from domix.model import classifier as supervised
from domix.model.checkpoint import load_tensors
from domix.settings.load import load
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.supervised_module import SupervisedTask
from tests.golden import domainnet as golden
from tests.tiny import REPOSITORY
from tests.tiny_supervised import NORMLESS, RESNET, TIMM, make_job

TINY = make_job()
PAPER = load((REPOSITORY / "presets/paper.yaml").read_text(encoding="utf-8"))


# -- the training


def plain_loop(job: Job, *, epochs: int) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Train with nothing of Domix but the model and the images of each batch; return weights, and a row a step."""
    recipe, task = job.recipe, job.task
    model = task.build(job.seed)
    exempt = ("bn", "ln", "bias", "logit_scale")
    named = list(model.named_parameters())
    vectors = [w for name, w in named if w.ndim < 2 or any(word in name for word in exempt)]
    matrices = [w for name, w in named if not (w.ndim < 2 or any(word in name for word in exempt))]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.lr,
        momentum=0.9,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.1)
    batches = iter(job.batches(task.targets(model), start=0))
    rows = []
    for _ in range(epochs):
        for _ in range(job.length // recipe.batch):
            batch = next(batches)
            logits = model(augmented(batch, task.size).contiguous())
            loss = F.cross_entropy(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, batch.targets, strict=True))
            row = {"loss": loss.item(), "lr": optimizer.param_groups[0]["lr"], "accuracy": right / recipe.batch}
            rows.append(row)
        schedule.step()
    assert next(batches, None) is None
    return model.state_dict(), rows


@pytest.mark.parametrize("encoder", [RESNET, NORMLESS, TIMM], ids=["resnet", "vit", "timm"])
@pytest.mark.parametrize("fused", [False, True])
def test_every_step_is_that_of_a_plain_loop(tmp_path: Path, encoder: dict[str, Any], fused: bool) -> None:
    job = make_job(
        encoder=encoder,
        samples=None,
        epochs=4,
        drop_last=True,
        milestones=[1, 3],
        weight_decay=0.1,
        fused=fused,
        channels_last=False,
        log_every=1,
    )
    assert job.total == 8
    weights, expected = plain_loop(job, epochs=4)
    fit(job, out=tmp_path / "model", resume=tmp_path / "resume", about={})
    with open(tmp_path / "model/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, wanted in zip(rows, expected, strict=True):
        assert {key: float(row[key]) for key in wanted} == pytest.approx(wanted, rel=1e-5)
    assert sum(row["accuracy"] for row in expected) > 0
    ours = load_tensors(tmp_path / "model/model.safetensors")
    assert ours.keys() == weights.keys()
    for name, theirs in weights.items():
        torch.testing.assert_close(ours[name], theirs, rtol=1e-4, atol=1e-6)


# -- the reference study's steps


class Counted:
    """So many images, without any."""

    sizes = torch.empty(0, 2)

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


def paper_job(base: int, size: int) -> Job:
    """Return the preset's training on so many samples of ImageNet-Captions and of DomainNet."""
    return Job(task=TINY.task, recipe=PAPER.supervised, trainer=PAPER.trainer, seed=0, images=Counted(base + size))


# test domain -> optimiser steps per five epochs that the reference's evaluation job names its checkpoints by
STEPS = {"clipart": 11300, "infograph": 11335, "painting": 11605, "quickdraw": 12925, "sketch": 11575}
NATURAL_ONLY_STEPS = 10670
SIZES = [(golden.SIZE[domain], steps) for domain, steps in STEPS.items()] + [(golden.NATURAL_ONLY, NATURAL_ONLY_STEPS)]
# Training samples of ImageNet-Captions that fit all of these: the published bracket, and ours. The reference's four
# processes repeat up to three samples to share them equally; here none is repeated.
PUBLISHED, OURS = (425_517, 425_569), (425_520, 425_572)


@pytest.mark.parametrize("base", [OURS[0], PUBLISHED[1]])
@pytest.mark.parametrize("test_domain", golden.TESTABLE)
def test_epochs_have_the_references_steps(base: int, test_domain: str) -> None:
    for size, steps in ((golden.SIZE[test_domain], STEPS[test_domain]), (golden.NATURAL_ONLY, NATURAL_ONLY_STEPS)):
        job = paper_job(base, size)
        assert job.step_of(5) == steps
        assert job.total == 18 * steps
        assert job.checkpoints == {number * steps: 5 * number for number in range(19)}


def test_the_published_bracket_and_ours_differ_by_the_references_padding() -> None:
    tried = range(425_400, 425_700)
    padded = [base for base in tried if all(-(-(base + size) // 4) // 64 * 5 == steps for size, steps in SIZES)]
    ours = [base for base in tried if all(paper_job(base, size).step_of(5) == steps for size, steps in SIZES)]
    assert padded == list(range(PUBLISHED[0], PUBLISHED[1] + 1))
    assert ours == list(range(OURS[0], OURS[1] + 1))


def test_the_learning_rate_falls_after_epochs_30_50_and_70() -> None:
    job = paper_job(OURS[0], golden.SIZE["clipart"])
    task = SupervisedTask(name="t", encoder=RESNET, recipe=PAPER.supervised, labels=TINY.task.labels)
    rate = task.schedule(job)
    by_epoch = [rate(2260 * epoch) for epoch in range(90)]
    expected = [0.01] * 30 + [0.001] * 20 + [0.0001] * 20 + [0.00001] * 20
    assert by_epoch == pytest.approx(expected, rel=1e-9)
    assert [rate(2260 * epoch - 1) for epoch in (30, 50, 70)] == pytest.approx([0.01, 0.001, 0.0001], rel=1e-9)


def test_the_paper_preset_is_the_references_recipe() -> None:
    recipe, trainer = PAPER.supervised, PAPER.trainer
    assert (recipe.encoder, PAPER.model.name) == ("clip", "RN50")
    assert (recipe.batch, trainer.processes, recipe.batch // trainer.processes, recipe.accumulate) == (256, 4, 64, 1)
    assert (recipe.lr, recipe.momentum, recipe.weight_decay, recipe.factor) == (0.01, 0.9, 1e-4, 0.1)
    assert (recipe.epochs, recipe.milestones, recipe.samples) == (90, [30, 50, 70], None)
    assert recipe.checkpoints == list(range(0, 91, 5))
    assert (recipe.drop_last, recipe.bn_group, recipe.clip_grad) == (True, None, None)
    assert (recipe.crop_scale, recipe.hflip) == ([0.9, 1.0], 0.0)
    assert (trainer.precision, trainer.tf32) == ("fp16", True)


# -- the reference study's outputs


def study(rows_of_base: pd.DataFrame) -> tuple[Mixture, dict[str, pd.DataFrame]]:
    """Return a mixture of all DomainNet over a base, and their indices."""
    indices = {"imagenet-captions": rows_of_base, "domainnet": golden.index()}
    rows = pd.concat(
        [pd.DataFrame({"source": name, "row": index["row"]}) for name, index in indices.items()], ignore_index=True
    )
    mixture = Mixture(
        name="all",
        alias="all",
        standard_name="all",
        caption="standard",
        domains=golden.DOMAINS,
        held_out=None,
        parameters={"source": "domainnet"},
        samples={name: len(index) for name, index in indices.items()},
        rows=rows,
    )
    return mixture, indices


def test_the_outputs_are_the_references() -> None:
    """ImageNet 0 .. 999, DomainNet 1000 .. 1344; an ImageNet class that is DomainNet's class k has output 1000 + k."""
    known = list(imagenet_classes().values())
    base = pd.DataFrame(
        {
            "row": range(1000),
            "domain": "imagenet-captions",
            "class": [one.text for one in known],
            "label": range(1000),
            "split": "train",
        }
    )
    mixture, indices = study(base)
    labels = label_samples(mixture, indices)
    assert (len(labels.classes), labels.first) == (1345, 1000)
    assert sum(name is None for name in labels.classes) == 450
    live = [name for name in labels.classes if name is not None]
    assert len(set(live)) == len(live) == 895
    assert labels.classes[1000:] == tuple(indices["domainnet"].sort_values("label")["class"].unique())
    assert set(labels.samples.tolist()) == {number for number, name in enumerate(labels.classes) if name is not None}
    of_base, of_domainnet = labels.samples[:1000], labels.samples[1000:]
    assert (of_domainnet == 1000 + indices["domainnet"]["label"].to_numpy()).all()
    moved = {number: int(label) - 1000 for number, label in enumerate(of_base) if label >= 1000}
    assert len(moved) == golden.MAPPED_CLASSES
    assert all(label == number for number, label in enumerate(of_base) if number not in moved)
    counts = pd.read_csv(REPOSITORY / "tests/golden/domainnet_class_counts.csv")
    published = {
        int(number): int(row.label)
        for row in counts.itertuples()
        if isinstance(row.imagenet_indices, str)
        for number in row.imagenet_indices.split()
    }
    assert moved == published
    assert len(set(moved.values())) == golden.DOMAINNET_MAPPED


def test_the_references_encoders_are_known_by_their_names() -> None:
    rn50, vit = (supervised.load_encoder(name, "mini") for name in ("rn50-clip", "vit-b-32-clip"))
    assert rn50 == supervised.load_encoder("clip", "RN50")
    assert vit == supervised.load_encoder("clip", "ViT-B-32")
    assert (rn50["clip"]["embed_dim"], vit["clip"]["embed_dim"], rn50["image_size"]) == (1024, 512, 224)
    assert supervised.load_encoder("vit-b-32-timm", "mini") == {"timm": "vit_base_patch32_224", "image_size": 224}


@pytest.mark.slow
def test_the_references_default_has_its_shapes() -> None:
    model = supervised.build(supervised.load_encoder("rn50-clip", "mini"), outputs=1345, seed=0)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert shapes["head.weight"] == (1345, 1024)
    assert all(name.startswith(("visual.", "head.")) for name in shapes)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 1345)
