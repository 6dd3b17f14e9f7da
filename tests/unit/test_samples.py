"""What a training is told of its samples: each its own image, caption and weight, in the mixture's order."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from domix.data.loading.samples import gather, identity
from domix.data.mixtures.mixture import Mixture
from domix.runtime.errors import DataError

SOURCES = ("web", "draw")
ROWS = pd.DataFrame(
    [
        ("web", 4, "standard", 1.0),
        ("draw", 2, "aligned", 2.0),
        ("web", 0, "aligned", 1.0),
        ("draw", 2, "standard", 0.5),
    ],
    columns=["source", "row", "caption", "weight"],
)


def mixture(rows: pd.DataFrame = ROWS) -> Mixture:
    samples = rows.groupby("source").size().to_dict()
    about = {"name": "tiny", "alias": "tiny", "standard_name": "tiny", "caption": "standard", "domains": ("real",)}
    return Mixture(**about, held_out=None, parameters={"source": "draw"}, samples=samples, rows=rows)


def index(source: str) -> pd.DataFrame:
    """Six samples, in another order than their rows'."""
    rows = [5, 0, 3, 2, 4, 1]
    named = {"key": [f"{source}{row}" for row in rows], "sha256": [f"sha {source}{row}" for row in rows]}
    places = {"shard": "00000.tar", "offset": [512 * row for row in rows], "size": 9, "width": 4, "height": 5}
    return pd.DataFrame({"row": rows, "domain": "real", "class": "axe"} | named | places)


def captions(source: str) -> pd.DataFrame:
    """Captions in an order of their own, no two alike."""
    keys = [f"{source}{row}" for row in (3, 1, 0, 2, 5, 4)]
    return pd.DataFrame(
        {"key": keys, "standard": [f"standard {key}" for key in keys], "aligned": [f"aligned {key}" for key in keys]}
    )


def gathered(rows: pd.DataFrame = ROWS) -> pd.DataFrame:
    return gather(mixture(rows), {s: index(s) for s in SOURCES}, {s: captions(s) for s in SOURCES})


def test_every_sample_has_its_own_image_weight_and_the_kind_of_caption_asked_for() -> None:
    found = gathered()
    assert found["text"].tolist() == ["standard web4", "aligned draw2", "aligned web0", "standard draw2"]
    assert found["key"].tolist() == ["web4", "draw2", "web0", "draw2"]
    assert found["offset"].tolist() == [2048, 1024, 0, 1024]
    assert found["weight"].tolist() == [1.0, 2.0, 1.0, 0.5]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_without_captions_there_is_no_text() -> None:
    found = gather(mixture(), {s: index(s) for s in SOURCES}, None)
    assert "text" not in found and found["key"].tolist() == ["web4", "draw2", "web0", "draw2"]


def test_a_missing_caption_is_named() -> None:
    texts = {s: captions(s) for s in SOURCES}
    texts["draw"] = texts["draw"][texts["draw"]["key"] != "draw2"]
    with pytest.raises(DataError, match="source 'draw' has no caption for 'draw2' and 1 others"):
        gather(mixture(), {s: index(s) for s in SOURCES}, texts)


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "order": lambda frame: frame.iloc[[1, 0, 2, 3]],
    "caption": lambda frame: frame.assign(text=["another", *frame["text"][1:]]),
    "image": lambda frame: frame.assign(sha256=["another", *frame["sha256"][1:]]),
    "place": lambda frame: frame.assign(offset=[7, *frame["offset"][1:]]),
    "weight": lambda frame: frame.assign(weight=[3.0, *frame["weight"][1:]]),
    "source": lambda frame: frame.assign(source=["draw", *frame["source"][1:]]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_training_is_another_one_where_any_of_its_samples_is(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert identity(gathered()) == identity(gathered())
    assert identity(change(gathered())) != identity(gathered())


def test_weights_that_are_all_one_leave_a_training_what_it_was_before_there_were_weights() -> None:
    plain = gathered(ROWS.assign(weight=1.0))
    assert identity(plain) == identity(plain.drop(columns="weight").assign(weight=1))
