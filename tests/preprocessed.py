"""Images as open_clip's own transform for evaluation prepares them."""

from __future__ import annotations

import torch
from open_clip.transform import image_transform
from PIL import Image


def preprocessed(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return images uint8 [N, 3, H, W] as float32 [N, 3, side, side], CLIP's mean and deviation, one by one."""
    transform = image_transform(side, is_train=False)
    return torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
