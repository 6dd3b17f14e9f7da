"""Tell apart which code each stage uses: `python -m stages.code`.

Writes artifacts/code/<stage>.json: the modules and data files that the stage runs, each with a digest that comments and
docstrings do not change. A stage depends on its file, so that it runs again when code changes that it uses, and only
then: an edit in the CKA retrains nothing. This stage runs at every edit; it takes a second.
"""

from collections.abc import Iterator
from pathlib import Path

from domix.project.common import ARTIFACTS, run
from domix.runtime.closure import Code
from domix.runtime.files import atomic_folder, write_json
from domix.settings.params import Params

# What cannot change a result.
PLUMBING = frozenset(
    {
        "stages/__init__.py",  # puts src/ on the path
        "src/domix/project/common.py",  # exit codes and messages
        "src/domix/project/signals.py",  # likewise
        "src/domix/project/remedies.py",  # messages
        "src/domix/project/threads.py",  # how threads wait
        "src/domix/project/tracking.py",  # records of runs
        "src/domix/runtime/tracking/tracker.py",
        "src/domix/runtime/tracking/mlflow_store.py",
        "src/domix/runtime/tracking/mlflow_tracker.py",
        "src/domix/runtime/tracking/registry.py",
        "src/domix/runtime/tracking/system_metrics.py",
        "src/domix/runtime/tracking/tensorboard.py",
        "src/domix/encoders/mlflow_model.py",  # what MLflow keeps of a published model
        "src/domix/runtime/tracking/heartbeat.py",
        "src/domix/project/progress.py",  # what the terminal shows
        "src/domix/data/pack/drivers.py",  # who packs, not what
        "src/domix/runtime/progress.py",  # how far the work is
        "src/domix/runtime/errors.py",  # messages
        "src/domix/runtime/closure.py",  # this
        "src/domix/runtime/code_digest.py",  # likewise
        "src/domix/runtime/kept.py",  # what is made once and found again, not what it is
        "src/domix/runtime/locks.py",  # likewise
        "src/domix/runtime/processes/workers.py",  # who works, not what
    }
)
SETTINGS = ("src/domix/**/*settings.py", "src/domix/settings/*.py")  # likewise: parameters are tracked by value
ANALYSES = Path("src/domix/analyses")  # a folder each, found by name and not by an import


def main(params: Params) -> None:
    root = Path()
    code = code_of(root)
    with atomic_folder(ARTIFACTS / "code") as folder:
        for name, scripts in programs(root):
            write_json(folder / f"{name}.json", digests(code, scripts, root))


def programs(root: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the name of each stage with the files that it starts from: of `analyse` one an analysis."""
    analyses = sorted(path.parent for path in (root / ANALYSES).glob("*/__init__.py"))
    for script in sorted((root / "stages").glob("*.py")):
        if "def main(params" not in script.read_text(encoding="utf-8"):
            continue  # what stages share
        if script.stem == "analyse":
            for folder in analyses:
                computing = [path for path in sorted(folder.glob("*.py")) if path.name != "section.py"]
                yield f"analyse/{folder.name}", [script, *computing]
        elif script.stem == "report":
            yield script.stem, [script, *(file for folder in analyses for file in sorted(folder.glob("section.py")))]
        elif script.stem != "code":
            yield script.stem, [script]


def code_of(root: Path) -> Code:
    """Return the code of a repository that can change a result."""
    roots = {"domix": root / "src" / "domix", "stages": root / "stages"}
    settings = {path for pattern in SETTINGS for path in root.glob(pattern)}
    # An analysis' block may leave keys out, so that its defaults are not tracked by value: there they are code.
    settings = {path for path in settings if not path.is_relative_to(root / ANALYSES)}
    return Code(roots, without={root / name for name in PLUMBING} | settings)


def digests(code: Code, scripts: list[Path], root: Path) -> dict[str, str]:
    """Return what the scripts use of a repository: path -> digest."""
    return {path.relative_to(root).as_posix(): code.digest(path) for path in code.closure(scripts)}


if __name__ == "__main__":
    run(main)
