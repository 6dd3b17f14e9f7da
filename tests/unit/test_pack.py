"""Packing: what the index says is what the shards hold; bytes that depend on nothing but the input."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import pytest
from PIL import Image

from domix.data import images
from domix.data.index import read_index
from domix.data.pack import pack
from domix.data.shards import ShardReader
from domix.data.sources import RawSample, get_source
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.seeds import numpy_generator
from tests.fixtures import draw, encoded, make_domainnet_set

SETTINGS: dict[str, Any] = {"size": 16, "shard_mb": 1, "max_bad_share": 0.0, "workers": 1, "seed": 0}


def pack_set(folder, out, *, poses=2, **changes):
    out.mkdir(parents=True)
    return pack("toy", get_source("emoji").samples(folder, poses=poses), out, **SETTINGS | changes)


def sample(key: str, data: bytes, **changes) -> RawSample:
    fields = {"domain": "real", "class_name": "axe", "label": 0, "split": "train", "drawing": key}
    return RawSample(key=key, data=data, **fields | changes)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a small set."""
    return make_domainnet_set(
        tmp_path_factory.mktemp("drawn"), domains=["real", "sketch"], classes=["axe", "ice cream"]
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_index_names_every_sample_in_order(drawn, tmp_path):
    stats = pack_set(drawn, tmp_path / "out")
    index = read_index(tmp_path / "out")
    assert index["key"].tolist() == [s.key for s in get_source("emoji").samples(drawn, poses=2)]
    assert stats.read == stats.packed == len(index) == 2 * 2 * 2 * 3
    assert set(index["source"]) == {"toy"}
    assert set(index["class"]) == {"axe", "ice cream"}


def test_test_pictures_are_the_drawings_shrunk_and_training_pictures_their_poses(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out")
    index = read_index(tmp_path / "out").set_index("key")
    original = draw("sketch", "ice cream", 1)
    with ShardReader(tmp_path / "out", index) as shards:

        def picture(key: str) -> bytes:
            return Image.open(io.BytesIO(shards.read(int(index.loc[key, "row"])))).convert("RGB").tobytes()

        key = "sketch/ice_cream/artist1"
        assert picture(key) == images.resize_short(original, 16).tobytes()
        posed = images.pose(original, numpy_generator(0, key, 2))
        assert picture(f"{key}-pose2") == images.resize_short(posed, 16).tobytes()


def test_index_holds_size_digest_and_hash(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out")
    row = read_index(tmp_path / "out").set_index("key").loc["real/axe/artist0"]
    with zipfile.ZipFile(drawn / "real.zip") as archive:
        assert row["sha256"] == hashlib.sha256(archive.read("real/axe/artist0.png")).hexdigest()
    assert (row["width"], row["height"]) == (16, 16)
    assert row["phash"] == images.phash(images.resize_short(draw("real", "axe", 0), 16))


def test_bytes_do_not_depend_on_the_number_of_processes(drawn, tmp_path):
    for workers in (1, 2):
        pack_set(drawn, tmp_path / str(workers), poses=9, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert set(contents(tmp_path / "1")) == {"00000.tar", "index.parquet", "stats.json"}


def test_smaller_pictures_stay_as_they_are(tmp_path):
    tmp_path.joinpath("out").mkdir()
    pack("toy", [sample("a", encoded(Image.new("RGB", (8, 40))))], tmp_path / "out", **SETTINGS)
    index = read_index(tmp_path / "out")
    assert (index.loc[0, "width"], index.loc[0, "height"]) == (8, 40)


def test_bad_pictures_are_left_out_counted_and_named(tmp_path, caplog):
    good = encoded(draw("real", "axe", 0))
    bad = [sample(f"bad{i}", b"") for i in range(7)]
    stats = pack(
        "toy", [*bad, sample("text", b"text"), sample("good", good)], tmp_path, **SETTINGS | {"max_bad_share": 0.9}
    )
    assert read_index(tmp_path)["key"].tolist() == ["good"]
    assert (stats.read, stats.packed) == (9, 1)
    assert read_json(tmp_path / "stats.json")["rejected"] == {
        "empty file": {"count": 7, "examples": [f"bad{i}" for i in range(5)]},
        "not a picture": {"count": 1, "examples": ["text"]},
    }
    assert "left out 8 of 9 pictures of toy: 7 empty file" in caplog.text


@pytest.mark.parametrize(("share", "fails"), [(0.49, True), (0.5, False)])
def test_share_of_bad_pictures_decides(tmp_path, share, fails):
    found = [sample("good", encoded(draw("real", "axe", 0))), sample("bad", b"")]
    if fails:
        with pytest.raises(
            DataError, match=r"1 of 2 pictures of toy are bad, more than pack.max_bad_share 0.49: 1 empty"
        ):
            pack("toy", found, tmp_path, **SETTINGS | {"max_bad_share": share})
    else:
        assert pack("toy", found, tmp_path, **SETTINGS | {"max_bad_share": share}).packed == 1


def test_no_sample_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        pack("toy", [], tmp_path, **SETTINGS)


def test_two_samples_of_one_key_are_an_error(tmp_path):
    data = encoded(draw("real", "axe", 0))
    with pytest.raises(DataError, match="two samples named same"):
        pack("toy", [sample("same", data), sample("same", data)], tmp_path, **SETTINGS)


def test_progress_hears_of_every_sample(drawn, tmp_path):
    heard = []
    stats = pack_set(drawn, tmp_path / "out", progress=heard.append)
    assert sum(heard) == stats.read


def test_a_few_batches_are_read_ahead_and_no_more(tmp_path):
    """Memory stays constant: samples are taken from the source as results are written."""
    data, taken, written = encoded(draw("real", "axe", 0)), [], []

    def source():
        for number in range(1000):
            taken.append(number)
            yield sample(str(number), data)

    ahead = []

    def note(count: int) -> None:
        written.append(count)
        ahead.append(len(taken) - len(written))

    pack("toy", source(), tmp_path, **SETTINGS, progress=note)
    assert max(ahead) <= 64
