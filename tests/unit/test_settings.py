"""Settings are strict, frozen, copied with checks; what is wrong is told in one sentence with its whole path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from pydantic import Field, model_validator

from domix.runtime.errors import ParameterError
from domix.runtime.settings import Settings, replace, require
from domix.settings.load import load

ROOT = Path(__file__).resolve().parents[2]


class Part(Settings):
    """A part."""

    size: int = Field(gt=0)
    share: float | None = Field(default=None, ge=0, lt=1)
    names: list[str] = Field(default=["a"], min_length=1, max_length=2)
    pair: list[float] | None = None
    mode: Literal["fast", "exact"] | int = "fast"

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.pair is None or len(self.pair) == 2, f"pair must be two numbers, not {self.pair}")
        return self


class Whole(Settings):
    """A file."""

    part: Part
    parts: dict[str, Part] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"size": 0}, "part.size must be above 0, not 0"),
        ({"size": None}, "part.size must be a whole number, not nothing"),
        ({"size": 1, "share": 1.0}, "part.share must be below 1, not 1.0"),
        ({"size": 1, "share": -0.5}, "part.share must be at least 0, not -0.5"),
        ({"size": 1, "share": "x"}, "part.share must be a number or null, not 'x'"),
        ({"size": 1, "names": []}, "part.names must hold at least 1, not []"),
        ({"size": 1, "names": ["a", "b", "c"]}, "part.names must hold at most 2, not ['a', 'b', 'c']"),
        ({"size": 1, "names": ["a", 3]}, "part.names[1] must be text, not 3"),
        ({"size": 1, "pair": [1, "b"]}, "part.pair[1] must be a number, not 'b'"),
        ({"size": 1, "pair": [1]}, "part.pair must be two numbers, not [1.0]"),
        ({"size": 1, "mode": "slow"}, "part.mode must be one of fast, exact or a whole number, not 'slow'"),
        ({"siz": 1}, "unknown parameter part.siz: did you mean part.size?"),
        ({"size": 1, "zzz": 1}, "unknown parameter part.zzz: known here: size, share, names, pair, mode"),
        ({"size": 1, 3: 1}, "unknown parameter part.3: known here: size, share, names, pair, mode"),
        ({}, "parameter part.size is missing"),
        (3, "part must be a mapping, not 3"),
    ],
)
def test_a_mistake_is_told_with_its_path(part: Any, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Whole.read({"part": part})
    assert str(caught.value) == says
    with pytest.raises(ParameterError) as caught:
        Whole.read({"part": {"size": 1}, "parts": {"mine": part}})
    assert str(caught.value) == says.replace("part.", "parts.mine.").replace("part must", "parts.mine must")


def test_where_a_block_stands_in_a_file_can_be_given() -> None:
    with pytest.raises(ParameterError, match=r"unknown parameter analyses\.x\.siz: did you mean analyses\.x\.size"):
        Part.read({"siz": 1}, "analyses.x")
    with pytest.raises(ParameterError, match=r"analyses\.x must be a mapping, not nothing"):
        Part.read(None, "analyses.x")


def test_a_copy_with_changes_is_checked_and_the_original_stays() -> None:
    whole = Whole.read({"part": {"size": 1}})
    changed = replace(whole, part=replace(whole.part, size=2, share=0))
    assert (changed.part.size, changed.part.share, whole.part.size) == (2, 0.0, 1)
    assert isinstance(changed.part.share, float)
    for wrong in ({"size": "2"}, {"sise": 2}, {"pair": [1.0]}):
        with pytest.raises(ParameterError):
            replace(whole.part, **wrong)


def test_settings_are_frozen_and_dumped_in_the_order_of_their_keys() -> None:
    part = Part(size=1)
    with pytest.raises(AttributeError, match="size"):
        part.size = 2  # type: ignore[misc]  # ty: ignore[invalid-assignment]
    assert list(part.model_dump()) == ["size", "share", "names", "pair", "mode"]


def test_parameters_are_the_same_after_they_were_dumped() -> None:
    params = load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    assert type(params).read(params.model_dump()) == params


def test_reading_parameters_imports_nothing_heavy() -> None:
    code = "import sys, domix.settings.load; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
