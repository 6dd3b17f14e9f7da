"""Single dimensions of the embedding: in which of them a domain's images differ from all others.

* `difference_table`: of every domain, the difference between the mean embedding of its images and that of all others',
  dimension by dimension, the greatest first. A few dimensions far above the rest are a style that the model has given
  axes of its own.
* `scatter_table`: a draw of images in the two dimensions that differ most, of every domain.

Shapes: N images, D embedding, G domains.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from domix.analyses.means import group_means
from domix.analyses.separation.measures import domain_numbers
from domix.embed.embeddings import Embeddings

log = logging.getLogger(__name__)

DIFFERENCES = ["domain", "rank", "dimension", "difference"]
SCATTER = ["separated", "row", "domain", "x", "y"]


def difference_table(embeddings: Embeddings) -> pd.DataFrame:
    """Rank the dimensions of every domain by how far its mean lies from that of all other images: DIFFERENCES.

    `difference` has its sign, `rank` (from 1) goes by its size; of equal ones the first dimension leads. A domain
    without images, or one that stands alone, has no row.
    """
    means_GD, sizes = group_means(embeddings.image_embeddings, domain_numbers(embeddings), len(embeddings.domains))
    sums_GD = np.where(sizes[:, None] > 0, means_GD, 0.0) * sizes[:, None]
    parts = []
    for number, name in enumerate(embeddings.domains):
        rest = sizes.sum() - sizes[number]
        if not sizes[number] or not rest:
            log.warning("no dimensions of %s: they need its images and those of another domain", name)
            continue
        difference = means_GD[number] - (sums_GD.sum(axis=0) - sums_GD[number]) / rest
        order = np.argsort(-np.abs(difference), kind="stable")
        ranks = np.arange(1, len(order) + 1)
        parts.append(
            pd.DataFrame({"rank": ranks, "dimension": order, "difference": difference[order]}).assign(domain=name)
        )
    return pd.concat(parts, ignore_index=True)[DIFFERENCES] if parts else pd.DataFrame(columns=DIFFERENCES)


def scatter_table(embeddings: Embeddings, differences: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """Place the images `chosen` [n] in the two dimensions of rank 1 (x) and 2 (y), for every domain: SCATTER.

    An embedding of one dimension has no such place, and no rows.
    """
    if embeddings.image_embeddings.shape[1] < 2:
        log.warning("no two dimensions separate domains most: the embedding has one")
    first = differences[differences["rank"] <= 2].pivot(index="domain", columns="rank", values="dimension")
    images = embeddings.rows.iloc[chosen][["row", "domain"]].reset_index(drop=True)
    parts = []
    for name in embeddings.domains:
        if name in first.index and first.shape[1] == 2:
            x, y = embeddings.image_embeddings[chosen][:, first.loc[name].to_numpy(dtype=np.int64)].T
            parts.append(images.assign(separated=name, x=x, y=y))
    return pd.concat(parts, ignore_index=True)[SCATTER] if parts else pd.DataFrame(columns=SCATTER)
