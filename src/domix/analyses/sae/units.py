"""What each unit of a sparse autoencoder answers to: how often, in which domain and class, on which images.

Shapes: N images, F units, G domains, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.means import group_means

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
LEAST, MOST = 10, 0.5  # images that a unit fires on, and their share, for a look at it to say something
UNIT_COLUMNS = ("unit", "density", "mean", "max", "domain", "domain_share", "class", "class_share")


def mean_values(codes: Floats, group: Ints, groups: int) -> NDArray[np.float64]:
    """Return the mean values [groups, F] of codes [N, F] over the images of each group [N]; 0 of one without images."""
    return np.nan_to_num(group_means(codes, group, groups)[0])


def describe(codes: Floats, domain: Ints, label: Ints, domains: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Return UNIT_COLUMNS, a row a unit.

    A unit prefers the domain in which its mean value is highest; `domain_share` is that mean over the sum of all
    domains' means, so that 1 / G says that all are alike. Classes likewise.

    Args:
        codes: values of the units [N, F].
        domain: number of each image's domain [N].
        label: of each image's class [N].
        domains: their names.
        classes: their names.
    """
    fires = codes > 0
    count = fires.sum(axis=0)
    by_domain, by_class = mean_values(codes, domain, len(domains)), mean_values(codes, label, len(classes))
    prefers, likes = by_domain.argmax(axis=0), by_class.argmax(axis=0)
    return pd.DataFrame(
        {
            "unit": np.arange(codes.shape[1]),
            "density": count / len(codes),
            "mean": codes.sum(axis=0, dtype=np.float64) / np.maximum(count, 1),
            "max": codes.max(axis=0).astype(np.float64),
            "domain": [domains[place] if n else None for place, n in zip(prefers, count, strict=True)],
            "domain_share": _share(by_domain),
            "class": [classes[place] if n else None for place, n in zip(likes, count, strict=True)],
            "class_share": _share(by_class),
        }
    )


def choose(units: pd.DataFrame, number: int, domains: Sequence[str], images: int) -> list[int]:
    """Choose units to look at: in turn the one that all domains share most, and those most of each domain's own.

    Args:
        units: UNIT_COLUMNS.
        number: of units at most.
        domains: in the order in which they have their turn.
        images: N.
    """
    useful = units[(units["density"] * images >= LEAST) & (units["density"] <= MOST)]
    shared = useful.sort_values("domain_share", kind="stable")["unit"]
    own = useful.sort_values("domain_share", ascending=False, kind="stable")
    queues = [shared, *(own.loc[own["domain"] == domain, "unit"] for domain in domains)]
    turns = chain.from_iterable(zip_longest(*(queue.tolist() for queue in queues)))
    return list(dict.fromkeys(int(unit) for unit in turns if unit is not None))[:number]


def top_images(codes: Floats, domain: Ints, domains: Sequence[str], units: Sequence[int], most: int) -> pd.DataFrame:
    """Return `unit, domain, place, image, value`: the images of each domain on which each of some units is most active.

    `image` is the place among the N; of equal values the first comes first, and images on which a unit is silent never.
    """
    rows = []
    for unit in units:
        for number, name in enumerate(domains):
            here = np.flatnonzero((domain == number) & (codes[:, unit] > 0))
            best = here[np.argsort(-codes[here, unit], kind="stable")[:most]]
            rows += [(unit, name, place, int(image), float(codes[image, unit])) for place, image in enumerate(best)]
    frame = pd.DataFrame(rows, columns=["unit", "domain", "place", "image", "value"])
    return frame.astype({"unit": "int64", "place": "int64", "image": "int64", "value": "float64"})


def histograms(codes: Floats, domain: Ints, domains: Sequence[str], units: Sequence[int], bins: int) -> pd.DataFrame:
    """Return `unit, domain, bin, high, n`: how many of a domain's images each of some units answers how strongly.

    Bin 0 are those on which it is silent; bins 1 to `bins` part what lies between 0 and its greatest value evenly.
    """
    rows = []
    for unit in units:
        greatest = float(codes[:, unit].max())
        width = greatest / bins or 1.0
        place = np.ceil(codes[:, unit] / width - 1e-6).clip(0, bins).astype(np.int64)
        place[codes[:, unit] > 0] = place[codes[:, unit] > 0].clip(1)
        for number, name in enumerate(domains):
            counts = np.bincount(place[domain == number], minlength=bins + 1)
            rows += [(unit, name, b, b * greatest / bins, int(n)) for b, n in enumerate(counts)]
    frame = pd.DataFrame(rows, columns=["unit", "domain", "bin", "high", "n"])
    return frame.astype({"unit": "int64", "bin": "int64", "high": "float64", "n": "int64"})


def _share(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the greatest of the groups' means [groups, F] as a share of their sum, [F]; NaN where that is 0."""
    total = means.sum(axis=0)
    return np.divide(means.max(axis=0), total, out=np.full_like(total, np.nan), where=total > 0)
