"""What is said of units, of the quality of an autoencoder, and of names follows from codes whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.analyses.sae.names import name_units, vocabulary
from domix.analyses.sae.quality import balanced, cross_entropy, reconstruction_edit
from domix.analyses.sae.reconstruction import explained_variance, sparsity
from domix.analyses.sae.units import choose, describe, histograms, mean_values, top_images
from domix.runtime.seeds import torch_generator

DOMAINS, CLASSES = ["real", "sketch"], ["cat", "dog", "owl"]
# Unit 0 answers to sketches, 1 to cats of both domains, 2 to one image, 3 to nothing.
DOMAIN = np.array([0, 0, 0, 1, 1, 1])
LABEL = np.array([0, 1, 1, 0, 1, 1])
CODES = np.array([[0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0], [1, 2, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0]], dtype=np.float32)


def test_units_are_described_by_their_means() -> None:
    table = describe(CODES, DOMAIN, LABEL, DOMAINS, CLASSES).set_index("unit")
    assert table["density"].tolist() == [0.5, pytest.approx(1 / 3), pytest.approx(1 / 6), 0]
    assert table["mean"].tolist() == [2, 2, 5, 0] and table["max"].tolist() == [3, 2, 5, 0]
    assert table["domain"].tolist()[:3] == ["sketch", "real", "real"]
    assert table["domain_share"].tolist()[:3] == [1, 0.5, 1]
    assert table["class"].tolist()[:3] == ["dog", "cat", "dog"]
    assert table["class_share"].tolist()[1:3] == [1, 1]
    assert table["class_share"][0] == pytest.approx((5 / 4) / (5 / 4 + 1 / 2))
    assert table.loc[3, ["domain", "class"]].isna().all() and np.isnan(table["domain_share"][3])


def test_a_group_without_images_has_no_mean() -> None:
    means = mean_values(CODES, LABEL, 3)
    np.testing.assert_allclose(means[0], CODES[[0, 3]].mean(axis=0))
    assert not means[2].any()


def test_top_images_are_the_highest_of_their_domain() -> None:
    table = top_images(CODES, DOMAIN, DOMAINS, [0, 2, 3], 2)
    assert table[["unit", "domain", "place", "image", "value"]].values.tolist() == [
        [0, "sketch", 0, 4, 3.0],
        [0, "sketch", 1, 5, 2.0],
        [2, "real", 0, 2, 5.0],
    ]


def test_histograms_count_every_image_once() -> None:
    table = histograms(CODES, DOMAIN, DOMAINS, [0, 3], 3)
    wide = table.pivot(index=["unit", "domain"], columns="bin", values="n")
    assert wide.loc[(0, "sketch")].tolist() == [0, 1, 1, 1]
    assert wide.loc[(0, "real")].tolist() == [3, 0, 0, 0]
    assert wide.loc[(3, "real")].tolist() == [3, 0, 0, 0]
    assert table.loc[table["unit"] == 0, "high"].tolist() == [0, 1, 2, 3] * 2


def test_units_are_chosen_in_turns_and_neither_dead_nor_dense_ones() -> None:
    units = pd.DataFrame(
        {
            "unit": range(6),
            "density": [0.1, 0.1, 0.1, 0.1, 0.9, 0.001],
            "domain": ["real", "real", "sketch", "sketch", "sketch", "sketch"],
            "domain_share": [0.5, 0.9, 0.7, 0.95, 1.0, 1.0],
        }
    )
    assert choose(units, 3, ["sketch", "real"], 1000) == [0, 3, 1]
    assert set(choose(units, 10, ["sketch", "real"], 1000)) == {0, 1, 2, 3}
    assert choose(units.iloc[:0], 4, ["sketch", "real"], 1000) == []


def test_quality_of_known_codes() -> None:
    activations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert explained_variance(activations, activations) == 1
    mean = np.broadcast_to(activations.mean(axis=0), activations.shape)
    assert explained_variance(activations, mean) == pytest.approx(0, abs=1e-6)
    assert np.isnan(explained_variance(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)))
    assert sparsity(CODES) == {"l0": pytest.approx(1.0), "dead": 0.25, "dense": 0.75}
    assert balanced(np.array([True, True, False, False]), np.array([0, 0, 0, 1])) == pytest.approx(1 / 3)


def test_zeros_leave_the_loss_of_a_guess() -> None:
    text = np.eye(4, dtype=np.float32)
    found = cross_entropy(np.zeros((2, 4), np.float32), text, np.array([0, 3]), 50.0)
    np.testing.assert_allclose(found, np.log(4))
    sure = cross_entropy(text[[1]], text, np.array([1]), 50.0)
    assert sure[0] < 1e-9


@pytest.mark.parametrize("unit_length", [False, True])
def test_the_edit_replaces_the_mean_over_positions(unit_length: bool) -> None:
    one = SparseAutoencoder(6, 12, generator=torch_generator(0)).eval()
    edit = reconstruction_edit(one, unit_length=unit_length)
    vector = torch.randn(3, 6, generator=torch_generator(1))
    length = vector.norm(dim=1, keepdim=True) if unit_length else torch.ones(3, 1)
    with torch.no_grad():
        expected = one(vector / length)[1] * length
        torch.testing.assert_close(edit(vector), expected)
        maps = torch.randn(3, 6, 4, 5, generator=torch_generator(2))
        maps = maps - maps.mean(dim=(2, 3), keepdim=True) + vector[:, :, None, None]
        torch.testing.assert_close(edit(maps).mean(dim=(2, 3)), expected)
        torch.testing.assert_close(
            edit(maps) - edit(maps).mean(dim=(2, 3), keepdim=True), maps - vector[:, :, None, None]
        )
        last = reconstruction_edit(one, unit_length=unit_length, nhwc=True)
        torch.testing.assert_close(last(maps.permute(0, 2, 3, 1)), edit(maps).permute(0, 2, 3, 1))
        tokens = maps.flatten(2).transpose(1, 2)
        torch.testing.assert_close(edit(tokens), edit(maps).flatten(2).transpose(1, 2))


def test_a_unit_is_called_by_the_word_that_points_as_it_does() -> None:
    texts = np.eye(3, dtype=np.float32)
    directions = np.array([[0, 0.6, -1], [2, 0.8, 0], [0, 0, 0]], dtype=np.float32)
    words, cosines = name_units(directions, texts, ["red", "blue", "round"])
    assert words == ["blue", "blue", "blue"]
    np.testing.assert_allclose(cosines, [1, 0.8, 0])


def test_the_vocabulary_has_classes_domains_and_shipped_words_once() -> None:
    words = vocabulary(["alarm_clock", "clock"], ["sketch", "clipart"])
    assert words[:4] == ["alarm clock", "clock", "sketch", "clipart"]
    assert len(words) == len(set(words)) > 150 and all(word == word.strip() for word in words)
