"""How the name of a class is read."""

from __future__ import annotations

import unicodedata


def class_text(name: str) -> str:
    """Return the words for a class directory: `alarm_clock` is read "alarm clock"; capitals and hyphens stay.

    They are in Unicode's form NFC: macOS unpacks the same name in another one (NFD).
    """
    return unicodedata.normalize("NFC", name).replace("_", " ")
