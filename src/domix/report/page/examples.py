"""Example images for the page: held-out test images, and what each mixture's model took them for."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from domix.data.store.images import BadImage, decode, kind_of
from domix.report.load.study import Results
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator
from domix.runtime.wording import spaced

SEED = 0
SIDE, QUALITY = 64, 80  # of a thumbnail: pixels of the long side, and WebP's quality
LARGE, LARGE_SIDE = 16_000, 176  # bytes above which an image is made smaller, and to how many pixels
MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}  # what browsers show, by file name


@dataclass(frozen=True)
class Example:
    """One test image: its class in words, its bytes as a data URI, and (mixture, predicted, right) in study order."""

    name: str
    uri: str
    guesses: list[tuple[str, str, bool]]


def choose(study: Results, number: int) -> tuple[list[int], list[int]]:
    """Choose rows of held-out test images by seed, at most `number` each: at random, and where the mixtures disagree.

    The second list holds images that at least one mixture's first seed reads and at least one does not, at most one a
    class, none of the first list.
    """
    table = _ranks(study)
    generator = numpy_generator(SEED, "report examples")
    order = table.index[generator.permutation(len(table))]
    anyhow = list(order[:number])
    right = (table == 1).drop(columns=[m for m in table.columns if study.held_out_samples(m) > 0])
    split = right[right.any(axis=1) & ~right.all(axis=1)].index
    names = _first_seed(study).drop_duplicates("row").set_index("row")["class"]
    telling: dict[str, int] = {}
    for row in order:
        if row in split and row not in anyhow and len(telling) < number:
            telling.setdefault(names[row], row)
    return [int(row) for row in anyhow], [int(row) for row in telling.values()]


def _first_seed(study: Results) -> pd.DataFrame:
    return study.first(held_out(study))


def held_out(study: Results) -> pd.DataFrame:
    """Return the predictions of the test classes in the test domain, of all mixtures and seeds."""
    rows = study.predictions
    return rows[(rows["domain"] == study.test_domain) & rows["class"].isin(study.test_classes)]


def _ranks(study: Results) -> pd.DataFrame:
    """Return the rank of the true class: rows are held-out test images, columns mixtures."""
    return _first_seed(study).pivot(index="row", columns="mixture", values="rank").sort_index()[study.mixtures]


def load(
    study: Results, rows: list[int], read: Callable[[int], bytes], write: Callable[[bytes], str] | None = None
) -> list[Example]:
    """Read the images of `rows` with `read` (row of the index -> encoded image) and add what each mixture said.

    `write` turns an image into a data URI; None: as it is.
    """
    mine = _first_seed(study)
    mine = mine[mine["row"].isin(rows)]
    said = {(r, m): (p, k) for r, m, p, k in mine[["row", "mixture", "predicted", "rank"]].itertuples(index=False)}
    names = dict(zip(mine["row"], mine["class"], strict=True))
    examples = []
    for row in rows:
        answers = [(mixture, *said[row, mixture]) for mixture in study.mixtures]
        guesses = [(mixture, spaced(str(name)), bool(rank == 1)) for mixture, name, rank in answers]
        examples.append(Example(spaced(str(names[row])), (write or data_uri)(read(row)), guesses))
    return examples


def data_uri(image: bytes) -> str:
    """Write an encoded image as a data URI; one of many bytes is made smaller.

    Raises:
        DataError: the bytes are neither PNG, JPEG nor WebP.
    """
    media = MEDIA.get(kind_of(image) or "")
    if media is None:
        raise DataError("a packed image is neither PNG, JPEG nor WebP", argument="image")
    if len(image) > LARGE:
        return thumbnail(image, LARGE_SIDE)
    return f"data:{media};base64,{base64.b64encode(image).decode()}"


def thumbnail(image: bytes, side: int = SIDE) -> str:
    """Write an encoded image as the data URI of one of at most `side` pixels.

    Raises:
        DataError: the bytes are no image.
    """
    try:
        small = decode(image)
    except BadImage as error:
        raise DataError(f"a packed image is damaged ({error.reason})", argument="image") from error
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
