"""The vectorised mixtures hold what the study's algorithm holds when it is written down with literal lists."""

from __future__ import annotations

import math
from fractions import Fraction

import pandas as pd
from hypothesis import given, settings

from domix.data.mixtures.cells import count_cells, make_split
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.names import parse_mixture
from domix.runtime.errors import DataError
from tests.studies import NATURAL, Made, studies

ALL_NAMES = (
    "natural-only",
    "leave-out-domain",
    "cg-low",
    "cg-high",
    "cg-low-all",
    "cg-high-all",
    "cg-low+0.1",
    "cg-high+0.35",
    "cg-low+zz",
    "cg-high+whole",
    "cg-low-all+whole",
    "leave-out-domain+whole",
    "cg-high+matched",
    "cg-low+matched",
    "cg-high+0.35+matched",
)


def reference(name: str, study: Made) -> list[int] | None:
    """Follow the algorithm step by step on lists of rows; None where there are too few samples."""
    data: dict[str, dict[str, list[int]]] = {}
    for sample in study.index.sort_values("row").to_dict("records"):
        if sample["split"] == "train":
            data.setdefault(sample["domain"], {}).setdefault(sample["class"], []).append(sample["row"])
    if name == "natural-only":
        return sorted(row for rows in data.get(NATURAL, {}).values() for row in rows) or None
    name, matched = name.removesuffix("+matched"), name.endswith("+matched")
    name, whole = name.removesuffix("+whole"), name.endswith("+whole")
    family, _, extra = name.partition("+")
    everything = sorted(set(study.index["domain"]))
    included = {
        "leave-out-domain": [d for d in everything if d != study.test_domain],
        "cg-low": [NATURAL, study.test_domain],
        "cg-high": everything,
    }[family.removesuffix("-all")]
    share = Fraction(extra) if extra[:1].isdigit() else Fraction(0)
    included = included + ([extra] if extra in everything else [])
    size = sum(len(rows) for rows in data.get(NATURAL, {}).values())
    size += sum(len(rows) for c, rows in data.get(study.test_domain, {}).items() if c not in study.test_classes)

    def is_tested(domain: str, name: str) -> bool:
        return domain == study.test_domain and name in study.test_classes

    pool = {
        (d, c): list(rows)
        for d in data
        for c, rows in data[d].items()
        if d in included and (family.endswith("-all") or share or not is_tested(d, c))
    }
    total = sum(len(rows) for rows in pool.values())
    if whole:
        return sorted(row for rows in pool.values() for row in rows) or None
    if total == 0 or total < size:
        return None
    ratio = Fraction(size, total)
    kept = {}
    if share:
        for cell, rows in pool.items():
            if is_tested(*cell):
                kept[cell] = rows[: math.ceil(share * ratio * len(rows))]
        fixed, gone = sum(map(len, kept.values())), sum(len(pool[cell]) for cell in kept)
        ratio = Fraction(size - fixed, total - gone)
    spared = set(kept)
    for cell, rows in pool.items():
        if cell not in spared:
            kept[cell] = rows[: math.ceil(ratio * len(rows))]
    counts = {d: sum(len(rows) for rows in data[d].values()) for d in data}
    order = [(d, c) for d in sorted(data, key=lambda d: (d != NATURAL, -counts[d], d)) for c in data[d]]
    take_turns(kept, [cell for cell in order if cell not in spared], size)
    if matched:
        natural = sum(len(rows) for rows in data.get(NATURAL, {}).values())
        kept = {cell: rows[: math.ceil(Fraction(natural, size) * len(rows))] for cell, rows in kept.items()}
        take_turns(kept, order, natural)
    return sorted(row for rows in kept.values() for row in rows)


def take_turns(kept: dict[tuple[str, str], list[int]], order: list[tuple[str, str]], size: int) -> None:
    """Let one cell after another give up its last row until `size` are left."""
    while sum(map(len, kept.values())) > size:
        for cell in order:
            if sum(map(len, kept.values())) > size and kept.get(cell):
                kept[cell].pop()


@settings(max_examples=60, deadline=None)
@given(studies(extra_domain="zz"))
def test_rows_equal_the_reference(study: Made) -> None:
    cells = count_cells(study.index)
    split = make_split(
        cells, test_domain=study.test_domain, natural_domain=NATURAL, test_classes=sorted(study.test_classes)
    )
    for name in ALL_NAMES:
        expected = reference(name, study)
        try:
            rows: pd.Series | None = build_mixture(parse_mixture(name, split), cells, split, source="emoji").rows["row"]
        except DataError:
            rows = None
        assert (None if rows is None else rows.tolist()) == expected, name
