"""Evaluation images, decoded and resized once: the very bytes that each alone would give, by one process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from domix.data.loading.decode import decode_rgb
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.evaluation_images import EvaluationImages, open_images
from domix.encoders import cutting
from domix.encoders.preprocess import square
from domix.runtime.errors import DataError, DomixError
from tests.packed_sources import COUNT, write_sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    return tmp_path


class CountingReader:
    """Reads a source's images, and remembers which."""

    def __init__(self, shards: Path) -> None:
        self.reader, self.reads = ShardReader(shards), list[int]()

    def read(self, row: int) -> bytes:
        self.reads.append(row)
        return self.reader.read(row)


def opened(
    root: Path, reader: CountingReader | None = None, rows: pd.DataFrame | None = None, *, source: str = "web"
) -> EvaluationImages:
    shards = root / "shards" / source
    rows = read_index(shards) if rows is None else rows
    return open_images(root / "cache", reader or CountingReader(shards), rows, square(32), threads=2)


def whole(images: EvaluationImages) -> torch.Tensor:
    return torch.cat(list(images.batches(4)))


def homes(root: Path) -> list[Path]:
    return [path for path in (root / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("source", ["web", "draw"])
def test_each_image_has_the_bytes_that_it_has_alone(root: Path, source: str) -> None:
    reader, found = ShardReader(root / "shards" / source), whole(opened(root, source=source))
    assert found.dtype == torch.uint8
    assert len(set(read_index(root / "shards" / source)["width"])) > 4  # padded in the making, each otherwise
    preprocess = image_transform(32, is_train=False)  # open_clip's own
    for row in range(COUNT):
        alone = preprocess(Image.fromarray(decode_rgb(reader.read(row), "")))
        assert torch.equal(square(32).normalise(found[row][None])[0], alone)


def test_batches_come_in_order_with_channels_innermost(root: Path) -> None:
    images = opened(root)
    sizes = [len(batch) for batch in images.batches(4)]
    assert sizes == [4, 4, 4, 3]
    assert len(images) == COUNT
    assert next(images.batches(4)).is_contiguous(memory_format=torch.channels_last)


def test_threads_and_chunks_of_any_size_give_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(opened(root))
    for chunk in (1, 4, 7):
        monkeypatch.setattr(cutting, "CHUNK", chunk)
        shutil.rmtree(root / "cache")
        assert torch.equal(whole(opened(root)), expected)


def test_a_second_run_decodes_nothing(root: Path) -> None:
    first, second = (CountingReader(root / "shards/web") for _ in range(2))
    assert torch.equal(whole(opened(root, first)), whole(opened(root, second)))
    assert sorted(first.reads) == list(range(COUNT))
    assert second.reads == []


def test_some_rows_in_another_order_are_images_of_their_own(root: Path) -> None:
    rows = read_index(root / "shards/web").iloc[[9, 2, 5]]
    some, every = opened(root, rows=rows), opened(root)
    assert torch.equal(whole(some), whole(every)[[9, 2, 5]])
    assert some.digest != every.digest
    same = opened(root, rows=rows.assign(domain="sketch", split="test", label=3))  # no matter what they show
    assert same.digest == some.digest
    assert len(homes(root)) == 2
    assert opened(root, rows=rows.assign(sha256="0" * 64)).digest != some.digest


def test_processes_that_come_together_decode_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun, others = threading.Event(), threading.Event()
    reader = CountingReader(root / "shards/web")

    class Slow(CountingReader):
        def read(self, row: int) -> bytes:
            begun.set()
            assert others.wait(30)
            return reader.read(row)

    found: list[EvaluationImages] = []
    slow = Slow(root / "shards/web")
    threads = [threading.Thread(target=lambda: found.append(opened(root, slow))) for _ in range(2)]
    with caplog.at_level("INFO"):
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        while "waiting for it" not in caplog.text:
            assert threads[1].is_alive()
        others.set()
        for thread in threads:
            thread.join(30)
    assert sorted(reader.reads) == list(range(COUNT))
    assert len(found) == 2


def cut(home: Path) -> None:
    with open(home / "pixels.npy", "r+b") as file:
        file.truncate(1000)


def foreign(home: Path) -> None:
    about = json.loads((home / "about.json").read_text())
    (home / "about.json").write_text(json.dumps(about | {"key": about["key"] | {"images": "0" * 64}}))


DAMAGE: list[Callable[[Path], object]] = [
    cut,
    foreign,
    lambda home: (home / "about.json").unlink(),
    lambda home: (home / "pixels.npy").unlink(),
    lambda home: (home / "pixels.npy").write_bytes(b""),
    lambda home: np.save(home / "pixels.npy", np.zeros((COUNT, 16, 16, 3), np.uint8)),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_or_of_other_images_is_made_again(
    root: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    expected = whole(opened(root))
    damage(homes(root)[0])
    assert torch.equal(whole(opened(root)), expected)
    assert "is damaged: it is made again" in caplog.text


def test_a_full_disk_is_told_before_anything_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    reader = CountingReader(root / "shards/web")
    with pytest.raises(DomixError, match=r"^no space left to write .*: free some disk space and run again$"):
        opened(root, reader)
    assert reader.reads == []
    assert not homes(root)


def test_a_damaged_image_leaves_nothing_behind(root: Path) -> None:
    shard = root / "shards/web/00001.tar"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(DataError, match="the packed image real/axe/web3 cannot be decoded"):
        opened(root)
    assert not homes(root)
