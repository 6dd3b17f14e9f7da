"""Probes: what they learn from stores, files and few images, and what they refuse."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from domix.activations.store import ActivationStore, StoreWriter
from domix.encoders.encoder import Activations
from domix.ood.probes.linear_probe import IMAGENET, LinearProbe, Recipe, standardised_by, train_probe
from domix.ood.probes.logistic import fit_logistic
from domix.ood.probes.rows import few_shot_rows
from domix.runtime.errors import DataError, ParameterError

N, D, C = 300, 10, 4
SHORT = Recipe(epochs=10, batch=50)


def data(n: int = N, classes: int = C) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, classes, n)
    features = np.random.default_rng(1).normal(size=(classes, D))[labels] * 2 + rng.normal(size=(n, D))
    return features.astype(np.float16).astype(np.float32), labels


def stored(folder: Path, features: np.ndarray, *, shard: int) -> list[np.ndarray]:
    writer = StoreWriter(folder, ["output"], len(features), key={}, shard=shard)
    output = torch.from_numpy(features)
    writer.update(Activations(output, {"output": output}), np.arange(len(features)))
    writer.result()
    return list(ActivationStore(folder).rows("output"))


def test_a_store_and_a_mapped_file_give_the_layer_of_an_array(tmp_path: Path) -> None:
    features, labels = data()
    np.save(tmp_path / "f.npy", features.astype(np.float16))
    wanted = train_probe(features, labels, SHORT)
    places = (stored(tmp_path / "s", features, shard=64), np.load(tmp_path / "f.npy", mmap_mode="r"))
    for place in places:
        found = train_probe(place, labels, SHORT)
        np.testing.assert_array_equal(found.weight, wanted.weight)
        np.testing.assert_array_equal(found.logits(place), wanted.logits(features))


def test_equal_calls_give_equal_layers_and_another_seed_another() -> None:
    features, labels = data()
    one, two = (train_probe(features, labels, SHORT) for _ in range(2))
    np.testing.assert_array_equal(one.weight, two.weight)
    other = train_probe(features, labels, Recipe(epochs=10, batch=50, seed=1))
    assert np.abs(other.weight - one.weight).max() > 1e-3


def test_memory_holds_a_part_of_a_mapped_file_at_a_time(tmp_path: Path) -> None:
    n, width = 100_000, 64
    np.lib.format.open_memmap(tmp_path / "f.npy", mode="w+", dtype=np.float32, shape=(n, width))[:] = 1
    features = np.load(tmp_path / "f.npy", mmap_mode="r")
    labels = np.arange(n) % 3
    tracemalloc.start()
    try:
        train_probe(features, labels, Recipe(epochs=1, batch=1000)).accuracy(features, labels)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < n * width * 4 / 2


def test_rows_of_mixed_shards_teach_as_much() -> None:
    features, labels = data()
    recipe = Recipe(epochs=40, batch=50, mixed=1, lr=0.02)
    probe = train_probe(features, labels, recipe)
    assert probe.accuracy(features, labels) > 0.9
    assert np.abs(probe.weight - train_probe(features, labels, Recipe(epochs=40, batch=50, lr=0.02)).weight).max() > 0


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e-20])
def test_a_constant_dimension_gives_no_nan(value: float) -> None:
    features, labels = data()
    features[:, 1] = value
    probe = train_probe(features, labels, SHORT)
    assert probe.std[1] == 1 and probe.mean[1] == pytest.approx(value)
    assert (np.delete(probe.std, 1) != 1).all() and np.isfinite(probe.logits(features)).all()


def test_a_dimension_that_varies_by_rounding_alone_is_not_blown_up() -> None:
    array = np.random.default_rng(0).normal(size=(9000, 2)).astype(np.float32)
    array[:, 1] = np.where(array[:, 0] > 0, np.nextafter(np.float32(3.3), np.float32(4)), np.float32(3.3))
    mean, std = standardised_by(array)
    np.testing.assert_allclose(mean, array.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert std[0] == pytest.approx(array[:, 0].std(ddof=1), rel=1e-5) and std[1] == 1
    assert standardised_by(array * np.float32(1e-12))[1][0] < 1e-10  # small numbers that vary are no rounding


def test_accuracy_is_that_of_the_greatest_logit() -> None:
    eye = np.eye(3, dtype=np.float32)
    probe = LinearProbe(eye, np.zeros(3, np.float32), np.zeros(3, np.float32), np.ones(3, np.float32))
    assert probe.accuracy(eye, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    shifted = LinearProbe(eye, np.array([0, 0, 9], np.float32), np.ones(3, np.float32), np.full(3, 2, np.float32))
    np.testing.assert_allclose(shifted.logits(eye)[0], [0, -0.5, 8.5])
    assert shifted.accuracy(eye, np.array([0, 1, 2])) == pytest.approx(1 / 3)


def test_few_shots_are_enough_for_easy_classes() -> None:
    features, labels = data()
    rows = few_shot_rows(labels, 8)
    probe = train_probe(features[rows], labels[rows], Recipe(epochs=100, lr=0.02))
    assert probe.weight.shape == (C, D)
    assert probe.accuracy(features, labels) > 0.8


def test_an_empty_class_is_told_and_never_taken(caplog: pytest.LogCaptureFixture) -> None:
    features, labels = data()
    with caplog.at_level(logging.WARNING):
        probe = train_probe(features, labels, Recipe(epochs=60, batch=50, lr=0.02), classes=6)
    assert "2 of 6 classes have no image to learn from: [4 5]" in caplog.text
    assert probe.weight.shape == (6, D)
    assert probe.logits(features).argmax(axis=1).max() < 4


def test_the_defaults_are_plps() -> None:
    assert Recipe() == Recipe(
        100, None, 256, 1e-3, 1e-3, 0.1, "adam", scale_lr=False, standardise=True, mixed=None, seed=42
    )
    assert Recipe(batch=8192) == IMAGENET
    assert Recipe(epochs=3, batch=100).length(250) == 9 and Recipe(epochs=None, steps=7).length(250) == 7


@pytest.mark.parametrize("C", [1.0, 0.01])
def test_logistic_regression_is_scikit_learns_on_standardised_features(C: float) -> None:
    features, labels = data()
    inputs = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    theirs = LogisticRegression(C=C, max_iter=1000).fit(inputs, labels)
    probe = fit_logistic(features, labels, C=C)
    np.testing.assert_allclose(probe.logits(features), theirs.decision_function(inputs), atol=1e-2)
    assert probe.accuracy(features, labels) == pytest.approx(theirs.score(inputs, labels))


def test_logistic_regression_of_two_classes_has_two_outputs() -> None:
    features, labels = data(classes=2)
    probe = fit_logistic(features, labels)
    inputs = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    theirs = LogisticRegression(max_iter=1000).fit(inputs, labels)
    logits = probe.logits(features)
    assert logits.shape == (N, 2)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, theirs.predict_proba(inputs), atol=1e-3)


def test_logistic_regression_needs_every_class() -> None:
    features, labels = data()
    with pytest.raises(DataError, match=r"^4 of 5 classes have images, but logistic regression needs one of each"):
        fit_logistic(features, labels, classes=5)
    with pytest.raises(DataError, match=r"^1 of 1 classes have images"):
        fit_logistic(features, np.zeros(N, np.int64))
    with pytest.raises(DataError, match=r"^the labels are of shape \(3,\), but there are 300 images"):
        fit_logistic(features, labels[:3])


def test_bad_features_and_labels_are_one_sentence() -> None:
    features, labels = data()
    broken = features.copy()
    broken[123, 4] = np.nan
    for recipe in (SHORT, Recipe(epochs=1, standardise=False)):
        with pytest.raises(DataError, match=r"^the features are not finite \(row 123\)"):
            train_probe(broken, labels, recipe)
    with pytest.raises(DataError, match=r"^the labels are of shape \(299,\), but there are 300 images"):
        train_probe(features, labels[1:], SHORT)
    with pytest.raises(DataError, match=r"^the label of image \d+ is 3, outside of the 3 classes"):
        train_probe(features, labels, SHORT, classes=3)
    with pytest.raises(DataError, match=r"^the labels are no whole numbers from 0"):
        train_probe(features, np.where(np.arange(N) == 7, -1, labels), SHORT)
    probe = train_probe(features, labels, SHORT)
    with pytest.raises(DataError, match=r"^the probe reads 10 features, not 9: they are another encoder's"):
        probe.logits(features[:, 1:])
    with pytest.raises(DataError, match=r"^the features are not finite \(row 123\)"):
        probe.accuracy(broken, labels)
    with pytest.raises(DataError, match=r"^the labels are of shape \(5,\), but there are 300 images"):
        probe.accuracy(features, labels[:5])


def test_a_start_statistics_or_order_that_do_not_fit_are_one_sentence() -> None:
    features, labels = data()
    wide = (np.zeros((C, D + 1), np.float32), np.zeros(C, np.float32))
    with pytest.raises(
        DataError, match=r"^the layer to start from has weights \(4, 11\) and bias \(4,\), but there are 4"
    ):
        train_probe(features, labels, SHORT, start=wide)
    zero = (np.zeros(D, np.float32), np.zeros(D, np.float32))
    for statistics in (zero, (np.zeros(3), np.ones(3))):
        with pytest.raises(DataError, match=r"^mean and deviation must be 10 numbers each, deviations above 0"):
            train_probe(features, labels, SHORT, statistics=statistics)
    with pytest.raises(DataError, match=r"^the order of rows ends after 2 of 60 steps"):
        train_probe(features, labels, SHORT, order=[np.arange(50)] * 2)
    for rows in ([N], [-1], []):
        with pytest.raises(DataError, match=r"^a step has no rows, or rows outside of 0 \.\. 299"):
            train_probe(features, labels, SHORT, order=[np.array(rows, np.int64)] * 60)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"steps": 5}, "^a probe is trained for epochs or for steps"),
        ({"epochs": None}, "^a probe is trained for epochs or for steps"),
        ({"epochs": 0}, "^epochs must be above 0, not 0"),
        ({"batch": 0}, "^batch must be above 0, not 0"),
        ({"lr": -1.0}, "^lr must be above 0"),
        ({"lr": float("nan")}, "^lr must be above 0"),
        ({"warmup": 1.0}, "^warmup must be at least 0 and below 1"),
    ],
)
def test_recipes_out_of_range_are_refused(values: dict, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        Recipe(**values)
