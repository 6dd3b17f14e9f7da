"""Batch norm over groups against plain batch norms, one a group, written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from domix.model import clip
from domix.model.batchnorm import group_batchnorm
from domix.runtime.errors import ParameterError
from tests.tiny import CONFIG, make_job

GROUP = 3


def norms() -> tuple[nn.Module, nn.Module]:
    """Return a plain batch norm with weights of its own, and the same one grouped."""
    plain = nn.BatchNorm2d(5)
    generator = torch.Generator().manual_seed(0)
    for tensor in (plain.weight.data, plain.bias.data, plain.running_mean):
        assert tensor is not None
        tensor.normal_(generator=generator)
    grouped = nn.Sequential(copy.deepcopy(plain))
    group_batchnorm(grouped, GROUP)
    return plain, grouped


def images(count: int) -> Tensor:
    scale = torch.arange(1.0, count + 1)[:, None, None, None]  # groups differ much
    return torch.randn(count, 5, 4, 6, generator=torch.Generator().manual_seed(1)) * scale


def through(norm: nn.Module, given: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a norm makes of images, and the gradient at them."""
    given = given.clone().requires_grad_()
    made = norm(given)
    (made * torch.linspace(-1, 1, made.numel()).view_as(made)).sum().backward()
    assert given.grad is not None
    return made, given.grad


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [3, 12])
def test_each_group_is_normalised_alone(count: int, memory: torch.memory_format) -> None:
    plain, grouped = norms()
    given = images(count).to(memory_format=memory)
    made, gradient = through(grouped, given)
    assert made.is_contiguous(memory_format=memory)
    first = copy.deepcopy(plain)
    by_hand = [through(norm, part)[0] for norm, part in zip([first, *4 * [plain]], given.split(GROUP), strict=False)]
    weight = torch.linspace(-1, 1, given.numel()).view(given.shape)
    again = given.clone().requires_grad_()
    others = copy.deepcopy(plain)
    whole = torch.cat([others(part) for part in again.split(GROUP)])
    (whole * weight).sum().backward()
    torch.testing.assert_close(made, torch.cat(by_hand))
    torch.testing.assert_close(gradient, again.grad)
    for name, weights in others.named_parameters():
        torch.testing.assert_close(grouped.get_parameter(f"0.{name}").grad, weights.grad, rtol=1e-5, atol=1e-4)
    for name, buffer in first.named_buffers():  # running statistics: the first group's alone
        torch.testing.assert_close(grouped.get_buffer(f"0.{name}"), buffer)


def test_evaluation_knows_no_groups() -> None:
    plain, grouped = norms()
    given = images(7)
    assert torch.equal(grouped.eval()(given), plain.eval()(given))
    assert torch.equal(grouped.get_buffer("0.running_mean"), plain.get_buffer("running_mean"))


def test_a_grouped_model_has_the_same_state() -> None:
    plain, grouped = clip.build(CONFIG, seed=0), clip.build(CONFIG, seed=0)
    group_batchnorm(grouped, 4)
    before, after = plain.state_dict(), grouped.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    plain.load_state_dict(after)


def test_models_without_batch_norm_and_with_another_kind_are_refused() -> None:
    vit = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    job = make_job(config=CONFIG | {"vision_cfg": vit}, bn_group=4)
    with pytest.raises(ParameterError, match="bn_group is set, but the model has no batch norm: set it to null"):
        job.task.module(job, job.task.build(0))
    with pytest.raises(ParameterError, match="has a SyncBatchNorm, which cannot be grouped: set it to null"):
        group_batchnorm(nn.Sequential(nn.SyncBatchNorm(3)), 4)
