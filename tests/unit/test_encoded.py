"""JPEG files that are decoded where the training is: what Pillow decodes, but for a grey level here and there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device

from domix.data.loading.encoded import Encoded
from domix.data.loading.loader import augmented
from domix.data.loading.prefetch import prefetched
from domix.runtime.errors import DataError
from domix.train.fit import fit
from tests.packed_sources import batches_of, encode, image, images_from, make_job, write_sources

CPU = torch.device("cpu")
LEVELS = 3  # of 255: how far two JPEG decoders may be apart at a pixel; half a level on average


def encoded_of(kinds: list[str]) -> tuple[Encoded, torch.Tensor]:
    pixels = [image(number) for number in range(len(kinds))]
    files = [encode(pixel, kind) for pixel, kind in zip(pixels, kinds, strict=True)]
    sizes = torch.tensor([pixel.shape[:2] for pixel in pixels])
    return Encoded(files, [f"real/axe/{number}" for number in range(len(kinds))], sizes), sizes


def test_files_of_all_formats_are_decoded_to_their_places() -> None:
    kinds = ["JPEG", "PNG", "JPEG", "WEBP", "PNG"]
    files, sizes = encoded_of(kinds)
    batch = files.decode(CPU)
    assert batch.shape == (5, 3, *sizes.amax(dim=0).tolist())
    for number, (kind, (height, width)) in enumerate(zip(kinds, sizes.tolist(), strict=True)):
        found = batch[number, :, :height, :width].permute(1, 2, 0).numpy().astype(int)
        error = np.abs(found - image(number))
        assert error.mean() <= {"PNG": 0.0, "JPEG": 2.0, "WEBP": 12.0}[kind]  # what the format itself loses
        assert not batch[number, :, height:].any()
        assert not batch[number, :, :, width:].any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_batch_of_one_format_is_decoded(kind: str) -> None:
    assert len(encoded_of([kind] * 3)[0].decode(CPU)) == 3


def test_moving_a_batch_leaves_its_files_where_decoders_read_them(tmp_path: Path) -> None:
    write_sources(tmp_path)
    batch = batches_of(tmp_path, images_from(tmp_path, "shards", decode="gpu")).make(0)
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.boxes.device.type == moved.targets.device.type == "meta"
    assert isinstance(moved.images, Encoded)
    assert moved.images.data.device.type == "cpu"


@pytest.mark.parametrize("workers", [0, 2])
def test_both_decoders_agree_within_a_few_grey_levels(tmp_path: Path, workers: int) -> None:
    write_sources(tmp_path)
    by_pillow = batches_of(tmp_path, images_from(tmp_path, "shards"))
    by_device = batches_of(tmp_path, images_from(tmp_path, "shards", decode="gpu"))
    with prefetched(by_device, workers=workers, pin=False, ahead=False) as feed:
        for one, other in zip(feed, by_pillow, strict=True):
            assert isinstance(one.images, Encoded)
            error = (one.images.decode(CPU).int() - other.images.int()).abs()
            assert error.max() <= LEVELS
            assert error.float().mean() <= 0.5
            assert augmented(one, 32).shape == augmented(other, 32).shape


@pytest.mark.parametrize("damage", [lambda data: data[:20] + b"<" * 500, lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_named(damage: Callable[[bytes], bytes]) -> None:
    good = encode(image(0), "JPEG")
    sizes = torch.tensor([image(0).shape[:2]] * 3)
    files = Encoded([good, damage(good), good], [f"real/axe/{number}" for number in range(3)], sizes)
    with pytest.raises(DataError, match=r"the packed image real/axe/1 cannot be decoded \(.*\)$"):
        files.decode(CPU)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_of_another_size_is_named(kind: str) -> None:
    with pytest.raises(DataError, match=r"the image real/axe/0 is .* pixels, and the index says 8 x 8"):
        Encoded([encode(image(0), kind)], ["real/axe/0"], torch.tensor([[8, 8]])).decode(CPU)


def test_a_training_decodes_on_its_device(tmp_path: Path) -> None:
    write_sources(tmp_path)
    for decode in ("cpu", "gpu"):
        job = make_job(tmp_path, loader="shards", workers=1, decode=decode, samples=8 * 3)
        fit(job, out=tmp_path / decode, resume=tmp_path / f"{decode}-resume", about={})
    losses = [
        float((tmp_path / decode / "log.csv").read_text().splitlines()[-1].split(",")[3]) for decode in ("cpu", "gpu")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
