"""The sets of images of `domix zoo`: known ones, and shifted ones that hold all or some of the known classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from domix.cli.detection.sets import shards_of
from domix.data.classes.names import class_text
from domix.embed.evaluation_sets import EvaluationSet, further_set
from domix.project.embedding import folder_of
from domix.runtime.errors import DataError, ParameterError, passing
from domix.settings.params import Params


def open_sets(params: Params, known: str, shifts: Sequence[str]) -> dict[str, EvaluationSet]:
    """Open the known images, which come first, and the shifted ones, by name.

    Each is a packed source, or a folder `<class>/<file>` or `<domain>/<class>/<file>`; `<set>:<domain>` are the images
    of one domain.

    Raises:
        ParameterError: there is no such set, or two have one name.
        DataError: a set has no images, no classes, or a class that is none of the known ones.
    """
    name, own = open_set(params, known, "--images")
    sets = {name: own}
    for asked in shifts:
        other, found = open_set(params, asked, "--shifts")
        if other in sets:
            raise ParameterError(f"two of the sets are called {other}: name each once, or rename its folder")
        sets[other] = _told_by(found, own, other, name)
    return sets


def open_set(params: Params, asked: str, option: str) -> tuple[str, EvaluationSet]:
    """Open a set as `open_sets` takes it; its name is that of the folder, and the domain where one is asked for."""
    name, _, domain = asked.rpartition(":")
    if not name or folder_of(asked).exists() or Path(asked).expanduser().is_dir():
        name, domain = asked, ""
    with passing(name=option, sets=option):
        found = further_set(shards_of(params, name))
    if not domain:
        return found.source, found
    rows = found.rows[found.rows["domain"] == domain].reset_index(drop=True)
    if rows.empty:
        raise DataError(f"{option} {asked}: {name} has no domain {domain} (it has {', '.join(found.domains)})")
    return f"{found.source} {domain}", replace(found, rows=rows, domains=[domain])


def _told_by(found: EvaluationSet, known: EvaluationSet, name: str, of: str) -> EvaluationSet:
    """Let the images of a shifted set be told by the known classes, of which it may hold some alone."""
    if found.classes != known.classes:
        labels = {class_text(one): label for label, one in enumerate(known.classes)}
        if foreign := [str(one) for one in found.rows["class"].unique() if class_text(one) not in labels]:
            raise DataError(
                f"{name} has images of {foreign[0]}, which is no class of {of} ({len(foreign)} such): leave them out"
            )
        label = found.rows["class"].map(class_text).map(labels).astype("int64")
        found = replace(found, rows=found.rows.assign(label=label), classes=known.classes, subset=None, answers=None)
    if found.subset is not None or found.answers is not None:
        return found
    present = sorted(found.rows["label"].unique().tolist())
    return found if len(present) == len(known.classes) else replace(found, subset=present)
