"""The samples of a training: a mixture's rows joined with the indices and the captions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from domix.data.mixtures.cells import suggest
from domix.data.mixtures.mixture import (
    Mixture,
    assert_held_out,
    check_captions,
    check_sources,
    describe_rows,
    read_mixture,
)
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.data.store.texts import CAPTIONS
from domix.runtime.errors import DataError, ParameterError, passing

if TYPE_CHECKING:
    from torch import Tensor

    from domix.data.loading.images import Images

# What tells that a packed image is the same as before: its original, and where and how large it lies in the shards.
IDENTITY = ["key", "sha256", "shard", "offset", "size", "width", "height"]
CELL = ["domain", "class"]
COLUMNS = ["row", *CELL, *IDENTITY]  # of the index, that `gather` reads


class Reader(Protocol):
    """Gives the bytes of a packed image by its index row."""

    def read(self, row: int) -> bytes:
        """Return an image file."""
        ...


def gather(
    mixture: Mixture, indices: Mapping[str, pd.DataFrame], captions: Mapping[str, pd.DataFrame] | None
) -> pd.DataFrame:
    """Join a mixture's rows, in their order, with `indices` and `captions` by source.

    Returns `source`, `row`, `weight`, the columns of CELL and IDENTITY, and `text` if captions are given.

    Raises:
        DataError: the mixture is empty or holds a held-out sample, or a row or a caption is missing.
    """
    rows = mixture.rows.reset_index(drop=True)
    if rows.empty:
        raise DataError(f"mixture {mixture.name!r} is empty: there is nothing to train on")
    assert_held_out(describe_rows(rows, indices), mixture)
    parts = []
    for source, mine in rows.groupby("source", sort=False):
        name = str(source)
        index = indices[name].set_index("row")[CELL + IDENTITY].loc[mine["row"]]
        part = mine[["source", "row", "weight"]].join(index.set_index(mine.index))
        if captions is not None:
            texts = _texts(name, index["key"], mine["caption"], captions[name])
            part = part.assign(text=texts.to_numpy())
        parts.append(part)
    return pd.concat(parts).sort_index()


def _texts(source: str, keys: pd.Series, kinds: pd.Series, captions: pd.DataFrame) -> pd.Series:
    """Look up each sample's caption, of the kind that the mixture asks for."""
    table = captions.set_index("key")
    absent = ~keys.isin(table.index).to_numpy()
    if absent.any():
        raise DataError(
            f"source {source!r} has no caption for {keys.iloc[int(absent.argmax())]!r} and {absent.sum() - 1} others",
            argument="captions",
        )
    columns = table.columns.get_indexer(kinds)
    places = table.index.get_indexer(keys)
    return pd.Series(table.to_numpy()[places, columns])


def identity(samples: pd.DataFrame) -> str:
    """Return a digest of the images and captions, in order: what of the data a training depends on."""
    columns = ["source", *IDENTITY, "text"] + (["weight"] if (samples["weight"] != 1).any() else [])
    text = samples[columns].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Opened:
    """A mixture with what its rows stand for."""

    mixture: Mixture
    samples: pd.DataFrame  # see `gather`
    indices: dict[str, pd.DataFrame]  # by source
    readers: dict[str, ShardReader]  # by source, of those whose shards lie here
    folders: dict[str, Path]  # by source, of the index


def open_mixture(
    path: Path,
    *,
    shards: Path,
    captions: Path | None,
    columns: Sequence[str] = (),
    streamed: Collection[str] = (),
) -> Opened:
    """Read the mixture `path`, and its samples from the folders of packed sources and of captions.

    Args:
        path: a mixture's file; the folder may hold other mixtures.
        shards: folder with one folder of shards a source.
        captions: folder with one table a source; None: the samples' captions are not needed.
        columns: of the indices, besides COLUMNS.
        streamed: sources whose shards need not lie in their folder, beside the index.

    Raises:
        DataError: a file is missing or damaged, a sample is held out, or files do not fit together: the packed sources
            or captions are not those that the mixture was made from.
        ParameterError: there is no such mixture, but others.
    """
    known = sorted(file.stem for file in path.parent.glob("*.parquet") if file.stem != "cells")
    if known and path.stem not in known:
        raise ParameterError(f"there is no mixture {path.stem!r}: {suggest(path.stem, known)}")
    mixture = read_mixture(path)
    with passing(mixture=path):
        check_sources(mixture, shards)
        if captions is not None:
            check_captions(path, mixture, captions)
    folders = {source: shards / source for source in mixture.samples}
    here = {source: source not in streamed for source in folders}
    names = [*COLUMNS, *columns]
    indices = {source: read_index(folder, names, shards=here[source]) for source, folder in folders.items()}
    texts = {source: CAPTIONS.read(captions / f"{source}.parquet") for source in folders} if captions else None
    with passing(mixture=path, rows=path, captions=captions or path):
        samples = gather(mixture, indices, texts)
    readers = {source: ShardReader(folder) for source, folder in folders.items() if here[source]}
    return Opened(mixture, samples, indices, readers, folders)


def shard_numbers(samples: pd.DataFrame) -> list[int]:
    """Number the shards of all sources, in the order of their first samples, and return each sample's."""
    return samples.groupby(["source", "shard"], sort=False).ngroup().tolist()


def sizes_of(samples: pd.DataFrame) -> Tensor:
    """Return the images' sizes, int64 [N, 2] (height, width)."""
    import torch

    return torch.tensor(samples[["height", "width"]].to_numpy(dtype="int64").copy())


def decode(samples: pd.DataFrame, readers: Mapping[str, Reader], *, threads: int) -> Images:
    """Decode the images of `samples` into memory.

    Raises:
        DataError: an image is missing or damaged.
    """
    from domix.data.loading.images import Images

    sources, rows = samples["source"].tolist(), samples["row"].tolist()
    return Images.decode(
        lambda number: readers[sources[number]].read(rows[number]),
        names=samples["key"].tolist(),
        sizes=sizes_of(samples),
        threads=threads,
    )
