"""Strict dataclasses: built from parsed YAML, where every mistake is one sentence that names the key.

An unknown, missing or mistyped key is an error, which suggests the nearest known one. Every field carries its
documentation as `metadata["doc"]`.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import MISSING, Field, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from domix.runtime.errors import ParameterError


def doc(text: str, **kwargs: Any) -> Any:
    """Declare a dataclass field with its documentation."""
    return field(metadata={"doc": text}, **kwargs)


def require(condition: bool, message: str) -> None:
    """Raise ParameterError(message) unless `condition`."""
    if not condition:
        raise ParameterError(message)


def build(cls: Any, tree: Any, path: str = "") -> Any:
    """Build the dataclass `cls` from a mapping.

    Raises:
        ParameterError: a key that is unknown, missing, mistyped or out of range; `path` is where the mapping stands.
    """
    require(isinstance(tree, dict), f"{path.rstrip('.') or 'the file'} must be a mapping, not {_show(tree)}")
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {path}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise ParameterError(f"unknown parameter {path}{key}: {hint}")
    missing = [f.name for f in fields(cls) if f.name not in tree and not has_default(f)]
    require(not missing, f"parameter {path}{missing[0] if missing else ''} is missing")
    return cls(**{key: _convert(hints[key], value, f"{path}{key}") for key, value in tree.items()})


def has_default(declared: Field[Any]) -> bool:
    """Tell whether a field may be left out."""
    return declared.default is not MISSING or declared.default_factory is not MISSING


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Check `value` against a type hint; the only conversion made is int to float."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:  # read by another: see config.load
        return value
    if is_dataclass(hint):
        return build(hint, value, f"{path}.")
    if origin is Literal:
        require(value in args, f"{path} must be one of {', '.join(map(str, args))}, not {_show(value)}")
        return value
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _convert(option, value, path)
            except ParameterError:
                continue
        raise ParameterError(f"{path} must be {_name(hint)}, not {_show(value)}")
    if origin is list:
        require(isinstance(value, list), f"{path} must be a list, not {_show(value)}")
        return [_convert(args[0], item, f"{path}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        require(isinstance(value, dict), f"{path} must be a mapping, not {_show(value)}")
        return {k: _convert(args[1], v, f"{path}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    good = isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool)
    require(good, f"{path} must be {_name(hint)}, not {_show(value)}")
    return value


def _name(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_name(a) for a in args)
    if origin is list:
        return f"a list of {_name(args[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, str(hint))


def _show(value: object) -> str:
    return "nothing" if value is None else repr(value)
