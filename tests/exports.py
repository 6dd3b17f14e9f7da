"""A small mixture to export: captions of the web, drawings of a multi-domain source, and readers of their images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from domix.data.export.records import arrange
from domix.data.mixtures.mixture import Mixture
from tests.fixtures import encoded

CAPTIONS = ["a photo", 'say "cheese"', '"quoted"', "two\nlines", "a\ttab", "NA", "null", "", "café 🦁", "it's, fine"]


@dataclass(frozen=True)
class Fake:
    """What an exporter is given."""

    mixture: Mixture
    table: pd.DataFrame
    readers: dict[str, Any]
    indices: dict[str, pd.DataFrame]

    @property
    def given(self) -> tuple[Mixture, pd.DataFrame, dict[str, Any]]:
        return self.mixture, self.table, self.readers


class Reader:
    """Packed images in memory; `broken` is the row whose reading fails."""

    def __init__(self, images: Sequence[bytes], error: BaseException | None = None, broken: int = -1) -> None:
        self.images, self.error, self.broken = images, error, broken

    def read(self, row: int) -> bytes:
        if self.error is not None and row == self.broken:
            raise self.error
        return self.images[row]


def image(number: int, kind: str = "PNG") -> bytes:
    """Draw one image file; its colour tells the number."""
    return encoded(Image.new("RGB", (9, 7), (number % 256, number // 256, 3)), kind)


def make_index(rows: Sequence[Mapping[str, Any]], source: str) -> pd.DataFrame:
    """Make an index of `rows`, whose keys are numbered if they bring none."""
    common = {"source": source, "domain": source, "class": None, "label": -1, "split": "train"}
    filled = [common | {"key": f"{number:05d}"} | dict(row) for number, row in enumerate(rows)]
    index = pd.DataFrame(filled).assign(row=range(len(filled)))
    return index.astype({"class": "str", "domain": "str", "key": "str"})


def make_export(
    indices: Mapping[str, pd.DataFrame],
    rows: Mapping[str, Sequence[int]],
    texts: Mapping[str, Sequence[str]],
    *,
    main: str = "domainnet",
    held_out: tuple[str, tuple[str, ...]] | None = None,
    weights: Sequence[float] | None = None,
    kinds: Sequence[str] = ("PNG", "JPEG", "WEBP"),
) -> Fake:
    """Make the mixture of `rows` (source -> rows of its index) with the captions `texts` (one a row of the index)."""
    frame = pd.concat(
        [pd.DataFrame({"source": name, "row": list(chosen), "caption": "standard"}) for name, chosen in rows.items()],
        ignore_index=True,
    ).astype({"row": "int64", "source": "str"})
    if weights is not None:
        frame["weight"] = list(weights)
    images = {
        name: [image(number, kinds[number % len(kinds)]) for number in range(len(index))]
        for name, index in indices.items()
    }
    samples = frame[["source", "row"]].assign(
        key=[indices[s]["key"].iloc[r] for s, r in zip(frame["source"], frame["row"], strict=True)],
        text=[texts[s][r] for s, r in zip(frame["source"], frame["row"], strict=True)],
        size=[len(images[s][r]) for s, r in zip(frame["source"], frame["row"], strict=True)],
    )
    mixture = Mixture(
        name="tiny",
        alias="lso-rs-nosketchclasses",
        standard_name="cg-low",
        caption="standard",
        domains=tuple(sorted(set(indices[main]["domain"]))),
        held_out=held_out,
        parameters={"source": main},
        samples={name: len(chosen) for name, chosen in rows.items()},
        rows=frame,
    )
    readers = {name: Reader(files) for name, files in images.items()}
    return Fake(mixture, arrange(mixture, samples, indices), readers, dict(indices))


def small(**changes: Any) -> Fake:
    """Make a mixture of ten web images with CAPTIONS and eight drawings; its lists mix the classes' lines."""
    lists = [("sketch", "lion"), ("sketch", "axe"), ("sketch", "lion"), ("sketch", "axe")]
    lists += [("real", "axe"), ("real", "lion"), ("real", "axe"), ("real", "lion")]
    drawn = [
        {"domain": d, "class": c, "label": ["axe", "lion"].index(c), "key": f"{d}/{c}/{number}"}
        for number, (d, c) in enumerate(lists)
    ]
    indices = {"web": make_index([{}] * len(CAPTIONS), "web"), "domainnet": make_index(drawn, "domainnet")}
    texts = {"web": CAPTIONS, "domainnet": [f"a {d} of a {c}" for d, c in lists]}
    rows = {"web": range(len(CAPTIONS)), "domainnet": range(len(lists))}
    return make_export(indices, rows, texts, **changes)


def pixels(data: bytes) -> np.ndarray:
    """Decode an image file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
