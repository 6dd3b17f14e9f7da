"""The cells of a multi-domain data set, and how a study splits them (Split).

Shapes: G domains, K classes, N training samples. Domains stand in alphabetical order (DomainNet's own), classes in
label order. A cell's code is `domain * K + class`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.tables import open_table

Ints = NDArray[np.int64]
COLUMNS = ("row", "domain", "class", "label", "split")  # what mixtures need to know of an index
_WORDS, _NUMBERS = ("domain", "class", "split"), ("row", "label")
_BATCH = 1 << 17  # rows that are read at a time


@dataclass(frozen=True)
class Cells:
    """What an index says about its cells, once for all mixtures."""

    domains: tuple[str, ...]
    classes: tuple[str, ...]  # in label order
    train: Ints  # [G, K] training samples a cell
    test: Ints  # [G, K] test samples a cell
    first: Ints  # [G, K] position of the cell's first training sample: the order in which a domain's classes appear
    row: Ints  # [N] index row of every training sample, rising
    code: Ints  # [N] its cell
    rank: Ints  # [N] its place among its cell's training samples in list order, from 0


@dataclass(frozen=True)
class Split:
    """Which cells a study holds out, of which data, checked by `make_split`: what mixtures are cut by."""

    test_domain: str
    natural_domain: str
    test_classes: tuple[str, ...]  # C2, in label order
    domains: tuple[str, ...]
    classes: tuple[str, ...]  # in label order

    @property
    def seen_classes(self) -> tuple[str, ...]:
        """C1: the classes that may be shown in the test domain, in label order."""
        return tuple(name for name in self.classes if name not in self.test_classes)


def read_samples(path: Path, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Read columns of an index: row and label as int64; domain, class and split as categories; all others as they are.

    Of COLUMNS, twelve million rows take a second, and little more memory than the result.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    file = open_table(path)
    fields = {field.name: field.type for field in file.schema_arrow}
    for name in columns:
        fit = pa.types.is_int64 if name in _NUMBERS else _is_text
        if name not in fields or not fit(fields[name]):
            raise DataError(f"{path} has no column {name!r} as an index must have it", remake=path)
    try:
        read = _read_numbers_and_words(pq.ParquetFile(path, read_dictionary=_WORDS), columns)
        others = [name for name in columns if name not in read]
        texts = file.read(others).to_pandas() if others else pd.DataFrame(index=range(file.metadata.num_rows))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=path) from error
    return texts.assign(**read)[list(columns)]


def _read_numbers_and_words(file: pq.ParquetFile, columns: Sequence[str]) -> dict[str, Ints | pd.Categorical]:
    wanted = [name for name in columns if name in _NUMBERS + _WORDS]
    kept = {name: np.empty(file.metadata.num_rows, np.int64 if name in _NUMBERS else np.int32) for name in wanted}
    known: dict[str, dict[str, int]] = {name: {} for name in wanted}
    start = 0
    for batch in file.iter_batches(_BATCH, columns=wanted):
        here = slice(start, start := start + len(batch))
        for name, values in kept.items():
            column = batch.column(name)
            if name in _NUMBERS:
                values[here] = column.to_numpy()
            else:  # batches have dictionaries of their own
                codes = [known[name].setdefault(word, len(known[name])) for word in column.dictionary.to_pylist()]
                places = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
                values[here] = np.array([*codes, -1], dtype=np.int32)[places]  # the last stands for "none"
    return {
        name: values if name in _NUMBERS else pd.Categorical.from_codes(values, _strings(known[name]))
        for name, values in kept.items()
    }


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _strings(words: Iterable[str]) -> pd.Index:
    return pd.Index(list(words), dtype="str")


def count_cells(index: pd.DataFrame) -> Cells:
    """Read the cells off an index (columns `row`, `domain`, `class`, `label`, `split`), whatever the order of its rows.

    Raises:
        DataError: no samples, a sample without a class, or labels and classes that do not belong together one to one.
    """
    if index.empty:
        raise DataError("the index holds no samples", argument="index")
    index = index.sort_values("row", kind="stable")
    classes = _label_order(index)
    domains = tuple(sorted(index["domain"].unique()))
    shape = (len(domains), len(classes))
    domain = pd.Categorical(index["domain"], categories=domains).codes.astype(np.int64)
    code = domain * shape[1] + index["label"].to_numpy(dtype=np.int64)
    is_train = (index["split"] == "train").to_numpy()
    train_code = code[is_train]
    first = np.full(shape, len(index), dtype=np.int64).ravel()
    np.minimum.at(first, train_code, np.arange(len(train_code)))
    return Cells(
        domains=domains,
        classes=classes,
        train=np.bincount(train_code, minlength=len(first)).reshape(shape),
        test=np.bincount(code[~is_train], minlength=len(first)).reshape(shape),
        first=first.reshape(shape),
        row=index["row"].to_numpy(dtype=np.int64)[is_train],
        code=train_code,
        rank=_rank_within(train_code),
    )


def make_split(cells: Cells, *, test_domain: str, natural_domain: str, test_classes: Sequence[str]) -> Split:
    """Check what a study withholds against the data.

    Raises:
        ParameterError: a domain or a class that the data do not have, a class named twice or without a test image in
            the test domain, test classes that leave the test domain no class to show, or none at all.
    """
    for name, domain in (("natural_domain", natural_domain), ("test_domain", test_domain)):
        if domain not in cells.domains:
            raise ParameterError(f"{name} {domain!r} is not in the data: {suggest(domain, cells.domains)}")
    if test_domain == natural_domain:
        raise ParameterError(f"test_domain and natural_domain are both {test_domain!r}: every mixture needs the latter")
    if not test_classes:
        raise ParameterError("test_classes is empty: name at least one class to withhold")
    known = {name: label for label, name in enumerate(cells.classes)}
    for position, name in enumerate(test_classes):
        if name not in known:
            raise ParameterError(f"test_classes: {name!r} is not a class of the data: {suggest(name, cells.classes)}")
        if name in test_classes[:position]:
            raise ParameterError(f"test_classes names {name!r} twice: name it once")
        if cells.test[cells.domains.index(test_domain), known[name]] == 0:
            raise ParameterError(
                f"test_classes: {name!r} has no test image in domain {test_domain!r}: leave the class out"
            )
    ordered = tuple(sorted(test_classes, key=known.__getitem__))
    split = Split(
        test_domain=test_domain,
        natural_domain=natural_domain,
        test_classes=ordered,
        domains=cells.domains,
        classes=cells.classes,
    )
    seen = [known[name] for name in split.seen_classes]
    if cells.train[cells.domains.index(test_domain), seen].sum() == 0:
        raise ParameterError(f"test_classes leaves no class to show in domain {test_domain!r}: withhold fewer classes")
    return split


def suggest(name: str, known: Sequence[str]) -> str:
    """Return "did you mean ...?" with the nearest of the `known` names, or a list of some of them."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(known[:10])}{' ...' if len(known) > 10 else ''}"


def _label_order(index: pd.DataFrame) -> tuple[str, ...]:
    """Return the class names in label order, after checking that labels 0 .. K - 1 and classes pair up."""
    if index[["class", "label", "domain"]].isna().to_numpy().any():
        raise DataError("the index holds samples without class, label or domain: only base sources may")
    pairs = index[["label", "class"]].drop_duplicates().sort_values("label")
    if pairs["class"].duplicated().any() or pairs["label"].tolist() != list(range(len(pairs))):
        raise DataError("the index does not pair its classes with labels 0 .. K-1", argument="index")
    return tuple(pairs["class"])


def _rank_within(code: Ints) -> Ints:
    """Return how many equal codes stand before each position."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(code) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(code)])
    rank = np.empty(len(code), dtype=np.int64)
    rank[order] = np.arange(len(code)) - np.repeat(starts, lengths)
    return rank
