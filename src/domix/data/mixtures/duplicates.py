"""Copies of held-out images among training samples: equal files, and images that look nearly the same.

Equal files have equal SHA-256. Nearly equal images have perceptual hashes (`images.phash`, 64 bits) that differ in a
few bits, which recompression, resizing and small retouches leave alone; mirroring, cropping and turning do not.

A few thousand held-out images are compared with millions of samples without comparing each pair: if two hashes differ
in at most r bits and are cut into m parts, one of the parts differs in at most r // m (Norouzi, Punjani and Fleet
2012). So a table of all values near to each part of the held out hashes names the few pairs that are worth comparing,
and none is missed.

The hash of an image with anything on it has about half its bits set: those of the coefficients above their median. A
blank image's coefficients are all equal but one, and any two blank ones are alike. Such flat hashes are left out of
the search for nearly equal images, though not of that for equal files.

Shapes: P held-out images, N training samples.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, pairwise
from math import comb

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from domix.runtime.errors import DataError

Bits = NDArray[np.uint64]
Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints, Ints]  # places among the held out, places among the samples, bits that differ

HASH_BITS, HASH_DIGITS = 64, 16
FLAT = 8  # a hash with fewer bits set says too little about its image
PARTS = range(3, 9)  # a hash is cut into: the widest part has 22 bits, and its table 4 million entries
TABLE = 1 << 23  # values near to parts of the held out hashes, at most
LOOKUP, ENTRY = 4, 10  # what looking a part up costs, and making an entry, measured in comparisons of two hashes
ROWS, COMPARED = 1 << 18, 1 << 22  # hashes looked up, and pairs compared, at a time: tens of megabytes
COLUMNS = {"kind": "str", "test_row": "int64", "source": "str", "row": "int64", "distance": "int64"}


def held_out_images(index: pd.DataFrame, test_domain: str, test_classes: Collection[str]) -> pd.DataFrame:
    """Return the rows of an index (columns `domain`, `class`, `split`) that a study tests on and withholds."""
    return index[in_cells(index, test_domain, test_classes) & (index["split"] == "test").to_numpy()]


def in_cells(rows: pd.DataFrame, domain: str, classes: Collection[str]) -> NDArray[np.bool_]:
    """Tell which rows (columns `domain`, `class`) are of these classes in this domain."""
    return ((rows["domain"] == domain) & rows["class"].isin(list(classes))).to_numpy(dtype=bool)


def leaked(held_out: pd.DataFrame, samples: Mapping[str, pd.DataFrame], near_bits: int | None) -> pd.DataFrame:
    """Find the training samples that are copies of held-out images.

    Args:
        held out: columns `row`, `sha256`, `phash`, of P images.
        samples: source -> the same columns of its training samples.
        near_bits: bits in which the hashes of nearly equal images differ at most; None: equal files only.

    Returns:
        One row a pair: `kind` (exact: equal files; near: all others), `test_row`, `source`, `row`, `distance` (bits;
        0 where the files are equal), ordered by test row, source and row.

    Raises:
        DataError: a perceptual hash is not 16 hexadecimal digits.
    """
    held_out = held_out.reset_index(drop=True)
    bits = None if near_bits is None else hash_bits(held_out["phash"])
    found = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})]
    for source, rows in samples.items():
        parts = {"exact": _equal_files(held_out, rows)}
        if bits is not None and near_bits is not None:
            parts["near"] = near_pairs(bits, hash_bits(rows["phash"]), near_bits)
        for kind, (image, sample, distance) in parts.items():
            pairs = {"test_row": held_out["row"].to_numpy()[image], "row": rows["row"].to_numpy()[sample]}
            found.append(pd.DataFrame({"kind": kind, "source": source, "distance": distance} | pairs)[list(COLUMNS)])
    table = pd.concat(found, ignore_index=True).astype(COLUMNS)
    table = table.drop_duplicates(["test_row", "source", "row"])  # exact pairs come first
    order = table.assign(source=table["source"].map({name: place for place, name in enumerate(samples)}))
    order = order.sort_values(["test_row", "source", "row"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def rows_to_drop(
    indices: Mapping[str, pd.DataFrame], test_domain: str, test_classes: Collection[str], *, near_bits: int | None
) -> dict[str, Ints]:
    """Return the rows of training samples that a study must do without lest it shows copies of what it withholds.

    Training samples of the held-out cells themselves are not among them: mixtures hold them on purpose or not at all.

    Args:
        indices: source -> columns `row`, `domain`, `class`, `split`, `sha256`, `phash`; the multi-domain source first.
        near_bits: as in `leaked`.

    Returns:
        source -> rows, rising.
    """
    source = next(iter(indices))
    samples = {}
    for name, index in indices.items():
        keep = (index["split"] == "train").to_numpy()
        if name == source:
            keep = keep & ~in_cells(index, test_domain, test_classes)
        samples[name] = index.loc[keep, ["row", "sha256", "phash"]]
    pairs = leaked(held_out_images(indices[source], test_domain, test_classes), samples, near_bits)
    return {name: np.unique(pairs.loc[pairs["source"] == name, "row"].to_numpy()) for name in indices}


def hash_bits(hashes: pd.Series) -> Bits:
    """Return perceptual hashes, written as 16 hexadecimal digits, as numbers: uint64 [N].

    Raises:
        DataError: one is missing or of another form.
    """
    if hashes.empty:
        return np.zeros(0, np.uint64)
    try:
        digits = pa.array(hashes, pa.string(), from_pandas=True).cast(pa.binary()).cast(pa.binary(HASH_DIGITS))
        if digits.null_count:
            raise ValueError("one is missing")
        return np.frombuffer(binascii.unhexlify(digits.buffers()[1]), ">u8").astype(np.uint64)
    except ValueError as error:  # pyarrow's and binascii's errors are ValueErrors
        raise DataError(
            f"the index holds perceptual hashes that are not {HASH_DIGITS} hexadecimal digits ({error})",
            argument="indices",
        ) from error


def is_flat(bits: Bits) -> NDArray[np.bool_]:
    """Tell which hashes are those of images without content."""
    return np.bitwise_count(bits) < FLAT


def _equal_files(held_out: pd.DataFrame, samples: pd.DataFrame) -> Pairs:
    hits = np.flatnonzero(samples["sha256"].isin(held_out["sha256"]).to_numpy())
    left = pd.DataFrame({"sha256": held_out["sha256"], "image": np.arange(len(held_out))})
    right = pd.DataFrame({"sha256": samples["sha256"].iloc[hits].array, "sample": hits})
    both = left.merge(right, on="sha256")
    return both["image"].to_numpy(np.int64), both["sample"].to_numpy(np.int64), np.zeros(len(both), np.int64)


def near_pairs(held_out: Bits, samples: Bits, most: int) -> Pairs:
    """Find all pairs of hashes, held out [P] and of samples [N], that differ in at most `most` bits and are not flat.

    Returns:
        Places among the held out, places among the samples, and the bits that differ, ordered by place.
    """
    telling = np.flatnonzero(~is_flat(held_out))
    if len(telling) == 0 or len(samples) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    distinct, group = np.unique(held_out[telling], return_inverse=True)
    tables = _part_tables(distinct, len(samples), most)
    parts = [_near_block(distinct, tables, samples, start, most) for start in range(0, len(samples), ROWS)]
    hashes, sample, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Back from distinct hashes to images.
    members = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=len(distinct))
    image = telling[members[_expand((np.cumsum(sizes) - sizes)[hashes], sizes[hashes])]]
    sample, distance = np.repeat(sample, sizes[hashes]), np.repeat(distance, sizes[hashes])
    order = np.lexsort((sample, image))
    return image[order], sample[order], distance[order]


class _PartTable:
    """One part of all distinct hashes: for each value of it, whose part lies within `radius` bits of that value."""

    def __init__(self, hashes: Bits, shift: int, width: int, radius: int) -> None:
        self.shift, self.mask = np.uint64(shift), np.uint64((1 << width) - 1)
        flips = [sum(1 << bit for bit in bits) for n in range(radius + 1) for bits in combinations(range(width), n)]
        near = self.values(hashes)[:, None] ^ np.array(flips, np.int64)
        self.sizes = np.bincount(near.ravel(), minlength=1 << width).astype(np.int32)
        self.starts = (np.cumsum(self.sizes) - self.sizes).astype(np.int32)
        self.owners = (np.argsort(near, axis=None, kind="stable") // len(flips)).astype(np.int32)

    def values(self, hashes: Bits) -> Ints:
        return ((hashes >> self.shift) & self.mask).astype(np.int64)


def _part_tables(hashes: Bits, samples: int, most: int) -> list[_PartTable]:
    edges = np.linspace(0, HASH_BITS, _part_count(len(hashes), samples, most) + 1).round().astype(int).tolist()
    radius = most // (len(edges) - 1)
    return [_PartTable(hashes, low, high - low, radius) for low, high in pairwise(edges)]


def _part_count(hashes: int, samples: int, most: int) -> int:
    """Return into how many parts to cut hashes: many narrow parts are near to all, few wide ones need great tables."""

    def cost(parts: int) -> tuple[bool, float]:
        width = -(-HASH_BITS // parts)
        entries = hashes * sum(comb(width, bits) for bits in range(most // parts + 1))
        each = samples * (LOOKUP + entries / 2**width) + ENTRY * entries + 2**width
        return entries > TABLE, parts * each

    return min(PARTS, key=cost)


def _near_block(hashes: Bits, tables: list[_PartTable], samples: Bits, start: int, most: int) -> Pairs:
    """Search ROWS samples from `start` on; the pairs' first places are among the distinct `hashes`."""
    rows = start + np.flatnonzero(~is_flat(samples[start : start + ROWS]))
    found = [np.zeros(0, np.int64)]
    for table in tables:
        values = table.values(samples[rows])
        sizes = table.sizes[values].astype(np.int64)
        for part in _portions(sizes):
            sample = np.repeat(rows[part], sizes[part])
            owner = table.owners[_expand(table.starts[values[part]], sizes[part])].astype(np.int64)
            near = np.bitwise_count(samples[sample] ^ hashes[owner]) <= most
            found.append(sample[near] * len(hashes) + owner[near])
    sample, owner = np.divmod(np.unique(np.concatenate(found)), len(hashes))
    return owner, sample, np.bitwise_count(samples[sample] ^ hashes[owner]).astype(np.int64)


def _portions(sizes: Ints) -> Iterator[slice]:
    """Cut rows into runs of about COMPARED pairs together."""
    total = np.cumsum(sizes)
    ends = np.searchsorted(total, np.arange(COMPARED, int(total[-1]) + COMPARED, COMPARED)) if len(total) else []
    start = 0
    for end in ends:
        stop = min(int(end) + 1, len(sizes))
        if stop > start:
            yield slice(start, stop)
        start = stop


def _expand(starts: NDArray[np.integer], sizes: Ints) -> Ints:
    """Return starts[0], starts[0] + 1, ... (sizes[0] of them), then those of the next, and so on."""
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
