"""The reference study's loop for circuits, literally: a pass of the whole model for every site or channel, and step.

Tests compare scores with it, and the bench its time and work (tools.bench_circuits).

Shapes: B images of one cell, P positions, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domix.encoders.segments import INPUT

STEPS = 10


def whole_pass(
    model: nn.Module, sites: Mapping[str, nn.Module], images: Tensor, edits: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Run the whole model with some activations replaced; return those of all sites and the output."""
    found, handles = {}, []
    for name, module in sites.items():

        def hook(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> Tensor:
            found[name] = edits.get(name, output)
            return found[name].clone()  # what follows may change it in place

        handles.append(module.register_forward_hook(hook))
    found["result"] = model(edits.get(INPUT, images))
    for handle in handles:
        handle.remove()
    return found | {INPUT: images}


def positions(activation: Tensor) -> Tensor:
    """As the reference study views activations: [B, P, C]."""
    if activation.ndim == 4:
        return activation.flatten(2).transpose(1, 2)
    return activation[:, None, :] if activation.ndim == 2 else activation


def literal_nodes(model: nn.Module, sites: Mapping[str, nn.Module], images: Tensor, text: Tensor) -> dict[str, Tensor]:
    """Return the effects [C] of the images [B, 3, H, W] and the sites: integrated gradients towards zero, a pass a site
    and step (captum's riemann_right with as many steps). `text` [B, D] holds the unit text of each image's class."""
    clean, scores = whole_pass(model, sites, images, {}), {}
    for name in [INPUT, *sites]:
        z, gradients = clean[name].detach(), []
        for step in range(STEPS):
            f = ((1 - step / STEPS) * z).requires_grad_()
            embeddings = F.normalize(whole_pass(model, sites, images, {name: f})["result"], dim=-1)
            metric = (embeddings * text).sum(dim=-1).sum()
            gradients.append(torch.autograd.grad(metric, f)[0])
        effect = torch.stack(gradients).mean(dim=0) * (0 - z)
        scores[name] = positions(effect).sum(dim=1).mean(dim=0)
    return scores


def literal_edges(
    model: nn.Module, sites: Mapping[str, nn.Module], images: Tensor, selected: Mapping[str, Tensor]
) -> dict[tuple[str, str], Tensor]:
    """Return the weights [k of v, k of u] between channels `selected` of consecutive sites: a pass of the whole model
    for each one of v and each step."""
    clean, found = whole_pass(model, sites, images, {}), {}
    for u, v in pairwise(selected):
        rows = []
        for d in selected[v]:
            gradients, z = [], clean[u].detach()
            for step in range(STEPS):
                f = ((1 - step / STEPS) * z).requires_grad_()
                now = positions(whole_pass(model, sites, images, {u: f})[v])[..., d]
                q = F.mse_loss(now, positions(clean[v])[..., d].detach())
                gradients.append(torch.autograd.grad(q, f)[0])
            effect = torch.stack(gradients).mean(dim=0) * (0 - z)
            rows.append(positions(effect).sum(dim=1).mean(dim=0)[selected[u]])
        found[u, v] = torch.stack(rows)
    return found
