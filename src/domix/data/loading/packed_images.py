"""Images that are read from their shards and decoded each time a batch needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor
from torch.utils.data import get_worker_info

from domix.data.loading.decode import decode_all, room
from domix.data.loading.encoded import Encoded
from domix.data.loading.images import Effort
from domix.data.loading.samples import Reader, sizes_of
from domix.data.loading.windows import Windows, place_in

if TYPE_CHECKING:
    from domix.data.loading.spool import Spool


class PackedImages:
    """The images of `samples`, in their order; columns in place of lists keep forked processes from copying them."""

    effort: Effort = "decode"

    def __init__(
        self,
        samples: pd.DataFrame,
        readers: Mapping[str, Reader],
        *,
        threads: int,
        encoded: bool = False,
        spool: Spool | None = None,
    ) -> None:
        """Read images with `readers` by source.

        Args:
            samples: columns `source`, `row`, `key`, `height`, `width`.
            readers: source -> its packed images.
            threads: that decode a batch; in a worker process, which has others beside it, it is always one.
            encoded: leave the decoding of JPEG files to whoever has the batch.
            spool: holds the shards that some of the readers read, and must be filled while batches are made.
        """
        self._source, names = pd.factorize(samples["source"])
        self._readers = [readers[name] for name in names]
        self._row, self._key = samples["row"].to_numpy(), samples["key"].array
        self.sizes, self.spool = sizes_of(samples), spool
        self._threads, self._encoded = threads, encoded

    def __len__(self) -> int:
        return len(self.sizes)

    def cut(self, rows: Tensor, windows: Windows | None = None) -> Tensor | Encoded:
        """Decode images int64 [B], or windows of them, padded with zeros to the largest: uint8 [B, 3, H, W].

        Raises:
            DataError: an image is missing or damaged.
        """
        chosen, sizes = rows.numpy(), self.sizes[rows]
        places = list(zip(self._source[chosen].tolist(), self._row[chosen].tolist(), strict=True))
        names = self._key[chosen].tolist()

        def read(number: int) -> bytes:
            source, row = places[number]
            return self._readers[source].read(row)

        if self._encoded:
            return Encoded([read(number) for number in range(len(places))], names, sizes, windows)
        batch = room(sizes if windows is None else windows.shapes)
        threads = self._threads if get_worker_info() is None else 1
        decode_all(read, names, sizes, lambda n, image: place_in(batch, n, image, windows), threads=threads)
        return batch
