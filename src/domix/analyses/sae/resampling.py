"""Dead units of a sparse autoencoder get a new direction: that of an activation which it reconstructs badly.

As the reference study means to (its own code never gets there): a unit is dead if it has not fired since the last time.
Activations are drawn without replacement, in proportion to the square of their whole loss; a dead unit's column of W_d
becomes the activation's direction, its row of W_e the same with a fifth of the mean length of live rows, its bias
0, and Adam forgets what it knew of these entries. The tied bias keeps its moments.

Shapes: N activations, C channels, F units, U dead ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from domix.analyses.sae.autoencoder import SparseAutoencoder, losses
from domix.runtime.arrays import BLOCK
from domix.runtime.errors import DataError

SHARE = 0.2  # of the mean length of live rows
DEAD = "lower l1 or lr, or give it fewer units"


def resample(
    autoencoder: SparseAutoencoder,
    optimizer: Optimizer,
    activations: Tensor,
    fired: Tensor,
    *,
    l1: float,
    generator: torch.Generator,
) -> int:
    """Give dead units new directions, and return how many.

    Args:
        autoencoder: is changed.
        optimizer: Adam of its weights.
        activations: to draw from, [N, C]. Of more dead units than there are activations with a loss the rest stay dead.
        fired: how often each unit has, [F].
        l1: weight of the sparsity in the loss.
        generator: of the draw, on the CPU.

    Raises:
        DataError: no unit has fired.
    """
    dead = (fired == 0).nonzero()[:, 0]
    if len(dead) == len(fired):
        raise DataError(f"all {len(fired)} units of the sparse autoencoder are dead: {DEAD}")
    weights = sampling_weights(autoencoder, activations, l1=l1).cpu()
    dead = dead[: int((weights > 0).sum())]
    if len(dead):
        drawn = torch.multinomial(weights, len(dead), replacement=False, generator=generator)
        replace_units(autoencoder, optimizer, dead, activations[drawn.to(activations.device)], live=fired > 0)
    return len(dead)


@torch.no_grad()
def sampling_weights(autoencoder: SparseAutoencoder, activations: Tensor, *, l1: float) -> Tensor:
    """Return with what probability each activation [N, C] is drawn first: its loss squared, in all 1; [N]."""
    parts = []
    for some in activations.split(BLOCK):
        parts.append(losses(some, *autoencoder(some)).total(l1))
    squared = torch.cat(parts).square()
    return squared / squared.sum()


@torch.no_grad()
def replace_units(
    autoencoder: SparseAutoencoder, optimizer: Optimizer, units: Tensor, activations: Tensor, *, live: Tensor
) -> None:
    """Point units [U] at one activation each [U, C]; `live` tells which units fire, [F]."""
    directions = F.normalize(activations, dim=-1)
    length = autoencoder.encoder_weight[live].norm(dim=-1).mean()
    autoencoder.decoder_weight[:, units] = directions.T
    autoencoder.encoder_weight[units] = directions * (length * SHARE)
    autoencoder.encoder_bias[units] = 0
    for weight, axis in (
        (autoencoder.encoder_weight, 0),
        (autoencoder.encoder_bias, 0),
        (autoencoder.decoder_weight, 1),
    ):
        for name in ("exp_avg", "exp_avg_sq"):
            if name in optimizer.state.get(weight, {}):
                optimizer.state[weight][name].index_fill_(axis, units, 0)
