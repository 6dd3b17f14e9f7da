"""Lists of test classes: those that Domix ships, or names given by hand, matched with the classes of the data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources

from domix.data.classes.names import class_text
from domix.runtime.errors import DataError, ParameterError


def shipped_lists() -> list[str]:
    """Return the names of the shipped lists of test classes, sorted."""
    folder = resources.files("domix.data.classes") / "resources/test_classes"
    return sorted(entry.name.removesuffix(".txt") for entry in folder.iterdir() if entry.name.endswith(".txt"))


def load_test_classes(spec: str | list[str], classes: list[str]) -> list[str]:
    """Return the test classes that `spec` means, spelled and ordered as in `classes`.

    Args:
        spec: name of a shipped list, or class names; blanks, underscores, case and Unicode form do not matter.
        classes: the classes of the data.

    Raises:
        ParameterError: no shipped list has this name, or `spec` is empty or names a class twice.
        DataError: the data lack one of the classes, or have two that it may mean.
    """
    wanted = _read_list(spec) if isinstance(spec, str) else spec
    if not wanted:
        raise ParameterError("test_classes is empty: name at least one class, or a shipped list")
    known: dict[str, list[str]] = {}
    for name in classes:
        known.setdefault(_plain(name), []).append(name)
    chosen = set()
    for name in wanted:
        found = _find(name, known, len(classes), spec)
        if found in chosen:
            raise ParameterError(f"test_classes names {name!r} twice")
        chosen.add(found)
    return [name for name in classes if name in chosen]


def _find(name: str, known: Mapping[str, list[str]], count: int, spec: str | list[str]) -> str:
    """Return the one of the classes, known by their plain names, that a name means."""
    found = known.get(_plain(name), [])
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    if found:
        raise DataError(f"the test class {name!r} may mean {' or '.join(map(repr, found))}: spell it as the data do")
    near = difflib.get_close_matches(_plain(name), known, n=1)
    hint = f"did you mean {known[near[0]][0]!r}?" if near else "choose test_classes that the data have"
    origin = f"of the list {spec!r} " if isinstance(spec, str) else ""
    raise DataError(f"the test class {name!r} {origin}is not among the {count} classes of the data: {hint}")


def _plain(name: str) -> str:
    return class_text(name).casefold().strip()


def _read_list(name: str) -> list[str]:
    known = shipped_lists()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ParameterError(f"test_classes: there is no shipped list {name!r}; {hint} (or give a list of classes)")
    text = (resources.files("domix.data.classes") / f"resources/test_classes/{name}.txt").read_text(encoding="utf-8")
    return text.splitlines()
