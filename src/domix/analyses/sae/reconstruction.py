"""What an autoencoder makes of the test images' activations, one an image, or one a position of an image.

Of every position nothing is kept that has P rows an image: of each image the mean of the units' values and of the
activation over positions, how many units fire at a position, and two sums of squares. The variance of the positions of
some images follows from these: what they vary by within images, and P times what their means vary by.

Shapes: N images, P positions, C channels, F units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.runtime.arrays import BLOCK

DENSE = 0.1  # share of activations from which on a unit that fires on them is dense
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Reconstruction(Protocol):
    """What an autoencoder makes of N images."""

    @property
    def codes(self) -> Floats:
        """The units' values on each image, [N, F]; of every position their mean."""
        ...

    @property
    def firing(self) -> Doubles:
        """On what share of the activations each unit fires, [F]."""
        ...

    def variance(self, images: Mask) -> float:
        """Return what share of the variance of some images' activations is explained; see explained_variance."""
        ...

    def l0(self, images: Mask) -> float:
        """Return how many units fire on an activation of some images, mean."""
        ...


@dataclass(frozen=True)
class ImageReconstruction:
    """Of an activation an image."""

    activations: Floats  # [N, C]
    codes: Floats  # [N, F]
    reconstructed: Floats  # [N, C]

    @cached_property
    def firing(self) -> Doubles:
        """See Reconstruction."""
        return (self.codes > 0).mean(axis=0, dtype=np.float64)

    def variance(self, images: Mask) -> float:
        """See Reconstruction."""
        return explained_variance(self.activations[images], self.reconstructed[images])

    def l0(self, images: Mask) -> float:
        """See Reconstruction."""
        return float((self.codes[images] > 0).sum(axis=1).mean())


@dataclass(frozen=True)
class PositionReconstruction:
    """Of an activation a position."""

    codes: Floats  # [N, F]
    firing: Doubles  # [F]
    fired: Doubles  # [N]: units that fire at a position, mean
    error: Doubles  # [N]: squared differences, summed
    within: Doubles  # [N]: squared distances of an image's activations from their mean, summed
    means: Doubles  # [N, C]
    positions: int

    def variance(self, images: Mask) -> float:
        """See Reconstruction."""
        means = self.means[images]
        between = self.positions * ((means - means.mean(axis=0)) ** 2).sum()
        varied = self.within[images].sum() + between
        return float(1 - self.error[images].sum() / varied) if varied > 0 else float("nan")

    def l0(self, images: Mask) -> float:
        """See Reconstruction."""
        return float(self.fired[images].mean())


def explained_variance(activations: Floats, reconstructed: Floats) -> float:
    """Return 1 - sum (x - x')^2 / sum (x - mean)^2 of activations [N, C]; NaN where these do not vary."""
    left = ((activations - reconstructed).astype(np.float64) ** 2).sum()
    varied = ((activations - activations.mean(axis=0, dtype=np.float64)) ** 2).sum()
    return float(1 - left / varied) if varied > 0 else float("nan")


def sparsity(codes: Floats) -> dict[str, float]:
    """Return of codes [N, F] the mean number of units that fire (l0), and the shares of dead and dense units."""
    return shares((codes > 0).mean(axis=0, dtype=np.float64))


def shares(firing: Doubles) -> dict[str, float]:
    """Return the same as `sparsity` of the shares of activations on which units fire [F]."""
    return {"l0": float(firing.sum()), "dead": float((firing == 0).mean()), "dense": float((firing > DENSE).mean())}


def reconstruct_positions(autoencoder: SparseAutoencoder, images: Iterable[Floats]) -> PositionReconstruction:
    """Reconstruct the activations of images that come some at a time, [n, P, C]."""
    parts: list[tuple[NDArray, ...]] = []
    firing, positions = np.zeros(autoencoder.units, np.int64), 1
    for some in images:
        positions = some.shape[1]
        step = max(1, BLOCK // positions)
        for start in range(0, len(some), step):
            block = some[start : start + step]
            rows = block.reshape(-1, block.shape[-1])
            codes = encode(autoencoder, rows)
            missed = (rows - decode(autoencoder, codes)).astype(np.float64) ** 2
            means = block.mean(axis=1, dtype=np.float64)
            fires = codes > 0
            firing += fires.sum(axis=0)
            shape = (len(block), positions, -1)
            parts.append(
                (
                    codes.reshape(shape).mean(axis=1),
                    fires.reshape(len(block), -1).sum(axis=1) / positions,
                    missed.reshape(len(block), -1).sum(axis=1),
                    ((block - means[:, None]) ** 2).sum(axis=(1, 2)),
                    means,
                )
            )
    codes, fired, error, within, means = (np.concatenate(part) for part in zip(*parts, strict=True))
    return PositionReconstruction(codes, firing / (positions * len(codes)), fired, error, within, means, positions)


@torch.inference_mode()
def encode(autoencoder: SparseAutoencoder, activations: Floats) -> Floats:
    """Return the units' values [N, F] of activations [N, C]."""
    autoencoder.eval()
    device = autoencoder.tied_bias.device
    codes = np.empty((len(activations), autoencoder.units), np.float32)
    for start in range(0, len(activations), BLOCK):
        part = torch.from_numpy(np.ascontiguousarray(activations[start : start + BLOCK])).to(device)
        codes[start : start + BLOCK] = autoencoder.encode(part).cpu().numpy()
    return codes


@torch.inference_mode()
def decode(autoencoder: SparseAutoencoder, codes: Floats) -> Floats:
    """Return the activations [N, C] that codes [N, F] stand for."""
    device = autoencoder.tied_bias.device
    return np.concatenate(
        [autoencoder.decode(some.to(device)).cpu().numpy() for some in torch.from_numpy(codes).split(BLOCK)]
    )
