"""The rooms of the library: what each says of itself, who imports whom, and that nothing goes in circles.

A package's docstring has three lines: what lives there, `May import:` the rooms that it stands on, `Must not import:`
packages of others that have no place in it. Imports count wherever they stand, in functions and for types alone too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src" / "domix"
MOST = 16  # modules in one room, beside its sub-packages
PATHS = {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in sorted(LIBRARY.rglob("*.py"))}
ROOMS = sorted(name.removesuffix(".__init__") for name in PATHS if name.endswith(".__init__"))
Graph = Mapping[str, set[str]]


def imports_in(code: str) -> Iterator[str]:
    """Yield the dotted names that code imports, symbols of modules included."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str | None:
    """Return the module of the library that a dotted name lies in, without `domix.`; None: another package's."""
    parts = name.split(".")
    if parts[0] != "domix":
        return None
    for end in range(len(parts), 1, -1):
        for found in (".".join(parts[1:end]), ".".join([*parts[1:end], "__init__"])):
            if found in PATHS:
                return found
    return "__init__"


def room_of(module: str) -> str:
    """Return the package that a module stands in; one beside the rooms is a room of its own."""
    if module.endswith("__init__"):
        return module.removesuffix("__init__").rstrip(".")
    return module.rpartition(".")[0] or module


MODULES: Graph = {
    name: {module for found in imports_in(path.read_text(encoding="utf-8")) if (module := module_of(found))} - {name}
    for name, path in PATHS.items()
}


def said(room: str) -> tuple[list[str], list[str]]:
    """Return which rooms a room may import, and which packages of others it must not."""
    text = " ".join((ast.get_docstring(ast.parse(PATHS[f"{room}.__init__"].read_text(encoding="utf-8"))) or "").split())
    found = re.fullmatch(r"(.+) May import: (.+?)\. Must not import: (.+?)\.", text)
    assert found, f"{room}: its docstring says what lives there, then `May import: ...`, then `Must not import: ...`"
    may, must_not = (
        [name.strip() for name in part.split(",") if name.strip() != "nothing"] for part in found.groups()[1:]
    )
    return may, must_not


def meant(names: list[str]) -> set[str]:
    """Return the rooms that are meant by names: a room, or all rooms of a package without modules of its own."""
    rooms = {room_of(module) for module in PATHS if not module.endswith("__init__")}
    return {
        room for name in names for room in rooms if room == name or (name not in rooms and room.startswith(f"{name}."))
    }


def circle(graph: Graph) -> list[str]:
    """Return names that import each other in a circle; none where there is none."""
    state: dict[str, int] = {}

    def visit(name: str, way: list[str]) -> list[str]:
        state[name] = 1
        for other in sorted(graph.get(name, ())):
            if state.get(other) == 1:
                return [*way[way.index(other) :], other] if other in way else [name, other]
            if other not in state and (found := visit(other, [*way, other])):
                return found
        state[name] = 2
        return []

    for name in sorted(graph):
        if name not in state and (found := visit(name, [name])):
            return found
    return []


def rooms_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {room_of(module): set() for module in MODULES}
    for module, found in MODULES.items():
        graph[room_of(module)] |= {room_of(other) for other in found} - {room_of(module)}
    return graph


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(MODULES) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circle(rooms_graph()) == []


def test_circles_are_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("room", [room for room in ROOMS if room])
def test_a_room_imports_what_it_says(room: str) -> None:
    may, must_not = said(room)
    unknown = [name for name in may if name not in ROOMS and name not in PATHS]
    assert unknown == [], f"{room} may import what is not there"
    allowed = meant(may)
    for module in (name for name in PATHS if room_of(name) == room):
        for other in MODULES[module] - {"__init__"}:  # which holds a docstring alone
            inside = room_of(other) == room or room_of(other).startswith(f"{room}.")
            assert inside or room_of(other) in allowed, f"{module} imports {other}"
        foreign = {name.split(".")[0] for name in imports_in(PATHS[module].read_text(encoding="utf-8"))}
        assert not foreign & set(must_not), f"{module} imports {foreign & set(must_not)}"


def test_what_rooms_may_import_goes_in_no_circle() -> None:
    assert circle({room: meant(said(room)[0]) - {room} for room in ROOMS if room}) == []


def test_no_room_is_crowded() -> None:
    crowd = {room: sum(room_of(name) == room for name in PATHS) - 1 for room in ROOMS}
    assert {room: count for room, count in crowd.items() if count > MOST} == {}
