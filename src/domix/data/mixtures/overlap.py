"""What an out-of-distribution set has in common with the data that it is to be told from: classes, and images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd

from domix.data.mixtures.duplicates import leaked

COLUMNS = ["row", "key", "sha256", "phash"]  # of an index


def shared_classes(foreign: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return those of the foreign classes, sorted, that are among the known ones.

    Names are compared without regard to case, and with blanks, hyphens and underscores alike (T-shirt, t_shirt).
    """
    names = {_plain(name) for name in known}
    return sorted(name for name in foreign if _plain(name) in names)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def shared_images(foreign: pd.DataFrame, known: Mapping[str, pd.DataFrame], near_bits: int) -> pd.DataFrame:
    """Find the images of a set that are copies of images of other sources, or look nearly the same.

    Args:
        foreign: COLUMNS of the set's index.
        known: source -> COLUMNS of its index.
        near_bits: bits in which the perceptual hashes of nearly equal images differ at most.

    Returns:
        One row a pair: `kind` (exact: equal files; near), `source`, `distance` (bits), and the images' keys, `image` in
        the set and `other` in the source; in the order of the set's images, the sources, and their images.

    Raises:
        DataError: a perceptual hash is not 16 hexadecimal digits.
    """
    pairs = leaked(foreign, known, near_bits)
    keys = pd.concat([index.assign(source=name).set_index(["source", "row"])["key"] for name, index in known.items()])
    image = foreign.set_index("row")["key"].loc[pairs["test_row"]]
    other = keys.loc[list(zip(pairs["source"], pairs["row"], strict=True))]
    return pairs[["kind", "source", "distance"]].assign(image=image.to_numpy(), other=other.to_numpy())
