"""WiSE-FT against its formulas taken literally: the schedule, the head, every step, the weights in between."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from domix.data.loading.loader import augmented
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.preprocess import Preprocess, square
from domix.finetuning.interpolation import along, interpolate
from domix.finetuning.wise_ft import START, WiseFt, WiseFtTask
from domix.model.checkpoint import load_tensors
from domix.model.clip import build
from domix.train.job import Job
from tests.tiny import CONFIG, TRAINER, WORDS
from tests.tiny_wise_ft import RECIPE, SCALE, make_labelled, make_start, prototypes, tune

VIT = CONFIG | {"vision_cfg": {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}}


def make_job(recipe: WiseFt = RECIPE, **start: object) -> Job:
    images, labels = make_labelled()
    task = WiseFtTask(start=make_start(**start), labels=labels, recipe=recipe)  # ty: ignore[invalid-argument-type]
    return Job(task=task, recipe=recipe, trainer=TRAINER, seed=0, images=images)


def test_the_rate_of_every_step() -> None:
    """WiSE-FT's cosine_lr: base_lr (step + 1) / warmup, then 0.5 (1 + cos(pi e / es)) base_lr."""
    job = make_job()
    rate = job.task.schedule(job)
    assert job.total == 4 * 24 // 6
    wanted = [3e-3 * (step + 1) / 5 for step in range(5)]
    wanted += [0.5 * (1 + math.cos(math.pi * (step - 5) / (16 - 5))) * 3e-3 for step in range(5, 16)]
    assert [rate(step) for step in range(job.total)] == pytest.approx(wanted, rel=1e-12)


def test_the_recipes_defaults_are_wise_fts() -> None:
    recipe = WiseFt()
    assert (recipe.epochs, recipe.samples, recipe.batch, recipe.lr, recipe.warmup) == (10, None, 256, 3e-5, 500)
    assert (recipe.weight_decay, recipe.clip_grad) == (0.1, 1.0)
    assert (recipe.crop_scale, recipe.crop_ratio, recipe.hflip) == ([0.9, 1.0], [3 / 4, 4 / 3], 0.0)
    assert recipe.checkpoints == [0] and not recipe.drop_last


def test_the_first_logits_are_the_zero_shot_models() -> None:
    model = build(CONFIG, seed=3).eval()
    images = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        unit = F.normalize(model.encode_image(images), dim=-1)
        wanted = SCALE * unit @ F.normalize(prototypes(), dim=-1).T
        found = make_start().model(images)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.argmax(1), wanted.argmax(1))


@pytest.mark.parametrize("preprocess", [square(32), Preprocess((32, 32), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))])
@pytest.mark.parametrize("config", [CONFIG, VIT], ids=["batch norm", "vit"])
def test_every_step_is_adamw_on_all_weights_with_clipped_gradients(
    tmp_path: Path, preprocess: Preprocess, config: dict
) -> None:
    start = make_start(preprocess, config)
    before = copy.deepcopy(start.model.state_dict())
    found = load_tensors(tune(tmp_path, start=start) / "model.safetensors")
    for name, tensor in start.model.state_dict().items():
        assert torch.equal(tensor, before[name]), "the start is left as it is"
    tower, head = copy.deepcopy(start.model.visual).train(), copy.deepcopy(start.model.head)
    job = make_job(preprocess=preprocess, config=config)
    batches = job.batches(job.task.targets(None), start=0)  # ty: ignore[invalid-argument-type]
    weights = [*tower.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=1.0)
    clip = square(32)
    for step in range(job.total):
        batch = batches.make(step)
        pixels = augmented(batch, 32) * torch.tensor(clip.std)[:, None, None] + torch.tensor(clip.mean)[:, None, None]
        images = (pixels - torch.tensor(preprocess.mean)[:, None, None]) / torch.tensor(preprocess.std)[:, None, None]
        features = tower(images)
        logits = features / features.norm(dim=-1, keepdim=True) @ head.weight.T + head.bias
        for group in optimiser.param_groups:
            group["lr"] = job.task.schedule(job)(step)
        optimiser.zero_grad()
        F.cross_entropy(logits, batch.targets).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    wanted = {f"visual.{name}": value for name, value in tower.state_dict().items()}
    wanted |= {"head.weight": head.weight.detach(), "head.bias": head.bias.detach()}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.endswith(("k_proj.bias", "in_proj_bias")):  # keys' biases have no gradient but rounding
            torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4)
    assert not torch.equal(found["head.bias"], torch.zeros(len(WORDS)))


def test_all_weights_and_running_statistics_are_interpolated(tmp_path: Path) -> None:
    folder = tune(tmp_path)
    start, end = load_tensors(folder / START), load_tensors(folder / "model.safetensors")
    assert any("running_var" in name for name in start) and any("num_batches" in name for name in start)
    for alpha in (0.0, 0.3, 1.0):
        found = interpolate(start, end, alpha)
        assert found.keys() == start.keys()
        for name, tensor in found.items():
            assert tensor.dtype == start[name].dtype
            literal = (1 - alpha) * start[name].numpy() + alpha * end[name].numpy()
            if "num_batches" in name:
                assert end[name] > start[name] and int(tensor) == round(float(literal))
            else:
                np.testing.assert_allclose(tensor.numpy(), literal, rtol=1e-6, atol=1e-8)
    for alpha, ends in ((0.0, start), (1.0, end)):
        assert all(torch.equal(tensor, ends[name]) for name, tensor in interpolate(start, end, alpha).items())


def test_models_along_the_way_hold_the_interpolated_weights(tmp_path: Path) -> None:
    folder = tune(tmp_path)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    start, end = load_tensors(folder / START), load_tensors(folder / "model.safetensors")
    outputs: dict[float, Tensor] = {}
    for alpha, model in along(folder, (0.0, 0.5, 1.0)):
        with torch.inference_mode():
            outputs[alpha] = model(images)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, interpolate(start, end, alpha)[name])
        assert not model.training
    with torch.inference_mode():
        torch.testing.assert_close(outputs[0.0], make_start().model(images))
        torch.testing.assert_close(outputs[1.0], load_any_classifier(folder)[0](images))
    assert not torch.allclose(outputs[0.5], outputs[0.0]) and not torch.allclose(outputs[0.5], outputs[1.0])
