"""Rules of the code base that no linter knows (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from domix.analyses.registry import analyses
from stages import code
from tools import check_tree, stage_deps

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src" / "domix"
SOURCES = sorted(path for name in ("src", "stages", "tools", "tests") for path in (ROOT / name).rglob("*.py"))
MODULES = sorted(LIBRARY.rglob("*.py"))
LONGEST = 400  # lines
PROJECT = ("cli", "project")  # rooms that know where a user works: they may print, read the environment and params.yaml
TORCH_FREE = ("stages.evaluate", "stages.analyse", "stages.report", "domix.cli.study")
HEAVY = ("torch", "torchvision", "open_clip", "lightning", "mlflow")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees(paths: list[Path]) -> Iterator[tuple[str, ast.Module]]:
    for path in paths:
        yield name_of(path), ast.parse(path.read_text(encoding="utf-8"))


def dvc_stages() -> dict[str, dict[str, Any]]:
    tree = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("do", stage) for name, stage in tree["stages"].items()}


@functools.cache
def used_by_stages() -> dict[str, dict[str, str]]:
    """Return the code that each stage uses; read once for all tests."""
    return stage_deps.used(ROOT)


def test_every_file_opens_with_a_docstring() -> None:
    assert len(SOURCES) > 50
    assert [name for name, tree in trees(SOURCES) if not ast.get_docstring(tree)] == []


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_code_is_ascii() -> None:
    code = [path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts]  # tests try all sorts of text
    assert [name_of(path) for path in code if not path.read_bytes().isascii()] == []


def forbidden_in_the_library(tree: ast.Module) -> Iterator[str]:
    """Yield what a pure library does not do: print, read the environment, the working directory or params.yaml."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
            yield f"line {node.lineno}: {node.func.id}()"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "os.environ",
            "os.getenv",
            "os.getcwd",
            "Path.cwd",
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (
                f"line {node.lineno}: {a.name}" for a in node.names if a.name in ("environ", "getenv", "getcwd")
            )
        if isinstance(node, ast.Constant) and node.value in ("params.yaml", "dvc.yaml"):
            yield f"line {node.lineno}: {node.value}"


def test_the_library_neither_prints_nor_reads_its_surroundings() -> None:
    library = [path for path in MODULES if path.relative_to(LIBRARY).parts[0] not in PROJECT]
    found = {name: list(forbidden_in_the_library(tree)) for name, tree in trees(library)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    ["print(1)", "import os\nos.environ['A']", "from os import getenv", "open('params.yaml')", "Path.cwd()"],
)
def test_the_purity_check_sees(code: str) -> None:
    assert list(forbidden_in_the_library(ast.parse(code)))


def unsafe_loads(tree: ast.Module) -> Iterator[str]:
    """Yield what could run code from a file: pickle, Lightning checkpoints, torch.load that is not weights_only.

    A reader of pickles of our own, which decides what a name stands for, may build on pickle.Unpickler.
    """
    restricted = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["pickle.Unpickler"]
        and {"find_class", "persistent_load"} <= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if restricted and ast.unparse(node) == "import pickle":
                continue
            yield from (f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in ("pickle", "joblib"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
            yield f"line {node.lineno}: {ast.unparse(node.func)}"
        if isinstance(node, ast.Attribute) and node.attr == "load_from_checkpoint":
            yield f"line {node.lineno}: load_from_checkpoint"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if not safe:
                yield f"line {node.lineno}: torch.load without weights_only=True"


def test_no_file_can_run_code_when_it_is_loaded() -> None:
    code = [path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts]
    found = {name: list(unsafe_loads(tree)) for name, tree in trees(code)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "M.load_from_checkpoint",
        "import pickle\nclass U(pickle.Unpickler):\n    def find_class(self): ...",
        "import pickle\nclass U(pickle.Unpickler):\n    def find_class(self): ...\n    def persistent_load(self): ...\n"
        "pickle.loads(x)",
    ],
)
def test_the_loading_check_sees(code: str) -> None:
    assert list(unsafe_loads(ast.parse(code)))


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_comes_after_embed_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_stage_has_a_file_of_its_name_and_every_file_a_stage() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert scripts == set(dvc_stages())
    assert all(f"python -m stages.{name}" in str(stage["cmd"]) for name, stage in dvc_stages().items())


def test_every_stage_depends_on_its_own_code_and_names_no_module() -> None:
    stages = dvc_stages()
    assert stages.pop("code")["deps"] == ["src/domix", "stages"]
    of_code = {
        name: [dep for dep in map(str, stage["deps"]) if dep.startswith(("src", "stages", "artifacts/code"))]
        for name, stage in stages.items()
    }
    files = {name: "analyse/${key}" if name == "analyse" else name for name in stages}
    assert of_code == {name: [f"artifacts/code/{file}.json"] for name, file in files.items()}
    assert {*stages} - {"analyse"} | {f"analyse/{name}" for name in analyses()} <= set(used_by_stages())


def test_every_data_file_of_the_library_belongs_to_a_stage_or_a_command() -> None:
    used = {name for files in used_by_stages().values() for name in files}
    commands = sorted((LIBRARY / "cli").rglob("*.py"))
    used |= {name for path in commands for name in stage_deps.modules_of(path, ROOT)}
    data = [path for path in LIBRARY.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    data = [path for path in data if path.name != "dvc.yaml"]  # an analysis tells DVC of its plots
    assert data
    assert [name_of(path) for path in data if name_of(path) not in used] == []


# Modules of rooms that a training needs a part of: an edit of any other module there trains nothing again.
PARTS = {
    "train": {
        "evaluate": {"metrics", "zeroshot"},
        "runtime": {"ahead", "arrays", "files", "memory", "retry", "seeds", "tables"},
    },
    "train_supervised": {
        "evaluate": {"metrics"},
        "runtime": {"ahead", "files", "memory", "retry", "seeds", "tables"},
    },
}
FOREIGN = {
    "report",
    "activations",
    "analyses",
    "embed",
    "figures",
    "cli",
    "study",
    "schemas",
}  # rooms that no training needs
FOREIGN_DATA = {"archives", "captions", "export", "fetch", "pack", "sources", "mixing", "recipes"}


@pytest.mark.parametrize("stage", sorted(PARTS))
def test_an_edit_retrains_only_what_it_can_change(stage: str) -> None:
    used = [Path(name) for name in used_by_stages()[stage]]
    rooms: dict[str, set[str]] = {}
    for path in used:
        if path.parts[:2] == ("src", "domix"):
            rooms.setdefault(path.parts[2], set()).add(path.stem)
    assert not FOREIGN & set(rooms)
    assert {room: rooms[room] for room in PARTS[stage]} == PARTS[stage]
    data = {part for path in used if path.is_relative_to("src/domix/data") for part in path.with_suffix("").parts}
    assert data and not FOREIGN_DATA & data
    assert {path.name for path in used if path.parts[0] == "stages"} == {f"{stage}.py"}


def test_what_counts_for_no_stage_is_there() -> None:
    assert sorted(name for name in code.PLUMBING if not (ROOT / name).is_file()) == []


def test_every_stage_says_what_it_does() -> None:
    assert [name for name, stage in dvc_stages().items() if not stage.get("desc")] == []


def test_only_the_report_is_written_outside_the_cache() -> None:
    """`cache: false` and `persist: true` switch DVC's run cache off: an expensive stage would always run again."""
    text = {name: json.dumps(stage) for name, stage in dvc_stages().items()}
    assert [n for n, stage in text.items() if '"cache": false' in stage or '"persist": true' in stage] == ["report"]


def test_a_training_depends_on_its_mixture_and_on_nothing_that_a_further_source_changes() -> None:
    stages = dvc_stages()
    mixture = "artifacts/mixtures/${item.mixture}.parquet"
    captions = "artifacts/mixtures/captions/${item.mixture}.json"
    assert stages["train"]["deps"][1:] == [mixture, captions]
    assert stages["train_supervised"]["deps"][1:] == [mixture]
    for name in ("train", "train_supervised"):
        assert not {"sources", "base", "mixtures", "embed"} & {param.split(".")[0] for param in stages[name]["params"]}


def test_data_dvc_pins_the_bundled_set() -> None:
    """DVC would silently import a changed set; here a change must be made on purpose."""
    pointer = YAML(typ="safe").load((ROOT / "data.dvc").read_text(encoding="utf-8"))
    source = ROOT / "bundled" / pointer["deps"][0]["path"].split("/")[-1]
    listing = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(source).as_posix()}
        for path in sorted(source.rglob("*"))
        if path.is_file()
    ]
    listing.sort(key=lambda entry: entry["relpath"])
    assert pointer["outs"][0]["md5"] == hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    assert pointer["outs"][0]["path"] == "data"
    assert "frozen" not in pointer


def test_committed_files_name_no_registry_and_no_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout: there are no tracked files to list")
    assert check_tree.problems(check_tree.tracked_files(ROOT)) == []
