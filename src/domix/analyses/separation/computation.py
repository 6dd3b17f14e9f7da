"""The tables of one run: umap, distances and separability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from domix.analyses.separation.measures import distance_table, separability_table, umap_table
from domix.analyses.separation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from domix.analyses.contract import RunInputs


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Map and measure one run, with one thread.

    Raises:
        DataError: embeddings are missing or damaged, or of another study.
    """
    embeddings = inputs.embeddings
    with threadpool_limits(1):
        points = umap_table(
            embeddings,
            images=settings.images,
            neighbours=settings.neighbours,
            min_distance=settings.min_distance,
            densmap=settings.densmap,
            seed=settings.seed,
        )
        points.insert(3, "held_out", inputs.study.held_out_rows(points))
        distances, separability = distance_table(embeddings), separability_table(embeddings)
    return {"umap": points, "distances": distances, "separability": separability}
