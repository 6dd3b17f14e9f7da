"""Faithfulness: does a circuit do what the model does?

A circuit that carries a class suffices: with all other channels taken away, the model still knows the class, better
than by as many channels drawn at random. And it is needed: without it, the model does not.

A circuit leads towards the class of the images that chose it. So an image is judged by what the other images of its
cell choose (`held out`), as in the jackknife; an only image is judged by its own choice (`own`).

Shapes: B images, N all images, D embedding, C channels of a site, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from domix.analyses.circuits.attribution import select
from domix.encoders.encoder import Encoder


def ablated(
    encoder: Encoder,
    images: Tensor,
    kept: Mapping[str, Tensor],
    means: Mapping[str, Tensor] | None,
    *,
    nhwc: bool = False,
) -> Tensor:
    """Return the model's outputs [B, D] with channels taken away at all sites at once, at all positions.

    Args:
        encoder: the model.
        images: as it reads them, [B, 3, H, W].
        kept: by site the channels that stay, bool [B, C].
        means: by site what the others become, [C]; None: zero.
        nhwc: feature maps have the shape [B, H, W, C].
    """

    def edit(activation: Tensor, site: str) -> Tensor:
        mask, fill = (
            kept[site],
            torch.zeros_like(kept[site][0], dtype=activation.dtype) if means is None else means[site],
        )
        first = activation.ndim == 4 and not nhwc
        middle = [1] * (activation.ndim - 2)
        shape = (-1, *middle) if first else (*middle, -1)
        mask = mask.reshape(len(mask), *((mask.shape[1], *middle) if first else (*middle, mask.shape[1])))
        return torch.where(mask, activation, fill.to(activation.dtype).reshape(shape))

    return encoder.forward(images, edits={site: partial(edit, site=site) for site in kept}).output


def selected_by_others(effects: Tensor, share: float = 0.1) -> Tensor:
    """Return for each image of a cell which channels the other images' mean effects select; an only one has its own.

    Args:
        effects: of each image, [B, C].
        share: of the channels that are selected.

    Returns:
        bool [B, C].
    """
    others = effects.sum(dim=0) - effects if len(effects) > 1 else effects
    chosen = torch.zeros_like(effects, dtype=torch.bool)
    for mask, mean in zip(chosen, others, strict=True):
        mask[select(mean, share)] = True
    return chosen


def random_like(kept: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many channels as `kept` bool [C] has, drawn at random."""
    drawn = torch.zeros_like(kept)
    drawn[torch.randperm(len(kept), generator=generator)[: int(kept.sum())]] = True
    return drawn


def judged(outputs: Tensor, text: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether each output [N, D] lies closest to the text of its class, of `text` [K, D], and that cosine."""
    cosines = F.normalize(outputs, dim=-1) @ text.T
    return cosines.argmax(dim=1) == labels, cosines.gather(1, labels[:, None])[:, 0]
