"""Images changed so little that a reader hardly sees it, until a model embeds them as it embeds others.

Of a source y (foreign to the model) and a target x (known to it), delta is found by Adam from small noise, to minimise

    -mean cos(f(y + delta), f(x)) + smoothness * (mean (d_y delta)^2 + mean (d_x delta)^2)

with f the model from pixels in 0..1 to embeddings, its normalisation included, and d forward differences, zero in the
last row and column; after each step delta is clamped so that y + delta lies in 0..1 (Adaloglou et al. 2024, appendix on
adversarial images). A smoothness of 5000 gives smooth perturbations, 0 patchy ones.

Shapes: B images, H x W what the model reads, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.encoders.encoder import DIVERGED, ImageEncoder
from domix.runtime.errors import DataError

NOISE = 1e-3  # deviation of what delta begins with
AVERAGED = 16  # images of a batch of the authors' code
LEVELS = 255  # grey levels of an 8 bit image, less one

Embed = Callable[[Tensor], Tensor]
Generators = torch.Generator | Sequence[torch.Generator]


def adversarial_images(
    embed: Embed,
    sources: Tensor,
    targets: Tensor,
    *,
    steps: int = 250,
    lr: float = 1e-3,
    smoothness: float | Tensor = 5000.0,
    generator: Generators | None = None,
    averaged_over: int | None = None,
) -> Tensor:
    """Return each source, changed until its embedding points as near to its target's as `steps` bring it.

    Args:
        embed: gives the embeddings [B, D] of images in 0..1, differentiably.
        sources: [B, 3, H, W] in 0..1, of any floating type, which is computed in.
        targets: [B, 3, H, W] in 0..1, one of each source.
        steps: of Adam.
        lr: its learning rate.
        smoothness: weight of the squared differences of neighbouring pixels' perturbations; one of all, or [B].
        generator: of the noise: one for all images, or one of each, which makes an image's noise its own. None:
            torch's own.
        averaged_over: of how many images the loss is the mean, which Adam notices by its epsilon alone; None: of these.
            With a number of its own, an image comes out the same in any batch, but for rounding.

    Returns:
        [B, 3, H, W] in 0..1, not rounded to grey levels.

    Raises:
        DataError: there are not as many targets as sources, an embedding is not finite, or has no gradient.
    """
    if sources.shape != targets.shape:
        raise DataError(
            f"sources of the shape {tuple(sources.shape)} and targets of {tuple(targets.shape)} make no pairs: give one"
            " target of each source, of its size"
        )
    with torch.no_grad():
        wanted = embed(targets).clone()  # one made in inference mode could not be part of a graph
    _require_finite(wanted, "a target")
    lowest, highest = -sources, 1 - sources
    delta = (NOISE * _noise(sources, generator)).clamp(lowest, highest).requires_grad_()
    optimiser = torch.optim.Adam([delta], lr=lr)
    for step in range(steps):
        with torch.enable_grad():
            found = embed(sources + delta)
            if not found.requires_grad:
                raise DataError(
                    "the model gives embeddings without gradients: adversarial images need a model with them"
                )
            _require_finite(found, f"an image after {step} steps")
            loss = smoothness * roughness(delta) - F.cosine_similarity(found, wanted)
            (delta.grad,) = torch.autograd.grad(loss.sum() / (averaged_over or len(sources)), delta)
        optimiser.step()
        with torch.no_grad():
            delta.copy_(delta.clamp(lowest, highest))
    return (sources + delta.detach()).clamp(0, 1)  # the sum may be off by a rounding


def roughness(delta: Tensor) -> Tensor:
    """Return, of each perturbation [B, 3, H, W], the mean squares of its forward differences down and across: [B].

    The mean goes over all pixels; the last row, or column, has the difference zero.
    """
    down, across = delta.diff(dim=2), delta.diff(dim=3)
    return (down.square().sum(dim=(1, 2, 3)) + across.square().sum(dim=(1, 2, 3))) / delta[0].numel()


def perturb(
    encoder: ImageEncoder,
    sources: Tensor,
    targets: Tensor,
    *,
    steps: int,
    lr: float,
    smoothness: float | Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return the adversarial images of an encoder as files hold them, uint8 [B, 3, H, W].

    Args:
        encoder: whose embeddings are to be alike.
        sources: uint8 [B, 3, H, W], cut as its `preprocess` says.
        targets: likewise, one of each source.
        steps: see `adversarial_images`.
        lr: likewise.
        smoothness: likewise.
        generators: one of each pair, so that no pair depends on the others.

    Raises:
        DataError: as `adversarial_images`.
    """

    def embed(pixels: Tensor) -> Tensor:
        normalised = encoder.preprocess.normalise(LEVELS * pixels)
        return encoder.forward(normalised, grad=pixels.requires_grad).output

    found = adversarial_images(
        embed,
        *(images.to(encoder.device).float() / LEVELS for images in (sources, targets)),
        steps=steps,
        lr=lr,
        smoothness=smoothness,
        generator=generators,
        averaged_over=AVERAGED,
    )
    return quantised(found).cpu()


def quantised(images: Tensor) -> Tensor:
    """Return images in 0..1 as 8 bit files hold them: rounded, uint8."""
    return (LEVELS * images).round().to(torch.uint8)


def budgets(sources: Tensor, changed: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return how far 8 bit images, uint8 [B, 3, H, W], were changed, by name, each [B]; pixels go from 0 to 1.

    `l2`: the root of the summed squares of all differences; `linf`: the largest difference; `psnr`: 10 log10 of one by
    the mean square, in dB (infinite where nothing has changed).
    """
    apart = (changed.double() - sources.double()).flatten(1).cpu().numpy() / LEVELS
    squares = (apart**2).mean(axis=1)
    with np.errstate(divide="ignore"):
        psnr = -10 * np.log10(squares)
    return {"l2": np.sqrt((apart**2).sum(axis=1)), "linf": abs(apart).max(axis=1), "psnr": psnr}


def _noise(like: Tensor, generator: Generators | None) -> Tensor:
    """Return normal noise of the shape and type of `like`; generators are of the processor."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    if len(generator) != len(like):
        raise DataError(f"there are {len(generator)} generators for {len(like)} images: give one of each")
    return torch.stack([torch.randn(like.shape[1:], generator=each, dtype=like.dtype) for each in generator]).to(
        like.device
    )


def _require_finite(embeddings: Tensor, what: str) -> None:
    if not torch.isfinite(embeddings).all():
        raise DataError(f"the embedding of {what} is not finite: {DIVERGED}")
