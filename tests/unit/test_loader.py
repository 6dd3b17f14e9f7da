"""Batches: every sample once an epoch, any step alone, the same whoever asks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domix.data.loading.images import Images
from domix.data.loading.loader import Augmentation, Batch, Batches, Order, augmented
from domix.runtime.errors import DataError
from tests.tiny import make_images

AUGMENTATION = Augmentation(scale=(0.6, 1.0), ratio=(0.75, 1.3333), hflip=0.5)


def make_batches(count: int = 10, *, ragged: bool = False, **named: Any) -> Batches:
    settings: dict[str, Any] = {"batch": 4, "total": 10} | named
    tokens = torch.arange(count, dtype=torch.int32)[:, None]
    order = Order(count=count, seed=settings.pop("seed", 0))
    return Batches(make_images(count, ragged=ragged), tokens, AUGMENTATION, order, **settings)


def equal(one: Batch, other: Batch) -> bool:
    return one.step == other.step and all(torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


def test_batches_straddle_epochs_and_drop_no_sample() -> None:
    batches = make_batches()
    seen = torch.cat([batches.rows(step) for step in range(5)])
    assert torch.equal(seen, torch.cat([Order(count=10, seed=0).epoch(epoch) for epoch in (0, 1)]))


def test_epochs_may_end_with_their_last_whole_batch() -> None:
    batches = make_batches(drop_last=True)
    seen = [batches.rows(step) for step in range(4)]
    orders = [Order(count=10, seed=0).epoch(epoch)[:8] for epoch in (0, 1)]
    assert torch.equal(torch.cat(seen), torch.cat(orders))


def test_the_parts_of_a_batch_are_its_samples_in_order() -> None:
    batch = make_batches(ragged=True).make(3)
    parts = batch.parts(2)
    assert [part.step for part in parts] == [3, 3]
    for name in ("images", "targets", "hflip"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert torch.equal(torch.cat([part.boxes for part in parts], dim=1), batch.boxes)


def test_any_step_alone_equals_the_step_reached_from_the_beginning() -> None:
    whole = list(make_batches())
    assert len(whole) == 10
    assert all(equal(whole[step], make_batches().make(step)) for step in (9, 0, 5, 2))
    rest = list(make_batches(start=7))
    assert len(rest) == 3
    assert all(equal(one, other) for one, other in zip(whole[7:], rest, strict=True))


def test_seeds_steps_and_epochs_differ() -> None:
    batches = make_batches(40, batch=40)
    first, second = batches.make(0), batches.make(1)
    assert not torch.equal(first.targets, second.targets)
    assert not torch.equal(first.boxes, second.boxes)
    assert not torch.equal(first.targets, make_batches(40, batch=40, seed=1).make(0).targets)


def test_processes_share_the_batch_of_one_process() -> None:
    whole = make_batches().make(2)
    shares = [make_batches(rank=rank, world_size=2).make(2) for rank in (0, 1)]
    for name in ("images", "targets", "hflip"):
        assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name))
    assert torch.equal(torch.cat([share.boxes for share in shares], dim=1), whole.boxes)


def test_images_and_captions_stay_together() -> None:
    batches = make_batches(ragged=True)
    batch = batches.make(1)
    for image, row in zip(batch.images, batch.targets[:, 0].tolist(), strict=True):
        height, width = batches.images.sizes[row].tolist()
        assert torch.equal(image[:, :height, :width], batches.images[row])
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()


def test_crops_lie_within_ragged_images() -> None:
    batches = make_batches(ragged=True)
    for batch in batches:
        sizes = batches.images.sizes[batch.targets[:, 0]]
        top, left, height, width = batch.boxes
        assert (height > 0).all()
        assert (width > 0).all()
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + height <= sizes[:, 0]).all()
        assert (left + width <= sizes[:, 1]).all()


def test_padding_does_not_change_what_the_model_sees() -> None:
    batch = make_batches(ragged=True).make(0)
    padded = batch._replace(images=torch.nn.functional.pad(batch.images, (0, 9, 0, 17), value=255))
    grey_level = 1 / (255 * 0.25)
    assert (augmented(batch, 32) - augmented(padded, 32)).abs().max() <= grey_level


def encode(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_images_are_decoded_in_order_by_several_threads() -> None:
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (20 + i % 3, 30, 3), dtype=np.uint8) for i in range(150)]
    sizes = torch.tensor([array.shape[:2] for array in arrays])
    images = Images.decode(lambda row: encode(arrays[row]), [str(i) for i in range(150)], sizes, threads=3)
    assert all(np.array_equal(images[i].permute(1, 2, 0).numpy(), array) for i, array in enumerate(arrays))
    assert images.nbytes == sum(array.nbytes for array in arrays)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "size"])
def test_a_damaged_image_is_named(damage: str) -> None:
    good = encode(np.zeros((40, 40, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None])
    bad = {"empty": b"", "text": b"<html>", "truncated": good[:60], "size": encode(np.zeros((8, 8, 3), np.uint8))}
    files = [good, bad[damage], good]
    with pytest.raises(
        DataError, match=r"the (packed )?image real/cat/b (cannot be decoded|is 8 x 8 pixels)"
    ) as caught:
        Images.decode(
            lambda row: files[row], ["real/cat/a", "real/cat/b", "real/cat/c"], torch.full((3, 2), 40), threads=2
        )
    assert caught.value.argument == "data"
