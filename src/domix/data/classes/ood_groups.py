"""How near a set without classes of the study is to it: the groups of out-of-distribution (OOD) detection.

A near set holds things that are easily taken for classes of the study, a far one things unlike any. Which is which is
a convention of the in-distribution set: here OpenOOD 1.5's (Zhang et al. 2023); of the sets that it does not have, SUN
and Places (Huang and Li 2021) are far from ImageNet as its iNaturalist is, by the same authors, and ImageNet-O
(Hendrycks et al. 2021) is near, since its images were chosen for being taken for ImageNet's classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from domix.runtime.errors import DataError
from domix.runtime.files import read_json

NEAR, FAR = NEARNESS = ("near", "far")
GROUPS = "groups.json"  # of a packed source whose classes have groups of their own: class -> group

CONVENTION: dict[str, dict[str, str]] = {  # in-distribution set -> OOD set -> group
    "cifar-10": {"cifar-100": NEAR, "textures": FAR},
    "cifar-100": {"cifar-10": NEAR, "textures": FAR},
    "imagenet": {
        "ssb-hard": NEAR,
        "ninco": NEAR,
        "imagenet-o": NEAR,
        "inaturalist": FAR,
        "textures": FAR,
        "openimage-o": FAR,
        "sun": FAR,
        "places": FAR,
    },
}


def groups_of(shards: Path, classes: Collection[str], *, study: str, group: str | None = None) -> dict[str, str]:
    """Return the group of each class of a packed OOD set.

    Args:
        shards: its folder, named as the set.
        classes: of its images.
        study: name of the in-distribution set.
        group: near or far, for all classes; None: as the set itself says (GROUPS), else the convention.

    Raises:
        DataError: nothing says how near the set is, or what it says itself names other classes or groups.
    """
    if group is None and (shards / GROUPS).is_file():
        known = read_json(shards / GROUPS)
        fine = isinstance(known, Mapping) and set(known.values()) <= set(NEARNESS) and set(classes) <= set(known)
        if not fine:
            raise DataError(f"{shards / GROUPS} does not give every class a group, near or far", remake=shards)
        return {name: known[name] for name in sorted(classes)}
    group = group or CONVENTION.get(study, {}).get(shards.name)
    if group is None:
        raise DataError(
            f"nothing says how near {shards.name} is to the classes of {study}: give it a group, near or far",
            argument="ood",
        )
    return dict.fromkeys(sorted(classes), group)
