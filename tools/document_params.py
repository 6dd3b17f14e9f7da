"""Write docs/parameters.md and params.schema.json from the settings, and complete params.yaml and the presets.

    python -m tools.document_params            write all of them
    python -m tools.document_params --check    exit with 1 where a committed file is out of date

The Markdown is for readers; the JSON Schema is for editors, which find it by the first line of params.yaml and then
complete keys, show their meaning and mark mistakes while one types. A parameter file that lacks a key which has a
default gets it, and stays otherwise as it was written.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from domix.analyses.registry import analyses
from domix.data.mixtures.settings import RecipeSpec
from domix.runtime.errors import ParameterError
from domix.runtime.settings import Settings
from domix.settings.complete import complete
from domix.settings.load import load
from domix.settings.params import Params

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = ("params.yaml", "presets/*.yaml")
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
INTRO = """# Parameters

Every key of `params.yaml`, with its value in the default study (`presets/mini.yaml`). This page is generated from the
settings of each part (`settings.py` beside the code that they are for) by `make docs`. Unknown, missing and mistyped
keys are errors. Set a key for one experiment with `dvc exp run -S train.lr=0.001`.
"""


def schema(cls: type[Settings]) -> dict[str, Any]:
    """Return the JSON Schema of settings, in one piece."""
    whole = cls.model_json_schema()
    return _in_place(whole, whole.pop("$defs", {}))


def _in_place(node: Any, parts: Mapping[str, Any]) -> Any:
    """Put what a schema refers to in its place, and leave out the titles, which repeat the keys."""
    if isinstance(node, list):
        return [_in_place(item, parts) for item in node]
    if not isinstance(node, dict):
        return node
    referred = parts[node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
    whole = referred | {key: value for key, value in node.items() if key != "$ref"}
    titled = isinstance(whole.get("title"), str)  # not a key of that name
    return {key: _in_place(value, parts) for key, value in whole.items() if not (titled and key == "title")}


def schema_text() -> str:
    """Return the text of params.schema.json."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Domix parameters"}
    return json.dumps(head | schema(Params), indent=2) + "\n"


def markdown(defaults: Mapping[str, Any]) -> str:
    """Return the text of docs/parameters.md; `defaults` is the parsed presets/mini.yaml."""
    sections = {name: cls for name, field in Params.model_fields.items() if (cls := _settings(field.annotation))}
    apart = {*sections, "analyses"}
    shared = [(name, field) for name, field in Params.model_fields.items() if name not in apart]
    parts = [INTRO, "## Shared by several stages\n", _table(shared, defaults)]
    for name, cls in sections.items():
        text = Params.model_fields[name].description or ""
        parts += [f"## {name}\n", f"{text[:1].upper()}{text[1:]}.\n"]
        parts.append(_table(cls.model_fields.items(), defaults[name]))
    for name, analysis in analyses().items():
        cls = analysis.Settings
        parts += [f"## analyses.{name}\n", f"{cls.__doc__}\n"]
        parts.append(_table(cls.model_fields.items(), cls().model_dump() | defaults["analyses"].get(name, {})))
    parts += ["## recipes.<name>\n", f"{RecipeSpec.__doc__}\n"]
    blank = {name: field.get_default(call_default_factory=True) for name, field in RecipeSpec.model_fields.items()}
    parts.append(_table(RecipeSpec.model_fields.items(), blank | {"domains": {}}))
    return "\n".join(parts)


def _settings(hint: Any) -> type[Settings] | None:
    return hint if isinstance(hint, type) and issubclass(hint, Settings) else None


def _table(fields: Iterable[tuple[str, FieldInfo]], values: Mapping[str, Any]) -> str:
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for name, field in fields:
        cells = [f"`{name}`", _words(field.annotation), f"`{json.dumps(values[name])}`", field.description or ""]
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
    return "recipe" if _settings(hint) else WORDS[hint]


def documents() -> dict[Path, str]:
    """Return the generated files, by path, as they should be.

    Raises:
        ParameterError: a parameter file is wrong even when it is complete.
    """
    files = [path for pattern in PARAMETERS for path in sorted(ROOT.glob(pattern))]
    texts = {path: complete(path.read_text(encoding="utf-8")) for path in files}
    for path, text in texts.items():
        try:
            load(text)
        except ParameterError as error:
            raise ParameterError(f"{path.relative_to(ROOT)}: {error}") from error
    defaults = YAML(typ="safe", pure=True).load(texts[ROOT / "presets" / "mini.yaml"])
    made = {ROOT / "docs" / "parameters.md": markdown(defaults), ROOT / "params.schema.json": schema_text()}
    return texts | made


def main() -> int:
    """Write or check; return the exit code."""
    try:
        wanted = documents()
    except ParameterError as error:
        print(f"document_params: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: make docs writes it again", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    if not stale:
        print("docs/parameters.md, params.schema.json and the parameter files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
