"""How much channels matter for a class, and how much of a channel's change comes from which channel before it.

Both are integrated gradients along the straight way to zero, in `steps` steps (Kempf et al. 2025, sections on circuits;
Marks et al. 2024). With z the activation of a site in the clean pass, z_s = (1 - s / steps) z for s = 0 .. steps - 1,
and m the metric, the cosine of an image's embedding and the text of its class:

    effect[c]    = mean over images of  sum over positions of  -z[c] * mean_s dm/dz[c] at z_s
    weight[d, c] = mean over images of  sum over positions of  -u[c] * mean_s dq_d/du[c] at u_s
    q_d(u_s)     = mean over images and positions of (v_d at u - v_d at u_s)^2

for a channel c of the site u and d of the next site v. A negative effect supports the class; a positive weight
contributes to the change of d. The mean over images is taken twice in the weights, as the reference study does.

The numbers are those of a pass of the whole model for every site, channel and step, at a small part of the work: only
what lies behind a site runs, of two sites what lies between them (domix.encoders.segments); the steps are one batch;
all channels of v are differentiated in one go, or, on links of which more is known, those of u forwards; the step s = 0
is the clean pass, of which one backward pass gives the gradients at all sites, and which adds nothing to weights.
Images do not see each other: any cells may share a batch.

Shapes: B images, S steps, P positions, C channels of a site, k of them selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from domix.encoders.segments import Link, Segments, chosen
from domix.runtime.errors import DataError

AT_ONCE = {"cpu": 2**21, "cuda": 2**28}  # numbers in the largest tensor: on a processor they should fit its cache

Metric = Callable[[Tensor], Tensor]
"""Gives one number for each output [R B, D] of a model; images come in their order, R times."""


def cosine_with(targets: Tensor) -> Metric:
    """Return the metric of images whose texts are `targets` [B, D] of length 1: the cosine with the embedding."""

    def metric(output: Tensor) -> Tensor:
        return (F.normalize(output, dim=-1) * targets.repeat(len(output) // len(targets), 1)).sum(dim=-1)

    return metric


def image_effects(
    segments: Segments, images: Tensor, metric: Metric, sites: Sequence[str], *, steps: int = 10
) -> dict[str, Tensor]:
    """Return each image's share of the effects, [B, C] by site: their mean over images are the node scores.

    Args:
        segments: the model, in evaluation.
        images: normalised [B, 3, H, W].
        metric: of the model's outputs, differentiable.
        sites: names; `input` is the images.
        steps: from the activation towards zero.

    Raises:
        DataError: the model has no such site, or an effect is not finite.
    """
    with torch.enable_grad():
        output, at = segments.record(images, sites)
        first = torch.autograd.grad(metric(output).sum(), [at[site] for site in sites])
    behind: dict[str, Tensor] = {}
    for site in reversed(sites) if steps > 1 else ():
        behind[site] = _behind(segments, site, at[site], metric, behind, steps)
    sums = {site: gradient + behind.get(site, 0) for site, gradient in zip(sites, first, strict=True)}
    effects = {site: segments.by_channel(-at[site].detach() * sums[site] / steps).sum(dim=1) for site in sites}
    for site, values in effects.items():
        _require_finite(values, f"an effect at the site {site}")
    return effects


def _behind(
    segments: Segments, site: str, clean: Tensor, metric: Metric, known: Mapping[str, Tensor], steps: int
) -> Tensor:
    """Return the sum of the metric's gradients at a site's activation scaled towards zero, without the clean one.

    Linear maps with which what lies behind the site begins run once for all steps, forwards and backwards. Where all is
    linear to the next site, its sum, if `known`, serves here.
    """
    with torch.enable_grad():
        start = clean.detach().requires_grad_()
        entered = segments.enter(site, start)
    to = segments.linear_to(site)
    if to is not None:
        sums = (known[to] if to in known else _behind(segments, to, entered[0], metric, known, steps),)
    else:
        sums = tuple(torch.zeros_like(part) for part in entered)
        for some in _shares(range(1, steps), max(start, *entered, key=torch.numel)):
            at_steps = tuple(_scaled(part, some, steps) for part in entered)
            with torch.enable_grad():
                score = metric(segments.run_entered(site, at_steps)).sum()
            gradients = torch.autograd.grad(score, at_steps)
            sums = tuple(
                total + one.unflatten(0, (len(some), -1)).sum(dim=0) for total, one in zip(sums, gradients, strict=True)
            )
    return torch.autograd.grad(entered, start, sums)[0]


def node_scores(
    segments: Segments, images: Tensor, metric: Metric, sites: Sequence[str], *, steps: int = 10
) -> dict[str, Tensor]:
    """Return the effect [C] of every channel of some sites on the metric of images of one cell.

    Raises:
        DataError: as `image_effects`.
    """
    return {
        site: values.mean(dim=0) for site, values in image_effects(segments, images, metric, sites, steps=steps).items()
    }


def select(effects: Tensor, share: float = 0.1) -> Tensor:
    """Return the k = ceil(share C) channels of the largest |effect|, the largest first; of equal ones the first."""
    count = math.ceil(share * len(effects) - 1e-9)  # less what a product of floats may be too large
    return effects.abs().argsort(descending=True, stable=True)[:count]


def image_weights(
    segments: Segments, images: Tensor, selected: Mapping[str, Tensor], *, steps: int = 10
) -> dict[tuple[str, str], Tensor]:
    """Return each image's share of the weights, [B, k of v, k of u] by (u, v): their sum over B^2 is the edge scores.

    Args:
        segments: the model, in evaluation.
        images: normalised [B, 3, H, W].
        selected: by site, in order of depth, the channels [B, k] of each image that have weights.
        steps: from the activation towards zero.

    Raises:
        DataError: the model has no such site, or a weight is not finite.
    """
    with torch.no_grad():
        _, at = segments.record(images, selected)
    found = {}
    for u, v in pairwise(selected):
        clean, channels = (at[u], at[v]), (selected[u], selected[v])
        weights = _no_weights(*channels, at[u])
        for some in _shares(range(1, steps), max(*clean, key=torch.numel)):
            if (link := segments.link(u, v)) is not None:
                weights = weights + _pushed(link, segments, clean, channels, some, steps)
            else:
                weights = weights + _pulled(segments, (u, v), clean, channels, some, steps)
        _require_finite(weights, f"a weight from the site {u} to {v}")
        found[u, v] = weights
    return found


def edge_scores(
    segments: Segments, images: Tensor, selected: Mapping[str, Tensor], *, steps: int = 10
) -> dict[tuple[str, str], Tensor]:
    """Return the weights [k of v, k of u] between the selected channels [k] of consecutive sites, images of one cell.

    Raises:
        DataError: as `image_weights`.
    """
    each = {site: channels.expand(len(images), -1) for site, channels in selected.items()}
    weights = image_weights(segments, images, each, steps=steps)
    return {pair: values.sum(dim=0) / len(images) ** 2 for pair, values in weights.items()}


def _pushed(
    link: Link,
    segments: Segments,
    clean: tuple[Tensor, Tensor],
    channels: tuple[Tensor, Tensor],
    some: range,
    steps: int,
) -> Tensor:
    """Return the part of some steps in the weights of a link, [B, k of v, k of u], differentiating forwards."""
    x, of_u, of_v = (part.repeat(len(some), *[1] * (part.ndim - 1)) for part in (clean[0], *channels))
    with torch.no_grad():
        entered = tuple(_scaled(part, some, steps) for part in link.enter(clean[0]))
        end, push = link.linearise(entered, of_v)
        before = chosen(segments.by_channel(clean[1]), channels[1]).repeat(len(some), 1, 1)
        slopes = 2 * (end - before) / end.shape[1]  # dq / dv, but for the mean over images
        few = at_once(max(x, *entered, key=torch.numel))
        weights = torch.cat(
            [torch.einsum("bpd,bcpd->bdc", slopes, -push(x, part) / steps) for part in of_u.split(few, dim=1)], dim=2
        )
    return weights.unflatten(0, (len(some), -1)).sum(dim=0)


def _pulled(
    segments: Segments,
    names: tuple[str, str],
    clean: tuple[Tensor, Tensor],
    channels: tuple[Tensor, Tensor],
    some: range,
    steps: int,
) -> Tensor:
    """Return the part of some steps in the weights between two sites, differentiating backwards, however they hang
    together."""
    at_steps = _scaled(clean[0], some, steps)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # whose backward pass goes over many channels at once
        end = segments.by_channel(segments.run(names[0], at_steps, names[1]))
        reached = chosen(end, channels[1].repeat(len(some), 1))  # [S B, P, k of v]
    before = chosen(segments.by_channel(clean[1]), channels[1]).repeat(len(some), 1, 1)
    slopes = 2 * (reached.detach() - before) / reached.shape[1]  # dq / dv, but for the mean over images
    start = chosen(segments.by_channel(clean[0]), channels[0])
    parts = []
    for few in torch.arange(slopes.shape[2], device=slopes.device).split(
        at_once(max(at_steps, reached, key=torch.numel))
    ):
        alone = slopes.new_zeros(len(few), *slopes.shape)  # one channel's slopes, and zeros
        alone[torch.arange(len(few), device=slopes.device), :, :, few] = slopes[:, :, few].movedim(-1, 0)
        (gradients,) = torch.autograd.grad(reached, at_steps, alone, retain_graph=True, is_grads_batched=True)
        for gradient in gradients:
            summed = segments.by_channel(gradient.unflatten(0, (len(some), -1)).sum(dim=0))
            parts.append((-start * chosen(summed, channels[0])).sum(dim=1) / steps)
    return torch.stack(parts, dim=1)


def _scaled(clean: Tensor, some: range, steps: int) -> Tensor:
    """Return an activation [B, ...] at some steps towards zero, [S B, ...], with gradients."""
    kept = 1 - torch.tensor(list(some), dtype=clean.dtype, device=clean.device) / steps
    return (kept.view(-1, *[1] * clean.ndim) * clean.detach()).flatten(0, 1).requires_grad_()


def _shares(all_steps: range, largest: Tensor) -> list[range]:
    """Split steps so that those of one part fit, `largest` the largest tensor of a step."""
    count = at_once(largest)
    return [all_steps[start : start + count] for start in range(0, len(all_steps), count)]


def at_once(tensor: Tensor) -> int:
    """Return how many tensors like this one, at least one, are best computed with at once on its device."""
    return max(1, AT_ONCE.get(tensor.device.type, AT_ONCE["cpu"]) // tensor.numel())


def _no_weights(of_u: Tensor, of_v: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(len(of_u), of_v.shape[1], of_u.shape[1], dtype=like.dtype, device=like.device)


def _require_finite(values: Tensor, what: str) -> None:
    if not torch.isfinite(values).all():
        raise DataError(f"{what} is not finite: the model gives NaN or infinite activations there")
