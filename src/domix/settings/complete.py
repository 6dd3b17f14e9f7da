"""Complete a parameter file with the keys that it lacks and that have a default, and leave all else as it was written.

So a new key is declared in one place, with its default; one command adds it to every file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from domix.runtime.errors import ParameterError
from domix.runtime.settings import Settings
from domix.settings.params import Params

STEP = 2  # spaces that a block stands in from its key


def faithful_yaml() -> YAML:
    """Return a reader and writer that leaves what it does not change as it was written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=STEP, sequence=STEP + 2, offset=STEP)
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def complete(text: str, cls: type[Settings] = Params) -> str:
    """Return the text of a parameter file with each key that it lacks and that has a default, where it is declared.

    Raises:
        ParameterError: the file is no mapping of keys, or a block that lacks keys is written in braces.
    """
    while True:
        tree = faithful_yaml().load(text)
        if not isinstance(tree, CommentedMap):
            raise ParameterError("the file must be a mapping of keys")
        lacking = next(_lacking(cls, tree, ""), None)
        if lacking is None:
            return text
        text = _insert(text, *lacking)


def _lacking(cls: type[Settings], tree: CommentedMap, path: str) -> Iterator[tuple[CommentedMap, str, str | None, Any]]:
    """Yield what is lacking: the block, the key, the key that it stands after, its default."""
    before = None
    for name, field in cls.model_fields.items():
        inner = _settings_of(field)
        if name not in tree:
            if field.is_required():
                continue
            if tree.fa.flow_style():
                raise ParameterError(f"{path or 'the file'} is written in braces: write one key a line")
            default = field.get_default(call_default_factory=True)
            yield tree, name, before, default.model_dump() if isinstance(default, Settings) else default
        elif inner is not None and isinstance(tree[name], CommentedMap):
            yield from _lacking(inner, tree[name], name)
        before = name if name in tree else before


def _settings_of(field: FieldInfo) -> type[Settings] | None:
    hint = field.annotation
    return hint if isinstance(hint, type) and issubclass(hint, Settings) else None


def _insert(text: str, block: CommentedMap, name: str, before: str | None, value: Any) -> str:
    """Insert a key after the lines of the key `before`, or as the first of its block."""
    lines = text.splitlines(keepends=True)
    column = block.lc.col if block.lc.col is not None else 0
    at = _end(lines, block.lc.key(before)[0], column) if before else block.lc.key(next(iter(block)))[0]
    written = io.StringIO()
    faithful_yaml().dump({name: value}, written)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    lines[at:at] = [" " * column + line for line in written.getvalue().splitlines(keepends=True)]
    return "".join(lines)


def _end(lines: list[str], first: int, column: int) -> int:
    """Return the line after the last of a key's value; blank lines and comments after it belong to what follows."""
    end = first + 1
    for number in range(first + 1, len(lines)):
        stripped = lines[number].strip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = len(lines[number]) - len(lines[number].lstrip())
        if indent < column or (indent == column and not stripped.startswith("- ")):
            break
        end = number + 1
    return end
