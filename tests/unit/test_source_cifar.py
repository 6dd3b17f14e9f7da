"""CIFAR-10 and CIFAR-100 from made binary files, packed and unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domix.data.archives.manifests import load_manifest
from domix.data.sources.cifar import LAYOUTS, PIXELS, Layout
from domix.data.sources.registry import get_source
from domix.runtime.errors import DataError
from tests.source_trees import check_source, read, tar_bytes

NAMES = tuple(LAYOUTS)
COUNTS = {"cifar-10": [3, 1, 1, 1, 1, 2], "cifar-100": [3, 2]}  # records of each file


def record(name: str, file: str, number: int) -> tuple[int, np.ndarray, bytes]:
    """Return the label, the image [32, 32, 3] and the bytes of a made record."""
    random = np.random.default_rng([sum(file.encode()), number])
    image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    label = int(random.integers(LAYOUTS[name].classes))
    coarse = bytes([255]) if name == "cifar-100" else b""  # beyond any class: it is not read
    planes = b"".join(image[:, :, channel].tobytes() for channel in range(3))
    return label, image, coarse + bytes([label]) + planes


def contents(name: str) -> dict[str, bytes]:
    """Return the files of a made set by their names."""
    layout = LAYOUTS[name]
    files = {
        file: b"".join(record(name, file, number)[2] for number in range(count))
        for (_, file), count in zip(layout.members, COUNTS[name], strict=True)
    }
    names = "".join(f"class_{n}\n" for n in range(layout.classes)) + "\n"  # the published file ends with an empty line
    return files | {layout.names: names.encode(), "readme.html": b"read me"}


def unpacked(root: Path, name: str, files: dict[str, bytes]) -> None:
    (root / LAYOUTS[name].folder).mkdir()
    without_folder(root / LAYOUTS[name].folder, name, files)


def without_folder(root: Path, name: str, files: dict[str, bytes]) -> None:
    for file, data in files.items():
        (root / file).write_bytes(data)


def packed(root: Path, name: str, files: dict[str, bytes]) -> None:
    members = {f"{LAYOUTS[name].folder}/{file}": data for file, data in files.items()}
    (root / LAYOUTS[name].archive).write_bytes(gzip.compress(tar_bytes(members), mtime=0))


@pytest.mark.parametrize("make", [packed, unpacked, without_folder])
@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_lie_on_disk_gives_the_records(tmp_path, name, make):
    make(tmp_path, name, contents(name))
    found = check_source(get_source(name), tmp_path)
    records = [
        (split, *record(name, file, number)[:2])
        for (split, file), count in zip(LAYOUTS[name].members, COUNTS[name], strict=True)
        for number in range(count)
    ]
    assert [(s.split, s.label, s.class_name) for s in found] == [(s, n, f"class {n}") for s, n, _ in records]
    for sample, (_, _, image) in zip(found, records, strict=True):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(sample.data))), image)
    numbers = [(split, sum(other[0] == split for other in records[:n])) for n, (split, *_) in enumerate(records)]
    assert [s.key for s in found] == [f"{split}/{number:05d}" for split, number in numbers]
    assert {s.domain for s in found} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_is_the_published_one(name):
    fine = name == "cifar-100"
    batches = [f"data_batch_{n}.bin" for n in (1, 2, 3, 4, 5)]
    files = ["train.bin", "test.bin"] if fine else [*batches, "test_batch.bin"]
    assert LAYOUTS[name] == Layout(
        f"{name}-binary.tar.gz",
        "cifar-100-binary" if fine else "cifar-10-batches-bin",
        tuple(("test" if file.startswith("test") else "train", file) for file in files),
        "fine_label_names.txt" if fine else "batches.meta.txt",
        classes=100 if fine else 10,
        labels=2 if fine else 1,
    )
    assert PIXELS == 3072
    (remote,) = load_manifest(name).files
    assert remote.file == LAYOUTS[name].archive and remote.sha256


# Faults -------------------------------------------------------------------------------------------


def fails(name: str, root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(get_source(name), root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there(tmp_path, name):
    fails(name, tmp_path, rf"holds neither {name}-binary.tar.gz nor cifar-.*/: lay the binary version there")


@pytest.mark.parametrize("names", [b"a\nb\n", b"a\n" * 10, b"\xff\n" * 10, b""])
def test_class_names_that_are_missing(tmp_path, names):
    packed(tmp_path, "cifar-10", contents("cifar-10") | {"batches.meta.txt": names})
    fails("cifar-10", tmp_path, r"batches\.meta\.txt in .* does not name the 10 classes of cifar-10, one a line")


@pytest.mark.parametrize("make", [packed, unpacked])
@pytest.mark.parametrize(("count", "says"), [(9218, "9,218"), (0, "0")])
def test_records_that_are_cut_off(tmp_path, make, count, says):
    files = contents("cifar-10")
    make(tmp_path, "cifar-10", files | {"data_batch_1.bin": files["data_batch_1.bin"][:count]})
    fails("cifar-10", tmp_path, f"data_batch_1.bin in .* has {says} bytes, not records of 3,073")


def test_a_label_beyond_the_classes(tmp_path):
    files = contents("cifar-100")
    data = bytearray(files["test.bin"])
    data[3074 + 1] = 100
    unpacked(tmp_path, "cifar-100", files | {"test.bin": bytes(data)})
    fails("cifar-100", tmp_path, "test.bin in .* gives record 1 the label 100, beyond the 100 classes of cifar-100")


@pytest.mark.parametrize("make", [packed, unpacked])
def test_a_file_that_is_missing(tmp_path, make):
    files = contents("cifar-10")
    del files["data_batch_4.bin"]
    make(tmp_path, "cifar-10", files)
    fails("cifar-10", tmp_path, r"data_batch_4\.bin(: get it anew| cannot be read)")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no archive"])
def test_a_damaged_archive(tmp_path, damage):
    packed(tmp_path, "cifar-100", contents("cifar-100"))
    path = tmp_path / "cifar-100-binary.tar.gz"
    path.write_bytes(damage(path.read_bytes()))
    fails("cifar-100", tmp_path, r"cifar-100-binary\.tar\.gz is damaged .*: get it anew")


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    link = tarfile.TarInfo("cifar-100-binary/fine_label_names.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "cifar-100-binary.tar.gz", "w:gz") as archive:
        archive.addfile(link)
    fails("cifar-100", tmp_path, "does not hold cifar-100-binary/fine_label_names.txt: get it anew")
