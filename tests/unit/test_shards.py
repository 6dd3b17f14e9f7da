"""Shards: offsets, determinism, splitting, threads; webdataset and tarfile read them too."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from domix.data.store.index import make_index, shard_name, write_index
from domix.data.store.shards import Place, ShardReader, ShardWriter, make_block
from domix.runtime.errors import DataError


def write(folder, images, shards=1) -> list[Place]:
    """Write images in turn to some shards."""
    folder.mkdir(exist_ok=True)
    places = {}
    for number in range(shards):
        with ShardWriter(folder / shard_name(number)) as writer:
            for key, data in list(images.items())[number::shards]:
                places[key] = writer.add(make_block(key, "png", data, {"key": key}))
    return [places[key] for key in images]


def reader(folder, places) -> ShardReader:
    """Write the index of places and return a reader."""
    blank = {"source": "s", "domain": "d", "class": "c", "label": 0, "split": "train", "width": 1, "height": 1}
    rows = [blank | place._asdict() | {"key": str(i), "sha256": "", "phash": ""} for i, place in enumerate(places)]
    write_index(folder, make_index(rows))
    return ShardReader(folder)


IMAGES = {f"real/axe/{i}": bytes([i]) * (100 * i + 1) for i in range(20)}


def test_every_image_is_read_back_by_row(tmp_path):
    with reader(tmp_path, write(tmp_path, IMAGES)) as shards:
        assert len(shards) == 20
        assert [shards.read(row) for row in range(20)] == list(IMAGES.values())


def test_threads_share_a_reader(tmp_path):
    with reader(tmp_path, write(tmp_path, IMAGES, shards=3)) as shards, ThreadPoolExecutor(8) as pool:
        rows = list(range(20)) * 20
        assert list(pool.map(shards.read, rows)) == [list(IMAGES.values())[row] for row in rows]


def test_a_reader_keeps_a_few_shards_open(tmp_path, monkeypatch):
    monkeypatch.setattr("domix.data.store.shards.KEPT", 2)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with reader(tmp_path, write(tmp_path, IMAGES, shards=6)) as shards, ThreadPoolExecutor(4) as pool:
        rows = list(range(20)) * 5
        assert list(pool.map(shards.read, rows)) == [list(IMAGES.values())[row] for row in rows]
        assert len(os.listdir("/proc/self/fd")) <= before + 2 + 1  # noqa: PTH208 (the places' map)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


def test_a_reader_sent_to_another_process_reads_the_same(tmp_path):
    with reader(tmp_path, write(tmp_path, IMAGES)) as shards:
        twin = pickle.loads(pickle.dumps(shards))  # noqa: S301
        assert twin.read(7) == shards.read(7)
        assert len(pickle.dumps(shards)) < 1000


def test_tarfile_reads_what_was_written(tmp_path):
    write(tmp_path, IMAGES)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        members = tar.getmembers()
        files = {member.name: tar.extractfile(member).read() for member in members}
    assert [member.name for member in members[:2]] == ["real/axe/0.json", "real/axe/0.png"]
    assert {(member.mtime, member.uid, member.mode, member.uname) for member in members} == {(0, 0, 0o644, "")}
    assert files["real/axe/7.png"] == IMAGES["real/axe/7"]
    assert json.loads(files["real/axe/7.json"]) == {"key": "real/axe/7"}


def test_webdataset_reads_what_was_written(tmp_path):
    from webdataset.tariterators import group_by_keys, tar_file_expander

    write(tmp_path, IMAGES)
    with open(tmp_path / "00000.tar", "rb") as stream:
        samples = list(group_by_keys(tar_file_expander([{"url": "00000.tar", "stream": stream}])))
    assert [sample["__key__"] for sample in samples] == list(IMAGES)
    assert samples[3]["png"] == IMAGES["real/axe/3"]


def test_same_samples_give_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, IMAGES, shards=2)
    assert [p.read_bytes() for p in sorted((tmp_path / "a").iterdir())] == [
        p.read_bytes() for p in sorted((tmp_path / "b").iterdir())
    ]


def test_long_keys_survive(tmp_path):
    key = "infograph/" + "long_class_name_" * 12 + "/artist"
    (place,) = write(tmp_path, {key: b"x"})
    with tarfile.open(tmp_path / place.shard) as tar:
        assert tar.getnames() == [f"{key}.json", f"{key}.png"]
        assert reader(tmp_path, [place]).read(0) == b"x"


@pytest.mark.parametrize("key", ["real/axe/a.b", "", "real/axe/", "/real/axe"])
def test_keys_that_cannot_name_a_sample_are_refused(key):
    with pytest.raises(DataError, match="cannot name a sample"):
        make_block(key, "png", b"", {})


def test_reading_from_a_cut_shard_is_an_error(tmp_path):
    places = write(tmp_path, IMAGES)
    shards = reader(tmp_path, places)
    data = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(data[: places[-1].offset + 5])
    with shards, pytest.raises(DataError, match="cut short"):
        shards.read(19)


def test_reading_from_a_missing_shard_is_an_error(tmp_path):
    places = write(tmp_path, IMAGES)
    shards = reader(tmp_path, places)
    (tmp_path / "00000.tar").unlink()
    with shards, pytest.raises(DataError, match="missing"):
        shards.read(0)


def test_block_says_where_its_image_lies():
    block = make_block("a/b", "png", b"image", {"a": 1})
    assert block.data[block.offset : block.offset + block.size] == b"image"
    assert len(block.data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(block.data + b"\0" * 1024)) as tar:
        assert tar.getnames() == ["a/b.json", "a/b.png"]
