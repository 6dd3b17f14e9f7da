"""The tables of one run: umap, umap_without, distances, separability, differences and scatter."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from domix.analyses.sampling import draw_rows
from domix.analyses.separation.dimensions import difference_table, scatter_table
from domix.analyses.separation.measures import distance_table, separability_table, umap_table
from domix.analyses.separation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from domix.analyses.contract import RunInputs


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Map and measure one run, with one thread.

    Raises:
        DataError: embeddings are missing or damaged, of another study, or not finite.
        ParameterError: the settings do not fit the study.
    """
    embeddings = inputs.embeddings
    draw = partial(
        umap_table,
        embeddings,
        images=settings.images,
        neighbours=settings.neighbours,
        min_distance=settings.min_distance,
        densmap=settings.densmap,
        seed=settings.seed,
    )
    with threadpool_limits(1):
        points = draw()
        second = points.iloc[:0] if settings.without is None else draw(without=settings.without)
        differences = difference_table(embeddings)
        drawn = draw_rows(embeddings.rows["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)
        tables = {
            "umap": points,
            "umap_without": second.copy(),
            "distances": distance_table(embeddings),
            "separability": separability_table(embeddings),
            "differences": differences,
            "scatter": scatter_table(embeddings, differences, drawn),
        }
    for name in ("umap", "umap_without"):
        tables[name].insert(3, "held_out", inputs.study.held_out_rows(tables[name]))
    return tables
