"""The example of docs/adding-a-source.md does what the page says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from domix.data.archives.manifests import parse_manifest
from domix.data.sources.registry import registry
from domix.runtime.errors import DataError
from tests.fixtures import write_zip
from tests.source_trees import check_source, image

PAGE = (Path(__file__).parents[2] / "docs/adding-a-source.md").read_text(encoding="utf-8")
MEMBERS = [
    f"{style}/{name} {number}.png"
    for style in ("engraved", "cut")
    for name in ("lion", "sea_bear")
    for number in (10, 9, 2)
]


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def module(tmp_path, monkeypatch) -> ModuleType:
    """Return the page's code as a module."""
    (tmp_path / "stamps.py").write_text(block("python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("stamps", tmp_path / "stamps.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stamps", loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_code(tmp_path, module):
    root = tmp_path / "root"
    root.mkdir()
    write_zip(root / "stamps.zip", {name: image(name) for name in MEMBERS})
    found = check_source(module.Stamps(), root)
    assert [(s.key, s.class_name, s.label, s.split) for s in found[:6]] == [
        ("cut/lion 9", "lion", 0, "train"),
        ("cut/sea_bear 9", "sea_bear", 1, "train"),
        ("cut/lion 10", "lion", 0, "test"),
        ("cut/lion 2", "lion", 0, "test"),
        ("cut/sea_bear 10", "sea_bear", 1, "test"),
        ("cut/sea_bear 2", "sea_bear", 1, "test"),
    ]
    assert {s.domain for s in found} == {"cut", "engraved"}
    assert sorted(s.data for s in found) == sorted(image(name) for name in MEMBERS)


def test_its_error(tmp_path, module):
    with pytest.raises(DataError, match=r"does not hold stamps\.zip$") as caught:
        module.Stamps().parts(tmp_path, size=1, poses=1)
    assert caught.value.argument == "root"


def test_the_manifest():
    manifest = parse_manifest(json.loads(block("json")), "the page")
    assert [remote.file for remote in manifest.files] == ["stamps.zip"]


def test_what_the_page_names_is_there():
    assert set(registry()) >= {"imagenet", "imagenet-captions", "imagenet-sketch", "cc3m", "cc12m"}
    root = Path(__file__).parents[2]
    for path in re.findall(r"`((?:src|tests)/[\w/.]+)`", PAGE):
        assert (root / path).exists() or "stamps" in path
