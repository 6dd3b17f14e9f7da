"""Sets of images that a command names: packed sources, and folders of the user's, which are packed into the cache."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from domix.data.classes.ood_groups import NEARNESS
from domix.data.fetch.fetching import fetch_files
from domix.data.pack import packing
from domix.data.pack.drivers import get_driver
from domix.data.sources.image_sets import ImageSet
from domix.data.store.index import INDEX, read_index
from domix.embed.evaluation_sets import COLUMNS, NONE_OF_THEM, EvaluationSet, ood_set, study_set
from domix.project.common import STATE, original_root
from domix.project.embedding import folder_of, warn_of_copies
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import atomic_folder, digest_of, read_lines
from domix.runtime.locks import alone
from domix.settings.params import Params

FOLDERS = "folders"  # in .cache: packed folders of the user's


def open_known(params: Params, name: str, classes: Path | None) -> EvaluationSet:
    """Open the set of known images, whose classes are named as it says, or as a file of a name a line, in label order.

    Raises:
        DataError: there is no such set, images have no class, or the file names another number of classes.
    """
    with passing(name="--id"):
        shards = shards_of(params, name)
    if read_index(shards, ["class"])["class"].isna().any():
        raise DataError(f"{name} has images without a class, so it cannot be the known ones: sort them into <class>/")
    known = study_set(shards)
    if len(known.rows) < 2:
        raise DataError(f"{name} has one image: give two known ones at least, for each is compared with the others")
    if classes is None:
        return known
    names = [line.strip() for line in read_lines(classes) if line.strip()]
    if len(names) != len(known.classes):
        raise DataError(
            f"{classes} names {len(names)} classes, but {name} has {len(known.classes)}: give a line for each"
        )
    return replace(known, classes=names)


def open_foreign(
    params: Params, asked: str, known: EvaluationSet, *, option: str = "--ood", otherwise: str | None = None
) -> EvaluationSet:
    """Open a set of foreign images, `<set>`, `<set>:near` or `<set>:far`; what it shares with the known is told.

    Args:
        params: which sources are packed, and how near they are.
        asked: the set.
        known: the known images.
        option: that asks for it, for messages.
        otherwise: how near it is where nothing says so.

    Raises:
        DataError: there is no such set, or nothing says how near it is.
    """
    name, _, group = asked.rpartition(":")
    name, group = (name, group) if name and group in NEARNESS else (asked, None)
    with passing(name=option, ood=option):
        shards = shards_of(params, name)
        found = ood_set(shards, known, group or params.embed.ood.get(name) or otherwise)
    warn_of_copies(shards, known.shards, params.mixing.near_bits)
    return found


def open_training(params: Params, name: str, known: EvaluationSet) -> EvaluationSet:
    """Open the images that scores are fitted on: those for training of a packed source, all of another set.

    Labels are those of the known classes, by their names; -1 where the images have no class.

    Raises:
        DataError: there is no such set, it is the known images themselves, a class is none of the known ones, or some
            images alone have one.
    """
    with passing(name="--train"):
        shards = shards_of(params, name)
    index = read_index(shards, COLUMNS)
    rows = index[index["split"] == "train"]
    if rows.empty and shards == known.shards:
        raise DataError(f"{name} has no training images beside the ones to be told: name another set with --train")
    rows = (index if rows.empty else rows).reset_index(drop=True)
    labels = dict(known.rows[["class", "label"]].itertuples(index=False, name=None))
    if rows["class"].isna().all():
        labels = {}
    elif foreign := [str(one) for one in rows["class"].unique() if one not in labels]:
        raise DataError(
            f"{name} has training images of {foreign[0]}, which is no class of {known.source} ({len(foreign)} such):"
            " leave them out, or give no image a class"
        )
    if shards != known.shards:
        warn_of_copies(shards, known.shards, params.mixing.near_bits)
    label = rows["class"].map(labels).fillna(NONE_OF_THEM).astype("int64")
    return EvaluationSet(shards, rows.assign(label=label), known.classes, sorted(rows["domain"].unique()))


def shards_of(params: Params, name: str) -> Path:
    """Return where a set is packed; a folder `<class>/<file>` or `<file>` of the user's is packed first.

    Raises:
        ParameterError: there is neither a packed source nor a folder of this name.
        DataError: the folder holds no images, or too many bad ones.
    """
    packed = folder_of(name)
    if (packed / INDEX).is_file():
        return packed
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ParameterError(
            f"there is no packed source and no folder {name}: give one, or pack the source first", argument="name"
        )
    return pack_folder(folder.resolve(), original_root() / STATE / FOLDERS, params)


def pack_folder(folder: Path, cache: Path, params: Params) -> Path:
    """Pack a folder of images below `cache`, files as they are, unless it has been; return where."""
    source, settings = ImageSet("image-folder"), packing.Settings(folder.name, size=0)
    items = [asdict(item) for item in fetch_files(source, folder)]
    digest = digest_of(code=code_digest(packing.__name__), folder=str(folder), items=items, settings=asdict(settings))
    home = cache / digest / folder.name
    home.parent.mkdir(parents=True, exist_ok=True)
    with alone(cache / f"{digest}.lock", "packing the same folder"):
        if not home.exists():
            parts = source.parts(folder, size=params.pack.shard_samples, poses=0)
            driver, staging = get_driver("processes", params.pack.workers), home.parent / "staging"
            with passing(max_bad_share="pack.max_bad_share"), atomic_folder(home) as out:
                packing.pack(
                    settings, parts, out, staging=staging, driver=driver, max_bad_share=params.pack.max_bad_share
                )
            shutil.rmtree(staging)
    return home
