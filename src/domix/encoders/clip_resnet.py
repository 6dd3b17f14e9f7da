"""CLIP's ResNet as a chain from site to site, for far fewer operations than its modules take.

In evaluation a batch norm is part of the convolution before it, and no path leads around a site. Each link of the chain
begins with linear maps without shifts (`enter`): what they give of an activation scaled towards zero is scaled
likewise. Shifts and rectifiers follow (`leave`). Of the attention pool one query alone is read: keys and values are
never made, their weights meet the query, and what it has read, instead.

Shapes: B images, C channels of a site, M within a block, H x W and P positions, k selected channels of the site before
(k of u) or behind (k of v).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domix.encoders.segments import INPUT, Entered, Link, Push, Segments, chosen
from domix.encoders.sites import site_modules

if TYPE_CHECKING:
    from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet


class Simple:
    """A link of the stem: a linear map, and for a convolution a shift and a rectifier."""

    def __init__(self, linear: Callable[[Tensor], Tensor], shift: Tensor | None = None) -> None:
        self.linear, self.shift = linear, shift

    def enter(self, x: Tensor) -> Entered:
        """As `Link.enter`."""
        return (self.linear(x),)

    def leave(self, entered: Sequence[Tensor]) -> Tensor:
        """As `Link.leave`."""
        return entered[0] if self.shift is None else F.relu(entered[0] + _aside(self.shift))

    def linearise(self, entered: Sequence[Tensor], of_v: Tensor) -> tuple[Tensor, Push]:
        """As `Link.linearise`."""
        end = _chosen(self.leave(entered), of_v)

        def push(x: Tensor, of_u: Tensor) -> Tensor:
            alone = x[:, None] * F.one_hot(of_u, x.shape[1]).to(x.dtype)[..., None, None]
            moved = _chosen(self.linear(alone.flatten(0, 1)), of_v.repeat_interleave(of_u.shape[1], 0))
            moved = moved.unflatten(0, of_u.shape)
            return moved if self.shift is None else moved * (end > 0)[:, None]

        return end, push


class Block:
    """A residual block: 1 x 1, 3 x 3 and 1 x 1 convolutions, with a 1 x 1 or nothing around them."""

    def __init__(self, block: Bottleneck) -> None:
        self.stride = block.stride
        self.reduce, self.shift1 = _folded(block.conv1, block.bn1)
        self.spatial, self.shift2 = _folded(block.conv2, block.bn2)
        self.expand, self.shift3 = _folded(block.conv3, block.bn3)
        self.around = None
        if block.downsample is not None:
            _, conv, norm = cast(Any, block.downsample)
            self.around, shift = _folded(conv, norm)
            self.shift3 = self.shift3 + shift

    def enter(self, x: Tensor) -> Entered:
        """As `Link.enter`: what the first convolution gives, and what goes around all three."""
        around = self._pooled(x)
        return F.conv2d(x, self.reduce), around if self.around is None else F.conv2d(around, self.around)

    def leave(self, entered: Sequence[Tensor]) -> Tensor:
        """As `Link.leave`."""
        hidden, around = entered
        middle = F.conv2d(F.relu(hidden + _aside(self.shift1)), self.spatial, self.shift2, padding=1)
        return F.relu(F.conv2d(self._pooled(F.relu(middle)), self.expand, self.shift3) + around)

    def linearise(self, entered: Sequence[Tensor], of_v: Tensor) -> tuple[Tensor, Push]:
        """As `Link.linearise`: the first convolution is fed one channel, the last read at some; neither runs whole."""
        inner = entered[0] + _aside(self.shift1)
        middle = F.conv2d(F.relu(inner), self.spatial, self.shift2, padding=1)
        open_inner, open_middle = inner > 0, middle > 0
        rows = self.expand[:, :, 0, 0][of_v].mT  # [B, M, k of v]
        end = _by_position(self._pooled(F.relu(middle))) @ rows + self.shift3[of_v][:, None]
        end = F.relu(end + _chosen(entered[1], of_v))

        def push(x: Tensor, of_u: Tensor) -> Tensor:
            columns = self.reduce[:, :, 0, 0].T[of_u][:, :, None, None]  # [B, k of u, 1, 1, M]
            moved = _chosen(x, of_u).mT.unflatten(2, x.shape[2:])[..., None] * columns
            moved = (moved * open_inner.movedim(1, -1)[:, None]).flatten(0, 1).movedim(-1, 1)  # [B k of u, M, H, W]
            moved = F.conv2d(moved, self.spatial, padding=1).unflatten(0, of_u.shape) * open_middle[:, None]
            moved = _by_position(self._pooled(moved.flatten(0, 1))).unflatten(0, of_u.shape)
            moved = (moved.flatten(1, 2) @ rows).unflatten(1, moved.shape[1:3])
            if self.around is None:
                through = (of_u[:, :, None] == of_v[:, None]).to(x.dtype)
            else:
                through = self.around[:, :, 0, 0][of_v[:, None], of_u[:, :, None]]  # [B, k of u, k of v]
            moved = moved + _chosen(self._pooled(x), of_u).mT[..., None] * through[:, :, None]
            return moved * (end > 0)[:, None]

        return end, push

    def _pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class Attention:
    """The attention pool: the mean over positions asks, and the answer is the model's output."""

    def __init__(self, pool: AttentionPool2d) -> None:
        self.pool, self.scale = pool, (pool.k_proj.out_features // pool.num_heads) ** -0.5
        projections = (pool.q_proj, pool.k_proj, pool.v_proj)
        weights = (p.weight.detach().unflatten(0, (pool.num_heads, -1)) for p in projections)
        self.queries, self.keys, self.values = weights  # [heads, C / heads, C]
        self.queries = self.queries * self.scale

    def enter(self, x: Tensor) -> Entered:
        """As `Link.enter`."""
        return (x,)

    def leave(self, entered: Sequence[Tensor]) -> Tensor:
        """As `Link.leave`."""
        tokens = self._tokens(entered[0])
        _, weights = self._attend(tokens)
        read = (weights @ tokens).transpose(0, 1)  # [heads, B, C]
        return self._answer((read @ self.values.mT).transpose(0, 1))

    def linearise(self, entered: Sequence[Tensor], of_v: Tensor) -> tuple[Tensor, Push]:
        """As `Link.linearise`: all tokens' keys and values once for all channels."""
        tokens = self._tokens(entered[0])
        asked, weights = self._attend(tokens)
        shape = self.keys.shape[:2]  # heads, C / heads
        keyed, valued = (
            (tokens @ w.flatten(0, 1).T).unflatten(2, shape).transpose(1, 2) for w in (self.keys, self.values)
        )  # [B, heads, 1 + P, C / heads]
        end = self._answer((weights[:, :, None] @ valued)[:, :, 0]).gather(1, of_v)[:, None]

        def push(x: Tensor, of_u: Tensor) -> Tensor:
            start = _chosen(x, of_u)
            start = torch.cat([start.mean(dim=1, keepdim=True), start], dim=1).mT[:, :, None]  # [B, k of u, 1, 1 + P]
            # [B, k of u, heads, C / heads]
            query, value = (w.movedim(-1, 0)[of_u] for w in (self.queries, self.values))
            scores = torch.einsum("bkhd,bhtd->bkht", query * start[..., :1], keyed)
            scores = scores + chosen(asked, of_u).mT[..., None] * start
            moved = weights[:, None] * (scores - (weights[:, None] * scores).sum(dim=-1, keepdim=True))
            answer = torch.einsum("bkht,bhtd->bkhd", moved, valued)
            answer = answer + value * (weights[:, None] * start).sum(dim=-1, keepdim=True)
            return (answer.flatten(2) @ self.pool.c_proj.weight[of_v].mT)[:, :, None]

        return end, push

    def _tokens(self, x: Tensor) -> Tensor:
        at = _by_position(x)
        return torch.cat([at.mean(dim=1, keepdim=True), at], dim=1) + self.pool.positional_embedding  # [B, 1 + P, C]

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is asked of tokens, [B, heads, C], and their weights, [B, heads, 1 + P].

        A key's shift adds the same to all scores of a query, so that it does not matter.
        """
        query = tokens[:, 0] @ self.queries.flatten(0, 1).T + self.pool.q_proj.bias * self.scale
        asked = (query.unflatten(1, self.queries.shape[:2]).transpose(0, 1) @ self.keys).transpose(0, 1)
        return asked, (asked @ tokens.mT).softmax(dim=-1)

    def _answer(self, read: Tensor) -> Tensor:
        """Return the output of values read, [B, heads, C / heads]."""
        return self.pool.c_proj(read.flatten(1) + self.pool.v_proj.bias)


class ResNetSegments(Segments):
    """CLIP's ResNet in evaluation, cut at its sites; the model's output is the tower's."""

    def __init__(self, model: nn.Module, tower: ModifiedResNet) -> None:
        """Take a model and its image tower; what is behind the tower must change nothing."""
        super().__init__(model, site_modules(tower))
        convs = ((tower.conv1, tower.bn1), (tower.conv2, tower.bn2), (tower.conv3, tower.bn3))
        stem = [_stem(conv, norm) for conv, norm in convs]
        middle = [Block(cast(Any, module)) for name, module in self.modules.items() if name.startswith("layer")]
        links = [*stem, Simple(tower.avgpool), *middle, Attention(tower.attnpool)]
        self.names = [INPUT, *self.modules]
        self.links: dict[str, Link] = dict(zip(self.names[1:], links, strict=True))

    def linear_to(self, site: str) -> str | None:
        """As `Segments.linear_to`."""
        return "avgpool" if site == "act3" else None

    def link(self, u: str, v: str) -> Link | None:
        """As `Segments.link`."""
        return self.links[v] if self.names.index(u) + 1 == self.names.index(v) else None

    def enter(self, start: str, value: Tensor) -> Entered:
        """As `Segments.enter`."""
        behind = self._behind(start)
        return self.links[behind[0]].enter(value) if behind else (value,)

    def run_entered(self, start: str, entered: Sequence[Tensor], end: str | None = None) -> Tensor:
        """As `Segments.run_entered`."""
        behind = self._behind(start, end)
        if not behind:
            return entered[0]
        value = self.links[behind[0]].leave(entered)
        for name in behind[1:]:
            value = self.links[name].leave(self.links[name].enter(value))
        return value

    def run(self, start: str, value: Tensor, end: str | None = None) -> Tensor:
        """As `Segments.run`."""
        return self.run_entered(start, self.enter(start, value), end)

    def _behind(self, start: str, end: str | None = None) -> list[str]:
        stop = len(self.names) if end is None else self.names.index(end) + 1
        return self.names[self.names.index(start) + 1 : stop]


def _stem(conv: nn.Conv2d, norm: Any) -> Simple:
    weight, shift = _folded(conv, norm)
    shape: Any = {"stride": conv.stride, "padding": conv.padding}
    return Simple(lambda x: F.conv2d(x, weight, **shape), shift)


def _folded(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    """Return the weight and the shift of a convolution with the batch norm behind it, in evaluation."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return (conv.weight * scale[:, None, None, None]).detach(), (norm.bias - norm.running_mean * scale).detach()


def _aside(shift: Tensor) -> Tensor:
    """Return a shift [C] as it is added to a map."""
    return shift[:, None, None]


def _by_position(x: Tensor) -> Tensor:
    """Return a map [B, C, H, W] as [B, P, C]."""
    return x.flatten(2).mT


def _chosen(x: Tensor, channels: Tensor) -> Tensor:
    """Return each image's own channels [B, k] of a map: [B, P, k]."""
    return chosen(_by_position(x), channels)
