"""Indices of the study's data sets at their real numbers of rows, made from the official counts, without a picture.

For measurements and for tests at real size: every cell has as many samples as in DomainNet's cleaned release; keys,
files and hashes are made up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COUNTS = Path(__file__).parent.parent / "tests/golden/domainnet_class_counts.csv"
DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
IMAGENET_CAPTIONS, IMAGENET_SKETCH, CC3M, CC12M = 463_622, 50_889, 2_900_000, 12_000_000
SHARD_SAMPLES = 2048
PACKED_BYTES = 20_000  # of a picture


def domainnet() -> pd.DataFrame:
    """Return DomainNet's 586,575 rows in the order of the split lists: row, domain, class, label, split."""
    counts = pd.read_csv(COUNTS)
    parts = []
    for domain in DOMAINS:
        for split in ("train", "test"):
            label = np.repeat(counts["label"], counts[f"{domain}_{split}"])
            parts.append(pd.DataFrame({"domain": domain, "label": label, "split": split}))
    frame = pd.concat(parts, ignore_index=True)
    frame["class"] = counts["class"].to_numpy()[frame["label"]]
    frame["row"] = np.arange(len(frame))
    return frame


def base_corpus(source: str, count: int, *, test_share: float = 0.082, seed: int = 0) -> pd.DataFrame:
    """Return `count` rows of a corpus without classes, of which a random share is for testing."""
    is_test = np.random.default_rng(seed).random(count) < test_share
    return pd.DataFrame(
        {
            "row": np.arange(count),
            "domain": pd.Categorical.from_codes(np.zeros(count, np.int8), [source]),
            "class": pd.Categorical.from_codes(np.full(count, -1, np.int8), pd.Index([], dtype="str")),
            "label": np.full(count, -1),
            "split": pd.Categorical.from_codes(is_test.astype(np.int8), ["train", "test"]),
        }
    )


def imagenet_sketch(names: list[str] | None = None, count: int = IMAGENET_SKETCH) -> pd.DataFrame:
    """Return ImageNet-Sketch's rows, all for training: about 51 of each of 1,000 classes, in label order."""
    label = np.arange(count) * 1000 // count
    words = np.array(names or [f"imagenet class {number}" for number in range(1000)])
    return pd.DataFrame(
        {"row": np.arange(count), "domain": "imagenet-sketch", "class": words[label], "label": label, "split": "train"}
    )


def with_places(frame: pd.DataFrame, source: str, *, seed: int = 0) -> pd.DataFrame:
    """Add the other columns of an index (data/index.py): made-up keys, shards, sizes and hashes."""
    rng = np.random.default_rng(seed)
    row = frame["row"].to_numpy()
    words = {"key": np.char.mod(f"{source}/%09d", row), "shard": np.char.mod("%05d.tar", row // SHARD_SAMPLES)}
    size = rng.integers(PACKED_BYTES // 2, PACKED_BYTES * 3 // 2, len(row))
    end = np.cumsum(size + 1536)
    numbers = {"offset": end - size - np.concatenate([[0], end])[row // SHARD_SAMPLES * SHARD_SAMPLES], "size": size}
    sides = {"width": np.full(len(row), 224), "height": np.full(len(row), 224)}
    hashes = {"sha256": _hexadecimal(rng, len(row), 32), "phash": _hexadecimal(rng, len(row), 8)}
    texts = {name: pd.Series(values, dtype="str") for name, values in (words | hashes).items()}
    return frame.assign(source=source, **texts, **numbers, **sides)


def _hexadecimal(rng: np.random.Generator, count: int, width: int) -> NDArray[np.str_]:
    """Return random texts of 2 * `width` hexadecimal digits."""
    return np.frombuffer(rng.bytes(count * width).hex().encode(), dtype=f"S{2 * width}").astype(str)
