"""Small made-up inputs for tests: indices of any shape, and the embeddings of made-up models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.embed.embeddings import write_about, write_layers

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def make_index(
    train: Mapping[str, Sequence[int]],
    test: Mapping[str, Sequence[int]] | int = 1,
    *,
    classes: Sequence[str] | None = None,
    source: str = "emoji",
) -> pd.DataFrame:
    """Make an index from numbers of samples: domain -> samples of each class; `test` alike, or one number for all.

    Rows stand as in split lists: by domain, by split, by class.
    """
    classes = classes or [f"class_{k}" for k in range(len(next(iter(train.values()))))]
    parts = []
    for domain, counts in train.items():
        tests = [test] * len(classes) if isinstance(test, int) else test[domain]
        for split, numbers in (("train", counts), ("test", tests)):
            label = np.repeat(np.arange(len(classes)), numbers)
            parts.append(pd.DataFrame({"domain": domain, "label": label, "split": split}))
    index = pd.concat(parts, ignore_index=True)
    index["class"] = np.asarray(classes, dtype=object)[index["label"]]
    index["row"], index["source"] = np.arange(len(index)), source
    index["key"] = [f"{d}/{c}/{row}" for d, c, row in zip(index["domain"], index["class"], index["row"], strict=True)]
    return index.astype({"class": "str", "domain": "str", "split": "str", "source": "str", "label": "int64"})


def write_embeddings(
    folder: Path,
    index: pd.DataFrame,
    *,
    right: Callable[[str, str], float] = lambda domain, name: 0.5,
    width: int = 64,
    seed: int = 0,
) -> None:
    """Write the embeddings of a made-up model for the test rows of `index`.

    Each image lies near its own class's prototype with probability `right(domain, class)`, else near that of another
    class. Prototypes are orthogonal, so `width` must be at least the number of
    classes.
    """
    rng = np.random.default_rng(seed)
    rows = index[index["split"] == "test"].reset_index(drop=True)
    classes = index.drop_duplicates("label").sort_values("label")["class"].tolist()
    text = np.linalg.qr(rng.normal(size=(width, width)))[0][: len(classes)].astype(np.float32)
    chance = np.array([right(domain, name) for domain, name in zip(rows["domain"], rows["class"], strict=True)])
    label = rows["label"].to_numpy()
    other = (label + rng.integers(1, len(classes), len(label))) % len(classes)
    image = text[np.where(rng.random(len(label)) < chance, label, other)]
    image = image + 0.02 * rng.normal(size=image.shape).astype(np.float32)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    domains = sorted(rows["domain"].unique())
    meta = {
        "model_sha256": f"{seed:064x}",
        "source": "emoji",
        "templates": "a photo of a {}.",
        "domains": domains,
        "classes": classes,
        "layers": ["stem", "output"],
    }
    layers = {name: rng.normal(size=(len(domains), len(classes), 8)).astype(np.float32) for name in meta["layers"]}
    save_embeddings(folder, image=image.astype(np.float32), rows=rows, text=text, layers=layers, meta=meta)


def save_embeddings(
    folder: Path,
    *,
    image: np.ndarray,
    rows: pd.DataFrame,
    text: np.ndarray,
    layers: dict[str, np.ndarray],
    meta: dict[str, Any],
) -> None:
    """Write embeddings as the embedding stages do."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", image)
    np.save(folder / "text.npy", text)
    write_layers(folder, layers)
    write_about(folder, rows, meta)
