"""The block `analyses.ood`: which scores embeddings serve, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from domix.analyses.ood.settings import Settings
from domix.runtime.errors import ParameterError


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"scores": {"mmc": {}}}, "x.scores: there is no score 'mmc': did you mean mcm?"),
        ({"scores": {"vim": {}}}, "x.scores: vim needs weight, bias, which a study's embeddings do not have"),
        (
            {"scores": {"knn": {"n": 3}}},
            "x.scores: knn has no hyper-parameter n; its own: k, metric, temperature, softmax_temperature",
        ),
        ({"shown": "gen"}, "x.shown is 'gen', which is not among scores"),
        ({"scores": {}}, "x.scores must hold at least 1, not {}"),
        ({"folds": 1}, "x.folds must be at least 2, not 1"),
    ],
)
def test_settings_that_do_not_serve(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Settings.read(block, "x")
    assert str(caught.value) == says


def test_by_default_every_score_is_one_that_embeddings_serve() -> None:
    assert Settings().model_dump() == {
        "scores": {
            "mcm": {"temperature": 1.0},
            "max_cosine": {},
            "energy": {"temperature": 1.0},
            "knn": {"k": 1},
            "mahalanobis": {"weights": "size", "shrinkage": 0.1},
            "relative_mahalanobis": {"weights": "size", "shrinkage": 0.1},
        },
        "validation": None,
        "shown": "mcm",
        "logit_scale": 100.0,
        "sets": None,
        "folds": 5,
        "convention": "plp",
        "resamples": 2000,
        "seed": 0,
    }
