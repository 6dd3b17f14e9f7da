"""ImageNet-Captions (Fang et al. 2022): titles, tags and descriptions of 463,622 of ImageNet's training images.

The root holds imagenet_captions.zip or imagenet_captions.json and, itself or in a folder or link `imagenet`, ImageNet's
training images (data/sources/imagenet.py).

Which captions are for training is told by imagenet_captions_train_val_split.json, an object of two lists of file names,
`train` and `val`, if it lies in the root. The reference study's was never published. Without one, an image is for
testing if the SHA-256 of its file name, read as a number from 0 to 1, is below TEST_SHARE: about the study's sizes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from domix.data.archives.names import unsafe_name
from domix.data.classes.imagenet import imagenet_classes
from domix.data.sources.contract import Part
from domix.data.sources.image_folders import (
    Cell,
    ClassTars,
    Folder,
    ImagePart,
    hash_share,
    list_images,
    make_keys,
    make_parts,
    proper_text,
)
from domix.data.sources.imagenet import class_cell, class_places, find_train
from domix.runtime.errors import DataError
from domix.runtime.files import read_json

NAME = "imagenet-captions"
ZIP, JSON, SPLIT = "imagenet_captions.zip", "imagenet_captions.json", "imagenet_captions_train_val_split.json"
LINK = "imagenet"  # folder or link that may hold ImageNet
TEST_SHARE = 0.082
CHUNK = 1 << 20  # characters read at a time
LONGEST = 16 << 20  # characters of one object
_FIELDS = ("filename", "wnid")
_GAP = " \t\r\n,"  # between objects

log = logging.getLogger(__name__)


class Caption(NamedTuple):
    """An image's file name in its class, and its text."""

    name: str
    text: str


class ImageNetCaptions:
    """ImageNet-Captions: samples by split, wnid and file name."""

    def files(self, root: Path) -> list[str]:
        """Return the texts, ImageNet's training images, and the split if it is there.

        Raises:
            DataError: texts or images are missing.
        """
        found = [_texts(root), _images(root)]
        if (root / SPLIT).is_file():
            found.append(root / SPLIT)
        return [str(path.relative_to(root)) for path in found]

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Join texts and images, and divide them into parts of `size`.

        Raises:
            DataError: as `files`; the texts or the split are malformed; or images are missing. Of those in a tar file
                only the classes are checked here, and the images when they are read.
        """
        texts, images = _texts(root), _images(root)
        captions = read_captions(texts)
        cells = _cells(captions, read_split(root / SPLIT))
        if images.is_dir():
            _check(captions, images)
            return make_parts(Folder(images), cells, size)
        places = class_places(images)
        if absent := sorted(captions.keys() - places.keys()):
            raise DataError(f"{images} lacks {len(absent):,} classes with captions, for one {absent[0]}: restore it")
        store = ClassTars(images, ())
        return [
            ImagePart(store.only({cell.directory: places[cell.directory] for cell in part.cells}), part.cells)
            for part in make_parts(store, cells, size)
        ]

    def listing(self, root: Path, *, poses: int) -> None:
        """Return None: every image has a caption of its own."""


def _texts(root: Path) -> Path:
    for name in (JSON, ZIP):
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root} holds neither {ZIP} nor {JSON}", argument="root")


def _images(root: Path) -> Path:
    for base in (root, root / LINK):
        if (path := find_train(base)) is not None:
            return path
    raise DataError(
        f"{root} lacks ImageNet's training images: lay or link there a folder {LINK} that holds train/ or"
        " ILSVRC2012_img_train.tar",
        argument="root",
    )


def _cells(captions: Mapping[str, list[Caption]], split: Mapping[str, str] | None) -> Iterator[Cell]:
    """Yield the cells of both splits; what a given split does not name is left out."""
    keys = {wnid: make_keys(wnid, [c.name for c in captions[wnid]]) for wnid in sorted(captions)}
    unknown = []
    for wanted in ("train", "test"):
        for wnid, known in keys.items():
            rows = []
            for caption, key in zip(captions[wnid], known, strict=True):
                found = default_split(caption.name) if split is None else split.get(caption.name)
                if found == wanted:
                    rows.append((caption.name, key, caption.text))
                elif found is None and wanted == "train":
                    unknown.append(caption.name)
            if rows:
                yield _cell(wnid, wanted, rows)
    if unknown:
        log.warning("left out %d captions that %s does not name, for one of %s", len(unknown), SPLIT, unknown[0])


def _cell(wnid: str, split: str, rows: list[tuple[str, str, str]]) -> Cell:
    names, keys, texts = zip(*rows, strict=True)
    return class_cell(
        wnid, directory=wnid, path=f"train/{wnid}", domain=NAME, split=split, names=names, keys=keys, texts=texts
    )


def _check(captions: Mapping[str, list[Caption]], folder: Path) -> None:
    """Refuse captions whose images a folder lacks."""
    absent = []
    for wnid in sorted(captions):
        there = set(list_images(folder / wnid, folder)) if (folder / wnid).is_dir() else set()
        absent += [f"{wnid}/{caption.name}" for caption in captions[wnid] if caption.name not in there]
    if absent:
        raise DataError(f"{folder} lacks {len(absent):,} images that have captions, for one {absent[0]}: complete it")


# Split --------------------------------------------------------------------------------------------


def default_split(name: str) -> str:
    """Return the split of an image by its file name alone."""
    return "test" if hash_share(name) < TEST_SHARE else "train"


def read_split(path: Path) -> dict[str, str] | None:
    """Return the splits of file names that a file gives; None if there is no such file.

    Raises:
        DataError: it is malformed, or names a file in both splits.
    """
    if not path.is_file():
        return None
    lists = read_json(path)
    if not isinstance(lists, dict) or any(
        not isinstance(lists.get(key), list) or not all(isinstance(name, str) for name in lists[key])
        for key in ("train", "val")
    ):
        raise DataError(f"{path} is not an object of two lists of file names, train and val: correct or remove it")
    if both := set(lists["train"]) & set(lists["val"]):
        raise DataError(f"{path} names {len(both):,} files in both lists, for one {min(both)}: correct it")
    return dict.fromkeys(lists["train"], "train") | dict.fromkeys(lists["val"], "test")


# Texts --------------------------------------------------------------------------------------------


def read_captions(path: Path) -> dict[str, list[Caption]]:
    """Return the captions by wnid, sorted by file name within each; rows without any text are left out.

    The list is read object by object: 463,622 captions need their own length in memory, not the file's in addition.

    Raises:
        DataError: the file is damaged or malformed, or names an unknown class or an improper file name.
    """
    captions: dict[str, dict[str, Caption]] = {}
    empty, again = [], []
    with _open_texts(path) as file:
        for number, row in enumerate(read_objects(file, path), start=1):
            if any(not isinstance(row.get(field), str) for field in _FIELDS):
                raise DataError(f"{path}, object {number} has no filename or wnid: restore it")
            name, wnid = row["filename"], row["wnid"]
            if wnid not in imagenet_classes():
                raise DataError(f"{path}, object {number} has the wnid {wnid!r}, which is no class of ImageNet-1k")
            if "/" in name or name.startswith(".") or unsafe_name(name):
                raise DataError(f"{path}, object {number} names {name!r}, which is no file name: do not trust it")
            known, text = captions.setdefault(wnid, {}), caption_text(row, f"{path}, object {number}")
            if not text:
                empty.append(name)
            elif name in known:
                again.append(name)
            else:
                known[name] = Caption(name, text)
    for names, why in ((empty, "empty captions"), (again, "second captions of an image")):
        if names:
            log.warning("left out %d %s of %s, for one of %s", len(names), why, path, names[0])
    return {wnid: [known[name] for name in sorted(known)] for wnid, known in sorted(captions.items()) if known}


def caption_text(row: Mapping[str, Any], where: str) -> str:
    """Return an image's caption: title, tags and description, as far as there are any, in one line.

    Raises:
        DataError: one of them is no text.
    """
    title, tags, description = (row.get(field) or "" for field in ("title", "tags", "description"))
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        tags = " ".join(tags)
    parts = [part for part in (title, tags, description) if part]
    if any(not isinstance(part, str) for part in parts):
        raise DataError(f"{where} has a title, description or tags that are no text: restore it")
    return plain_spaces(proper_text("; ".join(parts)))


_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
_UNUSUAL = re.compile(r"[^\S ]|  ")  # what most captions lack: half of the time goes without this question
_SPACES = re.compile(r"(?:\r\n|\n|\v)+|(?:(?!\r\n)[^\S\n\v])+")


def plain_spaces(text: str) -> str:
    """Make one line of a text, as the reference does by way of textacy's `normalize.whitespace`.

    Zero-width spaces go; each run of line ends, and each run of other spaces, becomes one blank, so that a line end
    with spaces on both sides leaves three; no blanks remain at the ends.
    """
    text = text.translate(_ZERO_WIDTH).strip()
    return _SPACES.sub(" ", text) if _UNUSUAL.search(text) else text


@contextlib.contextmanager
def _open_texts(path: Path) -> Generator[IO[str]]:
    """Open the JSON file, or the one in the zip archive, as a stream: none of its parts is trusted to be short."""
    try:
        with contextlib.ExitStack() as stack:
            if path.suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                members = [name for name in archive.namelist() if name.rpartition("/")[2] == JSON]
                if len(members) != 1:
                    raise DataError(f"{path} does not hold one {JSON}: restore it")
                binary = stack.enter_context(archive.open(members[0]))
            else:
                binary = stack.enter_context(open(path, "rb"))
            yield io.TextIOWrapper(binary, encoding="utf-8-sig")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is not a whole zip archive ({error}): restore it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: restore it") from error


def read_objects(file: IO[str], where: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list, of which a part at a time is in memory.

    Raises:
        DataError: it is no list of objects, is cut off, or holds an object of more than LONGEST characters.
    """
    decode, buffer = json.JSONDecoder().raw_decode, file.read(CHUNK).lstrip()
    if not buffer.startswith("["):
        raise DataError(f"{where} does not hold a JSON list: restore it")
    at, count = 1, 0
    while True:
        while buffer[at : at + 1] in _GAP and at < len(buffer):
            at += 1
        if buffer[at : at + 1] == "]":
            return
        try:
            row, at = decode(buffer, at)
        except (ValueError, RecursionError) as error:
            more = file.read(CHUNK)
            if not more or len(buffer) - at > LONGEST:
                raise DataError(f"{where} is damaged or cut off after {count:,} objects: restore it") from error
            buffer, at = buffer[at:] + more, 0
            continue
        if not isinstance(row, dict):
            raise DataError(f"{where} does not hold a JSON list of objects: restore it")
        count += 1
        yield row
