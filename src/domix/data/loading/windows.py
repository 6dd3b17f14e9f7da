"""What a batch holds of its images: their crops, so that no odd image sets the cost of all.

A batch is padded to the largest of what it holds. Whole images would make it as wide as its longest one and as high as
its highest; crops are bounded by the ratios that are asked for. A crop that is much larger than what the model reads is
resized to that at once.

Shapes: B images, S the model's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from domix.data.loading.augment import Boxes, crop_resize

LARGE = 16  # times the pixels that the model reads, from which on a crop is resized before it is padded


@dataclass(frozen=True)
class Windows:
    """The parts of B images that go into a batch.

    Attributes:
        boxes: the crops, int64 [4, B] (top, left, height, width), each within its image.
        side: pixels of the model's images, S.
    """

    boxes: Tensor
    side: int

    @property
    def shapes(self) -> Tensor:
        """Return the sizes of the parts in the batch, int64 [B, 2] (height, width)."""
        shapes = self.boxes[2:].T.clone()
        shapes[self._large] = self.side
        return shapes

    @property
    def inner(self) -> Tensor:
        """Return where the crops lie in the batch, int64 [4, B]."""
        return torch.cat([torch.zeros_like(self.boxes[:2]), self.shapes.T])

    @property
    def _large(self) -> Tensor:
        return self.boxes[2:].prod(dim=0) > LARGE * self.side**2

    def take(self, number: int, image: Tensor) -> Tensor:
        """Return the part of image `number`, which is uint8 [3, height, width]: uint8 [3, *shapes[number]]."""
        top, left, height, width = self.boxes[:, number].tolist()
        window = image[:, top : top + height, left : left + width]
        if not self._large[number]:
            return window
        whole = torch.tensor([0]), torch.tensor([0]), torch.tensor([height]), torch.tensor([width])
        return crop_resize(window[None], Boxes(*whole), self.side)[0].byte()


def windows_of(sizes: Tensor, boxes: Tensor, side: int) -> Windows | None:
    """Return the parts of images of `sizes` int64 [B, 2] (height, width) that `boxes` int64 [4, B] crop.

    None: the images are all of one size and not too large, so that whole ones cost no more and are quicker to copy.
    """
    uniform = bool((sizes == sizes[0]).all()) and int(sizes[0].prod()) <= LARGE * side**2
    return None if uniform else Windows(boxes, side)


def place_in(batch: Tensor, number: int, image: Tensor, windows: Windows | None) -> None:
    """Copy an image uint8 [3, height, width], or its window, to its place in a batch uint8 [B, 3, H, W]."""
    part = image if windows is None else windows.take(number, image)
    batch[number, :, : part.shape[1], : part.shape[2]] = part
