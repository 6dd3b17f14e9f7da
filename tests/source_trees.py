"""Tiny folders and archives for sources, drawn on the spot, and what every source must keep to."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from domix.data.sources.contract import LISTING, Part, RawSample, Source
from tests.fixtures import draw, encoded

WNIDS = ("n01440764", "n01443537", "n02119789")  # tench, goldfish, kit fox: labels 0, 1, 278


def image(name: str) -> bytes:
    """Draw an image that depends on a name."""
    return encoded(draw("real", name, 0, size=8), "JPEG" if name.lower().endswith(("jpg", "jpeg")) else "PNG")


def make_tree(root: Path, *paths: str) -> Path:
    """Draw an image at each path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(image(path))
    return root


def make_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    """Return a tar file's bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(source: Source, root: Path, size: int = 1000) -> list[RawSample]:
    """Return all samples of a source."""
    return [sample for part in source.parts(root, size=size, poses=1) for sample in part.samples()]


def read_part(part: Part) -> list[RawSample]:
    """Return a part's samples, in whatever process."""
    return list(part.samples())


def check_source(source: Source, root: Path) -> list[RawSample]:
    """Check what holds for every source, and return its samples."""
    found = read(source, root)
    for size in (1, 2, 3):
        parts = [pickle.loads(pickle.dumps(part)) for part in source.parts(root, size=size, poses=1)]  # noqa: S301
        assert [sample for part in parts for sample in part.samples()] == found
        assert list(source.parts(root, size=size, poses=1)) == list(source.parts(root, size=size, poses=1))
    with shuffled_folders():
        assert read(source, root) == found
    listing = source.listing(root, poses=1)
    if listing is None:
        assert all(sample.text for sample in found)
    else:
        assert list(listing.columns) == list(LISTING)
        columns = listing[["key", "domain", "class", "label", "split"]].itertuples(index=False, name=None)
        assert list(columns) == [(s.key, s.domain, s.class_name, s.label, s.split) for s in found]
        assert all(sample.text is None for sample in found)
    assert len({sample.key.casefold() for sample in found}) == len(found)
    assert all("." not in sample.key for sample in found)
    assert all((root / name).exists() for name in source.files(root))
    return found


@contextmanager
def shuffled_folders() -> Iterator[None]:
    """Let the operating system list folders in another order."""
    scandir = os.scandir

    @contextmanager
    def reverse(folder: object) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name[::-1], reverse=True))

    with mock.patch("os.scandir", reverse):
        yield
