"""Images decoded once: by one process, for the right shards, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from domix.data.loading import image_cache
from domix.data.loading.image_cache import digest_of_images, open_cache
from domix.data.loading.images import Images
from domix.data.loading.samples import sizes_of
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.runtime.errors import DataError, DomixError
from tests.packed_sources import COUNT, write_sources


@pytest.fixture
def web(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    return tmp_path / "shards/web"


def opened(web: Path, read: Callable[[int], bytes] | None = None, index: pd.DataFrame | None = None) -> Images:
    index = read_index(web) if index is None else index
    return open_cache(web.parents[1] / "cache", index, read or ShardReader(web).read, threads=2)


def homes(web: Path) -> list[Path]:
    return [path for path in (web.parents[1] / "cache").iterdir() if path.is_dir()]


def test_the_file_holds_what_is_decoded_into_memory(web: Path) -> None:
    index = read_index(web)
    memory = Images.decode(ShardReader(web).read, index["key"].tolist(), sizes_of(index), threads=1)
    found = opened(web)
    assert all(torch.equal(found[row], memory[row]) for row in range(COUNT))
    assert found.nbytes == memory.nbytes == (homes(web)[0] / "pixels.bin").stat().st_size


def test_a_second_training_decodes_nothing(web: Path) -> None:
    def refuse(row: int) -> bytes:
        raise AssertionError(row)

    first, second = opened(web), opened(web, refuse)
    assert torch.equal(first[3], second[3])


def test_the_digest_of_images_hangs_on_each_and_on_their_order(web: Path) -> None:
    index = read_index(web)
    changed = [index.iloc[::-1], index.iloc[:-1], index.assign(offset=index["offset"] + 1)]
    changed.append(index.assign(sha256=["f" * 64, *index["sha256"][1:]]))
    digests = [digest_of_images(each) for each in (index, *changed)]
    assert len(set(digests)) == len(digests)
    assert digest_of_images(index.assign(label=7)) == digests[0]  # a label is no part of an image


def test_processes_that_come_together_decode_once(web: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader, reads, begun, others = ShardReader(web), [], threading.Event(), threading.Event()

    def read(row: int) -> bytes:
        reads.append(row)
        begun.set()
        assert others.wait(30)
        return reader.read(row)

    found: list[Images] = []
    threads = [threading.Thread(target=lambda: found.append(opened(web, read))) for _ in range(2)]
    with caplog.at_level(logging.INFO):
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        while "waiting for it" not in caplog.text:
            assert threads[1].is_alive()
        others.set()
        for thread in threads:
            thread.join(30)
    assert sorted(reads) == list(range(COUNT))
    assert torch.equal(found[0][7], found[1][7])


def test_other_images_have_a_file_of_their_own(web: Path) -> None:
    index = read_index(web)
    opened(web)
    opened(web, index=index.assign(sha256="0" * 64))
    assert len(homes(web)) == 2
    opened(web, index=index.assign(domain="sketch"))  # no matter what they show
    assert len(homes(web)) == 2


def cut(home: Path) -> None:
    with open(home / "pixels.bin", "r+b") as file:
        file.truncate(100)


def foreign(home: Path) -> None:
    about = home / "about.json"
    about.write_text(about.read_text().replace('"images": "', '"images": "0'))


@pytest.mark.parametrize(
    "damage", [cut, foreign, lambda home: (home / "about.json").unlink(), lambda home: (home / "pixels.bin").unlink()]
)
def test_what_is_damaged_or_of_other_images_is_decoded_again(
    web: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = opened(web)[3].clone()
    damage(homes(web)[0])
    assert torch.equal(opened(web)[3], whole)
    assert "is damaged: it is made again" in caplog.text


def test_other_code_decodes_anew(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(web)
    monkeypatch.setattr(image_cache, "code_digest", lambda *names: "other code")
    opened(web)
    assert len(homes(web)) == 2


def test_a_full_disk_is_told_before_anything_is_decoded(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DomixError, match=r"^no space left to write .*: free some disk space and run again$"):
        opened(web, lambda row: pytest.fail("decoded"))
    assert not homes(web)


def test_a_damaged_image_leaves_nothing_behind(web: Path) -> None:
    with pytest.raises(DataError, match="the packed image real/axe/web0 cannot be decoded"):
        opened(web, lambda row: b"<html>")
    assert not homes(web)
    assert len(opened(web)) == COUNT
