"""Network dissection beside its definition, taken literally, and beside torch's up-sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from domix.runtime.errors import DataError
from domix.signature import dissection
from domix.signature.dissection import Dissection, activation_thresholds, concept_iou, detectors, upsampled


def literal(maps: np.ndarray, masks: np.ndarray, thresholds: np.ndarray, category=None, annotated=None) -> np.ndarray:
    """Return the IoU, pair by pair and image by image, with torch's bilinear interpolation."""
    count, units, concepts = len(maps), maps.shape[1], masks.shape[1]
    category = np.zeros(concepts, int) if category is None else category
    annotated = np.ones((count, 1), bool) if annotated is None else annotated
    found = np.zeros((units, concepts))
    for unit in range(units):
        for concept in range(concepts):
            both = either = 0
            for image in range(count):
                if not annotated[image, category[concept]]:
                    continue
                grid = torch.from_numpy(maps[image, unit])[None, None]
                grown = F.interpolate(grid, size=masks.shape[2:], mode="bilinear", align_corners=False)[0, 0].numpy()
                fires, shown = grown > thresholds[unit], masks[image, concept]
                both += int((fires & shown).sum())
                either += int((fires | shown).sum())
            found[unit, concept] = both / either if either else 0.0
    return found


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """12 images: maps 3 x 4 of 7 units, of which one is dead and one fires seldom; masks 11 x 13 of 5 concepts."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((12, 7, 3, 4)).astype(np.float32)
    maps[:, 0] = 0
    maps[:, 1] = np.maximum(maps[:, 1] - 1.5, 0)
    masks = rng.random((12, 5, 11, 13)) < np.array([0.0, 0.02, 0.2, 0.5, 0.9])[:, None, None]
    masks[3] = False
    masks[:, 4, :5] = maps[:, 2:3, :1, :1].repeat(5, 2).repeat(13, 3)[:, 0] > 0.5
    return maps, masks


@pytest.mark.parametrize("units", [2, 128])
def test_iou_is_that_of_the_definition(data, monkeypatch: pytest.MonkeyPatch, units: int) -> None:
    monkeypatch.setattr(dissection, "UNITS", units)
    maps, masks = data
    thresholds = activation_thresholds(maps, 0.1)
    np.testing.assert_allclose(concept_iou(maps, masks, thresholds), literal(maps, masks, thresholds), atol=1e-12)
    assert (concept_iou(maps, masks, thresholds)[:, 1:].max(axis=0) > 0).all()


def test_images_count_for_the_categories_they_were_annotated_for(data) -> None:
    maps, masks = data
    category, annotated = np.array([0, 0, 1, 1, 2]), np.random.default_rng(1).random((12, 3)) < 0.6
    masks = masks & annotated[:, category][:, :, None, None]
    thresholds = activation_thresholds(maps, 0.2)
    found = concept_iou(maps, masks, thresholds, category=category, annotated=annotated)
    np.testing.assert_allclose(found, literal(maps, masks, thresholds, category, annotated), atol=1e-12)
    assert not np.allclose(found, concept_iou(maps, masks, thresholds))


def test_thresholds_are_the_top_half_per_cent(data) -> None:
    maps = np.random.default_rng(2).standard_normal((40, 3, 10, 10)).astype(np.float32)
    found = activation_thresholds(maps)
    for unit, threshold in enumerate(found):
        values = maps[:, unit].ravel()
        assert (values > threshold).sum() == 20 == 0.005 * len(values)
        assert threshold == pytest.approx(np.quantile(values.astype(np.float64), 0.995))
    np.testing.assert_array_equal(concept_iou(*data), concept_iou(*data, activation_thresholds(data[0], 0.005)))


def test_dead_units_detect_nothing(data) -> None:
    maps, masks = data
    found = concept_iou(maps, masks)
    assert (found[0] == 0).all() and activation_thresholds(maps)[0] == 0


@pytest.mark.parametrize("size", [(3, 4), (11, 13), (7, 112), (2, 3)])
def test_maps_are_grown_as_torch_does(data, size: tuple[int, int]) -> None:
    maps = data[0][0]
    want = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
    np.testing.assert_allclose(upsampled(maps, size), want, atol=1e-5)


def test_detectors_exceed_the_threshold() -> None:
    found = detectors(np.array([[0.04, 0.01, 0.04], [0.01, 0.3, 0.05], [0.0, 0.041, 0.041]]))
    assert found.concept.tolist() == [0, 1, 1] and found.iou.tolist() == [0.04, 0.3, 0.041]
    assert found.detects.tolist() == [False, True, True] and found.unique.tolist() == [1]


def test_what_does_not_fit_is_told(data) -> None:
    maps, masks = data
    with pytest.raises(DataError, match=r"^maps are of shape \(7, 3, 4\), masks of"):
        concept_iou(maps[0], masks)
    with pytest.raises(DataError, match="give both of the same images"):
        concept_iou(maps[1:], masks)
    with pytest.raises(DataError, match=r"^maps are of shape \(0, 7, 3, 4\): give \[images, units"):
        activation_thresholds(maps[:0])
    with pytest.raises(DataError, match=r"^a unit's map is not finite"):
        concept_iou(np.full_like(maps, np.nan), masks, np.zeros(7))
    with pytest.raises(DataError, match=r"^the thresholds of units must be finite"):
        concept_iou(maps, masks, np.full(7, np.nan))
    with pytest.raises(DataError, match=r"^each concept must be of one of 1 categories"):
        Dissection(np.zeros(7), np.array([0, 1]), 1)
    into, one = Dissection(np.zeros(7), np.array([0, 1]), 2), np.ones((1, 4, 4), bool)
    with pytest.raises(DataError, match=r"^maps are of shape \(6, 3, 4\): give \[7, height, width\]$"):
        into.update(maps[0, :6], np.array([0]), one, np.array([True, True]))
    with pytest.raises(DataError, match=r"^masks are of shape \(1, 4, 4\) and annotations of \(2,\), for 2 concepts"):
        into.update(maps[0], np.array([0, 1]), one, np.array([True, True]))
    with pytest.raises(DataError, match=r"of a category that it was not annotated for"):
        into.update(maps[0], np.array([1]), one, np.array([True, False]))
