"""Which classes of the bundled set are held out from the test domain: the rule behind test_classes/emoji.txt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tools.emoji.artists import ARTISTS, DOMAINS

COUNT = 150

# The paper's 15 test classes (Kempf et al. 2025), DomainNet's names.
PAPER = (
    "aircraft carrier", "axe", "banana", "barn", "bed", "candle", "lion", "mountain", "necklace", "penguin", "pizza",
    "saxophone", "television", "tractor", "traffic light",
)  # fmt: skip


def choose_test_classes(drawn: dict[str, dict[str, set[str]]], count: int = COUNT) -> list[str]:
    """Choose test classes among those that every artist of every domain has drawn.

    The paper's classes among them are kept; the rest is filled up in the order of the SHA-256 of the class name, which
    has nothing to do with what the drawings look like.

    Args:
        drawn: domain -> class -> artists who drew it.

    Returns:
        The names, sorted.

    Raises:
        ValueError: fewer than `count` classes are drawn by all artists.
    """
    whole = [name for name in next(iter(drawn.values())) if _drawn_by_all(drawn, name)]
    if len(whole) < count:
        raise ValueError(f"only {len(whole)} classes are drawn by every artist; {count} are needed")
    kept = [name for name in whole if name in PAPER]
    others = sorted(set(whole) - set(kept), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return sorted([*kept, *others][:count])


def _drawn_by_all(drawn: dict[str, dict[str, set[str]]], name: str) -> bool:
    return all(drawn[domain].get(name, set()) == {a.name for a in ARTISTS if a.domain == domain} for domain in DOMAINS)


def list_text(names: Iterable[str]) -> str:
    """Write one class a line."""
    return "".join(f"{name}\n" for name in names)
