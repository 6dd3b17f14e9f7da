"""What a user is told to run: from the file that must be made anew to the stage of dvc.yaml that makes it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from domix.runtime.errors import DataError

PIPELINE = "dvc.yaml"
STATE = ".cache"  # what lies there may be deleted at any time between runs
TEMPLATE = re.compile(r"\$\{(?:item\.)?(\w+)\}")
# What these read lies outside DVC, which would bring back what it kept: they are forced, and do the work again.
UNSEEN = ("fetch", "fetch_set")


@dataclass(frozen=True)
class _Output:
    """An output of a stage as dvc.yaml has it, instances written as `${item.source}` or `${key}`."""

    stage: str
    keys: tuple[str, ...]  # whose values, with hyphens between, name an instance, in this order; none: one instance
    path: str

    def instance(self, path: str) -> str | None:
        """Return which instance of the stage makes a path, as `dvc repro` takes it; None: none does."""
        names = TEMPLATE.split(self.path)  # text and key by turns
        pattern = "".join(f"(?P<{part}>[^/]+)" if odd % 2 else re.escape(part) for odd, part in enumerate(names))
        found = re.fullmatch(f"{pattern}(?:/.*)?", path)
        if found is None:
            return None
        return "@".join([self.stage, "-".join(found[key] for key in self.keys)]) if self.keys else self.stage


def sentence(error: BaseException, pipeline: Path | None = None) -> str:
    """Return what a user is told of an error: its message, and what to run where something must be made anew.

    Args:
        error: any.
        pipeline: says which stage makes what; None: the dvc.yaml above the file, else of the working directory.
    """
    message, remake = str(error), error.remake if isinstance(error, DataError) else None
    told = remake and _advice(remake, pipeline, begun=re.match(rf"{re.escape(str(remake))}(?!/)", message) is not None)
    if not told:
        return message
    return f"{message}{';' if ': ' in message else ':'} {told}"


def _advice(path: Path, pipeline: Path | None, *, begun: bool) -> str | None:
    """Say what to do about a path, called `it` where the sentence has begun with it; None: the pipeline has no part."""
    root = next((folder for folder in path.absolute().parents if (folder / PIPELINE).is_file()), Path.cwd())
    place = Path(os.path.relpath(path, root)).as_posix()
    there = "" if root == Path.cwd() else f" in {os.path.relpath(root)}"
    tracked = next((str(each) for each in (Path(place), *Path(place).parents) if (root / f"{each}.dvc").is_file()), "")
    if tracked:
        return f"run dvc checkout {tracked}{there}"
    stage = stage_of(place, pipeline or root / PIPELINE)
    if stage is None:
        return f"delete {'it' if begun else place} and run again" if place.startswith(f"{STATE}/") else None
    command = f"dvc repro {stage}".rstrip() + there
    if not path.exists():
        return f"run {command}"
    if stage.partition("@")[0] in UNSEEN:
        return f"run {command.replace('repro', 'repro -f -s')}"
    return f"delete {'it' if begun else place} and run {command}"


def stage_of(place: str, pipeline: Path) -> str | None:
    """Return the stage that makes a path of a repository, as `dvc repro` takes it.

    Of a folder that holds outputs of one stage, that stage; of several, nothing (`dvc repro` makes all). None: no stage
    makes it, or there is no pipeline here.
    """
    outputs = list(_outputs(pipeline))
    within = {out.stage for out in outputs if out.path.startswith(f"{place}/")}
    if within:
        return within.pop() if len(within) == 1 else ""
    makers = [(out.path, name) for out in outputs if (name := out.instance(place)) is not None]
    return max(makers, key=lambda maker: maker[0].count("/"))[1] if makers else None


def _outputs(pipeline: Path) -> Iterator[_Output]:
    if not pipeline.is_file():
        return
    for name, stage in YAML(typ="safe", pure=True).load(pipeline)["stages"].items():
        one: dict[str, Any] = stage.get("do", stage)
        keys = ("key",) if "foreach" in stage else tuple(stage.get("matrix", ()))
        for out in one.get("outs", ()):
            yield _Output(name, keys, out if isinstance(out, str) else next(iter(out)))
