"""How the name of a class is read."""

from __future__ import annotations


def class_text(name: str) -> str:
    """Return the words for a class directory: `alarm_clock` is read "alarm clock"; capitals and hyphens stay."""
    return name.replace("_", " ")
