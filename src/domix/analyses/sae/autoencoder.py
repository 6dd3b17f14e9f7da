"""The sparse autoencoder: an activation as a sparse sum of directions, x ~ W_d f + b with f = act(W_e (x - b) + b_e).

The tied bias b is taken off before the encoder and added after the decoder. Columns of W_d are directions of length
one: the part of a gradient along them is taken out on the way back, and they are scaled to length one again after each
step (Bricken et al. 2023). As in the reference study, whose weights `domix.analyses.sae.files` reads.

What makes f sparse: `relu` leaves it to a penalty on the sum of f; `topk` keeps the k greatest of each activation
(Gao et al. 2024); `batchtopk` keeps, while it learns, the k greatest an activation of a whole batch, and afterwards
what exceeds a threshold, the running mean of the least that it kept (Bussmann et al. 2024).

Shapes: B batch, C channels of the activation, F units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["relu", "topk", "batchtopk"]
RATE = 0.01  # of the running mean that becomes batchtopk's threshold


class SparseAutoencoder(nn.Module):
    """The weights, and what they make of activations.

    Attributes:
        tied_bias: b, [C].
        encoder_weight: W_e, [F, C].
        encoder_bias: b_e, [F].
        decoder_weight: W_d, [C, F].
        threshold: what a unit's value exceeds to count, once a batchtopk autoencoder has learnt; NaN before.
    """

    tied_bias: Tensor
    encoder_weight: Tensor
    encoder_bias: Tensor
    decoder_weight: Tensor
    threshold: Tensor

    def __init__(
        self,
        channels: int,
        units: int,
        *,
        activation: Activation = "relu",
        k: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw weights as the reference does.

        The bias is 0; W_e is uniform within sqrt(6 / (F C)), Kaiming's bound for the fan-in that its tensor of three
        axes has there; b_e uniform within 1 / sqrt(F); W_d normal, then of unit columns.

        Args:
            channels: C.
            units: F.
            activation: see above.
            k: units that an activation has, of topk and batchtopk.
            generator: of the draws; None: torch's own.
        """
        super().__init__()
        self.activation: Activation = activation
        self.k = min(k, units)
        bounds = (math.sqrt(6 / (units * channels)), 1 / math.sqrt(units))
        weight, bias = (torch.empty(shape) for shape in ((units, channels), (units,)))
        self.tied_bias = nn.Parameter(torch.zeros(channels))
        self.encoder_weight = nn.Parameter(weight.uniform_(-bounds[0], bounds[0], generator=generator))
        self.encoder_bias = nn.Parameter(bias.uniform_(-bounds[1], bounds[1], generator=generator))
        self.decoder_weight = nn.Parameter(torch.empty(channels, units).normal_(generator=generator))
        self.register_buffer("threshold", torch.tensor(float("nan")))
        self.decoder_weight.register_hook(self._across)
        self.unit_columns()

    @property
    def channels(self) -> int:
        """C."""
        return self.decoder_weight.shape[0]

    @property
    def units(self) -> int:
        """F."""
        return self.decoder_weight.shape[1]

    def encode(self, activations: Tensor) -> Tensor:
        """Return the units' values [B, F] of activations [B, C], none of them negative."""
        values = F.linear(activations - self.tied_bias, self.encoder_weight, self.encoder_bias).relu()
        if self.activation == "topk":
            kept = values.topk(self.k, dim=-1)
            return torch.zeros_like(values).scatter(-1, kept.indices, kept.values)
        if self.activation == "batchtopk":
            return self._of_batch(values) if self.training else values * (values > self.threshold.nan_to_num(0.0))
        return values

    def decode(self, codes: Tensor) -> Tensor:
        """Return the activations [B, C] that the units' values [B, F] stand for."""
        return F.linear(codes, self.decoder_weight, self.tied_bias)

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units' values [B, F] of activations [B, C], and the activations [B, C] made from them."""
        codes = self.encode(activations)
        return codes, self.decode(codes)

    @torch.no_grad()
    def unit_columns(self) -> None:
        """Scale the columns of W_d to length one."""
        F.normalize(self.decoder_weight, dim=0, out=self.decoder_weight)

    def _across(self, gradient: Tensor) -> Tensor:
        """Return what of a gradient of W_d is orthogonal to its columns."""
        directions = self.decoder_weight.detach() / self.decoder_weight.detach().norm(dim=0, keepdim=True)
        return gradient - directions * (gradient * directions).sum(dim=0, keepdim=True)

    def _of_batch(self, values: Tensor) -> Tensor:
        kept = values.flatten().topk(self.k * len(values))
        codes = torch.zeros_like(values).flatten().scatter(0, kept.indices, kept.values).view_as(values)
        with torch.no_grad():
            positive = kept.values[kept.values > 0]
            if len(positive):
                least = positive.min()
                mean = torch.lerp(self.threshold, least, RATE)
                self.threshold.copy_(torch.where(self.threshold.isnan(), least, mean))
        return codes


@dataclass(frozen=True)
class Losses:
    """The loss of each activation, [B] both."""

    reconstruction: Tensor  # mean over channels of the squared difference
    sparsity: Tensor  # sum of the units' values

    def total(self, l1: float) -> Tensor:
        """Return what is minimised, [B]; `l1` weighs the sparsity."""
        return self.reconstruction + l1 * self.sparsity


def losses(activations: Tensor, codes: Tensor, reconstructed: Tensor) -> Losses:
    """Return the losses of activations [B, C], their codes [B, F] and what was made from those [B, C]."""
    return Losses((activations - reconstructed).square().mean(dim=-1), codes.abs().sum(dim=-1))


def nested_reconstruction(
    autoencoder: SparseAutoencoder, activations: Tensor, codes: Tensor, sizes: Sequence[int]
) -> Tensor:
    """Return the reconstruction loss [B] of the first units alone, mean over several `sizes` (Matryoshka).

    So the first units learn what is coarse, whatever their number (Bussmann et al. 2025).
    """
    made, parts, start = autoencoder.tied_bias, [], 0
    for size in sorted({*sizes, autoencoder.units}):
        made = made + codes[:, start:size] @ autoencoder.decoder_weight[:, start:size].T
        parts.append((activations - made).square().mean(dim=-1))
        start = size
    return torch.stack(parts).mean(dim=0)
