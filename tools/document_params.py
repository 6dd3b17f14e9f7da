"""Write docs/parameters.md and params.schema.json from the dataclasses in src/domix/config.py.

    python -m tools.document_params            write both
    python -m tools.document_params --check    exit with 1 where a committed file is out of date

The Markdown is for readers; the JSON Schema is for editors, which find it by the first line of params.yaml and then
complete keys, show their meaning and mark mistakes while one types.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML

from domix.analyses.registry import analyses, find
from domix.config import Params, RecipeSpec
from domix.schema import has_default

ROOT = Path(__file__).resolve().parent.parent
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
INTRO = """# Parameters

Every key of `params.yaml`, with its value in the default study (`presets/mini.yaml`). This page is generated from
`src/domix/config.py` by `make docs`. Unknown, missing and mistyped keys are errors. Set a key for one experiment with
`dvc exp run -S train.lr=0.001`.
"""


def schema(cls: Any) -> dict[str, Any]:
    """Return the JSON Schema of a parameter dataclass: every key known, and needed unless it has a default."""
    hints = get_type_hints(cls)
    properties = {
        f.name: {
            "description": f.metadata["doc"],
            **(_analyses() if f.name == "analyses" else _schema_of(hints[f.name])),
        }
        for f in fields(cls)
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [f.name for f in fields(cls) if not has_default(f)],
        "additionalProperties": False,
    }


def _analyses() -> dict[str, Any]:
    """Return the schema of the analyses' blocks, which are declared with them."""
    blocks = {name: analysis.Settings.model_json_schema() for name, analysis in analyses().items()}
    return {"type": "object", "properties": blocks, "additionalProperties": False}


def _schema_of(hint: Any) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint == dict[str, Any]:
        return _analyses()
    if is_dataclass(hint):
        return schema(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(option) for option in args]}
    if origin is list:
        return {"type": "array", "items": _schema_of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(args[1])}
    return {"type": TYPES[hint]}


def schema_text() -> str:
    """Return the text of params.schema.json."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Domix parameters"}
    return json.dumps(head | schema(Params), indent=2) + "\n"


def markdown(defaults: Mapping[str, Any]) -> str:
    """Return the text of docs/parameters.md; `defaults` is the parsed presets/mini.yaml."""
    hints = get_type_hints(Params)
    shared = [f for f in fields(Params) if not is_dataclass(hints[f.name]) and f.name != "analyses"]
    parts = [INTRO, "## Shared by several stages\n", _table(shared, hints, defaults)]
    for section in fields(Params):
        cls = hints[section.name]
        if is_dataclass(cls):
            text = section.metadata["doc"]
            parts += [f"## {section.name}\n", f"{text[0].upper()}{text[1:]}.\n"]
            parts.append(_table(fields(cls), get_type_hints(cls), defaults[section.name]))
        if section.name == "analyses":
            parts += [part for name in analyses() for part in _analysis(name)]
    parts += ["## recipes.<name>\n", f"{RecipeSpec.__doc__}\n"]
    blank = {f.name: f.default if f.default is not MISSING else {} for f in fields(RecipeSpec)}
    parts.append(_table(fields(RecipeSpec), get_type_hints(RecipeSpec), blank))
    return "\n".join(parts)


def _analysis(name: str) -> list[str]:
    """Return the headline, the text and the table of an analysis' settings."""
    cls = find(name).Settings
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for key, declared in cls.model_fields.items():
        cells = [
            f"`{key}`",
            _words(declared.annotation),
            f"`{json.dumps(declared.default)}`",
            declared.description or "",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [f"## analyses.{name}\n", f"{cls.__doc__}\n", "\n".join(lines) + "\n"]


def _table(
    declared: tuple[Field[Any], ...] | list[Field[Any]], hints: dict[str, Any], values: Mapping[str, Any]
) -> str:
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for f in declared:
        cells = [f"`{f.name}`", _words(hints[f.name]), f"`{json.dumps(values[f.name])}`", f.metadata["doc"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _words(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{option}`" for option in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in args)
    if origin is list:
        return f"list of {_words(args[0])}"
    if origin is dict:
        return f"mapping of text to {_words(args[1])}"
    if is_dataclass(hint):
        return "recipe"
    return WORDS[hint]


def documents() -> dict[Path, str]:
    """Return the generated files, by path, as they should be."""
    defaults = YAML(typ="safe", pure=True).load((ROOT / "presets" / "mini.yaml").read_text(encoding="utf-8"))
    return {ROOT / "docs" / "parameters.md": markdown(defaults), ROOT / "params.schema.json": schema_text()}


def main() -> int:
    """Write or check; return the exit code."""
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: make docs writes it again", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(documents()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    if not stale:
        print("docs/parameters.md and params.schema.json are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
