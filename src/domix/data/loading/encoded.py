"""Image files that are decoded on the device of the training: JPEG files by the GPU itself.

The files of a batch travel to it side by side in one buffer, on the CPU: nvJPEG takes them there, and writes pixels to
the GPU. Other formats are decoded beforehand, and travel as pixels in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from domix.data.loading.decode import check_size, decode_rgb, decode_sized, room
from domix.data.loading.windows import Windows, place_in

JPEG = b"\xff\xd8\xff"  # how its files begin


class Encoded:
    """The images of a batch as JPEG files, or as pixels where they are of another format.

    No tuple or dataclass, and without a method `to`: what moves batches to a device leaves it where it is.
    """

    def __init__(
        self, files: Sequence[bytes], names: Sequence[str], sizes: Tensor, windows: Windows | None = None
    ) -> None:
        """Take the files of images called `names` and of `sizes` int64 [B, 2] (height, width).

        `windows` of them make the batch, or all of them.

        Raises:
            DataError: a file that is no JPEG cannot be decoded, or is not as large as `sizes` says.
        """
        self.names, self.sizes, self.windows = list(names), sizes, windows
        self.jpeg = [data.startswith(JPEG) for data in files]
        parts = [
            np.frombuffer(data, np.uint8) if jpeg else decode_sized(data, name, *size).transpose(2, 0, 1).ravel()
            for data, name, size, jpeg in zip(files, names, sizes.tolist(), self.jpeg, strict=True)
        ]
        self.lengths = [len(part) for part in parts]
        self.data = torch.from_numpy(np.concatenate(parts))  # uint8, one buffer: a batch is one piece of shared memory

    def __len__(self) -> int:
        return len(self.names)

    def decode(self, device: torch.device) -> Tensor:
        """Decode the batch on `device`, padded with zeros to the largest image or window: uint8 [B, 3, H, W].

        Raises:
            DataError: a file cannot be decoded, or is not as large as the index says.
        """
        batch = room(self.sizes if self.windows is None else self.windows.shapes, device)
        parts = self.data.split(self.lengths)
        decoded = iter(self._decode_jpegs([part for part, jpeg in zip(parts, self.jpeg, strict=True) if jpeg], device))
        for number, (part, jpeg, size) in enumerate(zip(parts, self.jpeg, self.sizes.tolist(), strict=True)):
            place_in(batch, number, next(decoded) if jpeg else part.view(3, *size), self.windows)
        return batch

    def _decode_jpegs(self, files: list[Tensor], device: torch.device) -> list[Tensor]:
        from torchvision.io import ImageReadMode, decode_jpeg

        if not files:
            return []
        kept = [number for number, jpeg in enumerate(self.jpeg) if jpeg]
        try:
            decoded = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # which does not say which file: find it
            for number, file in zip(kept, files, strict=True):
                decode_rgb(file.numpy().tobytes(), self.names[number])
            raise
        for number, image in zip(kept, decoded, strict=True):
            check_size(self.names[number], tuple(image.shape[1:]), tuple(self.sizes[number].tolist()))
        return list(decoded)
