"""Crop, resize, hflip and normalise whole batches, on whatever device they lie.

Images arrive as uint8 and leave as float32, normalised. Cropping and resizing with an antialiasing filter is
separable and linear, so one image's share is two small matrices: `out = rows @ image @ columns.T`. Built for a
batch, they turn the whole augmentation into two batched matrix products, which a GPU and a CPU both do well, and which
give what torchvision's `resized_crop(antialias=True)` gives image by image (tests/parity/test_augment.py).

Shapes: B batch, C channels, H x W the (padded) input, S the output's side, N candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

ATTEMPTS = 10  # candidates for a random crop before the fall-back, as in torchvision


@dataclass(frozen=True)
class Boxes:
    """One crop rectangle an image, in pixels, each field int64 [B]."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def random_boxes(
    sizes: Tensor, *, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Boxes:
    """Draw RandomResizedCrop rectangles for images of `sizes` int64 [B, 2] (height, width).

    The distribution is torchvision's: area share uniform in `scale`, aspect ratio log-uniform in `ratio`, the first of
    ten candidates that fits, else the largest central rectangle within the ratios.
    """
    height, width = sizes[:, :1].double(), sizes[:, 1:].double()
    shape = (len(sizes), ATTEMPTS)
    share = torch.rand(shape, generator=generator, dtype=torch.float64) * (scale[1] - scale[0]) + scale[0]
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(torch.rand(shape, generator=generator, dtype=torch.float64) * (log_high - log_low) + log_low)
    area = share * height * width
    w_BN, h_BN = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (w_BN > 0) & (w_BN <= width) & (h_BN > 0) & (h_BN <= height)
    first = fits.int().argmax(dim=1, keepdim=True)  # the first candidate that fits; 0 where none does
    w_B, h_B = w_BN.gather(1, first)[:, 0], h_BN.gather(1, first)[:, 0]

    tall, wide = width[:, 0], height[:, 0]
    in_ratio = (tall / wide).clamp(ratio[0], ratio[1])
    central_w = torch.minimum(tall, torch.round(wide * in_ratio))
    central_h = torch.minimum(wide, torch.round(tall / in_ratio))
    found = fits.any(dim=1)
    w_B, h_B = torch.where(found, w_B, central_w).long(), torch.where(found, h_B, central_h).long()

    corner = torch.rand((len(sizes), 2), generator=generator, dtype=torch.float64)
    room_h, room_w = sizes[:, 0] - h_B, sizes[:, 1] - w_B
    top = torch.where(found, (corner[:, 0] * (room_h + 1)).long(), room_h // 2)
    left = torch.where(found, (corner[:, 1] * (room_w + 1)).long(), room_w // 2)
    return Boxes(top, left, h_B, w_B)


def random_hflip(count: int, *, probability: float, generator: torch.Generator) -> Tensor:
    """Draw which of `count` images to hflip: bool [B]."""
    return torch.rand(count, generator=generator) < probability


def resample_weights(
    start: Tensor, length: Tensor, *, size_in: int, size_out: int, hflip: Tensor | None = None
) -> Tensor:
    """Build the antialiased bicubic resampling matrices float32 [B, size_out, size_in] of one axis.

    Output pixel i of image b is the weighted mean of the input pixels `start[b] .. start[b] + length[b]`; no other
    pixel has any weight, as if the image had been cropped first. Kernel: Keys' cubic with a = -0.5, widened by the
    reduction factor, as Pillow and torchvision do it. Where `hflip` bool [B] says so, outputs come in reverse order.
    """
    start, length = start.to(torch.float32)[:, None, None], length.to(torch.float32)[:, None, None]
    reduction = length / size_out
    support = reduction.clamp(min=1.0)
    place = torch.arange(size_out, device=start.device)[None, :, None]
    if hflip is not None:
        place = torch.where(hflip[:, None, None], size_out - 1 - place, place)
    centre = (place + 0.5) * reduction + start
    # The kernel reaches 2 * support to either side, a few pixels of many: only those are worked out, then put in place.
    taps = int(4 * max(1.0, size_in / size_out)) + 2
    pixel = torch.floor(centre - 2 * support - 0.5) + torch.arange(taps, device=start.device)
    weights = _cubic_((pixel + 0.5).sub_(centre).div_(support))
    weights.masked_fill_((pixel < start) | (pixel >= start + length), 0)
    weights /= weights.sum(dim=2, keepdim=True)
    matrices = torch.zeros(len(start), size_out, size_in, device=start.device)
    return matrices.scatter_add_(2, pixel.clamp(0, size_in - 1).long(), weights)


def _cubic_(x: Tensor, a: float = -0.5) -> Tensor:
    """Return Keys' kernel at `x`, which is spoilt."""
    x.abs_().clamp_(max=2)  # where the outer piece is exactly zero, as is the kernel from there on
    near = ((a + 2) * x).sub_(a + 3).mul_(x).mul_(x).add_(1)
    far = (x - 5).mul_(x).add_(8).mul_(x).sub_(4).mul_(a)
    return torch.where(x < 1, near, far)


def crop_resize(images: Tensor, boxes: Boxes, size: int, *, hflip: Tensor | None = None) -> Tensor:
    """Cut `boxes` out of uint8 [B, C, H, W] and resize them to float32 [B, C, size, size] in 0..255.

    Results are rounded and clamped to whole grey levels, as when uint8 images are resized one by one. They lie in
    memory channels-last.
    """
    rows, columns = _resampling(boxes, images, size, hflip)
    half = torch.einsum("bchw,bsw->bchs", images.float(), columns)
    resized = torch.einsum("bchs,bth->btsc", half, rows)  # so the second product writes channels-last at no cost
    return resized.round_().clamp_(0, 255).permute(0, 3, 1, 2)


def _resampling(boxes: Boxes, images: Tensor, size: int, hflip: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the matrices of both axes, [B, size, H] and [B, size, W]; of square images in one go."""
    upright = torch.zeros_like(boxes.top, dtype=torch.bool)
    turned = upright if hflip is None else hflip
    (high, wide), where = images.shape[2:], images.device
    if high == wide:
        starts, lengths = torch.cat([boxes.top, boxes.left]), torch.cat([boxes.height, boxes.width])
        both = _matrices(starts, lengths, torch.cat([upright, turned]), high, size, where)
        return both[: len(upright)], both[len(upright) :]
    rows = _matrices(boxes.top, boxes.height, upright, high, size, where)
    return rows, _matrices(boxes.left, boxes.width, turned, wide, size, where)


def _matrices(
    start: Tensor, length: Tensor, hflip: Tensor, size_in: int, size_out: int, device: torch.device
) -> Tensor:
    """Return `resample_weights` on `device`; on a CPU, those of equal spans are worked out once."""
    if device.type != "cpu":  # where looking for equal ones would wait for all that the device has to do
        start, length, hflip = (field.to(device) for field in (start, length, hflip))
        return resample_weights(start, length, size_in=size_in, size_out=size_out, hflip=hflip)
    lengths = size_in + 1  # numbers of pixels that a span may have
    spans, which = ((start * lengths + length) * 2 + hflip).unique(return_inverse=True)
    start, length, turned = spans // 2 // lengths, spans // 2 % lengths, spans % 2 == 1
    made = resample_weights(start, length, size_in=size_in, size_out=size_out, hflip=turned)
    return made.index_select(0, which)


def normalise(images: Tensor, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD) -> Tensor:
    """Scale float images in 0..255 [B, C, H, W] to the encoder's zero mean and unit variance."""
    mean_C, std_C = (torch.tensor(values, device=images.device) * 255 for values in (mean, std))
    if not images.is_contiguous(memory_format=torch.channels_last):
        return (images - mean_C[:, None, None]).div_(std_C[:, None, None])
    # In whole rows of pixels: a broadcast over the few channels, which lie innermost, is many times slower.
    rows, wide = images.permute(0, 2, 3, 1).flatten(2), images.shape[3]
    scaled = (rows - mean_C.repeat(wide)).div_(std_C.repeat(wide))
    return scaled.unflatten(2, (wide, len(mean))).permute(0, 3, 1, 2)
