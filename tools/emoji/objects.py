"""The 850 objects of the bundled set, and 48 emoji that show none: their class names, labels and code points."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

TABLE, OUTSIDE = (Path(__file__).with_name(name) for name in ("objects.csv", "outside.csv"))


@dataclass(frozen=True)
class Object:
    """One object that every domain shows.

    Attributes:
        label: 0, 1, ... by the order of the class directories, lower case.
        directory: the class as DomainNet writes directories, `_` for blanks.
        emoji: its name in the emoji packages.
        domainnet: DomainNet's class, or empty where DomainNet has none.
        group: kind of object; of those that show none, near or far.
        code_points: its Unicode code points in hexadecimal, as OpenMoji names files.
    """

    label: int
    directory: str
    emoji: str
    domainnet: str
    group: str
    code_points: str

    @property
    def text(self) -> str:
        """Return the class as text, with blanks."""
        return self.directory.replace("_", " ")


def directory_name(emoji: str, domainnet: str) -> str:
    """Return the class directory: DomainNet's name where it has the class, else the emoji's; `_` for blanks."""
    return domainnet.replace(" ", "_") if domainnet else emoji.replace("-", "_")


def label_objects(rows: list[dict[str, str]]) -> list[Object]:
    """Turn the rows of objects.csv into objects in label order.

    Raises:
        ValueError: two objects have one class name.
    """
    named = sorted(
        ((directory_name(r["emoji"], r["domainnet_class"]), r) for r in rows), key=lambda pair: pair[0].lower()
    )
    for (first, one), (second, other) in itertools.pairwise(named):
        if first.lower() == second.lower():
            raise ValueError(f"{one['emoji']} and {other['emoji']} have the same class name {first}")
    return [
        Object(label, name, row["emoji"], row["domainnet_class"], row["group"], row["code_point"])
        for label, (name, row) in enumerate(named)
    ]


def load_objects(path: Path = TABLE) -> list[Object]:
    """Read the table of objects, in label order."""
    with open(path, newline="", encoding="utf-8") as file:
        return label_objects(list(csv.DictReader(file)))
