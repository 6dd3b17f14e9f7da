"""Indices of the study's data sets at their real numbers of rows, made from the official counts, without an image.

For measurements and for tests at real size: every cell has as many samples as in DomainNet's cleaned release.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from domix.data.classes.imagenet import imagenet_classes

COUNTS = Path(__file__).parent.parent / "tests/golden/domainnet_class_counts.csv"
DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
IMAGENET_CAPTIONS, IMAGENET_SKETCH = 463_622, 50_889


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


def imagenet_sketch() -> pd.DataFrame:
    """Return ImageNet-Sketch's 50,889 rows, all for training: about 51 of each of 1,000 classes, in label order."""
    row = np.arange(IMAGENET_SKETCH)
    label = row * 1000 // IMAGENET_SKETCH
    names = np.array([one.text for one in imagenet_classes().values()])
    return pd.DataFrame(
        {"row": row, "domain": "imagenet-sketch", "class": names[label], "label": label, "split": "train"}
    )
