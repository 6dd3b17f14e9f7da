"""What all exports share: order, checks, and the folder."""

from __future__ import annotations

import errno
import json
import shutil

import pytest

from domix.data.export import records as export
from domix.data.export.parquet import export_parquet
from domix.data.export.records import DESCRIPTION, arrange, extension, records
from domix.data.export.tsv import export_tsv
from domix.data.export.webdataset import export_webdataset
from domix.runtime.errors import DataError, DomixError
from tests.exports import Reader, image, make_export, make_index, small

FORMATS = {
    "tsv": lambda fake, out, **more: export_tsv(*fake.given, out, prefix=str(out), **more),
    "webdataset": lambda fake, out, **more: export_webdataset(*fake.given, out, **more),
    "parquet": lambda fake, out, **more: export_parquet(*fake.given, out, **more),
}


@pytest.fixture(params=FORMATS)
def write(request):
    return FORMATS[request.param]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_base_samples_stand_first_and_the_others_by_domain_class_and_list():
    table = small().table
    assert table["source"].tolist() == ["web"] * 10 + ["domainnet"] * 8
    assert table["row"].tolist() == [*range(10), 4, 6, 5, 7, 0, 2, 1, 3]
    assert table["domain"].tolist()[10:] == ["real"] * 4 + ["sketch"] * 4
    assert table["class"].tolist()[10:] == ["axe", "axe", "lion", "lion", "lion", "lion", "axe", "axe"]


def test_the_order_of_classes_is_that_of_the_whole_training_list():
    """A class whose first line is a test image's, or is not in the mixture, keeps its place in the training list."""
    drawn = [
        {"domain": "real", "class": name, "label": "abc".index(name), "split": split}
        for name, split in [("c", "test"), ("b", "train"), ("c", "train"), ("a", "train"), ("b", "train")]
    ]
    indices = {"domainnet": make_index(drawn, "domainnet")}
    fake = make_export(indices, {"domainnet": [2, 3, 4]}, {"domainnet": ["x"] * 5})
    assert fake.table["row"].tolist() == [4, 2, 3]


def test_what_has_no_class_or_domain_is_none():
    index = make_index([{"domain": None}], "web")
    drawn = make_index([{"domain": "real", "class": "axe", "label": 0}], "domainnet")
    fake = make_export(
        {"web": index, "domainnet": drawn}, {"web": [0], "domainnet": [0]}, {"web": ["x"], "domainnet": ["y"]}
    )
    first, second = records(fake.table)
    assert (first.domain, first.class_name, first.label) == (None, None, -1)
    assert (second.domain, second.class_name, second.label) == ("real", "axe", 0)
    assert (second.weight, second.name) == (1.0, "domainnet/00000")


def test_weights_follow_their_samples_into_the_new_order():
    weights = [1.0] * 10 + [float(number) for number in range(8)]
    table = small(weights=weights).table
    drawn = table[table["source"] == "domainnet"]
    assert drawn["weight"].tolist() == drawn["row"].tolist()


def test_a_held_out_sample_is_never_exported():
    with pytest.raises(DataError, match="must not show 'lion' in domain 'sketch'"):
        small(held_out=("sketch", ("lion",)))


def test_an_empty_mixture_is_refused():
    fake = small()
    with pytest.raises(DataError, match="'tiny' has no samples"):
        arrange(fake.mixture, fake.table.iloc[:0], fake.indices)


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a//b", "a/./b", "a/..", "", "a/"])
def test_a_key_that_leads_out_of_the_folder_is_refused(key):
    index = make_index([{"domain": "real", "class": "axe", "label": 0, "key": key}], "domainnet")
    with pytest.raises(DataError, match="cannot name a file"):
        make_export({"domainnet": index}, {"domainnet": [0]}, {"domainnet": ["x"]})


@pytest.mark.parametrize(
    ("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp")]
)
def test_the_extension_is_read_off_the_image(kind, suffix):
    assert extension(image(1, kind), next(records(small().table))) == suffix


def test_a_file_that_is_no_image_is_named():
    with pytest.raises(DataError, match="web/00000"):
        extension(b"<html>", next(records(small().table)))


def test_every_format_says_what_it_holds_and_counts_its_progress(write, tmp_path):
    fake, seen = small(), []
    told = write(fake, tmp_path / "out", progress=seen.append)
    described = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    assert described == json.loads(json.dumps(told))
    assert (described["mixture"], described["digest"]) == ("tiny", fake.mixture.digest)
    assert (described["samples"], described["sources"]) == (18, {"web": 10, "domainnet": 8})
    assert sum(seen) == 18


def test_equal_mixtures_give_equal_bytes(write, tmp_path):
    write(small(), tmp_path / "out")
    before = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    write(small(), tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_an_earlier_export_is_replaced_only_by_force(write, tmp_path):
    out = tmp_path / "out"
    write(small(), out)
    before = files(out)
    with pytest.raises(DataError, match=r"holds an export already.*--force"):
        write(small(), out)
    (out / "stray").write_text("x")
    write(small(), out, force=True)
    assert files(out) == before


def test_what_is_no_export_is_never_replaced(write, tmp_path):
    (tmp_path / "precious").write_text("x")
    for force in (False, True):
        with pytest.raises(DataError, match="no export of a mixture"):
            write(small(), tmp_path, force=force)
        with pytest.raises(DataError, match="is a file"):
            write(small(), tmp_path / "precious", force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_empty_folder_is_filled(write, tmp_path):
    (tmp_path / "out").mkdir()
    write(small(), tmp_path / "out")
    assert (tmp_path / "out" / DESCRIPTION).is_file()


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "full"), DomixError, "no space left"),
        (DataError("the shard 3 is cut short"), DataError, "cut short"),
        (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    ],
)
def test_a_failure_half_way_leaves_the_old_export_and_no_half_new_one(write, tmp_path, error, raised, message):
    out = tmp_path / "deep" / "out"
    write(small(), out)
    before = files(out)
    fake = small()
    fake.readers["domainnet"] = Reader(fake.readers["domainnet"].images, error, broken=3)
    with pytest.raises(raised, match=message):
        write(fake, out, force=True)
    assert files(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_disk_without_the_space_is_refused_before_anything_is_written(write, tmp_path, monkeypatch):
    monkeypatch.setattr(export.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(DataError, match=r"needs about 0\.1 GB and the disk has 0\.0 GB free"):
        write(small(), tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())
