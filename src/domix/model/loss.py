"""CLIP's loss: each image must find its caption among all of the batch, and each caption its image.

With several processes, each holds a slice of the batch. It compares its own slice with everybody's features (the "local
loss"), and gradients flow back through the gathering; averaged over the processes, loss and gradients equal those of
the whole batch in one process (tests/parity/test_loss.py).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None = None, *, rank: int = 0, world_size: int = 1
) -> Tensor:
    """Return the symmetric InfoNCE loss of matching features [B, D], any length, of this process's share of the batch.

    `scale` is the factor of the cosines (the exponential of CLIP's logit_scale), `bias` what is added to them, if
    anything. Computed in float32 whatever the towers' precision, as a sum of exponentials wants it.
    """
    from open_clip import ClipLoss

    loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)
    return loss(F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1), scale.float(), bias)
