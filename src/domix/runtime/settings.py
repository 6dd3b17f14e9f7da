"""The base of all settings: strict, frozen, every key documented; every mistake is one sentence that names the key.

A class of settings checks what its fields' constraints cannot say in validators, which raise ValueError. Such a message
begins with the key that is wrong, as the class calls it ("betas must be two numbers, not [0.9]"); what stands before
it in the whole file is added here ("train.betas must be ...").
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from domix.runtime.errors import ParameterError

WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}
BOUNDS = {  # pydantic's name of a broken constraint -> what the value must be
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "finite",
}


class Settings(BaseModel):
    """Settings that refuse unknown and mistyped keys; a whole number serves as a number, nothing else is converted.

    Every field has a description. One with a default may be left out of a file.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @classmethod
    def read(cls, tree: Any, path: str = "") -> Self:
        """Read a mapping; `path` is where it stands in the file, in dots.

        Raises:
            ParameterError: a key that is unknown (the nearest known one is named), missing, mistyped or out of range.
        """
        if not isinstance(tree, dict):
            raise ParameterError(f"{path or 'the file'} must be a mapping, not {_show(tree)}")
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ParameterError(_sentence(cls, path, error)) from error

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse, as frozen dataclasses do."""
        raise AttributeError(f"settings cannot be changed once they are read: {name}")


S = TypeVar("S", bound=Settings)


def replace(settings: S, **changes: Any) -> S:
    """Return a copy with some values changed, checked anew.

    Raises:
        ParameterError: a value is mistyped or out of range, or there is no such key.
    """
    return type(settings).read(dict(settings) | changes)


def require(condition: bool, message: str) -> None:
    """Raise ParameterError(message) unless `condition`: for validators, whose message begins with a key."""
    if not condition:
        raise ParameterError(message)


def _sentence(cls: type[Settings], path: str, error: ValidationError) -> str:
    """Say of the first mistake what is wrong: unknown keys first, as one of them is often what is missing elsewhere."""
    order = ("extra_forbidden", "invalid_key", "missing")
    found = min(
        error.errors(include_url=False),
        key=lambda each: order.index(each["type"]) if each["type"] in order else len(order),
    )
    loc, kind = found["loc"], found["type"]
    if kind in ("extra_forbidden", "invalid_key"):  # the latter: not even text
        owner, place = _follow(cls, path, loc[:-1])
        return f"unknown parameter {_join(place, loc[-1])}: {_hint(owner, place, str(loc[-1]))}"
    if kind == "missing":
        return f"parameter {_join(_follow(cls, path, loc[:-1])[1], loc[-1])} is missing"
    hint, place = _follow(cls, path, loc)
    if kind in ("value_error", "assertion_error"):
        return f"{place}.{found['ctx']['error']}" if place else str(found["ctx"]["error"])
    if kind in BOUNDS:
        bounds = {name: f"{bound:g}" for name, bound in found.get("ctx", {}).items()}
        return f"{place} must be {BOUNDS[kind].format(**bounds)}, not {_show(found['input'])}"
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        size = f"at least {found['ctx']['min_length']}" if least else f"at most {found['ctx']['max_length']}"
        return f"{place} must hold {size}, not {_show(found['input'])}"
    words = "a list" if get_origin(hint) is list else describe(hint)
    return f"{place} must be {words}, not {_show(found['input'])}"


def _follow(cls: Any, path: str, loc: Sequence[int | str]) -> tuple[Any, str]:
    """Return what is expected where an error lies, and the place in dots; alternatives are not looked into."""
    hint: Any = cls
    for step in loc:
        hint = _without_null(hint)
        origin, args = get_origin(hint), get_args(hint)
        if isinstance(hint, type) and issubclass(hint, Settings):
            hint, path = hint.model_fields[str(step)].annotation, _join(path, step)
        elif origin is list:
            hint, path = args[0], f"{path}[{step}]"
        elif origin is dict:
            hint, path = args[1], _join(path, step)
        else:
            break
    return hint, path


def _without_null(hint: Any) -> Any:
    """Return the one thing that a key may be besides null; a choice of several as it is."""
    others = [option for option in get_args(hint) if option is not type(None)]
    return others[0] if get_origin(hint) in (Union, types.UnionType) and len(others) == 1 else hint


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _hint(cls: type[Settings], path: str, key: str) -> str:
    near = difflib.get_close_matches(key, cls.model_fields, n=1)
    return f"did you mean {_join(path, near[0])}?" if near else f"known here: {', '.join(cls.model_fields)}"


def describe(hint: Any) -> str:
    """Say in words what a key takes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in args)
    if origin is list:
        return f"a list of {describe(args[0])}"
    if origin is dict or (isinstance(hint, type) and issubclass(hint, Settings)):
        return "a mapping"
    return WORDS.get(hint, str(hint))


def _show(value: object) -> str:
    return "nothing" if value is None else repr(value)
