"""Working copies of the repository, one a test domain, in which a sweep runs side by side.

A copy is a Git clone that borrows the repository's objects, with the tracked files as they lie in the working tree, own
parameters, and DVC's cache shared, so that what one has made the others find. Its dvc.lock and metrics are its own.
"""

from __future__ import annotations

import filecmp
import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.files import read_text, write_text
from domix.settings.complete import faithful_yaml
from domix.settings.load import load

PARAMS, LOCK, METRICS = Path("params.yaml"), Path("dvc.lock"), Path("metrics")
LINKS = ["reflink", "hardlink", "symlink", "copy"]  # a copy's outputs need no room of their own


@dataclass(frozen=True)
class Study:
    """What one copy runs: the parameters that a sweep sets."""

    test_domain: str
    mixtures: tuple[str, ...]
    seeds: tuple[int, ...]

    def edit(self, text: str) -> str:
        """Return the text of a params.yaml with these values, and all else, comments included, as it was.

        Raises:
            ParameterError: the parameters would be wrong.
        """
        yaml = faithful_yaml()
        tree = yaml.load(text)
        wanted = {"test_domain": self.test_domain, "mixtures": list(self.mixtures), "seeds": list(self.seeds)}
        changed = {key: value for key, value in wanted.items() if tree[key] != value}
        if not changed:
            return text
        tree |= changed
        classifiers = tree["supervised"]["mixtures"]
        if set(classifiers) - set(self.mixtures):
            tree["supervised"]["mixtures"] = [name for name in classifiers if name in self.mixtures]
        edited = io.StringIO()
        yaml.dump(tree, edited)
        try:
            load(edited.getvalue())
        except ParameterError as error:
            raise ParameterError(f"{PARAMS} with the sweep's values: {error}") from error
        return edited.getvalue()


def bring_up_to_date(root: Path, folder: Path, study: Study) -> None:
    """Make `folder` a copy of the repository `root` for a study, or bring one up to date that is there.

    Raises:
        DomixError: `root` is no Git checkout, or Git fails.
        ParameterError: the study's parameters would be wrong.
    """
    if not (root / ".git").exists():
        raise DomixError(f"{root} is no Git checkout, of which a sweep makes its copies: run in a Git clone of it")
    params = study.edit(read_text(root / PARAMS, mend="restore it from Git"))
    if not (folder / ".git").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what a clone cut short has left
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(folder))
    former = _tracked(folder)
    _git(folder, "fetch", "--quiet", "--update-shallow", str(root), "HEAD")
    _git(folder, "reset", "--quiet", "--mixed", "FETCH_HEAD")
    files = _tracked(root) - {PARAMS}
    for name in former - files - {PARAMS}:
        (folder / name).unlink(missing_ok=True)
    for name in files:
        if not (_is_own(name) and (name.parts[0] == METRICS.name or (folder / name).exists())):
            _copy(root / name, folder / name)
    if not (folder / PARAMS).exists() or (folder / PARAMS).read_text(encoding="utf-8") != params:
        write_text(folder / PARAMS, params)
    _share_cache(root / ".dvc", folder / ".dvc")


def _is_own(name: Path) -> bool:
    return name == LOCK or name.parts[0] == METRICS.name


def _copy(source: Path, target: Path) -> None:
    """Copy a file that differs, times included: DVC need not read again what it knows."""
    if not source.is_file():
        target.unlink(missing_ok=True)
    elif not target.exists() or not filecmp.cmp(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _share_cache(source: Path, target: Path) -> None:
    """Let a copy's DVC use the repository's cache, and the settings that the user has made for this machine."""
    from dvc.config import Config, merge
    from dvc.config_schema import RelPath

    whole = Config(str(source))
    cache: dict[str, Any] = dict(whole.get("cache", {}))
    place = cache.get("dir") or str(source / "cache")
    try:
        with Config(str(target)).edit("local") as local:
            merge(local, Config(str(source)).read("local"))
            local["cache"]["dir"] = RelPath(place)  # written as seen from the copy: DVC writes ASCII alone
            local["cache"]["type"] = cache.get("type") or LINKS
    except UnicodeEncodeError as error:
        raise DomixError(
            f"DVC can note no path with letters beyond ASCII, such as {place}: name another one"
        ) from error


def _tracked(folder: Path) -> set[Path]:
    return {Path(name) for name in _git(folder, "ls-files", "-z").split("\0") if name}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DomixError(f"git {arguments[0]} failed in {folder} ({said}): mend that and run again")
    return done.stdout
