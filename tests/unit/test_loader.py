"""Batches: every sample once an epoch, any step alone, the same whoever asks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domix.data.loading import augment
from domix.data.loading.images import Images
from domix.data.loading.loader import Augmentation, Batch, Batches, Order, augmented
from domix.runtime.errors import DataError
from domix.runtime.seeds import torch_generator
from tests.tiny import make_images

AUGMENTATION = Augmentation(side=32, scale=(0.6, 1.0), ratio=(0.75, 1.3333), hflip=0.5)


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


def drawn(batches: Batches, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of a step, and the crops in their whole images as they are drawn, int64 [4, B]."""
    rows, generator = batches.rows(step), torch_generator(batches.order.seed, "augmentation", step)
    wanted = {"scale": AUGMENTATION.scale, "ratio": AUGMENTATION.ratio, "generator": generator}
    boxes = augment.random_boxes(batches.images.sizes[rows], **wanted)
    return rows, torch.stack([boxes.top, boxes.left, boxes.height, boxes.width])


@pytest.mark.parametrize("ragged", [False, True])
def test_images_captions_and_crops_stay_together(ragged: bool) -> None:
    batches = make_batches(ragged=ragged)
    batch, (rows, boxes) = batches.make(1), drawn(batches, 1)
    assert torch.equal(batch.targets[:, 0], rows)
    places = zip(batch.boxes.T.tolist(), boxes.T.tolist(), strict=True)
    for image, row, (inner, outer) in zip(batch.images, rows.tolist(), places, strict=True):
        top, left, height, width = outer
        assert inner[2:] == outer[2:]
        crop = image[:, inner[0] : inner[0] + height, inner[1] : inner[1] + width]
        assert torch.equal(crop, batches.images[row][:, top : top + height, left : left + width])


def test_a_ragged_batch_is_as_large_as_its_crops() -> None:
    batches = make_batches(ragged=True)
    for step, batch in enumerate(batches):
        boxes = drawn(batches, step)[1]
        assert batch.images.shape[2:] == (boxes[2].max(), boxes[3].max())
        for image, (height, width) in zip(batch.images, boxes[2:].T.tolist(), strict=True):
            assert not image[:, height:].any()
            assert not image[:, :, width:].any()


def test_images_of_one_size_are_not_cropped_before_they_are() -> None:
    batch = make_batches().make(0)
    assert batch.images.shape[2:] == tuple(make_images(1).sizes[0])
    assert torch.equal(batch.boxes, drawn(make_batches(), 0)[1])


SIZES = torch.tensor([(16, 6000), (3000, 20), (40, 40), (1200, 1100)])
ODD = Images(SIZES, torch.randint(0, 256, (int(SIZES.prod(dim=1).sum()) * 3,), dtype=torch.uint8))


def test_odd_images_set_the_cost_of_no_batch_and_are_seen_as_alone() -> None:
    """Whole, these four would take a batch of 3000 x 6000; each is seen as if it were cropped and resized alone."""
    order = Order(count=4, seed=0)
    batches = Batches(ODD, torch.arange(4)[:, None], AUGMENTATION, order, batch=4, total=1)
    batch, (rows, boxes) = batches.make(0), drawn(batches, 0)
    assert batch.images.shape[2:].numel() <= 48 * 48
    found = augmented(batch, 32)
    for number, row in enumerate(rows.tolist()):
        box = augment.Boxes(*boxes[:, number : number + 1])
        alone = augment.crop_resize(ODD[row][None], box, 32, hflip=batch.hflip[number : number + 1])
        assert (augment.normalise(alone)[0] - found[number]).abs().max() <= 1 / (255 * 0.25)


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
