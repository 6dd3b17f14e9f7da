"""A classifier from sentences: each class in each template, encoded by CLIP's text tower.

Each prompt's embedding is L2-normalised, the mean over a class's templates L2-normalised again (Radford et al. 2021,
section 3.1.4), which makes one prototype a class.

Shapes: D embedding, P distinct prompts, T templates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.encoders.encoder import DIVERGED
from domix.model.clip import encode_text, shortest_context
from domix.model.tokens import tokenise
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

    from domix.model.clip import Clip

BATCH = 256  # prompts a step: small enough for a CPU's cache


@dataclass(frozen=True)
class Prompts:
    """The prompts of some classes as tokens, ready for the text towers of any weights."""

    tokens: Tensor  # int64 [P, L], each prompt once, by length
    where: list[list[int]]  # of each class's T prompts among the P

    @classmethod
    def tokenised(cls, tokenizer: SimpleTokenizer, prompts: Sequence[Sequence[str]]) -> Prompts:
        """Turn the T prompts of each of K classes into tokens."""
        place: dict[str, int] = {}
        where_KT = [[place.setdefault(text, len(place)) for text in texts] for texts in prompts]
        tokens_PL = tokenise(tokenizer, list(place))
        order = tokens_PL.argmax(dim=1).argsort(
            stable=True
        )  # the greatest token ends the text: its place is the length
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        return cls(tokens_PL[order], [rank[where].tolist() for where in where_KT])


def class_prototypes(
    model: Clip,
    tokenizer: SimpleTokenizer,
    prompts: Sequence[Sequence[str]],
    *,
    batch: int = BATCH,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Encode the T prompts of each of K classes to one L2-normalised prototype a class: float32 [K, D].

    Raises:
        DataError: an embedding is not finite.
    """
    return encode_classes(model, Prompts.tokenised(tokenizer, prompts), batch=batch, device=device)


def encode_classes(
    model: Clip, prompts: Prompts, *, batch: int = BATCH, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Return what `class_prototypes` does, of prompts that are tokens already."""
    model = model.to(device).eval()
    parts = []
    with torch.inference_mode():
        for some in prompts.tokens.split(batch):
            tokens = shortest_context(model, some)
            parts.append(F.normalize(encode_text(model, tokens.to(device)).double(), dim=-1).cpu())
        features_PD = torch.cat(parts)
        means_KD = torch.stack([features_PD[where].mean(dim=0) for where in prompts.where])
        text = F.normalize(means_KD, dim=-1).float().numpy()
    if not np.isfinite(text).all():
        raise DataError(f"the model gives prompt embeddings that are not finite: {DIVERGED}")
    return text
