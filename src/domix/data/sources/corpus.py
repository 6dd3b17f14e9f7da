"""Image-text pairs from the web, CC3M (Sharma et al. 2018) and CC12M (Changpinyo et al. 2021), downloaded by others.

The root holds what img2dataset writes, or a table; the first of these that is there counts:

NNNNN.tar                          webdataset tar files of <key>.<jpg|png|webp>, with <key>.json or <key>.txt
NNNNN.parquet, NNNNN/<key>.<jpg>   columns key, caption, status
<name>.tsv                         header filepath<TAB>title (pair_table.py); paths relative to the table

All pairs are for training but those below val/, and those of a table `val.tsv` or `<name>-val.tsv`. Pairs without a
caption or an image are left out, and counted in the log of the part.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from domix.data.archives.names import nfc, unsafe_name
from domix.data.archives.tars import TarReader
from domix.data.sources.contract import NO_LABEL, Part, RawSample, sample_key
from domix.data.sources.image_folders import Folder, check_link, is_image, list_folder, make_keys, proper_text
from domix.data.sources.pair_table import PairTable, open_pairs
from domix.runtime.errors import DataError

VAL = "val"
DONE = "success"  # img2dataset's status of a pair that it got
TEXTS = ("json", "txt")  # kinds of members that hold a caption

log = logging.getLogger(__name__)


class Corpus:
    """A set of image-text pairs without classes; its name is its domain."""

    def __init__(self, name: str) -> None:
        """Name it.

        Args:
            name: of the source.
        """
        self.name = name

    def files(self, root: Path) -> list[str]:
        """Return the tar files, parquet files or tables.

        Raises:
            DataError: there are none.
        """
        for suffix in (".tar", ".parquet", ".tsv"):
            if found := _find(root, suffix):
                if suffix == ".parquet":
                    found += [_stem(name) for name in found]
                return found
        raise DataError(
            f"{root} holds no pairs of {self.name} (NNNNN.tar, NNNNN.parquet or a TSV of filepath and title): download"
            " them with img2dataset, or name another folder",
            argument="root",
        )

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Return a part for each tar or parquet file, whatever its size, or for every `size` lines of a table.

        Raises:
            DataError: as `files`; or a table is malformed.
        """
        parts: list[Part] = []
        for file in self.files(root):
            split = "test" if _is_val(file) else "train"
            if file.lower().endswith(".tar"):
                parts.append(TarPart(self.name, root, file, split))
            elif file.lower().endswith(".parquet"):
                parts.append(ParquetPart(self.name, root, file, split))
            elif file.lower().endswith(".tsv"):
                parts += _table_parts(self.name, root, file, split, size)
        return parts

    def listing(self, root: Path, *, poses: int) -> None:
        """Return None: every image has a caption of its own."""


def _find(root: Path, suffix: str) -> list[str]:
    """Return the files of a kind in the root and then in val/, sorted; with validation tables last.

    Links to archives on other disks are the user's own, and followed.
    """
    found = []
    for prefix, folder in (("", root), (f"{VAL}/", root / VAL)):
        if folder.is_dir():
            found += [f"{prefix}{name}" for name in list_folder(folder, Path("/"))[1] if name.lower().endswith(suffix)]
    return sorted(found, key=_is_val)


def _is_val(file: str) -> bool:
    name = file.lower()
    return name.startswith(f"{VAL}/") or name.endswith((f"-{VAL}.tsv", f"_{VAL}.tsv")) or name == f"{VAL}.tsv"


def _stem(file: str) -> str:
    """Return a path without its suffix."""
    return str(PurePosixPath(file).with_suffix(""))


@dataclass
class _Left:
    """Counts the pairs that are left out, and why."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def report(self, where: Path, kept: int) -> None:
        if self.counts:
            total = sum(self.counts.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))
            log.warning("left out %d of %d pairs of %s: %s", total, kept + total, where, reasons)


def _sample(source: str, key: str, split: str, data: bytes, text: str) -> RawSample:
    return RawSample(key, source, None, NO_LABEL, split, data, proper_text(text), drawing=key)


@dataclass(frozen=True)
class FilePart:
    """The pairs of one file."""

    source: str
    root: Path
    file: str
    split: str


class TarPart(FilePart):
    """The pairs of one webdataset tar file."""

    def samples(self) -> Iterator[RawSample]:
        """Yield the pairs in the order of the archive.

        Raises:
            DataError: the archive is missing or damaged.
        """
        path, left, kept = self.root / self.file, _Left(), 0
        with TarReader(path) as reader:
            pairs = group_members(reader, path)
            keys = _keys(self.file.removesuffix(".tar"), pairs)
            for key, members in pairs.items():
                image = next((name for name in members.values() if is_image(name)), None)
                text = _caption(reader, members)
                if image is None:
                    left.add("without an image")
                elif not isinstance(text, str):
                    left.add("not downloaded")
                elif not text.strip():
                    left.add("without a caption")
                else:
                    kept += 1
                    yield _sample(self.source, keys[key], self.split, reader.read(image), text)
        left.report(path, kept)


def group_members(names: Iterable[str], where: Path) -> dict[str, dict[str, str]]:
    """Group members of a tar file to samples: key -> kind -> name, each with one image at most.

    As webdataset does: the key ends at the first dot of the file name, and what follows is the kind. But where that
    would give several images one key, or an image none of the captions (`a.b.jpg`, `a.b.txt`, `a.c.jpg`), the key ends
    at the last dot.

    Raises:
        DataError: two images have one key even so.
    """
    grouped: dict[str, dict[str, str]] = {}
    for name in names:
        folder, slash, base = name.rpartition("/")
        stem, dot, kind = base.partition(".")
        if stem and dot:
            grouped.setdefault(f"{folder}{slash}{stem}", {})[kind.lower()] = name
    samples = {}
    for key, members in grouped.items():
        images = sum(map(is_image, members.values()))
        plain = images == 0 or (images == 1 and not members.keys().isdisjoint(TEXTS))
        samples |= {key: members} if plain else _at_last_dot(key, members)
    for key, members in samples.items():
        if len(images := [name for name in members.values() if is_image(name)]) > 1:
            raise DataError(f"{where} holds two images of the key {key}, {images[0]} and {images[1]}: rename one")
    return samples


def _at_last_dot(key: str, members: Mapping[str, str]) -> dict[str, dict[str, str]]:
    grouped: dict[str, dict[str, str]] = {}
    for kinds, name in members.items():
        rest, dot, kind = kinds.rpartition(".")
        grouped.setdefault(f"{key}{'.' if dot else ''}{rest}", {})[kind] = name
    return grouped


def _keys(file: str, keys: Iterable[str]) -> dict[str, str]:
    """Return the samples' keys by those of a file: those that differ in unfit characters alone are kept apart."""
    names = list(keys)
    return dict(zip(names, make_keys(file, [f"{name}." for name in names]), strict=True))


def _caption(reader: TarReader, members: dict[str, str]) -> str | None:
    """Return a pair's caption, empty if it has none; None if its download failed."""
    if "json" in members:
        try:
            facts = json.loads(reader.read(members["json"]))
        except (ValueError, RecursionError):
            facts = {}
        if not isinstance(facts, dict):
            facts = {}
        if facts.get("status", DONE) != DONE:
            return None
        if isinstance(facts.get("caption"), str):
            return facts["caption"]
    return reader.read(members["txt"]).decode("utf-8-sig", "replace") if "txt" in members else ""


class ParquetPart(FilePart):
    """The pairs of one parquet file, whose images lie in the folder of its name."""

    def samples(self) -> Iterator[RawSample]:
        """Yield the pairs in the order of the parquet file.

        Raises:
            DataError: the parquet file is damaged or lacks a column, or an image is missing.
        """
        path, left, kept = self.root / self.file, _Left(), 0
        folder = path.with_suffix("")
        images: dict[str, str] = {}
        for name in filter(is_image, list_folder(folder, self.root)[1]):
            if (other := images.setdefault(name.rpartition(".")[0], name)) != name:
                raise DataError(f"{folder} holds two images of one key, {other} and {name}: remove one")
        keys, seen = _keys(self.file.removesuffix(".parquet"), images), set()
        for row in _parquet_rows(path):
            key, text = row["key"], row["caption"]
            if row.get("status", DONE) != DONE:
                left.add("not downloaded")
            elif not isinstance(text, str) or not text.strip():
                left.add("without a caption")
            elif key not in images:
                raise DataError(f"{path} names {key}, of which {folder} holds no image: restore it")
            elif key in seen:
                raise DataError(f"{path} names {key} a second time: restore it")
            else:
                kept += 1
                seen.add(key)
                yield _sample(self.source, keys[key], self.split, Folder(folder).read(images[key]), text)
        left.report(path, kept)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        if absent := {"key", "caption"} - set(table.schema_arrow.names):
            raise DataError(f"{path} has no column {min(absent)}: it is not img2dataset's; correct the path")
        columns = [name for name in ("key", "caption", "status") if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole parquet file: restore it") from error


# Tables -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TablePart:
    """Consecutive rows of a table.

    Attributes:
        start, stop: bytes of the table.
        line: number of the first line.
    """

    source: str
    root: Path
    file: str
    split: str
    table: PairTable
    start: int
    stop: int
    line: int

    def samples(self) -> Iterator[RawSample]:
        """Yield the pairs; their keys are the table's name and the number of the line.

        Raises:
            DataError: a row is malformed, or an image is missing or lies elsewhere.
        """
        path, left, kept = self.root / self.file, _Left(), 0
        for number, name, text in self.table.rows(self.start, self.stop, self.line):
            image = self._place(name, f"{path}, line {number}")
            if text.strip():
                kept += 1
                whole = sample_key(f"{_stem(self.file)}/{number:09d}.")
                yield _sample(self.source, whole, self.split, Folder(self.root).read(image), text)
            else:
                left.add("without a caption")
        left.report(path, kept)

    def _place(self, name: str, where: str) -> str:
        """Return where a row's image lies, relative to the root."""
        folder = (self.root / self.file).parent
        inside = name if not Path(name).is_absolute() else _below(name, (folder.absolute(), folder.resolve()))
        if problem := unsafe_name(inside):
            raise DataError(f"{where} names {name!r}, which {problem}: images must lie below {folder}")
        spelled = (folder / form for form in (inside, nfc(inside), unicodedata.normalize("NFD", inside)))
        image = next((path for path in spelled if path.is_file()), None)
        if image is None:
            raise DataError(f"{where} names {name}, which is missing: complete the images, or correct the table")
        check_link(image, self.root)
        return str(image.relative_to(self.root))


def _below(name: str, folders: Sequence[Path]) -> str:
    """Return an absolute path relative to the first of the folders that holds it; as it is if none does."""
    for folder in folders:
        if Path(name).is_relative_to(folder):
            return str(Path(name).relative_to(folder))
    return name


def _table_parts(source: str, root: Path, file: str, split: str, size: int) -> Iterator[TablePart]:
    """Divide a table after every `size` rows."""
    table = open_pairs(root / file)
    for start, stop, line in table.divide(size):
        yield TablePart(source, root, file, split, table, start, stop, line)
