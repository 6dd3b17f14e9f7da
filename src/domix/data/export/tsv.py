"""Export of a mixture as the reference study's index file: a table `filepath<TAB>title`, and the image files.

open_clip reads the table with `--dataset-type csv`, which is `pandas.read_csv(path, sep="\\t")`. The reference writes
captions as they are, so that one that begins with a double quote swallows the lines up to the next quote, and one like
"NA" becomes a missing value. Hence two dialects:

csv        fields with a quote, a tab or a line break stand in double quotes, quotes within are doubled: pandas reads
           back what was written. Quoting does not help captions that pandas takes for missing values ("NA", "null",
           the empty one): a blank more follows them, which every tokenizer strips, and Domix takes off again.
reference  no quoting, as in the reference's files: tabs and line breaks become blanks.

Captions without such characters give the same bytes in both.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

import pandas as pd

from domix.data.export.records import Progress, Reader, Sample, export_folder, extension, records
from domix.data.mixtures.mixture import Mixture
from domix.data.sources.contract import sample_key
from domix.data.sources.image_folders import distinct_key, is_image
from domix.data.sources.pair_table import EXPORTED, IMAGE, TEXT, padded, quoted
from domix.runtime.errors import DataError

IMAGES = "images"

Dialect = Literal["csv", "reference"]

_FILE = 4096  # bytes by which a file is longer on the disk than its contents, at most
_BREAK = re.compile(r"\r\n|[\t\r\n]")

log = logging.getLogger(__name__)


def export_tsv(
    mixture: Mixture,
    table: pd.DataFrame,
    readers: Mapping[str, Reader],
    out: Path,
    *,
    prefix: str,
    originals: Mapping[str, Path] | None = None,
    dialect: Dialect = "csv",
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `train.tsv` and `images/<source>/<key>.<extension>` into the new folder `out`.

    Args:
        table: the mixture's samples, from `arrange`.
        readers: source -> its packed images.
        prefix: what the written images' paths begin with: `out`, or where it will be moved to.
        originals: source -> folder of its unpacked files; the table then names those, and no image is written.
        force: replace an earlier export.

    Returns:
        What DESCRIPTION says.

    Raises:
        DataError: an original is missing, or as `export_folder`.
    """
    found = {source: find_originals(source, folder, table) for source, folder in (originals or {}).items()}
    written = table.loc[~table["source"].isin(found), "size"]
    about = {"format": "tsv", "dialect": dialect, "prefix": prefix}
    with export_folder(out, mixture, about, needs=int(written.sum()) + _FILE * len(written), force=force) as (
        folder,
        description,
    ):
        images = _Images(folder / IMAGES, readers)
        with open(folder / EXPORTED, "w", encoding="utf-8", newline="") as file:
            rows = _Rows(file, dialect, weighted=bool((table["weight"] != 1).any()))
            for sample in records(table):
                if sample.source in found:
                    path = found[sample.source][sample.key]
                else:
                    path = f"{prefix}/{IMAGES}/{images.write(sample)}"
                rows.write(path, sample)
                if progress is not None:
                    progress(1)
        description |= {"changed_captions": rows.changed}
        rows.warn()
    return description


class _Images:
    """Writes packed images as files."""

    def __init__(self, folder: Path, readers: Mapping[str, Reader]) -> None:
        self._folder, self._readers = folder, readers
        self._made: set[str] = set()

    def write(self, sample: Sample) -> str:
        """Write one image and return its path below the folder."""
        data = self._readers[sample.source].read(sample.row)
        path = f"{sample.name}.{extension(data, sample)}"
        parent = path.rpartition("/")[0]
        if parent not in self._made:
            (self._folder / parent).mkdir(parents=True, exist_ok=True)
            self._made.add(parent)
        with open(self._folder / path, "wb") as file:
            file.write(data)
        return path


class _Rows:
    """Writes the table's rows, and counts the captions that could not stand as they are."""

    def __init__(self, file: TextIO, dialect: Dialect, *, weighted: bool) -> None:
        self._file, self._quoted = file, dialect == "csv"
        self._weighted, self._dropped = weighted and self._quoted, weighted and not self._quoted
        self.changed = 0
        file.write("\t".join([IMAGE, TEXT, *(["weight"] if self._weighted else [])]) + "\n")

    def write(self, path: str, sample: Sample) -> None:
        title = self._title(sample.text)
        self.changed += title != sample.text
        fields = [path, title, *([repr(sample.weight)] if self._weighted else [])]
        self._file.write("\t".join(map(quoted, fields) if self._quoted else fields) + "\n")

    def _title(self, text: str) -> str:
        if self._quoted:
            return padded(text)
        return _BREAK.sub(" ", text)

    def warn(self) -> None:
        if self.changed and self._quoted:
            log.warning(
                "%d captions got a blank at the end, because pandas would read them as missing values", self.changed
            )
        elif self.changed:
            log.warning(
                "%d captions lost their tabs and line breaks, which cannot stand in the reference's format",
                self.changed,
            )
        if self._dropped:
            log.warning("the mixture's weights are left out: the reference's format has no place for them")


def find_originals(source: str, folder: Path, table: pd.DataFrame) -> dict[str, str]:
    """Find the file of every sample of `source` below `folder`: key -> path that begins with `folder`.

    Raises:
        DataError: the mixture has no such source, a file is missing, or two stand for one sample.
    """
    wanted = set(table.loc[table["source"] == source, "key"])
    if not wanted:
        known = ", ".join(table["source"].unique())
        raise DataError(f"the mixture has no samples of source {source!r}, whose files are to be named: it has {known}")
    found: dict[str, str] = {}
    for path in _files(folder):
        plain = sample_key(path)
        key = next((key for key in (distinct_key(plain, path.rpartition("/")[2]), plain) if key in wanted), None)
        if key is None:
            continue
        if key in found:
            raise DataError(f"{folder} holds two files for sample {key!r} of {source}: {found[key]} and {path}")
        found[key] = path
    missing = len(wanted) - len(found)
    if missing:
        key = next(key for key in table.loc[table["source"] == source, "key"] if key not in found)
        raise DataError(
            f"{folder} has no file for {key!r} and {missing - 1} other samples of {source}: name the folder of its"
            " unpacked files, or let the packed images be written"
        )
    return {key: f"{folder}/{path}" for key, path in found.items()}


def _files(folder: Path) -> Iterator[str]:
    """Yield the image files below `folder` as relative paths; side-cars and what systems leave behind are none."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        relative = os.path.relpath(parent, folder)
        start = "" if relative == "." else f"{relative}/"
        yield from (path for path in (f"{start}{name}" for name in sorted(names)) if is_image(path))
