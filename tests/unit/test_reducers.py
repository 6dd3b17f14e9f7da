"""What is gathered in one pass equals what all activations together give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from domix.activations.encode import encode
from domix.activations.reducers import ClassMeans, Moments, Outputs, TopExamples
from domix.encoders.encoder import Activations, Edit
from domix.encoders.preprocess import square
from domix.encoders.sites import Site

RNG = np.random.default_rng(0)
VALUES = RNG.normal(3, 2, (40, 6)).astype(np.float32) ** 3
VALUES[:, 5] = 1.5  # never varies
VALUES[7, 2] = VALUES[31, 2] = 9e3  # two that are equally high


class Fake:
    """An encoder whose site `s` has the values of the images' numbers, as they come."""

    preprocess = square(1)
    sites = (Site("s", 0, 6, "vector"),)

    def forward(
        self, images: torch.Tensor, sites: Iterable[str] = (), *, edits: Mapping[str, Edit] | None = None,
        grad: bool = False, pooled: bool = False,
    ) -> Activations:  # fmt: skip
        values = torch.from_numpy(VALUES[images.flatten().numpy()])
        return Activations(values, dict.fromkeys(sites, values))


def images(batch: int) -> list[torch.Tensor]:
    return list(torch.arange(40).view(40, 1, 1, 1).split(batch))


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_moments_are_scipys(batch: int) -> None:
    moments = Moments(["s"])
    assert encode(Fake(), images(batch), [moments]) == 40
    found, exact = moments.result(), VALUES.astype(np.float64)
    np.testing.assert_allclose(found["s/mean"], exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["s/variance"], exact.var(axis=0), rtol=1e-11, atol=1e-20)
    varying = slice(0, 5)
    np.testing.assert_allclose(found["s/skewness"][varying], stats.skew(exact[:, varying]), rtol=1e-9)
    np.testing.assert_allclose(found["s/kurtosis"][varying], stats.kurtosis(exact[:, varying], fisher=False), rtol=1e-9)
    assert np.isnan(found["s/kurtosis"][5])


@pytest.mark.parametrize("batch", [1, 9, 40])
def test_top_examples_are_those_of_a_sort(batch: int) -> None:
    top = TopExamples(["s"], 4)
    encode(Fake(), images(batch), [top])
    found = top.result()
    for channel in range(6):
        order = np.argsort(-VALUES[:, channel], kind="stable")[:4]
        assert found["s/row"][channel].tolist() == order.tolist()
        np.testing.assert_array_equal(found["s/value"][channel], VALUES[order, channel])
    few = TopExamples(["s"], 50)
    encode(Fake(), images(9), [few])
    assert (few.result()["s/row"][:, 40:] == -1).all() and np.isnan(few.result()["s/value"][:, 40:]).all()


def test_class_means_and_outputs_come_of_the_same_pass(tmp_path: Path) -> None:
    cells = RNG.integers(0, 6, 40)
    cells[cells == 4] = 3
    means = ClassMeans(["s"], cells, domains=2, classes=3)
    told: list[int] = []
    outputs = Outputs(tmp_path / "out.npy", 40, unit=False, columns=[4, 1], dtype=np.float16, advance=told.append)
    encode(Fake(), images(9), [outputs, means])
    found = means.result()["s"]
    for cell in range(6):
        mine = VALUES[cells == cell].astype(np.float64)
        expected = mine.mean(axis=0) if len(mine) else np.full(6, np.nan)
        np.testing.assert_allclose(found[cell // 3, cell % 3], expected, rtol=1e-6)
    written = np.load(tmp_path / "out.npy")
    outputs.result()
    assert written.dtype == np.float16 and told == [9, 9, 9, 9, 4]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), VALUES[:, [4, 1]].astype(np.float16))
