"""docs/parameters.md and params.schema.json say what src/domix/config.py says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_type_hints

import pytest
from ruamel.yaml import YAML

from domix.config import Params
from tools import document_params

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_files_are_up_to_date() -> None:
    for path, text in document_params.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make docs"


def test_every_parameter_is_documented() -> None:
    hints = get_type_hints(Params)
    sections = [Params, *(hint for hint in hints.values() if dataclasses.is_dataclass(hint))]
    for section in sections:
        for declared in dataclasses.fields(section):
            assert declared.metadata.get("doc"), f"{section.__name__}.{declared.name}"


def test_the_schema_knows_every_key_and_no_other() -> None:
    schema = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    tree = YAML(typ="safe", pure=True).load((ROOT / "presets" / "mini.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) == set(tree)
    for name, section in tree.items():
        if isinstance(section, dict) and name not in ("recipes", "models"):
            assert set(schema["properties"][name]["properties"]) == set(section)
    assert schema["additionalProperties"] is False


def test_optional_and_listed_types_reach_the_schema() -> None:
    train = document_params.schema(Params)["properties"]["train"]["properties"]
    assert train["samples"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert train["crop_scale"]["items"] == {"type": "number"}
    trainer = document_params.schema(Params)["properties"]["trainer"]["properties"]
    assert trainer["precision"]["enum"] == ["auto", "32", "bf16", "fp16"]


@pytest.mark.parametrize("name", ["params.yaml", "presets/mini.yaml", "presets/smoke.yaml"])
def test_parameter_files_point_editors_at_the_schema(name: str) -> None:
    path = ROOT / name
    first = path.read_text(encoding="utf-8").splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (path.parent / first.removeprefix(prefix)).resolve() == ROOT / "params.schema.json"
