"""A token embedding that trains the rows of the tokens in use alone, to the same weights as if it trained all.

Captions of a few thousand words use a few of the 49,408 rows of CLIP's vocabulary. The gradient of every other row is
zero at each step, so that AdamW does nothing to it but decay it. On a CPU most of a small text tower's time would go
into filling these gradients with zeros and walking through their moments.

Shapes: V rows of the vocabulary, U rows in use, W width of the text tower, L tokens a caption.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "token_embedding"  # open_clip's, of every text tower of its own
CHUNK = 1 << 14  # numbers: what a core keeps at hand while it decays them many times


class UsedTokens(nn.Module):
    """An `nn.Embedding` of V rows whose parameter `weight` [U, W] is those in use; in `state_dict` it is whole."""

    weight: nn.Parameter
    rest: Tensor
    place: Tensor

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        """Train the rows `used` (rising, int64 [U]) of `embedding`."""
        super().__init__()
        whole = embedding.weight.detach()
        place = torch.full((len(whole),), -1, device=whole.device)  # of each token among those in use
        place[used] = torch.arange(len(used), device=whole.device)
        self.used = used
        self.weight = nn.Parameter(whole[used].clone())
        self.register_buffer("rest", whole.clone(), persistent=False)  # [V, W], out of date: `whole` renews it
        self.register_buffer("place", place, persistent=False)
        self._decays: list[float] = []  # factors by which `rest` is yet to be multiplied, one after the other

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed tokens [..., L] to [..., L, W]: in training those in use alone, else any."""
        if self.training:
            return F.embedding(self.place[tokens], self.weight)
        return F.embedding(tokens, self.whole())

    def decay(self, factor: float) -> None:
        """Note that a step of the optimiser has decayed all weights by a factor."""
        self._decays.append(factor)

    @torch.no_grad()
    def whole(self) -> Tensor:
        """Return all rows [V, W], as they are now; not a copy."""
        if self._decays:
            for chunk in self.rest.view(-1).split(CHUNK):
                for factor in self._decays:  # one by one: their product would round otherwise
                    chunk.mul_(factor)
            self._decays = []
        self.rest[self.used] = self.weight
        return self.rest

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.whole()


def train_used_tokens(model: nn.Module, tokens: Tensor) -> list[UsedTokens]:
    """Let `model` train the rows of its token embedding that `tokens` [N, L] use, and return what does so.

    Empty where the model has no token embedding of open_clip's. Weights loaded before stay; later ones do not fit.
    """
    found = []
    for parent in list(model.modules()):
        embedding = getattr(parent, NAME, None)
        if isinstance(embedding, nn.Embedding):
            found.append(UsedTokens(embedding, tokens.unique().long()))
            setattr(parent, NAME, found[-1])
    return found
