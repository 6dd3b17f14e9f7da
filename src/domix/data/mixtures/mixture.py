"""Training mixtures: which samples of the data a model is shown, as a file and as a promise about what it is not shown.

How the samples are chosen: data/mixtures/mixing.py. A mixture's rows name a source and a row of its index, so that a
mixture of a million samples takes a few hundred kilobytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from domix.data.mixtures.cells import Ints
from domix.data.store.index import digest_of_source
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, read_json, sha256_file, write_json
from domix.runtime.tables import METADATA, Column, TableSchema, read_metadata

CAPTIONS = ("standard", "aligned")
ROWS = TableSchema(
    "mixture",
    (
        Column("source", "str", "name of the packed source"),
        Column("row", "int64", "the sample's row in its index"),
        Column("caption", "str", "which caption it is shown with: `standard` or `aligned`"),
        Column("weight", "float32", "how often it is drawn, relative to 1"),
    ),
    "the samples of a mixture, in order; one that does not depend on the test domain (natural-only) is the same file"
    " for all; the file's metadata `domix` (JSON) tells name, alias, parameters, samples, dropped, digest",
    path="artifacts/mixtures/<mixture>.parquet",
    written_by="mixtures",
)
COLUMNS = ROWS.names


@dataclass(frozen=True)
class Mixture:
    """One training mixture: the samples, and what it promises about them."""

    name: str
    alias: str  # the reference study's name
    standard_name: str  # ours, whatever the user called it
    caption: str  # standard | aligned
    domains: tuple[str, ...]  # of the multi-domain source, that it may contain
    held_out: tuple[str, tuple[str, ...]] | None  # (domain, classes) of which it must hold no sample
    parameters: dict[str, Any]  # what it was made with
    samples: dict[str, int]  # samples a source
    # source, row, caption, weight (float32; how often the sample is drawn, relative to 1; a frame without this column
    # means 1): words as categories; rows rising within a source
    rows: pd.DataFrame = field(repr=False)
    dropped: int = 0  # samples left out because they duplicate held-out images
    # source -> digest of the packed source that the rows point into (data/store/index.py); empty: nobody has noted it
    packed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every row: equal for equal samples, captions and weights, whatever the name.

        Weights count where one is not 1.
        """
        digest = hashlib.sha256()
        row, weight = self.rows["row"].to_numpy(dtype="<i8"), _weights(self.rows)
        weighted = bool((weight != 1).any())
        source, sources = word_codes(self.rows["source"])
        caption, captions = word_codes(self.rows["caption"])
        for kind, here in _groups(source.astype(np.int16) * len(captions) + caption):
            mine = np.ascontiguousarray(row[here])
            name, spoken = sources[kind // len(captions)], captions[kind % len(captions)]
            digest.update(f"{name}\x1f{spoken}\x1f{len(mine)}\x1f".encode())
            digest.update(mine.data)
            if weighted:
                digest.update(weight[here].astype("<f4").data)
        return digest.hexdigest()


def _groups(codes: NDArray[np.signedinteger[Any]]) -> list[tuple[int, slice | Ints]]:
    """Return every code and where it stands, in order of first appearance; as a slice where it stands together."""
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.zeros(0, dtype=np.int64)
    kinds = codes[starts].tolist()
    unique = list(dict.fromkeys(kinds))
    if len(unique) < len(kinds):
        return [(kind, np.flatnonzero(codes == kind)) for kind in unique]
    return [(kind, slice(*ends)) for kind, ends in zip(kinds, pairwise([*starts.tolist(), len(codes)]), strict=True)]


def _weights(rows: pd.DataFrame) -> NDArray[np.float32]:
    return rows["weight"].to_numpy(np.float32) if "weight" in rows else np.ones(len(rows), np.float32)


def word_codes(words: pd.Series) -> tuple[NDArray[np.signedinteger[Any]], list[str]]:
    """Return the words of a column as numbers (-1: none) and the words that these stand for."""
    column = pd.Categorical(words)
    return np.asarray(column.codes), [str(word) for word in column.categories]


def assert_held_out(rows: pd.DataFrame, mixture: Mixture) -> None:
    """Check that samples (columns `source`, `domain`, `class`) keep what the mixture promises.

    It is checked when a mixture is written, and again when a training opens it.

    Raises:
        DataError: a sample of a held-out cell, or of a domain that the mixture does not contain.
    """
    mine = (rows["source"] == mixture.parameters["source"]).to_numpy()
    foreign = mine & ~rows["domain"].isin(mixture.domains).to_numpy()
    if foreign.any():
        domain = rows["domain"].iloc[int(foreign.argmax())]
        raise DataError(
            f"mixture {mixture.name!r} must not hold domain {domain!r}, but has {foreign.sum()} of its samples"
        )
    if mixture.held_out is None:
        return
    domain, classes = mixture.held_out
    leaked = ((rows["domain"] == domain) & rows["class"].isin(classes)).to_numpy(dtype=bool)
    if leaked.any():
        sample = rows.iloc[int(leaked.argmax())]
        raise DataError(
            f"mixture {mixture.name!r} must not show {sample['class']!r} in domain {domain!r}, but has {leaked.sum()} "
            f"samples of held-out cells (source {sample['source']!r})",
            argument="mixture",
        )


def drop_rows(mixture: Mixture, rows_by_source: Mapping[str, Ints]) -> Mixture:
    """Return the mixture without some samples, whose number it notes as `dropped`.

    Args:
        rows_by_source: source -> index rows, whether the mixture holds them or not.
    """
    row = mixture.rows["row"].to_numpy()
    source, names = word_codes(mixture.rows["source"])
    gone = np.zeros(len(row), dtype=bool)
    for number, name in enumerate(names):
        if name in rows_by_source:
            gone |= (source == number) & np.isin(row, rows_by_source[name])
    left = np.bincount(source[~gone], minlength=len(names)).tolist()
    counts = dict(zip(names, left, strict=True))
    samples = {name: counts[name] for name in mixture.samples}
    assert sum(mixture.samples.values()) - sum(samples.values()) == int(gone.sum()), "the counts do not fit the rows"
    kept = mixture.rows[~gone].reset_index(drop=True)
    return replace(mixture, rows=kept, samples=samples, dropped=mixture.dropped + int(gone.sum()))


def write_mixture(path: Path, mixture: Mixture, indices: Mapping[str, pd.DataFrame]) -> None:
    """Write a mixture as parquet, after checking it against the sources' indices (columns `row`, `domain`, `class`).

    Raises:
        DataError: it holds a held-out sample.
    """
    assert_held_out(describe_rows(mixture.rows, indices), mixture)
    metadata = {f.name: getattr(mixture, f.name) for f in fields(mixture) if f.name != "rows"}
    text = json.dumps(metadata | {"digest": mixture.digest}, ensure_ascii=False, sort_keys=True)
    columns = [_dictionary(mixture.rows["source"]), pa.array(mixture.rows["row"].to_numpy(dtype=np.int64))]
    columns += [_dictionary(mixture.rows["caption"]), pa.array(_weights(mixture.rows))]
    table = pa.table(columns, COLUMNS).replace_schema_metadata({METADATA: text})
    with atomic_file(path) as temporary:
        # Rising rows differ by little: their differences take a few bits each.
        pq.write_table(
            table,
            temporary,
            use_dictionary=["source", "caption"],
            column_encoding={"row": "DELTA_BINARY_PACKED"},
            compression="zstd",
            write_statistics=False,  # nobody asks for them, and they take as long as all the rest
        )


def _dictionary(words: pd.Series) -> pa.DictionaryArray:
    codes, names = word_codes(words)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(names, pa.string()))


def read_mixture(path: Path) -> Mixture:
    """Read a mixture and check that its rows are those that were written.

    Raises:
        DataError: the file is missing or damaged, or its rows do not fit its digest.
    """
    metadata, rows = read_metadata(path), ROWS.read(path)
    digest = metadata.pop("digest", None)
    held_out = metadata.pop("held_out", None)
    try:
        domains = tuple(metadata.pop("domains"))
        mixture = Mixture(
            **metadata, domains=domains, rows=rows, held_out=held_out and (held_out[0], tuple(held_out[1]))
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} was written by another version of Domix", remake=path) from error
    if mixture.digest != digest:
        raise DataError(f"{path} is damaged: its rows do not fit its digest", remake=path)
    return mixture


def record_sources(mixture: Mixture, shards: Path) -> Mixture:
    """Return the mixture with the digests of the packed sources that it points into, from their folders in `shards`.

    With them a mixture's file tells all that a training reads but captions, and changes when that does.

    Raises:
        DataError: a source's index is missing.
    """
    return replace(mixture, packed={source: digest_of_source(shards / source) for source in mixture.samples})


def check_sources(mixture: Mixture, shards: Path) -> None:
    """Check that the packed sources are those that the mixture was made from, as far as it has noted them.

    Raises:
        DataError: they are not, or are missing.
    """
    for source, digest in mixture.packed.items():
        if digest_of_source(shards / source) != digest:
            raise DataError(
                f"{shards / source} is not what the mixture {mixture.name!r} was made from", argument="mixture"
            )


def record_captions(path: Path, mixture: Mixture, captions: Path) -> None:
    """Note the digests of the captions of a mixture's sources beside its file `path`, of those that have any yet.

    They do not stand in that file, for a classifier learns from the mixture without them.
    """
    files = {source: captions / f"{source}.parquet" for source in mixture.samples}
    write_json(_captions_beside(path), {name: sha256_file(file) for name, file in files.items() if file.is_file()})


def check_captions(path: Path, mixture: Mixture, captions: Path) -> None:
    """Check that the captions are those noted beside a mixture's file `path`, if its sources are noted.

    Raises:
        DataError: they are not, or are missing.
    """
    if not mixture.packed:
        return
    files = {source: captions / f"{source}.parquet" for source in mixture.samples}
    for file in files.values():
        if not file.is_file():
            raise DataError(f"{file} is missing", remake=file)
    noted = read_json(_captions_beside(path))
    other = [source for source, file in files.items() if noted.get(source) != sha256_file(file)]
    if other:
        raise DataError(
            f"{captions / other[0]}.parquet is not what the mixture {mixture.name!r} was made with",
            argument="mixture",
        )


def _captions_beside(path: Path) -> Path:
    return path.parent / "captions" / f"{path.stem}.json"


def describe_rows(rows: pd.DataFrame, indices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return `source, row, domain, class` of a mixture's rows, in their order; words as categories.

    Raises:
        DataError: a source without an index, or a row that the index does not have.
    """
    source, names = word_codes(rows["source"])
    number = rows["row"].to_numpy()
    words: dict[str, dict[str, int]] = {"domain": {}, "class": {}}
    codes = {column: np.full(len(rows), -1, dtype=np.int32) for column in words}
    for code, mine in _groups(source):
        name = names[code]
        if name not in indices:
            raise DataError(f"the mixture holds samples of source {name!r}, which is not among {', '.join(indices)}")
        place = _places(name, number[mine], indices[name]["row"].to_numpy())
        for column, known in words.items():
            here, spoken = word_codes(indices[name][column])
            if not spoken:
                continue
            common = np.array([known.setdefault(word, len(known)) for word in spoken] + [-1], dtype=np.int32)
            codes[column][mine] = common[here[place]]  # the last entry stands for "none", -1
    described = {column: pd.Categorical.from_codes(codes[column], list(known)) for column, known in words.items()}
    columns = {"source": rows["source"], "row": rows["row"]} | described
    return pd.DataFrame(columns, index=rows.index, copy=False)


def _places(name: str, rows: Ints, known: Ints) -> Ints:
    """Return where the index of source `name`, whose rows are `known`, has `rows`."""
    if len(known) and known[0] == 0 and known[-1] == len(known) - 1 and bool((known[1:] > known[:-1]).all()):
        place = rows  # the index counts its rows
        absent = (rows < 0) | (rows >= len(known))
    else:
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known, rows, sorter=order).clip(max=max(len(known) - 1, 0))
        place = order[at] if len(known) else at
        absent = known[place] != rows if len(known) else np.ones(len(rows), dtype=bool)
    if absent.any():
        row = rows[int(absent.argmax())]
        raise DataError(f"source {name!r} has no row {row}", argument="rows")
    return place
