"""A store of activations on a disk, larger than memory: half precision, in shards, continued where a kill stopped it.

<folder>/about.json                    what it holds: key, images, sites with widths and positions, images a shard
<folder>/<site>/00000.npy              float16 [n P, C]: the activations of one shard's images, in order
<folder>/00000.done                    the shard is whole at every site

A store that was cut short goes on with the first shard that has no mark. What it is of (the encoder's weights, the
images, the sites) is its key: a store of another key is refused. A row is an image (P = 1: activations averaged over
positions) or one of the P positions that a site has in every image: row r is of image r // P.

Shapes: N images, B batch, P positions, C channels, R = N P rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.encoders.encoder import Activations
from domix.runtime.ahead import ahead
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, explain, read_json, write_json
from domix.runtime.seeds import numpy_generator

ABOUT = "about.json"
SHARD = 8192  # rows
GREATEST = float(np.finfo(np.float16).max)


class ActivationStore:
    """The activations of some sites over N images."""

    def __init__(self, folder: Path) -> None:
        """Open a store that is whole.

        Raises:
            DataError: it is missing, cut short or damaged.
        """
        self.folder = folder
        if not (folder / ABOUT).is_file():
            raise DataError(f"there is no store of activations in {folder}: make it first")
        try:
            about = read_json(folder / ABOUT)
            self.count, self.shard = int(about["count"]), int(about["shard"])
            self.widths = {str(name): int(width) for name, width in about["widths"].items()}
            self.positions = {name: int(about["positions"][name]) for name in self.widths}
            self.key = dict(about["key"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{folder / ABOUT} does not describe a store: delete {folder} and make it again") from error
        missing = [place for place in range(_shards(self.count, self.shard)) if not _mark(folder, place).is_file()]
        if missing:
            total = _shards(self.count, self.shard)
            raise DataError(
                f"the store {folder} was cut short after {missing[0]} of {total} parts: go on with it first"
            )

    @property
    def sites(self) -> tuple[str, ...]:
        """What was read."""
        return tuple(self.widths)

    def array(self, site: str, shard: int) -> NDArray[np.float16]:
        """Return a shard of a site, mapped into memory: float16 [n P, C].

        Raises:
            DataError: the store lacks the site, or the shard is damaged.
        """
        if site not in self.widths:
            raise DataError(f"the store {self.folder} has no site {site!r}: it has {', '.join(self.widths)}")
        path = self.folder / site / f"{shard:05d}.npy"
        n = min(self.shard, self.count - shard * self.shard) * self.positions[site]
        try:
            rows = np.load(path, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}): delete {self.folder} and make it again") from error
        if rows.shape != (n, self.widths[site]) or rows.dtype != np.float16:
            raise DataError(f"{path} is damaged (its shape is {rows.shape}): delete {self.folder} and make it again")
        return rows

    @cached_property
    def shards(self) -> int:
        """How many there are."""
        return _shards(self.count, self.shard)

    def rows(self, site: str) -> Iterator[NDArray[np.float16]]:
        """Yield the shards of a site, in the images' order."""
        return (self.array(site, shard) for shard in range(self.shards))

    def size(self, site: str) -> int:
        """Return how many rows a site has, R."""
        return self.count * self.positions[site]

    def take(self, site: str, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return some rows [n], in any order: float16 [n, C].

        Raises:
            DataError: the store lacks the site, or a shard is damaged.
        """
        shards, places = np.divmod(np.asarray(rows, np.int64), self.shard * self.positions.get(site, 1))
        found = np.empty((len(rows), self.widths.get(site, 0)), np.float16)
        for shard in np.unique(shards):
            here = shards == shard
            found[here] = self.array(site, int(shard))[places[here]]
        return found

    def quantiles(self, site: str, shares: Sequence[float], *, channels: int = 64) -> NDArray[np.float64]:
        """Return exact quantiles of every channel over all rows: float64 [len(shares), C], interpolated linearly.

        `channels` are read at a time, so that memory holds R x `channels` numbers.
        """
        found = np.empty((len(shares), self.widths.get(site, 0)))
        for first in range(0, found.shape[1], channels):
            columns = np.concatenate([shard[:, first : first + channels] for shard in self.rows(site)])
            found[:, first : first + channels] = np.quantile(columns.astype(np.float64), shares, axis=0)
        return found

    def batches(self, site: str, *, size: int, seed: int, mixed: int = 8) -> Iterator[NDArray[np.float16]]:
        """Yield all rows once, [size, C], in an order drawn by `seed`; the last batch may be smaller.

        Shards are drawn in random order, `mixed` of them at a time are shuffled together: each is read from the disk
        once, in one piece, by a thread while those before are in use, and memory holds no more than three times these.
        """
        yield from shuffled_batches([self], site, size=size, seed=seed, mixed=mixed)


def shuffled_batches(
    stores: Sequence[ActivationStore], site: str, *, size: int, seed: int, mixed: int = 8
) -> Iterator[NDArray[np.float16]]:
    """Yield the activations of several stores as one: see ActivationStore.batches."""
    generator = numpy_generator(seed, "activations", site)
    shards = [(store, shard) for store in stores for shard in range(store.shards)]
    order = generator.permutation(len(shards))
    groups = [[shards[n] for n in order[start : start + mixed]] for start in range(0, len(order), mixed)]

    def read(group: Sequence[tuple[ActivationStore, int]]) -> NDArray[np.float16]:
        return np.concatenate([store.array(site, shard) for store, shard in group])

    left = np.empty((0, stores[0].widths.get(site, 0)), np.float16)
    for pool in ahead(read, groups):
        pool = np.concatenate([left, pool]) if len(left) else pool
        places = generator.permutation(len(pool))
        whole = len(pool) // size * size
        yield from (pool[places[first : first + size]] for first in range(0, whole, size))
        left = pool[places[whole:]]
    if len(left):
        yield left


class StoreWriter:
    """A reducer that writes a store. Ask `begin` where the images are to start."""

    def __init__(
        self,
        folder: Path,
        sites: Sequence[str],
        count: int,
        *,
        key: Mapping[str, Any],
        shard: int = SHARD,
        positions: Mapping[str, int] | None = None,
    ) -> None:
        """Begin, or go on with, the store of `count` images in `folder`.

        Args:
            folder: of the store; made if need be.
            sites: that are kept.
            count: of images.
            key: all that the activations depend on, as JSON values.
            shard: images a shard.
            positions: P of each site, where every position is a row; None: an image is a row.

        Raises:
            DataError: `folder` holds a store of something else.
            DomixError: the folder cannot be written.
        """
        self.sites, self.folder, self.count, self.shard = sites, folder, count, shard
        self.positions = {name: 1 if positions is None else positions[name] for name in sites}
        about = {"sites": list(sites), "count": count, "shard": shard, "positions": self.positions}
        self.key = json.loads(json.dumps({**key, **about}))
        with explain(folder):
            folder.mkdir(parents=True, exist_ok=True)
        known = read_json(folder / "key.json") if (folder / "key.json").is_file() else None
        if known is not None and known != self.key:
            raise DataError(f"{folder} holds activations of another encoder, images or sites: name another folder")
        write_json(folder / "key.json", self.key)
        total = _shards(count, shard)
        self._shard = next((place for place in range(total) if not _mark(folder, place).is_file()), total)
        self._parts: dict[str, list[NDArray[np.float16]]] = {}
        self._held = 0
        self._widths: dict[str, int] = {}
        self.begin = min(count, self._shard * shard)
        self._next = self.begin

    def update(self, activations: Activations, rows: NDArray[np.int64]) -> None:
        """Take in a batch, [B, C] or [B, P, C]; images before `begin` are passed over.

        Args:
            activations: of the batch.
            rows: its images' numbers, from the first image of the whole set.

        Raises:
            DataError: an activation is not finite, too great for half precision, or a site has other positions.
            DomixError: there is no room on the disk.
        """
        fresh = rows >= self._next
        if not fresh.any():
            return
        for name in self.sites:
            values = activations.sites[name].detach().cpu().float().numpy()[fresh]
            self._parts.setdefault(name, []).append(_half(values, name, self.positions[name]))
            self._widths[name] = values.shape[-1]
        self._held += int(fresh.sum())
        self._next = int(rows[fresh][-1]) + 1
        while self._held >= self.shard or (self._held and self._next == self.count):
            self._publish(min(self.shard, self._held))

    def _publish(self, n: int) -> None:
        for name in self.sites:
            parts, rows = self._parts[name], n * self.positions[name]
            values = parts[0] if len(parts) == 1 else np.concatenate(parts)
            path = self.folder / name / f"{self._shard:05d}.npy"
            with explain(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary, open(temporary, "wb") as file:
                np.save(file, values[:rows])
            self._parts[name] = [values[rows:]]
        if self._shard == 0:
            write_json(self.folder / "widths.json", self._widths)
        with atomic_file(_mark(self.folder, self._shard)) as temporary:
            temporary.write_text("")
        self._held -= n
        self._shard += 1

    def result(self) -> dict[str, NDArray]:
        """Publish the store, if all images have come.

        Raises:
            DataError: some are missing.
        """
        if self._next < self.count:
            raise DataError(f"the store {self.folder} has {self._next} of {self.count} images: go on with it")
        widths = read_json(self.folder / "widths.json")
        about = {"count": self.count, "shard": self.shard, "widths": widths, "positions": self.positions}
        write_json(self.folder / ABOUT, about | {"key": self.key})
        return {}


def open_or_make(
    folder: Path,
    sites: Sequence[str],
    count: int,
    *,
    key: Mapping[str, Any],
    make: Callable[[StoreWriter], object],
    shard: int = SHARD,
    positions: Mapping[str, int] | None = None,
) -> ActivationStore:
    """Return the store in `folder`; where it is not whole, `make` lets the images from `writer.begin` on pass through.

    Raises:
        DataError: the folder holds another store, or a damaged one.
    """
    writer = StoreWriter(folder, sites, count, key=key, shard=shard, positions=positions)
    if writer.begin < count:
        make(writer)
    if not (folder / ABOUT).is_file():
        writer.result()
    return ActivationStore(folder)


def _half(values: NDArray[np.float32], site: str, positions: int) -> NDArray[np.float16]:
    """Return a batch [B, C] or [B, P, C] as rows [B P, C] in half precision."""
    if values.ndim == 3 and values.shape[1] != positions:
        raise DataError(
            f"site {site} has {values.shape[1]} positions in an image, and {positions} in others: "
            "a store is of images of one size"
        )
    greatest = np.abs(values).max(initial=0.0)
    if not np.isfinite(greatest):
        raise DataError(f"the activations of site {site} are not finite: nothing of them is kept")
    if greatest > GREATEST:
        raise DataError(
            f"the activations of site {site} reach {greatest:.3g}, and half precision {GREATEST:.0f}: read another site"
        )
    return values.astype(np.float16).reshape(-1, values.shape[-1])


def _shards(count: int, shard: int) -> int:
    return -(-count // shard)


def _mark(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.done"
