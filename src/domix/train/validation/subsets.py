"""Which test images a training is measured on as it goes: some of cells that its mixture shows, some of the test's.

The test cells are those of the test classes in the test domain: held out by the mixtures that are put to the test,
shown by their upper bounds. A mixture that knows no test domain (natural-only, the same file for all) has none.
Images are drawn by seed, and prepared once as for an evaluation: central square, antialiased bicubic resize.

Shapes: N images, S the side of the images that the model reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from domix.data.loading.samples import CELL, Opened, Reader
from domix.data.store.texts import CAPTIONS
from domix.encoders.cutting import cut_images
from domix.encoders.preprocess import square
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

if TYPE_CHECKING:
    from domix.data.mixtures.mixture import Mixture

COLUMNS = ("label", "split")  # of the indices, besides those that training reads
BATCH = 64  # images that are prepared at a time


@dataclass(frozen=True)
class Subset:
    """Images to measure on; at least one."""

    images: Tensor  # uint8 [N, 3, S, S], not yet normalised
    labels: NDArray[np.int64]  # [N], in the multi-domain source's order; -1: none
    captions: list[str] | None  # N of them; None: they are not asked for


def choose_seen(opened: Opened, count: int, seed: int) -> pd.DataFrame:
    """Draw test images of cells of the multi-domain source that the mixture shows, less the test cells.

    Where it shows none, they are drawn from all test images of its other sources, whose classes are not ours. Returns
    the index's rows, with `source`; none where there is no test image.
    """
    mixture = opened.mixture
    main = mixture.parameters["source"]
    if main in opened.readers:
        test = _test_rows(opened, main)
        own = opened.samples[opened.samples["source"] == main]
        pool = test[_cells(test).isin(_cells(own).unique()) & ~_in_test_cells(test, mixture)]
        if not pool.empty:
            return _draw(pool, count, seed, "seen")
    others = [_test_rows(opened, name) for name in opened.readers if name != main]
    return _draw(pd.concat(others).assign(label=-1), count, seed, "seen") if others else pd.DataFrame()


def choose_held_out(opened: Opened, count: int, seed: int) -> pd.DataFrame:
    """Draw test images of the test cells; none where the mixture knows none."""
    main = opened.mixture.parameters["source"]
    if main not in opened.readers:
        return pd.DataFrame()
    test = _test_rows(opened, main)
    return _draw(test[_in_test_cells(test, opened.mixture)], count, seed, "withheld")


def _test_rows(opened: Opened, source: str) -> pd.DataFrame:
    index = opened.indices[source]
    return index[index["split"] == "test"].assign(source=source)


def _cells(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[CELL].fillna(""))


def class_names(opened: Opened) -> list[str]:
    """Return the classes of the multi-domain source in label order; none where the mixture lacks it, or it has none."""
    main = opened.mixture.parameters["source"]
    if main not in opened.indices:
        return []
    known = opened.indices[main][["label", "class"]].drop_duplicates("label").sort_values("label")
    return known[known["label"] >= 0]["class"].tolist()


def _in_test_cells(rows: pd.DataFrame, mixture: Mixture) -> NDArray[np.bool_]:
    domain, classes = mixture.parameters.get("test_domain"), mixture.parameters.get("test_classes", [])
    return ((rows["domain"] == domain) & rows["class"].isin(classes)).to_numpy(dtype=bool)


def _draw(pool: pd.DataFrame, count: int, seed: int, name: str) -> pd.DataFrame:
    order = numpy_generator(seed, "validation", name).permutation(len(pool))
    return pool.iloc[np.sort(order[:count])]


def prepare(
    rows: pd.DataFrame, readers: Mapping[str, Reader], *, size: int, threads: int, captions: list[str] | None = None
) -> Subset | None:
    """Decode the images of `rows` and resize them to `size`; None where there are none.

    Raises:
        DataError: an image is missing or damaged.
    """
    if rows.empty:
        return None
    places = list(zip(rows["source"], rows["row"].tolist(), strict=True))

    def read(place: int) -> bytes:
        source, row = places[place]
        return readers[source].read(row)

    images = cut_images(read, rows, square(size), threads=threads)
    return Subset(images, rows["label"].to_numpy(dtype=np.int64), captions)


def captions_of(rows: pd.DataFrame, folder: Path, kind: str) -> list[str]:
    """Return the captions of `rows`, of a kind (standard, aligned), from the tables of their sources below `folder`.

    Raises:
        DataError: a table or a caption is missing.
    """
    texts = pd.Series(index=rows.index, dtype=object)
    for source, mine in rows.groupby("source"):
        path = folder / f"{source}.parquet"
        table = CAPTIONS.read(path, ["key", kind])
        found = mine["key"].map(table[table["key"].isin(mine["key"])].set_index("key")[kind])
        if found.isna().any():
            raise DataError(f"{path} has no caption for {mine['key'][found.isna()].iloc[0]!r}", remake=path)
        texts.loc[mine.index] = found
    return texts.tolist()
