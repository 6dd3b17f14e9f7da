"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32 pixels.

The root holds the *binary* version, as published or unpacked; the others are pickles, which would run what they hold:

cifar-10-binary.tar.gz     or   cifar-10-batches-bin/     or its files themselves
cifar-100-binary.tar.gz    or   cifar-100-binary/         or its files themselves

A file is records of one length: a label, of CIFAR-100 the coarse one before the fine one, then 32 x 32 bytes of red, of
green and of blue, row by row. Classes, of CIFAR-100 the 100 fine ones, are named by a text file beside.
"""

from __future__ import annotations

import functools
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from domix.data.archives.archive import LARGEST_MEMBER
from domix.data.classes.names import class_text
from domix.data.sources.contract import LISTING, Part, RawSample
from domix.runtime.errors import DataError

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes


@dataclass(frozen=True)
class Layout:
    """How a set lies on the disk."""

    archive: str
    folder: str  # in the archive
    members: tuple[tuple[str, str], ...]  # split and file, in order
    names: str  # file of the class names, in label order
    classes: int
    labels: int  # bytes before the pixels, the last of which is the label


LAYOUTS = {
    "cifar-10": Layout(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        (*(("train", f"data_batch_{n}.bin") for n in range(1, 6)), ("test", "test_batch.bin")),
        "batches.meta.txt",
        classes=10,
        labels=1,
    ),
    "cifar-100": Layout(
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        (("train", "train.bin"), ("test", "test.bin")),
        "fine_label_names.txt",
        classes=100,
        labels=2,
    ),
}


class Cifar:
    """CIFAR, in the order of its files and records; images become BMP files, byte for byte the same everywhere."""

    def __init__(self, name: str) -> None:
        """Describe the set `name`, one of LAYOUTS."""
        self.name, self.layout = name, LAYOUTS[name]

    def files(self, root: Path) -> list[str]:
        """Return the archive, or the files.

        Raises:
            DataError: neither is there.
        """
        wanted = [*(member for _, member in self.layout.members), self.layout.names]
        for base in (Path(self.layout.folder), Path()):
            if (root / base / self.layout.names).is_file():
                return [str(base / name) for name in wanted]
        if (root / self.layout.archive).is_file():
            return [self.layout.archive]
        raise DataError(
            f"{root} holds neither {self.layout.archive} nor {self.layout.folder}/: lay the binary version there, or"
            " name another folder",
            argument="root",
        )

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images of each file into parts of at most `size`.

        Raises:
            DataError: as `files`; or a file is damaged, or class names are missing.
        """
        self.class_names(root)
        parts, first = [], dict.fromkeys(("train", "test"), 0)
        for split, member in self.layout.members:
            count = len(self.records(root, member))
            for start in range(0, count, size):
                stop = min(start + size, count)
                parts.append(RecordPart(root, self.name, member, split, start, stop, first[split]))
            first[split] += count
        return parts

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the images; a path is the file's name and the number of the record.

        Raises:
            DataError: as `parts`.
        """
        rows = []
        for split, member in self.layout.members:
            names, labels = self.class_names(root), self.records(root, member)[:, self.layout.labels - 1].tolist()
            done = sum(row[-1] == split for row in rows)
            rows += [
                (_key(split, done + n), f"{member}/{n}", self.name, names[label], label, split)
                for n, label in enumerate(labels)
            ]
        return pd.DataFrame.from_records(rows, columns=list(LISTING))

    def class_names(self, root: Path) -> list[str]:
        """Return the classes in label order.

        Raises:
            DataError: as `files`; or the names are not as many as the classes.
        """
        try:
            names = self._read(root, self.layout.names).decode("utf-8").split()
        except UnicodeDecodeError:
            names = []
        if len(names) != self.layout.classes or len(set(names)) != len(names):
            raise DataError(
                f"{self.layout.names} in {root} does not name the {self.layout.classes} classes of {self.name}, one a"
                " line: get it anew"
            )
        return [class_text(name) for name in names]

    def records(self, root: Path, member: str) -> NDArray[np.uint8]:
        """Return the records of a file, uint8 [N, labels + PIXELS].

        Raises:
            DataError: as `files`; or the file is damaged.
        """
        data, length = self._read(root, member), self.layout.labels + PIXELS
        if not data or len(data) % length:
            raise DataError(f"{member} in {root} has {len(data):,} bytes, not records of {length:,}: get it anew")
        records = np.frombuffer(data, np.uint8).reshape(-1, length)
        label = records[:, self.layout.labels - 1]
        if label.max() >= self.layout.classes:
            raise DataError(
                f"{member} in {root} gives record {label.argmax():,} the label {label.max()}, beyond the"
                f" {self.layout.classes} classes of {self.name}: get it anew"
            )
        return records

    def _read(self, root: Path, member: str) -> bytes:
        found = {Path(name).name: root / name for name in self.files(root)}
        path = found.get(member, root / self.layout.archive)
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): get it anew") from error
        inner = None if member in found else f"{self.layout.folder}/{member}"
        return _read(path, inner, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=2)
def _read(path: Path, member: str | None, *state: int) -> bytes:
    """Return a file, or a member of a packed tar file, which is kept for the next parts of it."""
    try:
        if member is None:
            return path.read_bytes()
        with tarfile.open(path, "r:gz") as archive:
            for info in archive:
                if info.name.removeprefix("./") == member and info.isfile() and info.size <= LARGEST_MEMBER:
                    file = archive.extractfile(info)
                    assert file is not None, "a plain file"
                    return file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): get it anew") from error
    raise DataError(f"{path} does not hold {member}: get it anew")


def _key(split: str, number: int) -> str:
    return f"{split}/{number:05d}"


@dataclass(frozen=True)
class RecordPart:
    """Consecutive records of a file; `first` is the number of its first one in the split."""

    root: Path
    name: str
    member: str
    split: str
    start: int
    stop: int
    first: int

    def samples(self) -> Iterator[RawSample]:
        """Yield the samples.

        Raises:
            DataError: the file is missing or damaged.
        """
        source = Cifar(self.name)
        names, labels = source.class_names(self.root), source.layout.labels
        records = source.records(self.root, self.member)[self.start : self.stop]
        for number, record in enumerate(records, start=self.first + self.start):
            buffer, label, key = io.BytesIO(), int(record[labels - 1]), _key(self.split, number)
            pixels = record[labels:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "BMP")
            yield RawSample(
                key=key,
                domain=self.name,
                class_name=names[label],
                label=label,
                split=self.split,
                data=buffer.getvalue(),
                drawing=key,
            )
