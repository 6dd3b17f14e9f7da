"""One pass of an encoder over any set of images: a test split, a mixture's training images, a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.activations.reducers import Reducer, finite
from domix.encoders.encoder import Encoder


def unit_embeddings(encoder: Encoder, images: Iterable[Tensor]) -> Iterator[NDArray[np.float32]]:
    """Yield the embeddings of images, scaled to length one, batch by batch: [B, D]; nothing is kept.

    Raises:
        DataError: an embedding is not finite, or an image cannot be read.
    """
    return (finite(F.normalize(encoder.forward(batch).output, dim=-1)) for batch in images)


def encode(
    encoder: Encoder, images: Iterable[Tensor], reducers: Sequence[Reducer], *, first: int = 0, pooled: bool = True
) -> int:
    """Let images pass through an encoder once, all reducers on the way; return the number after the last.

    Args:
        encoder: reads uint8 [B, 3, H, W], cut as its `preprocess` says.
        images: batches, in the order in which reducers number them.
        reducers: each reads the sites that it names.
        first: number of the first image, where a pass goes on.
        pooled: reducers get activations averaged over positions, [B, C]; else every position's, [B, P, C].

    Raises:
        DataError: the model lacks a site, gives values that are not finite, or an image cannot be read.
    """
    sites = list(dict.fromkeys(site for reducer in reducers for site in reducer.sites))
    done = first
    for batch in images:
        activations = encoder.forward(batch, sites, pooled=True) if pooled else encoder.forward(batch, sites, flat=True)
        rows = np.arange(done, done + len(batch))
        for reducer in reducers:
            reducer.update(activations, rows)
        done += len(batch)
    return done
