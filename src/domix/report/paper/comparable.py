"""Whether results of several places may stand in one table: the same data, classes, recipes and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domix.report.paper.place import PlaceResults
from domix.runtime.errors import DataError

# Parameters that decide about a number, besides test domain, mixtures and seeds, which a study varies.
SECTIONS = ("base", "captions", "evaluate", "mixing", "model", "natural_domain", "pack", "recipes", "sources", "train")
NAMES = {"classes": "the classes", "test_classes": "the test classes", "domains": "the domains"}
SHOWN = 40  # letters of a value in a message


def require_comparable(parts: Sequence[PlaceResults]) -> None:
    """Check that the parts differ in test domain, mixtures and seeds alone.

    Raises:
        DataError: they do not; it names two of them and what differs.
    """
    for part in parts[1:]:
        ours, theirs = _fixed(parts[0]), _fixed(part)
        differing = [what for what in sorted({*ours, *theirs}) if ours.get(what) != theirs.get(what)]
        if parts[0].place.data and part.place.data and parts[0].place.data != part.place.data:
            differing.append("the packed images")
        if differing:
            what = differing[0]
            values = (
                f" ({_short(ours.get(what))}, {_short(theirs.get(what))})" if what in ours or what in theirs else ""
            )
            raise DataError(
                f"{parts[0].place.label} and {part.place.label} differ in {what}{values}, so that their numbers cannot"
                " stand in one table: collect them apart"
            )


def unverified(parts: Sequence[PlaceResults]) -> list[str]:
    """List the places of which it is not known what images they packed."""
    return [part.place.label for part in parts if part.place.data is None]


def _fixed(part: PlaceResults) -> dict[str, Any]:
    """Return what must be alike, by the name that a message gives it."""
    params = part.place.params
    values: dict[str, Any] = {}
    for section in SECTIONS:
        values |= _flat(section, params.get(section))
    classifiers = params.get("supervised") or {}
    values |= _flat("supervised", {key: value for key, value in classifiers.items() if key != "mixtures"})
    values["embed.templates"] = (params.get("embed") or {}).get("templates")
    return values | {name: part.summary[key] for key, name in NAMES.items()}


def _flat(section: str, value: Any) -> dict[str, Any]:
    return {f"{section}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {section: value}


def _short(value: Any) -> str:
    text = f"{len(value)} of them" if isinstance(value, list) and len(str(value)) > SHOWN else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
