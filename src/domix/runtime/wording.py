"""How texts for readers write numbers and lists."""

from __future__ import annotations

from collections.abc import Sequence

MINUS, UNIT = "\u2212", "\u00a0%"  # a real minus sign; a percent sign that stays with its number


def percent(share: float, sign: bool = False) -> str:
    """Write a share as a percentage with one decimal, the minus sign a real one."""
    return f"{share * 100:{'+' if sign else ''}.1f}".replace("-", MINUS) + UNIT


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return percent(difference, sign=True).removesuffix(UNIT)


def plain(share: float) -> str:
    """Write a share as a percentage without its sign."""
    return percent(share).removesuffix(UNIT)


def listed(items: Sequence[str], empty: str = "") -> str:
    """Join words: "a", "a and b", "a, b and c"."""
    if not items:
        return empty
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def spaced(name: str) -> str:
    """Write a class's name as words."""
    return name.replace("_", " ")
