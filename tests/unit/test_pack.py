"""Packing: what the index says is what the shards hold; bytes that depend on nothing but the input."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from domix.data.sources.contract import NO_LABEL, RawSample
from domix.data.store import images
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import read_json
from domix.runtime.seeds import numpy_generator
from tests.fixtures import draw, encoded, make_domainnet_set
from tests.packing import Held, pack_parts, pack_samples, pack_set, sample, samples_of


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
    assert index["key"].tolist() == [s.key for s in samples_of("emoji", drawn, poses=2)]
    assert stats.read == stats.packed == len(index) == 2 * 2 * 2 * 3
    assert set(index["source"]) == {"toy"}
    assert set(index["class"]) == {"axe", "ice cream"}


def test_test_images_are_the_drawings_shrunk_and_training_images_their_poses(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out")
    index = read_index(tmp_path / "out").set_index("key")
    original = draw("sketch", "ice cream", 1)
    with ShardReader(tmp_path / "out") as shards:

        def image(key: str) -> bytes:
            return Image.open(io.BytesIO(shards.read(int(index.loc[key, "row"])))).convert("RGB").tobytes()

        key = "sketch/ice_cream/artist1"
        assert image(key) == images.resize_short(original, 16).tobytes()
        posed = images.pose(original, numpy_generator(0, key, 2))
        assert image(f"{key}-pose2") == images.resize_short(posed, 16).tobytes()


def test_a_reader_that_nobody_holds_any_more_closes_its_shards(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out")

    def opened() -> int:
        paths = [Path(file.path) for file in psutil.Process().open_files()]
        return sum(path.parent == tmp_path / "out" and path.suffix == ".tar" for path in paths)

    reader = ShardReader(tmp_path / "out")
    reader.read(0)
    assert opened() == 1
    del reader
    assert opened() == 0


def test_index_holds_size_digest_and_hash(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out")
    row = read_index(tmp_path / "out").set_index("key").loc["real/axe/artist0"]
    with zipfile.ZipFile(drawn / "real.zip") as archive:
        assert row["sha256"] == hashlib.sha256(archive.read("real/axe/artist0.png")).hexdigest()
    assert (row["width"], row["height"]) == (16, 16)
    assert row["phash"] == images.phash(images.resize_short(draw("real", "axe", 0), 16))


def test_bytes_do_not_depend_on_the_number_of_processes(drawn, tmp_path):
    for workers in (1, 2):
        pack_set(drawn, tmp_path / str(workers), poses=9, size=30, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    shards = {f"{number:05d}.tar" for number in range(3)}
    assert set(contents(tmp_path / "1")) == {*shards, "index.parquet", "places.npy", "stats.json"}


def test_one_part_becomes_one_shard(drawn, tmp_path):
    pack_set(drawn, tmp_path / "out", size=7)
    index = read_index(tmp_path / "out")
    assert index["shard"].tolist() == [f"{row // 7:05d}.tar" for row in range(len(index))]


def test_an_empty_part_leaves_no_shard_and_the_others_keep_their_names(tmp_path):
    good = sample("good", encoded(draw("real", "axe", 0)))
    pack_parts([Held((sample("bad", b""),)), Held((good,))], tmp_path / "out", max_bad_share=0.5)
    assert not (tmp_path / "out" / "00000.tar").exists()
    with ShardReader(tmp_path / "out") as shards:
        assert Image.open(io.BytesIO(shards.read(0))).size == (16, 16)


def test_smaller_images_stay_as_they_are(tmp_path):
    pack_samples([sample("a", encoded(Image.new("RGB", (8, 40))))], tmp_path / "out")
    index = read_index(tmp_path / "out")
    assert (index.loc[0, "width"], index.loc[0, "height"]) == (8, 40)


def packed_file(data: bytes, tmp_path, **settings) -> bytes:
    """Pack one image file and return the packed one."""
    pack_samples([sample("a", data)], tmp_path / "out", **settings)
    with ShardReader(tmp_path / "out") as shards:
        return shards.read(0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_size_0_keeps_the_bytes_of_plain_files(tmp_path, kind):
    data = encoded(draw("real", "axe", 0, size=40), kind)
    assert packed_file(data, tmp_path, size=0) == data
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert tar.getnames()[1] == {"PNG": "a.png", "JPEG": "a.jpg", "WEBP": "a.webp"}[kind]


def turned() -> bytes:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    return encoded(draw("real", "axe", 0, size=40).crop((0, 0, 40, 20)), "JPEG", exif=exif)


GREY = Image.new("RGB", (9, 9), (99, 99, 99))
ODD = {
    "EXIF orientation": turned(),
    "CMYK": encoded(draw("real", "axe", 0).convert("CMYK"), "JPEG"),
    "palette": encoded(draw("real", "axe", 0).convert("P"), "PNG"),
    "alpha": encoded(draw("real", "axe", 0).convert("RGBA"), "PNG"),
    "16 bits": encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG"),
    "two frames": encoded(
        Image.new("RGB", (9, 9)), "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 9), 255)]
    ),
    "GIF": encoded(draw("real", "axe", 0).convert("P"), "GIF"),
    "BMP": encoded(draw("real", "axe", 0), "BMP"),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_size_0_rewrites_files_that_decoders_read_differently(tmp_path, data):
    written = packed_file(data, tmp_path, size=0)
    assert written.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(written)).convert("RGB").tobytes() == images.decode(data).tobytes()


def test_jpeg_is_smaller_and_close(tmp_path):
    image = draw("real", "axe", 0, size=64).resize((64, 64), Image.Resampling.BICUBIC)
    written = packed_file(encoded(image), tmp_path, size=32, format="jpeg")
    assert written.startswith(b"\xff\xd8\xff")
    wanted = np.asarray(images.resize_short(image, 32), dtype=float)
    assert np.abs(np.asarray(Image.open(io.BytesIO(written)), dtype=float) - wanted).mean() < 3
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert tar.getnames()[1] == "a.jpg"


def test_captions_that_samples_bring_are_kept(tmp_path):
    data = encoded(draw("real", "axe", 0))
    odd = ['a "quoted\t one', "two\nlines", "NA", ""]
    base = {"class_name": None, "label": NO_LABEL, "domain": "corpus"}
    found = [sample(str(number), data, text=text, **base) for number, text in enumerate(odd)]
    pack_samples([*found[:2], sample("bad", b"", text="gone", **base), *found[2:]], tmp_path / "out", max_bad_share=0.5)
    texts = pd.read_parquet(tmp_path / "out" / "texts.parquet")
    assert dict(zip(texts["key"], texts["text"], strict=True)) == {str(i): text for i, text in enumerate(odd)}
    index = read_index(tmp_path / "out")
    assert index["class"].isna().all()
    assert set(index["label"]) == {NO_LABEL}


def test_bad_images_are_left_out_counted_and_named(tmp_path, caplog):
    good = sample("good", encoded(draw("real", "axe", 0)))
    bad = [sample(f"bad{i}", b"") for i in range(7)]
    parts = [Held(tuple(bad[:4])), Held((*bad[4:], sample("text", b"text"), good))]
    stats = pack_parts(parts, tmp_path / "out", max_bad_share=0.9)
    assert read_index(tmp_path / "out")["key"].tolist() == ["good"]
    assert (stats.read, stats.packed) == (9, 1)
    assert read_json(tmp_path / "out" / "stats.json")["rejected"] == {
        "empty file": {"count": 7, "examples": [f"bad{i}" for i in range(5)]},
        "not an image": {"count": 1, "examples": ["text"]},
    }
    assert "left out 8 of 9 images of toy: 7 empty file" in caplog.text


@pytest.mark.parametrize(("share", "fails"), [(0.49, True), (0.5, False)])
def test_share_of_bad_images_decides(tmp_path, share, fails):
    found = [sample("good", encoded(draw("real", "axe", 0))), sample("bad", b"")]
    if fails:
        with pytest.raises(DataError, match=r"1 of 2 images of toy are bad, more than max_bad_share 0.49: 1 empty"):
            pack_samples(found, tmp_path / "out", max_bad_share=share)
    else:
        assert pack_samples(found, tmp_path / "out", max_bad_share=share).packed == 1


def test_no_sample_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        pack_samples([], tmp_path / "out")


@pytest.mark.parametrize("apart", [False, True])
def test_two_samples_of_one_key_are_an_error(tmp_path, apart):
    same = sample("same", encoded(draw("real", "axe", 0)))
    parts = [Held((same,)), Held((same,))] if apart else [Held((same, same))]
    with pytest.raises(DataError, match="1 keys stand twice, 'same' among them: rename one"):
        pack_parts(parts, tmp_path / "out")
    assert not (tmp_path / "out" / "index.parquet").exists()


def test_progress_hears_of_every_sample(drawn, tmp_path):
    heard = []
    stats = pack_set(drawn, tmp_path / "out", progress=heard.append)
    assert sum(part.read for part in heard) == stats.read


@dataclass(frozen=True)
class Told:
    """A part that writes down that it was read, and fails while a file `fail` lies beside the note."""

    note: Path
    held: tuple[RawSample, ...]
    fails: bool = False

    def samples(self):
        with open(self.note, "a", encoding="utf-8") as file:
            file.write(f"{self.held[0].key}\n")
        yield self.held[0]
        if self.fails and (self.note.parent / "fail").exists():
            raise DataError("the archive is damaged")
        yield from self.held[1:]


@pytest.mark.parametrize("workers", [1, 2])
def test_packing_goes_on_where_it_stopped_with_the_same_bytes(tmp_path, workers):
    note = tmp_path / "note"
    data = [encoded(draw("real", "axe", number)) for number in range(8)]
    held = [tuple(sample(f"{part}-{i}", data[2 * part + i]) for i in range(2)) for part in range(4)]
    parts = [Told(note, samples, fails=number == 2) for number, samples in enumerate(held)]
    (tmp_path / "fail").touch()
    staging = tmp_path / "staging"
    with pytest.raises(DataError, match="the archive is damaged"):
        pack_parts(parts, tmp_path / "out", staging=staging, workers=workers)
    assert list((tmp_path / "out").iterdir()) == []
    finished = {path.stem for path in staging.glob("*.json")}
    assert "00002" not in finished
    assert not (staging / "00002.tar").exists()
    (tmp_path / "fail").unlink()
    note.write_text("")
    heard = []
    pack_parts(parts, tmp_path / "out", staging=staging, workers=workers, progress=heard.append)
    read_again = {f"{int(line.split('-')[0]):05d}" for line in note.read_text().split()}
    assert not read_again & finished
    assert sum(part.read for part in heard) == 8
    pack_parts([Held(samples) for samples in held], tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_unit_that_was_killed_before_its_report_is_done_again(tmp_path):
    """Its shard may lie there, whole, and its rows not."""
    staging = tmp_path / "staging"
    parts = [Held((sample(f"k{part}", encoded(draw("real", "axe", part))),)) for part in range(2)]
    pack_parts(parts, tmp_path / "whole", staging=staging)
    for name in ("00001.json", "00001.parquet"):
        (staging / name).unlink()
    assert (staging / "00001.tar").is_file()
    pack_parts(parts, tmp_path / "out", staging=staging)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@dataclass(frozen=True)
class Killed:
    """A part whose process is killed, as the kernel does when memory runs out."""

    def samples(self):
        os.kill(os.getpid(), signal.SIGKILL)
        yield


def test_a_killed_process_is_one_sentence(tmp_path):
    with pytest.raises(DomixError, match="a packing process was killed, most likely for want of memory: lower pack"):
        pack_parts([Killed(), Killed()], tmp_path / "out", workers=2)
