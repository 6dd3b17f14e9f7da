"""Shards: offsets, determinism, splitting, threads; webdataset and tarfile read them too."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from domix.data.index import make_index
from domix.data.shards import Place, ShardReader, ShardWriter, make_block
from domix.runtime.errors import DataError


def write(folder, pictures, limit=10**9) -> list[Place]:
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, limit=limit) as writer:
        return [writer.add(make_block(key, "png", data, {"key": key})) for key, data in pictures.items()]


def reader(folder, places) -> ShardReader:
    blank = {"source": "s", "domain": "d", "class": "c", "label": 0, "split": "train", "width": 1, "height": 1}
    rows = [blank | place._asdict() | {"key": str(i), "sha256": "", "phash": ""} for i, place in enumerate(places)]
    return ShardReader(folder, make_index(rows))


PICTURES = {f"real/axe/{i}": bytes([i]) * (100 * i + 1) for i in range(20)}


def test_every_picture_is_read_back_by_row(tmp_path):
    with reader(tmp_path, write(tmp_path, PICTURES)) as shards:
        assert len(shards) == 20
        assert [shards.read(row) for row in range(20)] == list(PICTURES.values())


def test_threads_share_a_reader(tmp_path):
    with reader(tmp_path, write(tmp_path, PICTURES, limit=5000)) as shards, ThreadPoolExecutor(8) as pool:
        rows = list(range(20)) * 20
        assert list(pool.map(shards.read, rows)) == [list(PICTURES.values())[row] for row in rows]


def test_shards_stay_below_the_limit(tmp_path):
    places = write(tmp_path, PICTURES, limit=8192)
    names = sorted({place.shard for place in places})
    assert len(names) > 1
    assert names == [f"{number:05d}.tar" for number in range(len(names))]
    assert all((tmp_path / name).stat().st_size <= 8192 for name in names)


def test_a_sample_greater_than_the_limit_has_its_own_shard(tmp_path):
    places = write(tmp_path, {"a": b"1", "b": b"2" * 5000, "c": b"3"}, limit=4096)
    assert [place.shard for place in places] == ["00000.tar", "00001.tar", "00002.tar"]


def test_tarfile_reads_what_was_written(tmp_path):
    write(tmp_path, PICTURES)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        members = tar.getmembers()
        files = {member.name: tar.extractfile(member).read() for member in members}
    assert [member.name for member in members[:2]] == ["real/axe/0.json", "real/axe/0.png"]
    assert {(member.mtime, member.uid, member.mode, member.uname) for member in members} == {(0, 0, 0o644, "")}
    assert files["real/axe/7.png"] == PICTURES["real/axe/7"]
    assert json.loads(files["real/axe/7.json"]) == {"key": "real/axe/7"}


def test_webdataset_reads_what_was_written(tmp_path):
    from webdataset.tariterators import group_by_keys, tar_file_expander

    write(tmp_path, PICTURES)
    with open(tmp_path / "00000.tar", "rb") as stream:
        samples = list(group_by_keys(tar_file_expander([{"url": "00000.tar", "stream": stream}])))
    assert [sample["__key__"] for sample in samples] == list(PICTURES)
    assert samples[3]["png"] == PICTURES["real/axe/3"]


def test_same_samples_give_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, PICTURES, limit=9000)
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


def test_no_sample_gives_no_shard(tmp_path):
    assert write(tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_reading_from_a_cut_shard_is_an_error(tmp_path):
    places = write(tmp_path, PICTURES)
    data = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(data[: places[-1].offset + 5])
    with reader(tmp_path, places) as shards, pytest.raises(DataError, match="cut short"):
        shards.read(19)


def test_reading_from_a_missing_shard_is_an_error(tmp_path):
    places = write(tmp_path, PICTURES)
    (tmp_path / "00000.tar").unlink()
    with reader(tmp_path, places) as shards, pytest.raises(DataError, match="missing"):
        shards.read(0)


def test_block_says_where_its_picture_lies():
    block = make_block("a/b", "png", b"picture", {"a": 1})
    assert block.data[block.offset : block.offset + block.size] == b"picture"
    assert len(block.data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(block.data + b"\0" * 1024)) as tar:
        assert tar.getnames() == ["a/b.json", "a/b.png"]
