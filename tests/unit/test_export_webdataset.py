"""The export as webdataset shards."""

from __future__ import annotations

import gc
import json
import tarfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from domix.data.export.records import records
from domix.data.export.webdataset import export_webdataset
from domix.runtime.errors import DataError, ParameterError
from tests.exports import make_export, make_index, pixels, small

# webdataset leaves the closing of its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def secure(monkeypatch):
    monkeypatch.setattr("webdataset.utils.enforce_security", True)
    yield
    gc.collect()


def read(out):
    import webdataset

    shards = sorted(str(path) for path in out.glob("*.tar"))
    return list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))


def test_webdataset_reads_back_every_sample(tmp_path):
    fake = small(weights=[1.0] * 10 + [0.5] * 8)
    export_webdataset(*fake.given, tmp_path / "out", shard_samples=5)
    found = {sample["__key__"]: sample for sample in read(tmp_path / "out")}
    assert len(found) == 18
    for row in records(fake.table):
        sample = found[row.name]
        assert sample["txt"] == row.text
        described = ("source", "key", "domain", "label", "split", "weight")
        assert sample["json"] == {name: getattr(row, name) for name in described} | {
            "class": row.class_name,
            "caption": row.text,
        }
        image = next(sample[kind] for kind in ("png", "jpg", "webp") if kind in sample)
        assert (pixels(fake.readers[row.source].read(row.row)) == np.asarray(image.convert("RGB"))).all()


def test_open_clip_reads_it(tmp_path, monkeypatch):
    data = pytest.importorskip("open_clip_train.data")
    # What WDS_SECURE=1 sets when webdataset is imported; it forbids local files to open_clip's way of opening shards.
    monkeypatch.setattr("webdataset.utils.enforce_security", False)
    # open_clip 3.3 stumbles over the end marks that webdataset 1.0 puts between shards; 0.2.86 has none.
    monkeypatch.setattr(data, "tar_file_expander", partial(data.tar_file_expander, eof_value=None))
    fake = small()
    export_webdataset(*fake.given, tmp_path / "out", shard_samples=6)
    shards = f"{tmp_path}/out/{{00000..00002}}.tar"
    assert data.get_dataset_size(shards) == (18, 3)
    args = SimpleNamespace(
        train_data=shards,
        train_num_samples=None,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=18,
        workers=0,
        world_size=1,
        seed=0,
    )
    info = data.get_wds_dataset(
        args, lambda image: image.convert("RGB").resize((4, 4)).tobytes(), True, tokenizer=lambda text: [text]
    )
    batches = list(info.dataloader)
    assert len(batches) == 1
    assert sorted(batches[0][1]) == sorted(fake.table["text"])


def test_shards_are_equally_large_and_counted(tmp_path):
    export_webdataset(*small().given, tmp_path / "out", shard_samples=7)
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    assert sizes == {"00000.tar": 6, "00001.tar": 6, "00002.tar": 6}
    for name, count in sizes.items():
        with tarfile.open(tmp_path / "out" / name) as tar:
            assert len(tar.getmembers()) == 3 * count


def test_samples_are_dealt_out_at_random_by_a_seed(tmp_path):
    keys = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export_webdataset(*small().given, tmp_path / name, seed=seed)
        keys[name] = [sample["__key__"] for sample in read(tmp_path / name)]
    assert keys["a"] == keys["b"] != keys["c"]
    assert sorted(keys["a"]) == sorted(keys["c"]) != keys["a"]


def test_members_carry_no_time_and_no_owner(tmp_path):
    export_webdataset(*small().given, tmp_path / "out")
    with tarfile.open(tmp_path / "out/00000.tar") as tar:
        told = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
    assert told == {(0, 0, 0, "", "", 0o644)}


def test_equal_keys_of_two_sources_stay_apart(tmp_path):
    index = make_index([{"domain": "real", "class": "axe", "label": 0}], "domainnet")
    indices = {"web": make_index([{}], "web"), "domainnet": index}
    fake = make_export(indices, {"web": [0], "domainnet": [0]}, {"web": ["x"], "domainnet": ["y"]})
    export_webdataset(*fake.given, tmp_path / "out")
    assert sorted(sample["__key__"] for sample in read(tmp_path / "out")) == ["domainnet/00000", "web/00000"]


def test_long_and_foreign_keys_survive(tmp_path):
    key = "real/" + "löwe " * 40 + "1"
    index = make_index([{"domain": "real", "class": "axe", "label": 0, "key": key}], "domainnet")
    fake = make_export({"domainnet": index}, {"domainnet": [0]}, {"domainnet": ["x"]})
    export_webdataset(*fake.given, tmp_path / "out")
    assert [sample["__key__"] for sample in read(tmp_path / "out")] == [f"domainnet/{key}"]


def test_a_sample_that_stands_twice_is_refused(tmp_path):
    index = make_index([{"domain": "real", "class": "axe", "label": 0}], "domainnet")
    fake = make_export({"domainnet": index}, {"domainnet": [0, 0]}, {"domainnet": ["x"]})
    with pytest.raises(DataError, match="'00000' more than once"):
        export_webdataset(*fake.given, tmp_path / "out")


def test_images_that_open_clip_skips_are_counted(tmp_path, caplog):
    told = export_webdataset(*small(kinds=["PNG", "GIF"]).given, tmp_path / "out")
    assert told["not_read_by_open_clip"] == 9
    assert "9 images are GIF or BMP" in caplog.text


def test_a_shard_of_nothing_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="at least 1"):
        export_webdataset(*small().given, tmp_path / "out", shard_samples=0)
