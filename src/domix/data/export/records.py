"""Exports of a mixture for other trainers: what all formats share.

A format is a function that writes a mixture's samples into a folder (export_tsv.py, export_webdataset.py,
export_parquet.py). Here: the samples in the reference study's order with all that an export says about them, the
streaming of their images, and the folder, which appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from domix.data.mixtures.mixture import Mixture, assert_held_out
from domix.data.sources.pair_table import DESCRIPTION
from domix.data.store.images import kind_of
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, write_json

COLUMNS = ["source", "row", "key", "text", "domain", "class", "label", "split", "weight", "size"]

_LONGEST = 255 - len(".json")  # bytes of a file's name without its extension
_CHUNK = 8192  # samples whose columns are turned into Python values at a time
_SPARE = 1 << 26  # bytes that an export may need beside its images

Progress = Callable[[int], object]
"""Called with the number of samples that were written since the last call."""


class Reader(Protocol):
    """Gives the bytes of a packed image by its index row."""

    def read(self, row: int) -> bytes:
        """Return an image file."""
        ...


class Sample(NamedTuple):
    """One row of `arrange`'s table."""

    source: str
    row: int
    key: str
    text: str
    domain: str | None
    class_name: str | None
    label: int
    split: str
    weight: float
    size: int  # bytes of the image

    @property
    def name(self) -> str:
        """The key behind the source's name, unique in a mixture, of which a file can be named on any file system."""
        return "/".join(fitting(part) for part in (self.source, *self.key.split("/")))


def fitting(part: str) -> str:
    """Return a part of a path with room for an extension: a longer one is cut, and eight digits tell it apart."""
    data = part.encode()
    if len(data) <= _LONGEST:
        return part
    return f"{data[: _LONGEST - 9].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:8]}"


def arrange(mixture: Mixture, samples: pd.DataFrame, indices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the table COLUMNS of a mixture's samples, in the reference's order.

    The order is the mixture's: base sources first. Only the multi-domain source's samples are grouped: by domain
    (alphabetically, DomainNet's own order), then by class in the order in which the domain's training list names them,
    then in list order.

    Args:
        samples: `source, row, key, text, size` of the mixture's rows, in the mixture's order.
        indices: source -> index (columns `row`, `domain`, `class`, `label`, `split`).

    Raises:
        DataError: the mixture is empty, holds a held-out sample, or one whose key would lie outside a folder.
    """
    if len(samples) != len(mixture.rows) or samples.empty:
        raise DataError(f"mixture {mixture.name!r} has no samples to export", argument="mixture")
    table = samples[["source", "row", "key", "text", "size"]].reset_index(drop=True)
    table = table.assign(weight=_weights(mixture), source=table["source"].astype(str))
    described = [
        indices[str(name)]
        .set_index("row")[["domain", "class", "label", "split"]]
        .loc[mine["row"]]
        .set_index(mine.index)
        for name, mine in table.groupby("source", sort=False)
    ]
    table = table.join(pd.concat(described))[COLUMNS]
    assert_held_out(table, mixture)
    _check_keys(table)
    return table.iloc[_order(table, mixture.parameters["source"], indices)].reset_index(drop=True)


def _weights(mixture: Mixture) -> np.ndarray:
    """Return the samples' weights, float64 [N]: 0.1 where a float32 of the mixture prints so."""
    if "weight" not in mixture.rows:
        return np.ones(len(mixture.rows))
    known, inverse = np.unique(mixture.rows["weight"].to_numpy(np.float32), return_inverse=True)
    return np.array([float(str(value)) for value in known])[inverse]


def _check_keys(table: pd.DataFrame) -> None:
    hostile = table["key"].str.contains(r"(?:^|/)\.{0,2}(?:/|$)", regex=True).to_numpy(dtype=bool)
    if hostile.any():
        bad = table.iloc[int(hostile.argmax())]
        where = f"source {bad['source']!r} has the key {bad['key']!r}"
        raise DataError(f"{where}, which cannot name a file", argument="samples")


def _order(table: pd.DataFrame, source: str, indices: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Return the positions of all samples, with those of `source` grouped as `arrange` says."""
    order = np.arange(len(table))
    mine = np.flatnonzero((table["source"] == source).to_numpy())
    if len(mine) == 0:
        return order
    index = indices[source]
    lists = index[index["split"] == "train"].groupby(["domain", "class"], sort=False)["row"].min().rename("first")
    part = table.iloc[mine][["domain", "class", "row"]].join(lists, on=["domain", "class"])
    ranked = np.lexsort((part["row"].to_numpy(), part["first"].to_numpy(), pd.factorize(part["domain"], sort=True)[0]))
    order[mine] = mine[ranked]
    return order


def records(table: pd.DataFrame) -> Iterator[Sample]:
    """Yield the rows of `arrange`'s table one by one; only some thousand are Python objects at a time."""
    for start in range(0, len(table), _CHUNK):
        chunk = table.iloc[start : start + _CHUNK]
        columns = [_values(chunk[name]) for name in COLUMNS]
        yield from map(Sample._make, zip(*columns, strict=True))


def _values(column: pd.Series) -> list[Any]:
    """Return a column as Python values, with None for what is missing."""
    return column.astype(object).where(column.notna(), None).tolist() if column.hasnans else column.tolist()


def extension(data: bytes, sample: Sample) -> str:
    """Return the extension that belongs to an image file, by its first bytes.

    Raises:
        DataError: it is none of the formats that packing lets pass.
    """
    if (kind := kind_of(data)) is None:
        raise DataError(f"the packed image {sample.name!r} is not in a known format", argument="data")
    return kind


@contextlib.contextmanager
def export_folder(
    out: Path, mixture: Mixture, about: Mapping[str, Any], *, needs: int, force: bool = False
) -> Generator[tuple[Path, dict[str, Any]]]:
    """Yield an empty folder that becomes `out` when the block ends without an error, and its description.

    Args:
        about: what DESCRIPTION says beside the mixture; the block may add to the yielded dictionary.
        needs: bytes that the export will take.
        force: replace an earlier export; a folder that is none is never replaced.

    Raises:
        DataError: `out` is there already, or the disk has not enough space.
        DomixError: as `atomic_folder`.
    """
    _require_free(out, force)
    _require_space(out, needs + _SPARE)
    description: dict[str, Any] = {
        "mixture": mixture.name,
        "alias": mixture.alias,
        "digest": mixture.digest,
        "held_out": mixture.held_out,
        "samples": len(mixture.rows),
        "sources": mixture.samples,
        **about,
    }
    with atomic_folder(out) as folder:
        yield folder, description
        write_json(folder / DESCRIPTION, description)


def _require_free(out: Path, force: bool) -> None:
    """Refuse to write over anything but an earlier export."""
    if out.is_dir():
        if not any(out.iterdir()):
            return
        if not (out / DESCRIPTION).is_file():
            raise DataError(f"{out} holds files that are no export of a mixture: name a new folder")
        if not force:
            raise DataError(f"{out} holds an export already: name a new folder, or replace it with --force")
    elif out.exists() or out.is_symlink():
        raise DataError(f"{out} is a file: name a new folder to export to")


def _require_space(out: Path, needs: int) -> None:
    place = next(parent for parent in (out, *out.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needs:
        raise DataError(
            f"the export to {out} needs about {needs / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free: free some"
            " space, or name a folder on another disk"
        )
