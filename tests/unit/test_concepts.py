"""Concepts on plain arrays: what is refused, counts of known answers, overlap, named colours."""

from __future__ import annotations

import numpy as np
import pytest

from domix.runtime.errors import DataError
from domix.signature.average_precision import concept_ap
from domix.signature.colours import COLOURS, NAMES, dominant_colour, lab
from domix.signature.concepts import (
    THRESHOLDS,
    ConceptSet,
    concept_curve,
    concepts_per_unit,
    jaccard,
    polysemanticity,
    unique_concepts,
    venn_counts,
)

VALUES = np.arange(8.0).reshape(4, 2)
SHOWN = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=bool)
AP = np.array([[0.9, 0.95, 0.2], [0.2, 0.9, 0.1], [0.3, 0.4, 0.89]])


@pytest.mark.parametrize(
    ("activations", "concepts", "more", "said"),
    [
        (
            VALUES,
            SHOWN.astype(int),
            {},
            r"^concepts are int64 of shape \(4, 2\): give true or false, \[i",
        ),
        (VALUES, SHOWN[:, 0], {}, r"^concepts are bool of shape \(4,\)"),
        (VALUES, SHOWN[:, :0], {}, r"^concepts are bool of shape \(4, 0\)"),
        (VALUES[:3], SHOWN, {}, "^there are activations of 3 images, but concepts of 4: take the same images$"),
        (VALUES[:0], SHOWN, {}, "^activations are empty"),
        (np.where(VALUES == 5, np.nan, VALUES), SHOWN, {}, r"^activations are not finite \(row 2\)"),
        (VALUES, SHOWN & [True, False], {}, "^no image shows concept 1: leave it out$"),
        (VALUES, SHOWN, {"category": np.zeros(2, int)}, "^only one of category and annotated is given"),
        (VALUES, SHOWN, {"annotated": np.ones((4, 1), bool)}, "^only one of category and annotated is given"),
        (
            VALUES,
            SHOWN,
            {"category": np.zeros(3, int), "annotated": np.ones((4, 1), bool)},
            r"^categories are of shape \(3,\) and annotations of \(4, 1\), for concepts of \(4, 2\)",
        ),
        (
            VALUES,
            SHOWN,
            {"category": np.zeros(2, int), "annotated": np.ones((3, 1), bool)},
            r"annotations of \(3, 1\), for concepts of \(4, 2\)",
        ),
        (
            VALUES,
            SHOWN,
            {"category": np.array([0, 1]), "annotated": np.ones((4, 1), bool)},
            "^concepts are of categories 0 to 1, but 1 are annotated: number categories by their columns, from 0$",
        ),
        (VALUES, SHOWN, {"category": np.array([-1, 0]), "annotated": np.ones((4, 1), bool)}, "of categories -1 to 0"),
        (
            VALUES,
            SHOWN,
            {"category": np.array([1, 0]), "annotated": np.array([[1, 1]] * 3 + [[1, 0]], bool)},
            "^image 3 shows concept 0, but is not annotated for its category: annotate it, or give no categories$",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    activations: np.ndarray, concepts: np.ndarray, more: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        concept_ap(activations, concepts, **more)


def test_average_precision_of_known_rankings() -> None:
    found = concept_ap(np.array([[4.0], [3.0], [2.0], [1.0]]), SHOWN)
    np.testing.assert_allclose(found, [[(1 + 2 / 4) / 2, 1 / 2]])
    np.testing.assert_allclose(
        concept_ap(np.array([[4.0], [4.0], [4.0], [1.0]]), SHOWN), [[(1 / 3 + 2 / 4) / 2, 1 / 3]]
    )


def test_unique_concepts_and_polysemanticity() -> None:
    assert unique_concepts(AP, 0.9).tolist() == [0, 1]
    assert concepts_per_unit(AP, 0.9).tolist() == [2, 1, 0] and polysemanticity(AP, 0.9) == 1.5
    assert np.isnan(polysemanticity(AP, 0.96)) and unique_concepts(AP, 0.96).size == 0
    curve = concept_curve(AP)
    assert len(THRESHOLDS) == 501 and (THRESHOLDS[0], THRESHOLDS[400], THRESHOLDS[-1]) == (0.5, 0.9, 1.0)
    at = {tau: place for place, tau in enumerate(THRESHOLDS.tolist())}
    assert [curve.unique[at[tau]] for tau in (0.5, 0.89, 0.891, 0.9, 0.901, 0.95, 0.951)] == [3, 3, 2, 2, 1, 1, 0]
    assert [curve.units[at[tau]] for tau in (0.5, 0.89, 0.891, 0.901)] == [3, 3, 2, 1]
    assert curve.polysemanticity[at[0.5]] == pytest.approx(4 / 3) and np.isnan(curve.polysemanticity[-1])


def test_overlap_of_groups() -> None:
    groups = {"zero-shot": ["a", "b", "c", "d"], "fine-tuned": ["b", "c"], "supervised": ["c", "e", "e"], "none": []}
    assert venn_counts(groups) == {
        ("zero-shot",): 2,
        ("supervised",): 1,
        ("zero-shot", "fine-tuned"): 1,
        ("zero-shot", "fine-tuned", "supervised"): 1,
    }
    assert list(venn_counts(groups))[-1] == ("zero-shot", "fine-tuned", "supervised")
    assert jaccard(groups["zero-shot"], groups["supervised"]) == 1 / 5 and jaccard(["a"], ["a"]) == 1
    assert np.isnan(jaccard([], [])) and venn_counts({"one": [], "other": []}) == {}


def test_concepts_that_no_ranking_can_miss_or_find_are_left_out() -> None:
    shown = np.array([[1, 1, 0, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=bool)
    annotated = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=bool)
    known = ConceptSet(tuple("abcde"), np.array([0, 1, 0, 0, 1]), ("x", "y"), shown, annotated)
    assert known.images.tolist() == [4, 2, 0, 1, 1]
    assert known.candidates("category").tolist() == [4, 2, 4, 4, 2] and known.candidates("all").tolist() == [4] * 5
    by_category = known.usable("category")
    assert by_category.names == ("d", "e") and by_category.category.tolist() == [0, 1]
    assert by_category.shown.tolist() == shown[:, 3:].tolist()
    assert known.usable("all").names == ("b", "d", "e") and known.usable("all", 2).names == ("b",)
    with pytest.raises(DataError, match=r"^none of 5 concepts is shown by 3 images or more, and not by all: "):
        known.usable("all", 3)


def image(*colours: tuple[tuple[int, int, int], int]) -> np.ndarray:
    rows = [np.full((count, 10, 3), colour, dtype=np.uint8) for colour, count in colours]
    return np.concatenate(rows)


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_colour_has_its_name(name: str) -> None:
    for colour in COLOURS[name]:
        assert dominant_colour(image((colour, 10))) == name


def test_the_dominant_colour_is_that_of_most_pixels_that_are_not_white() -> None:
    white, red, blue = (255, 255, 255), (220, 30, 40), (20, 60, 200)
    assert dominant_colour(image((white, 90), (red, 6), (blue, 4))) == "red"
    assert dominant_colour(image((white, 90), (red, 5), (blue, 5))) == "blue"  # the first of equal ones
    assert dominant_colour(image((white, 99), (red, 1))) == "red"
    assert dominant_colour(image((white, 100), (red, 1))) == "white"
    assert dominant_colour(image((white, 3))) == "white"
    for wrong in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3)),
    ):
        with pytest.raises(DataError, match=r"^pixels are .* of shape \(.*\): give uint8 \[height, width, 3\]$"):
            dominant_colour(wrong)  # ty: ignore[invalid-argument-type]


def test_cielab_of_known_colours() -> None:
    """Values of red, green and blue under D65 as they are published (Lindbloom)."""
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 255, 0): (87.73, -86.18, 83.18)}
    known |= {(0, 0, 255): (32.30, 79.19, -107.86), (0, 0, 0): (0, 0, 0), (5, 5, 5): (1.37, 0, 0)}
    np.testing.assert_allclose(lab(np.array(list(known), dtype=float)), list(known.values()), atol=0.03)
