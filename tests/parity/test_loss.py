"""The contrastive loss against a plain reference, and over several processes against one big batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor
from torch.nn import functional as F

from domix.model.loss import contrastive_loss


def reference(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return InfoNCE written out, in float64."""
    image, text = image.double(), text.double()
    image = image / image.pow(2).sum(1, keepdim=True).sqrt()
    text = text / text.pow(2).sum(1, keepdim=True).sqrt()
    logits = scale.double() * (image @ text.T)
    matching = logits.diagonal()
    return ((logits.logsumexp(1) - matching).mean() + (logits.logsumexp(0) - matching).mean()) / 2


def features() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(12, 8, generator=generator, requires_grad=True) for _ in range(2))
    return image, text, torch.tensor(9.0, requires_grad=True)


def test_loss_and_gradients_equal_the_plain_reference() -> None:
    given, expected = features(), features()
    loss, wanted = contrastive_loss(*given), reference(*expected)
    loss.backward()
    wanted.backward()
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=1e-6)
    for mine, other in zip(given, expected, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_half_precision_features_are_compared_in_float32() -> None:
    image, text, scale = features()
    rounded = contrastive_loss(image.bfloat16(), text.bfloat16(), scale)
    assert rounded.dtype == torch.float32
    assert rounded == contrastive_loss(image.bfloat16().float(), text.bfloat16().float(), scale)


def one_process(rank: int, processes: int, meeting: str, folder: str) -> None:
    """Compute a share of the batch as DDP does: gradients of shared weights are averaged over the processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    image, text, scale = features()
    weight, bias = torch.eye(8, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    share = 12 // processes
    mine = slice(share * rank, share * (rank + 1))
    loss = contrastive_loss((image @ weight)[mine], text[mine], scale, bias, rank=rank, world_size=processes)
    loss.backward()
    assert weight.grad is not None
    assert scale.grad is not None
    assert bias.grad is not None
    shared = [loss.detach(), weight.grad, scale.grad, bias.grad]
    for tensor in shared:
        torch.distributed.all_reduce(tensor)
        tensor /= processes
    torch.save(shared, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_equal_one_big_batch(tmp_path: Path, processes: int) -> None:
    image, text, scale = features()
    weight, bias = torch.eye(8, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    loss = contrastive_loss(image @ weight, text, scale, bias)
    loss.backward()
    arguments = (processes, str(tmp_path / "meeting"), str(tmp_path))
    torch.multiprocessing.start_processes(one_process, arguments, nprocs=processes, start_method="fork")
    for rank in range(processes):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for mine, other in zip(shared, (loss.detach(), weight.grad, scale.grad, bias.grad), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_perfectly_matched_features_cost_nothing() -> None:
    same = F.normalize(torch.eye(4), dim=1)
    assert contrastive_loss(same, same, torch.tensor(100.0)) < 1e-6
