"""Batched crops and resizes against torchvision's, image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from domix.data.loading import augment

SIZES = torch.tensor([[64, 64], [64, 91], [80, 64], [33, 47], [20, 25]])


def images(smooth: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for height, width in SIZES.tolist():
        noise = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        made.append(tv.gaussian_blur(noise, [7, 7]) if smooth else noise)
    return made


def padded(given: list[Tensor]) -> Tensor:
    batch = torch.full((len(given), 3, 80, 91), 77, dtype=torch.uint8)  # what the padding holds must not matter
    for place, image in zip(batch, given, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("size", [16, 32, 48])
@pytest.mark.parametrize("seed", range(5))
def test_crops_equal_torchvisions_within_a_grey_level(smooth: bool, size: int, seed: int) -> None:
    given = images(smooth)
    generator = torch.Generator().manual_seed(seed)
    boxes = augment.random_boxes(SIZES, scale=(0.3, 1.0), ratio=(0.75, 1.3333), generator=generator)
    hflip = augment.random_hflip(len(SIZES), probability=0.5, generator=generator)
    ours = augment.crop_resize(padded(given), boxes, size, hflip=hflip)
    for i, image in enumerate(given):
        box = [int(side[i]) for side in (boxes.top, boxes.left, boxes.height, boxes.width)]
        # Between its two passes torchvision rounds uint8 images and cuts off what overshoots, which in noise is much.
        image = image if smooth else image.float()
        theirs = tv.resized_crop(image, *box, [size, size], InterpolationMode.BICUBIC, antialias=True)
        theirs = tv.horizontal_flip(theirs) if hflip[i] else theirs
        assert (ours[i] - theirs.float().clamp(0, 255)).abs().max() <= 1


def centre_boxes(sizes: Tensor) -> augment.Boxes:
    """Return the central squares of images of `sizes` int64 [B, 2]: CLIP's resize-then-centre-crop in one step."""
    side = sizes.min(dim=1).values
    top, left = (sizes[:, 0] - side) // 2, (sizes[:, 1] - side) // 2
    return augment.Boxes(top, left, side, side)


@pytest.mark.parametrize("size", [16, 32])
def test_centre_crops_equal_resize_then_crop_of_squares(size: int) -> None:
    square = images(True)[:1]
    boxes = centre_boxes(SIZES[:1])
    ours = augment.crop_resize(torch.stack(square), boxes, size)
    clip = v2.Compose([v2.Resize(size, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(size)])
    assert (ours[0] - clip(square[0]).float()).abs().max() <= 1


@pytest.mark.parametrize("size", [16, 32])
def test_centre_crops_nearly_equal_resize_then_crop_of_any_image(size: int) -> None:
    given = images(True)[:4]
    ours = augment.crop_resize(padded(given + images(True)[4:]), centre_boxes(SIZES), size)
    clip = v2.Compose([v2.Resize(size, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(size)])
    for mine, image in zip(ours, given, strict=False):
        # Cropping first moves the grid by a fraction of a pixel and hides what lies beyond the border.
        assert (mine - clip(image).float()).abs().mean() <= 4


def test_the_grey_range_is_kept() -> None:
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64).contiguous()
    boxes = augment.Boxes(*(torch.tensor([value]) for value in (5, 5, 13, 13)))
    enlarged = augment.crop_resize(stripes, boxes, 32)
    assert enlarged.min() == 0
    assert enlarged.max() == 255
    assert torch.equal(enlarged, enlarged.round())


def test_random_boxes_follow_torchvisions_distribution() -> None:
    count = 4000
    sizes = torch.tensor([[60, 90]]).expand(count, 2)
    generator = torch.Generator().manual_seed(0)
    boxes = augment.random_boxes(sizes, scale=(0.1, 0.9), ratio=(0.5, 2.0), generator=generator)
    torch.manual_seed(0)
    image = torch.empty(3, 60, 90)
    crop = v2.RandomResizedCrop(8, scale=(0.1, 0.9), ratio=(0.5, 2.0))
    theirs = torch.tensor(
        [
            [p[key] for key in ("top", "left", "height", "width")]
            for p in (crop.make_params([image]) for _ in range(count))
        ]
    ).double()
    ours = torch.stack([boxes.top, boxes.left, boxes.height, boxes.width], dim=1).double()
    spread = theirs.std(dim=0)
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() <= 4 * spread * (2 / count) ** 0.5).all()
    assert ((ours.std(dim=0) / spread - 1).abs() <= 0.06).all()


@pytest.mark.parametrize("side", ["height", "width"])
def test_every_corner_that_a_crop_may_have_is_drawn_equally_often(side: str) -> None:
    """The last row and column of an image are shown as often as the first."""
    count, room = 6000, 3
    long = 8 + room
    sizes = torch.tensor([[long, 8] if side == "height" else [8, long]]).expand(count, 2)
    share = 64 / (8 * long)  # squares of 8 x 8
    generator = torch.Generator().manual_seed(0)
    boxes = augment.random_boxes(sizes, scale=(share, share), ratio=(1.0, 1.0), generator=generator)
    assert (boxes.height == 8).all() and (boxes.width == 8).all()
    drawn, other = (boxes.top, boxes.left) if side == "height" else (boxes.left, boxes.top)
    assert (other == 0).all()
    found = torch.bincount(drawn)
    assert len(found) == room + 1
    assert ((found / count - 1 / len(found)).abs() < 0.03).all()


def test_an_image_too_narrow_for_any_crop_gives_its_largest_centre() -> None:
    sizes = torch.tensor([[8, 100], [100, 8]])
    generator = torch.Generator().manual_seed(0)
    boxes = augment.random_boxes(sizes, scale=(0.9, 1.0), ratio=(0.75, 1.3333), generator=generator)
    assert boxes.height.tolist() == [8, 11]
    assert boxes.width.tolist() == [11, 8]
    assert boxes.top.tolist() == [0, 44]
    assert boxes.left.tolist() == [44, 0]


def test_flipping_follows_its_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not augment.random_hflip(100, probability=0.0, generator=generator).any()
    assert augment.random_hflip(100, probability=1.0, generator=generator).all()
    assert 400 < augment.random_hflip(1000, probability=0.5, generator=generator).sum() < 600


def test_normalising_gives_clips_mean_and_variance() -> None:
    made = augment.normalise(torch.full((1, 3, 2, 2), 255.0))
    theirs = tv.normalize(torch.ones(1, 3, 2, 2), list(augment.CLIP_MEAN), list(augment.CLIP_STD))
    torch.testing.assert_close(made, theirs)
