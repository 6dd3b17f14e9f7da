"""Which classes of the bundled set are held out from the test domain: the rule behind test_classes/emoji*.txt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tools.emoji.artists import ARTISTS, DOMAINS

COUNTS = {"emoji": 150, "emoji-550": 550}  # classes of each shipped list

# The paper's 15 test classes (Kempf et al. 2025), DomainNet's names.
PAPER = (
    "aircraft carrier", "axe", "banana", "barn", "bed", "candle", "lion", "mountain", "necklace", "penguin", "pizza",
    "saxophone", "television", "tractor", "traffic light",
)  # fmt: skip


def choose_test_classes(drawn: dict[str, dict[str, set[str]]], count: int) -> list[str]:
    """Choose test classes, those first that most domains have every artist's drawing of: they have most test images.

    Of equals the paper's classes come first, then the others in the order of the SHA-256 of the class name, which has
    nothing to do with what the drawings look like. A longer list so holds a shorter one.

    Args:
        drawn: domain -> class -> artists who drew it.
        count: of classes.

    Returns:
        The names, sorted.

    Raises:
        ValueError: there are fewer than `count` classes.
    """
    names = list(next(iter(drawn.values())))
    if len(names) < count:
        raise ValueError(f"there are only {len(names)} classes; {count} are needed")

    def rank(name: str) -> tuple[int, bool, str]:
        return _domains_in_part(drawn, name), name not in PAPER, hashlib.sha256(name.encode()).hexdigest()

    return sorted(sorted(names, key=rank)[:count])


def _domains_in_part(drawn: dict[str, dict[str, set[str]]], name: str) -> int:
    """Count the domains in which some artist has not drawn a class."""
    every = {domain: {artist.name for artist in ARTISTS if artist.domain == domain} for domain in DOMAINS}
    return sum(drawn[domain].get(name, set()) != artists for domain, artists in every.items())


def list_text(names: Iterable[str]) -> str:
    """Write one class a line."""
    return "".join(f"{name}\n" for name in names)
