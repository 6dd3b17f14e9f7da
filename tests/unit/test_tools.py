"""The developers' programs: code of stages, checks of the tree, the smoke copy, the image's digest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stages import code
from tools import check_tree, image_digest, smoke, stage_deps

FILES = {
    "stages/__init__.py": '"""Doc."""\nimport sys\n',
    "src/domix/project/common.py": '"""Doc."""\nfrom domix import config\n',
    "stages/train.py": (
        '"""Doc."""\nfrom domix.project import common\n\ndef main(params):\n    from domix.model import clip\n'
    ),
    "stages/report.py": '"""Doc."""\nimport json\ndef main(params): pass\n',
    "src/domix/__init__.py": '"""Doc."""\n',
    "src/domix/config.py": '"""Doc."""\n',
    "src/domix/data/__init__.py": '"""Doc."""\n',
    "src/domix/data/loader.py": '"""Doc."""\nfrom ..runtime.files import write\nNAMES = f"lists/{1}.txt", "sources"\n',
    "src/domix/data/lists/names.txt": "cat\n",
    "src/domix/data/sources/registry.py": '"""Doc."""\n',
    "src/domix/data/unused.py": '"""Doc."""\n',
    "src/domix/model/__init__.py": '"""Doc."""\nfrom .clip import Clip\n',
    "src/domix/model/clip.py": (
        '"""Doc."""\nfrom typing import TYPE_CHECKING\nimport domix.data.loader\n'
        "if TYPE_CHECKING:\n    from domix.data import unused\n"
    ),
    "src/domix/runtime/__init__.py": '"""Doc."""\n',
    "src/domix/runtime/files.py": '"""Doc."""\n',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project of two stages."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_modules_and_data_are_found_through_lazy_relative_and_package_imports(project: Path) -> None:
    assert stage_deps.modules_of(project / "stages" / "train.py", project) == [
        "src/domix/data/lists/names.txt",
        "src/domix/data/loader.py",
        "src/domix/model/__init__.py",
        "src/domix/model/clip.py",
        "src/domix/runtime/files.py",
        "stages/train.py",
    ]


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_what_has_changed_is_told_stage_by_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(stage_deps.changes(project)) == {"train", "report"}
    monkeypatch.chdir(project)
    code.main(None)
    assert stage_deps.changes(project) == {}
    append(project / "src/domix/model/clip.py", "\nWIDTH = 3\n")
    append(project / "src/domix/data/lists/names.txt", "dog\n")
    (project / "stages/report.py").write_text('"""Other."""\n\nimport json  # for nothing\ndef main(params): pass\n')
    append(project / "src/domix/config.py", "x = 1\n")
    append(project / "src/domix/data/unused.py", "x = 1\n")
    assert stage_deps.changes(project) == {"train": ["src/domix/data/lists/names.txt", "src/domix/model/clip.py"]}


def test_a_large_file_a_registry_and_a_machine_path_are_found(tmp_path: Path) -> None:
    registry = "https://" + "pypi" + ".org/simple"
    contents = {
        "big.bin": b"\0" * (check_tree.LARGEST + 1),
        "registry.txt": f"a\n{registry}\n".encode(),
        "option.txt": b"pip install --" + b"index" + b"-url x",
        "path.md": b"see /" + b"home/somebody/notes",
        "Dockerfile": b"WORKDIR /" + b"home/domix",
        "fine.md": b"artifacts/home/x, https://host/home/x and ~/wo" + b"rk/y",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    found = check_tree.problems(sorted(contents), tmp_path)
    assert [line.split(":")[0] for line in found] == ["big.bin", "option.txt", "path.md", "registry.txt"]
    assert found[-1].startswith("registry.txt:2:")


def test_the_bundled_set_has_a_budget_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bundled").mkdir()
    for name in ("a", "b"):
        (tmp_path / "bundled" / name).write_bytes(b"\0" * (check_tree.BUNDLED_TOTAL // 2 + 1))
    assert check_tree.problems(["bundled/a"], tmp_path) == []
    assert len(check_tree.problems(["bundled/a", "bundled/b"], tmp_path)) == 1


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


@pytest.mark.parametrize("under_git", [True, False])
def test_the_smoke_copy_holds_the_project_and_nothing_that_was_made(tmp_path: Path, under_git: bool) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    write(source, "dvc.yaml", "src/x.py", "bundled/a.txt", ".dvc/config", ".dvc/cache/1", ".dvc/tmp/2", "dvc.lock")
    write(source, "artifacts/y", "metrics/z.json", "data/a.txt", "src/__pycache__/x.pyc", ".editorconfig")
    write(source, ".dvc/config.local")
    if under_git:
        subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)
    smoke.copy_tree(source, copy)
    held = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert held == {"dvc.yaml", "src/x.py", "bundled/a.txt", ".dvc/config", ".editorconfig"}


def test_the_smoke_copy_follows_the_source_and_keeps_its_outputs(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    write(source, "dvc.yaml", "src/old.py")
    smoke.copy_tree(source, copy)
    write(copy, "artifacts/y", "dvc.lock")
    (source / "src" / "old.py").unlink()
    write(source, "src/new.py")
    smoke.copy_tree(source, copy)
    held = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert held == {"dvc.yaml", "src/new.py", "artifacts/y", "dvc.lock"}


DIGEST = "sha256:" + "0123456789abcdef" * 4
DOCKERFILE = "# base\nARG BASE_IMAGE=maker/image:1.0-tag\nFROM ${BASE_IMAGE}\n"


def test_the_digest_is_recorded_behind_the_tag_and_replaced_later() -> None:
    once = image_digest.record(DOCKERFILE, DIGEST)
    assert f"ARG BASE_IMAGE=maker/image:1.0-tag@{DIGEST}\n" in once
    other = DIGEST.replace("0", "f")
    assert image_digest.record(once, other) == image_digest.record(DOCKERFILE, other)
    assert image_digest.base_tag(once) == "maker/image:1.0-tag"


def fake_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("tool", ["docker", "skopeo"])
def test_the_registry_is_asked_through_the_tool_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    fake_tool(tmp_path / "bin", tool, f'case "$*" in *maker/image:1.0-tag) echo {DIGEST};; *) exit 1;; esac')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert image_digest.resolve("maker/image:1.0-tag") == DIGEST


def test_without_a_tool_or_a_network_the_reason_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RuntimeError, match="install docker or skopeo"):
        image_digest.resolve("maker/image:1.0-tag")
    fake_tool(tmp_path / "bin", "skopeo", "echo no route to host >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"no route to host\); is there a network\?"):
        image_digest.resolve("maker/image:1.0-tag")
