"""Concepts in the table of a zoo, on plain arrays: numbers of a model, overlap of models and groups, figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from domix.figures.look import PRINT
from domix.zoo.concepts import Encoded, concept_numbers, encode_table, overlap_matrix
from domix.zoo.figures import concept_figures
from domix.zoo.publish import shown
from domix.zoo.relations import relate

AP = np.array([[0.9, 0.2, 0.95], [0.3, 0.9, 0.1], [0.1, 0.1, 0.89]])  # units x concepts


def test_the_numbers_of_a_model() -> None:
    assert concept_numbers(AP, 0.9) == {
        "unique": 3,
        "polysemanticity": 1.5,  # two and one of the two units that encode any
        "units": 2,
        "ap": pytest.approx((0.9 + 0.9 + 0.95) / 3),
    }
    assert concept_numbers(AP, 0.89)["units"] == 3
    none = concept_numbers(AP, 1.0)
    assert (none["unique"], none["units"]) == (0, 0) and np.isnan(none["polysemanticity"])


def encoded(threshold: float = 0.5) -> Encoded:
    values = {"a": [0.9, 0.8, 0.1, 0.2], "b": [0.9, 0.1, 0.6, 0.2], "c": [0.2, 0.7, 0.1, 0.3]}
    best = pd.concat(
        pd.DataFrame({"model": name, "concept": list("wxyz"), "category": "kind", "ap": ap})
        for name, ap in values.items()
    )
    curve = pd.DataFrame({"model": np.repeat(list(values), 2), "threshold": [0.5, 1.0] * 3})
    curve = curve.assign(unique=[2, 0, 2, 0, 1, 0], units=[1, 0] * 3, polysemanticity=[2.0, np.nan] * 3)
    return encode_table("set", threshold, best, curve, {"a": "one", "b": "one", "c": "two"})


def test_overlap_is_of_the_concepts_of_either_and_groups_encode_by_their_mean() -> None:
    found = encoded()
    models, groups = found.overlaps["models"], found.overlaps["groups"]
    assert models.loc["a"].tolist() == [1.0, 1 / 3, 0.5] and models.at["b", "c"] == 0
    # means of `one`: w 0.9, x 0.45, y 0.35; `two` encodes x alone
    assert list(groups.index) == ["one", "two"] and groups.at["one", "two"] == 0
    assert found.shared.to_dict("list") == {"groups": ["one", "two"], "concepts": [1, 1]}
    both = encoded(0.45).shared
    assert both.to_dict("list") == {"groups": ["one", "one and two"], "concepts": [1, 1]}
    assert np.isnan(overlap_matrix({"a": set(), "b": set()}).to_numpy()).all()
    assert overlap_matrix({"a": {"x"}, "b": set()}).to_numpy().tolist()[0] == [1, 0]


def test_figures_tell_what_they_show_and_can_be_drawn() -> None:
    groups = {"a": "one", "b": "one", "c": "two"}
    made = {figure.name: figure for figure in concept_figures(encoded(), groups)}
    assert set(made) == {"zoo-concepts", "zoo-overlap-models", "zoo-overlap-groups"}
    assert made["zoo-concepts"].alt == "Unique concepts over the threshold; at 0.5: a 2, b 2, c 1."
    assert "Concepts of set that some unit encodes" in made["zoo-concepts"].caption
    assert "at an average precision of 0.5" in made["zoo-overlap-models"].caption
    assert "a and c 0.50" in made["zoo-overlap-models"].alt
    for figure in made.values():
        assert figure.draw(PRINT).get_size_inches().min() > 0
    assert [figure.name for figure in concept_figures(encoded(1.0), groups)] == ["zoo-concepts"]  # nothing to share


def test_the_numbers_stand_in_the_table_and_are_held_against_accuracy() -> None:
    models = pd.DataFrame({"name": list("abcde"), "group": "one", "family": None, "id": [0.1, 0.2, 0.3, 0.4, 0.6]})
    models = models.assign(unique=[1, 3, 2, 5, 4], polysemanticity=[1.0, np.nan, 2, 3, 1.5], units=[1, 2, 2, 3, 3])
    models["ap"] = [0.25, 0.3, 0.2, 0.4, 0.5]
    table = shown(models)
    assert table.iloc[1].tolist() == ["b", "one", "", "20.0", "3", "", "2", "0.300"]
    found, _ = relate(models, resamples=10)
    assert set(found["number"]) == {"unique", "polysemanticity", "units", "ap"}
    assert set(found.loc[found["number"] == "polysemanticity", "models"]) == {4}
