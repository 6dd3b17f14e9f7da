"""Which modules each stage of dvc.yaml really imports, and whether its `deps` say so.

    python tools/stage_deps.py           print the modules of every stage
    python tools/stage_deps.py --check   exit with 1 where dvc.yaml says otherwise
    python tools/stage_deps.py --write   correct dvc.yaml, touching nothing but those lines

A stage must run again when code that it uses changes, and only then: an edit in the CKA must not retrain CLIP. So its
`deps` list its own script and, of src/domix and stages/, exactly the modules that the script imports, directly or
through others, wherever the import stands (inside a function too). The walk is static and leaves out

* imports under `if TYPE_CHECKING:`, which never run;
* a package's `__init__.py` that holds nothing but a docstring;
* what cannot change a result (PLUMBING): parameters are tracked by value, under `params`.

Data files of the library (templates, class lists, model configurations) are listed with the modules that name them: a
text in a module's code which is the name of a file, or of a folder without modules, beside that module. All other deps
(raw data, outputs of other stages) are left as they are written.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOTS = {"domix": Path("src/domix"), "stages": Path("stages")}
PLUMBING = frozenset(
    {
        "stages/__init__.py",  # puts src/ on the path
        "src/domix/project/threads.py",  # how threads wait
        "src/domix/project/common.py",  # exit codes and messages
        "src/domix/project/tracking.py",  # records of runs
        "src/domix/runtime/tracking.py",
        "src/domix/runtime/mlflow_store.py",
        "src/domix/runtime/mlflow_tracker.py",
        "src/domix/runtime/registry.py",
        "src/domix/runtime/system_metrics.py",
        "src/domix/runtime/tensorboard.py",
        "src/domix/model/mlflow_model.py",  # what MLflow keeps of a published model
        "src/domix/runtime/heartbeat.py",
        "src/domix/project/progress.py",  # what the terminal shows
        "src/domix/training_params.py",  # the values that a stage reads are its `params` in dvc.yaml
        "src/domix/evaluation_params.py",  # likewise
        "src/domix/config.py",  # likewise
        "src/domix/data/drivers.py",  # who packs, not what
        "src/domix/runtime/progress.py",  # how far the work is
        "src/domix/runtime/errors.py",  # messages
    }
)
SETTINGS = re.compile(r"src/domix/(settings/\w+|(.*/)?(\w+_)?settings)\.py")  # likewise: declarations of parameters
COMMAND = re.compile(r"python -m stages\.(\w+)")
MANAGED = re.compile(r"(src/domix|stages)/.*")


@dataclass(frozen=True)
class StageDeps:
    """One stage of dvc.yaml: its script's modules as they should be and as they are listed, and where."""

    name: str
    wanted: tuple[str, ...]
    listed: tuple[str, ...]
    lines: tuple[int, ...]  # of the listed modules in dvc.yaml, from 0
    first: int  # line of the first entry of `deps`
    indent: str  # what stands before an entry, up to its dash


def modules_of(script: Path, root: Path) -> list[str]:
    """List what `script` uses of src/domix and stages/, itself first: modules and data; paths relative to `root`."""
    seen: dict[str, None] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name in seen:
            continue
        seen[name] = None
        for module in imports_of(path, root):
            waiting.extend(_files(module, root))
    used = {name for name in seen if name not in PLUMBING and not SETTINGS.fullmatch(name)}
    used = {name for name in used if not _only_docstring(root / name)}
    used |= {path.relative_to(root).as_posix() for name in used for path in _data_of(root / name)}
    own = script.relative_to(root).as_posix()
    return [own, *sorted(used - {own})]


def _data_of(path: Path) -> Iterator[Path]:
    """Yield the data files and folders beside a module that its code names."""
    for node in _running_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"\w[\w./-]*$", node.value):
            named = path.parent / node.value
            if (named.is_file() and named.suffix != ".py") or (named.is_dir() and not any(named.rglob("*.py"))):
                yield named


def imports_of(path: Path, root: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, `from a import b` as both a and a.b."""
    package = _dotted(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in _running_nodes(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a syntax tree without the branches that only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for node in child.orelse:
                yield node
                yield from _running_nodes(node)
            continue
        yield child
        yield from _running_nodes(child)


def _dotted(path: Path, root: Path) -> str:
    for package, folder in ROOTS.items():
        if path.is_relative_to(root / folder):
            parts = path.relative_to(root / folder).with_suffix("").parts
            return ".".join([package, *(part for part in parts if part != "__init__")])
    raise ValueError(f"{path} lies in none of {', '.join(map(str, ROOTS.values()))}")


def _files(module: str, root: Path) -> list[Path]:
    """List the files that importing `module` runs: its packages' `__init__.py` and its own; none if it is not ours."""
    package, *parts = module.split(".")
    if package not in ROOTS:
        return []
    folder = root / ROOTS[package]
    found = [folder / "__init__.py"]
    for part in parts:
        if (folder / f"{part}.py").is_file():
            found.append(folder / f"{part}.py")
            break
        folder = folder / part
        found.append(folder / "__init__.py")
    return [path for path in found if path.is_file()]


def _only_docstring(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    documented = len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return path.name == "__init__.py" and (documented or not body)


def read_stages(root: Path) -> list[StageDeps]:
    """Compare every stage of dvc.yaml with the imports of its script."""
    tree = YAML().load((root / "dvc.yaml").read_text(encoding="utf-8"))
    found = []
    for name, stage in tree["stages"].items():
        body = stage.get("do", stage)
        command = COMMAND.search(str(body["cmd"]))
        if command:
            found.append(_compare(name, body["deps"], root / "stages" / f"{command[1]}.py", root))
    return found


def _compare(name: str, deps: Any, script: Path, root: Path) -> StageDeps:
    listed, lines = [], []
    for position, entry in enumerate(deps):
        if isinstance(entry, str) and MANAGED.fullmatch(entry):
            listed.append(entry)
            lines.append(deps.lc.item(position)[0])
    first, column = deps.lc.item(0)
    return StageDeps(
        name=name,
        wanted=tuple(modules_of(script, root)),
        listed=tuple(listed),
        lines=tuple(lines),
        first=first,
        indent=" " * (column - 2),
    )


def corrected(text: str, stages: list[StageDeps]) -> str:
    """Return the text of dvc.yaml with every stage's modules as they should be, and every other line untouched."""
    lines = text.splitlines()
    for stage in sorted(stages, key=lambda stage: stage.first, reverse=True):
        if set(stage.wanted) == set(stage.listed) and len(stage.wanted) == len(stage.listed):
            continue
        kept = dict(zip(stage.listed, (lines[number] for number in stage.lines), strict=True))
        fresh = [kept.get(name, f"{stage.indent}- {name}") for name in stage.wanted]
        for number in reversed(stage.lines):
            del lines[number]
        lines[stage.first : stage.first] = fresh
    return "\n".join(lines) + "\n"


def problems(stages: list[StageDeps]) -> list[str]:
    """Say what is wrong, one line a module."""
    said = []
    for stage in stages:
        wanted, listed = set(stage.wanted), set(stage.listed)
        said += [f"{stage.name}: uses {name}, which its deps lack" for name in sorted(wanted - listed)]
        said += [f"{stage.name}: lists {name}, which it does not use" for name in sorted(listed - wanted)]
        said += [f"{stage.name}: lists {name} twice" for name in sorted(listed) if stage.listed.count(name) > 1]
    return said


def main() -> int:
    """Print, check or correct; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="exit with 1 where dvc.yaml and the imports differ")
    choice.add_argument("--write", action="store_true", help="correct dvc.yaml")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    stages = read_stages(root)
    if arguments.write:
        path = root / "dvc.yaml"
        text = path.read_text(encoding="utf-8")
        path.write_text(corrected(text, stages), encoding="utf-8")
        print(f"dvc.yaml: {len(problems(stages))} entries corrected")
    elif arguments.check:
        for problem in problems(stages):
            print(f"dvc.yaml: {problem}; make deps corrects it", file=sys.stderr)
        return 1 if problems(stages) else 0
    else:
        for stage in stages:
            print(f"{stage.name}:", *stage.wanted, sep="\n    ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
