"""docs/parameters.md and params.schema.json say what the settings say; parameter files are completed with new keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field
from ruamel.yaml import YAML

from domix.data.mixtures.settings import RecipeSpec
from domix.embed.settings import PublicModel
from domix.runtime.errors import ParameterError
from domix.runtime.settings import Settings
from domix.settings.complete import complete
from domix.settings.params import Params
from tools import document_params

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_files_are_up_to_date() -> None:
    for path, text in document_params.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make docs"


def test_every_parameter_is_documented() -> None:
    hints = [field.annotation for field in Params.model_fields.values()]
    sections = [hint for hint in hints if isinstance(hint, type) and issubclass(hint, Settings)]
    assert len(sections) > 10
    for section in (Params, RecipeSpec, PublicModel, *sections):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


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
    assert train["samples"]["anyOf"] == [{"exclusiveMinimum": 0, "type": "integer"}, {"type": "null"}]
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


class Inner(Settings):
    """A block."""

    first: int = 1
    second: list[int] = Field(default=[1, 2])
    third: str | None = None


class Outer(Settings):
    """A file."""

    name: str
    inner: Inner
    other: Inner = Field(default_factory=Inner)
    size: float = 0.5


WHOLE = """# A file.
name: x  # of it

# The block.
inner:
  first: 3  # not 1
  second:
    - 4
  third: null  # none

other:
  first: 1
  second:
    - 1
    - 2
  third: null
size: 0.5
"""


@pytest.mark.parametrize("lost", ["  first: 1\n", "  third: null  # none\n", "size: 0.5\n", "  second:\n    - 4\n", ""])
def test_a_file_gets_the_keys_that_it_lacks_where_they_belong(lost: str) -> None:
    given = WHOLE.replace(lost, "")
    kept = {"  second:\n    - 4\n": "  second:\n    - 1\n    - 2\n", "  third: null  # none\n": "  third: null\n"}
    assert complete(given, Outer) == WHOLE.replace(lost, kept.get(lost, lost), 1)
    assert Outer.read(YAML(typ="safe").load(complete(given, Outer)))


def test_a_file_gets_whole_blocks_and_the_last_line_an_end() -> None:
    short = WHOLE[: WHOLE.index("\nother:")].rstrip("\n")
    assert complete(short, Outer) == WHOLE.replace("\n\nother", "\nother")


def test_a_key_without_a_default_is_not_made_up() -> None:
    text = complete("inner:\n  first: 3\n", Outer)
    assert "name" not in text
    with pytest.raises(ParameterError, match="parameter name is missing"):
        Outer.read(YAML(typ="safe").load(text))


@pytest.mark.parametrize(("text", "says"), [("[]", "must be a mapping"), ("name: x\ninner: {first: 1}\n", "inner is")])
def test_a_file_that_cannot_be_completed_is_told(text: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        complete(text, Outer)


def test_a_preset_without_a_key_is_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mini = (ROOT / "presets" / "mini.yaml").read_text(encoding="utf-8")
    assert complete(mini) == mini
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mini.yaml").write_text(mini.replace("  jobs: 4\n", ""), encoding="utf-8")
    monkeypatch.setattr(document_params, "ROOT", tmp_path)
    with pytest.raises(ParameterError, match=r"presets/mini\.yaml: parameter fetch\.jobs is missing"):
        document_params.documents()
