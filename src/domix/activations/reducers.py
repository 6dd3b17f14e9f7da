"""Reducers: what is gathered from activations while images pass through an encoder, so that no map is ever kept.

Shapes: N images, B batch, D output, C channels of a site, G x K cells.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.encoders.encoder import DIVERGED, Activations
from domix.runtime.arrays import new_array
from domix.runtime.errors import DataError

Arrays = Mapping[str, NDArray]


class Reducer(Protocol):
    """Something that sees every batch once, in order."""

    sites: Sequence[str]  # that it reads

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Take in a batch: its activations (pooled, [B, C], unless it asks for all) and its images' numbers, from 0."""
        ...

    def result(self) -> Arrays:
        """Return what was gathered, by name."""
        ...


class Outputs:
    """The model's outputs of all images, in a file."""

    sites: Sequence[str] = ()

    def __init__(
        self,
        path: Path,
        count: int,
        *,
        gives: str = "model gives image embeddings",
        unit: bool = True,
        columns: Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Write `count` rows to an .npy file.

        Args:
            path: of the file.
            count: of images.
            gives: who gives what, for messages.
            unit: scale each to length one.
            columns: of the outputs to write; None: all.
            dtype: of the file.
            advance: told how many more images are done.
        """
        self.path, self.count, self.gives, self.unit = path, count, gives, unit
        self.columns, self.dtype, self.advance = columns, dtype, advance
        self._rows: np.memmap | None = None

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Write a batch.

        Raises:
            DataError: an output is not finite.
        """
        output = activations.output if self.columns is None else activations.output[:, list(self.columns)]
        found = finite(F.normalize(output, dim=-1) if self.unit else output, self.gives)
        if self._rows is None:
            self._rows = new_array(self.path, (self.count, found.shape[1]), self.dtype)
        self._rows[rows] = found
        self.advance(len(rows))

    def result(self) -> Arrays:
        """Return the file's array, flushed."""
        assert self._rows is not None, "a set has images"
        self._rows.flush()
        return {"output": self._rows}


def finite(outputs: Tensor, gives: str = "model gives image embeddings") -> NDArray[np.float32]:
    """Return a model's outputs [B, D] as an array; who `gives` what, for the message.

    Raises:
        DataError: one is not finite.
    """
    found = outputs.cpu().numpy()
    if not np.isfinite(found).all():
        raise DataError(f"the {gives} that are not finite: {DIVERGED}")
    return found


class ClassMeans:
    """The mean activation of every site over the images of each cell (domain, class), summed in float64."""

    def __init__(self, sites: Sequence[str], cells: NDArray[np.int64], *, domains: int, classes: int) -> None:
        """Prepare for images in the cells [N], each domain * classes + label, in this order."""
        self.sites, self.shape = sites, (domains, classes)
        self.counts = np.bincount(cells, minlength=domains * classes)
        self.sums: dict[str, Tensor] = {}
        self._cells = torch.from_numpy(np.ascontiguousarray(cells))

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Add a batch."""
        cells = self._cells[torch.from_numpy(rows)]
        for name, pooled in activations.sites.items():
            if name in self.sites:
                value_BC = pooled.cpu().double()
                if name not in self.sums:
                    self.sums[name] = value_BC.new_zeros((len(self.counts), value_BC.shape[1]))
                self.sums[name].index_add_(0, cells, value_BC)

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Return the class means float32 [G, K, C] by site, in order of depth; NaN where a cell has no image."""
        counts, means = self.counts[:, None], {}
        for name in (name for name in self.sites if name in self.sums):
            sums = self.sums[name].numpy()
            mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
            means[name] = mean.reshape(*self.shape, -1).astype(np.float32)
        return means


class Moments:
    """Mean, variance, skewness and kurtosis (population, not excess) of every channel over all images, in float64.

    Batches are joined by Pebay's pairwise update of central sums (Pebay 2008, equations 2.1 to 2.3), so that nothing
    is lost to cancellation.
    """

    def __init__(self, sites: Sequence[str]) -> None:
        """Read `sites`."""
        self.sites = sites
        self._sums: dict[str, tuple[int, Tensor, Tensor, Tensor, Tensor]] = {}

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Join a batch."""
        for name in self.sites:
            if name in activations.sites:
                new = _central_sums(activations.sites[name].cpu().double())
                self._sums[name] = _joined(self._sums[name], new) if name in self._sums else new

    def result(self) -> Arrays:
        """Return `<site>/mean`, `/variance`, `/skewness`, `/kurtosis`, each [C]; NaN for channels that never vary."""
        found = {}
        for name, (count, mean, second, third, fourth) in self._sums.items():
            variance = second / count
            moments = {
                "mean": mean,
                "variance": variance,
                "skewness": third / count / variance**1.5,
                "kurtosis": fourth / count / variance**2,
            }
            found |= {f"{name}/{what}": value.numpy() for what, value in moments.items()}
        return found


def _central_sums(values: Tensor) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
    mean = values.mean(dim=0)
    away = values - mean
    return len(values), mean, (away**2).sum(dim=0), (away**3).sum(dim=0), (away**4).sum(dim=0)


def _joined(
    a: tuple[int, Tensor, Tensor, Tensor, Tensor], b: tuple[int, Tensor, Tensor, Tensor, Tensor]
) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
    (na, ma, a2, a3, a4), (nb, mb, b2, b3, b4) = a, b
    n, gap = na + nb, mb - ma
    second = a2 + b2 + gap**2 * na * nb / n
    third = a3 + b3 + gap**3 * na * nb * (na - nb) / n**2 + 3 * gap * (na * b2 - nb * a2) / n
    fourth = a4 + b4 + gap**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
    fourth = fourth + 6 * gap**2 * (na**2 * b2 + nb**2 * a2) / n**2 + 4 * gap * (na * b3 - nb * a3) / n
    return n, ma + gap * nb / n, second, third, fourth


class TopExamples:
    """The images on which each channel of a site is most active."""

    def __init__(self, sites: Sequence[str], most: int) -> None:
        """Keep the `most` highest of each channel; of equal ones the first image."""
        self.sites, self.most = sites, most
        self._heaps: dict[str, list[list[tuple[float, int]]]] = {}

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Take in a batch."""
        for name in self.sites:
            if name not in activations.sites:
                continue
            values = activations.sites[name].cpu().float().numpy()
            heaps = self._heaps.setdefault(name, [[] for _ in range(values.shape[1])])
            order = np.argsort(-values, axis=0, kind="stable")[: self.most]
            for channel, heap in enumerate(heaps):
                for place in order[:, channel]:
                    entry = (float(values[place, channel]), -int(rows[place]))
                    if len(heap) < self.most:
                        heapq.heappush(heap, entry)
                    else:
                        heapq.heappushpop(heap, entry)

    def result(self) -> Arrays:
        """Return `<site>/row` int64 and `<site>/value` float32, both [C, most] from the highest; -1 and NaN: none."""
        found: dict[str, NDArray] = {}
        for name, heaps in self._heaps.items():
            row = np.full((len(heaps), self.most), -1, np.int64)
            value = np.full((len(heaps), self.most), np.nan, np.float32)
            for channel, heap in enumerate(heaps):
                for place, (height, minus_row) in enumerate(sorted(heap, reverse=True)):
                    row[channel, place], value[channel, place] = -minus_row, height
            found |= {f"{name}/row": row, f"{name}/value": value}
        return found
