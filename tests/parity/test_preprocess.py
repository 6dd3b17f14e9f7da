"""Images read as the field reads them: every bit of open_clip's own transform, for every mode, size and image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from domix.encoders.preprocess import Preprocess, square

SIZES = [(64, 64), (65, 64), (1, 90), (200, 3), (31, 33), (97, 131), (500, 333), (32, 32), (7, 7)]  # width, height
INCEPTION = (0.5, 0.5, 0.5)


def image(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def read(preprocess: Preprocess, image: Image.Image) -> torch.Tensor:
    return preprocess.normalise(torch.from_numpy(preprocess.cut(image).copy()).permute(2, 0, 1)[None])[0]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [32, 33, 64])
def test_every_bit_is_open_clips(side: int, mode: str, interpolation: str) -> None:
    """Extremely narrow images have no shape in `longest`, which open_clip refuses, too."""
    cfg = PreprocessCfg(
        side, mean=INCEPTION, std=(0.2, 0.3, 0.4), interpolation=interpolation, resize_mode=mode, fill_color=9
    )
    theirs = image_transform_v2(cfg, is_train=False)
    ours = Preprocess((side, side), INCEPTION, (0.2, 0.3, 0.4), interpolation, mode, 9)  # ty: ignore
    for width, height in SIZES:
        if mode == "longest" and min(width, height) * side < max(width, height):
            continue
        cut = ours.cut(image(width, height))
        assert cut.dtype == np.uint8 and cut.shape == (side, side, 3)
        batch = torch.from_numpy(np.stack([cut, cut])).permute(0, 3, 1, 2)
        expected = theirs(image(width, height))
        for layout in (torch.contiguous_format, torch.channels_last):
            found = ours.normalise(batch.contiguous(memory_format=layout))
            assert torch.equal(found[1], expected)


@pytest.mark.parametrize("size", [(32, 48), (48, 32)])
def test_images_need_not_be_square(size: tuple[int, int]) -> None:
    theirs = image_transform_v2(PreprocessCfg(size), is_train=False)
    for width, height in SIZES:
        cut = Preprocess(size).cut(image(width, height))
        assert torch.equal(
            Preprocess(size).normalise(torch.from_numpy(cut.copy()).permute(2, 0, 1)[None])[0],
            theirs(image(width, height)),
        )


def test_a_model_trained_here_reads_as_clip_does() -> None:
    expected = image_transform_v2(PreprocessCfg(32), is_train=False)(image(97, 131))
    assert torch.equal(read(square(32), image(97, 131)), expected)
