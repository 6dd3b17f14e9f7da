"""Autoencoders of every position: what is said of images and of activations, and edits, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domix.analyses.sae import reconstruction
from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.analyses.sae.quality import reconstruction_edit
from domix.analyses.sae.reconstruction import (
    ImageReconstruction,
    decode,
    encode,
    explained_variance,
    reconstruct_positions,
    shares,
    sparsity,
)
from domix.runtime.seeds import torch_generator

IMAGES, POSITIONS, CHANNELS, UNITS = 11, 4, 6, 15


@pytest.fixture
def one() -> SparseAutoencoder:
    return SparseAutoencoder(CHANNELS, UNITS, activation="topk", k=3, generator=torch_generator(0)).eval()


@pytest.fixture
def activations() -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(IMAGES, POSITIONS, CHANNELS)) + 2 * rng.normal(size=(IMAGES, 1, CHANNELS)) + 1
    return values.astype(np.float32)


@pytest.mark.parametrize("block", [1, 9, 4096])
def test_images_have_the_means_of_their_positions(
    one: SparseAutoencoder, activations: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", block)
    found = reconstruct_positions(one, np.split(activations, [5, 7]))
    codes = np.stack([[encode(one, position[None])[0] for position in image] for image in activations])
    np.testing.assert_allclose(found.codes, codes.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.firing, (codes > 0).mean(axis=(0, 1)))
    rows, made = activations.reshape(-1, CHANNELS), decode(one, codes.reshape(-1, UNITS))
    for images in (np.ones(IMAGES, bool), np.arange(IMAGES) < 4, np.arange(IMAGES) == 2):
        mine = np.repeat(images, POSITIONS)
        assert found.variance(images) == pytest.approx(explained_variance(rows[mine], made[mine]), rel=1e-5)
        assert found.l0(images) == pytest.approx((codes[images] > 0).sum(axis=2).mean())
    assert shares(found.firing) == pytest.approx(sparsity(codes.reshape(-1, UNITS)))


def test_one_position_is_an_image(one: SparseAutoencoder, activations: np.ndarray) -> None:
    rows, some = activations[:, 0], np.arange(IMAGES) > 3
    codes = encode(one, rows)
    image, position = ImageReconstruction(rows, codes, decode(one, codes)), reconstruct_positions(one, [rows[:, None]])
    np.testing.assert_array_equal(image.codes, position.codes)
    np.testing.assert_array_equal(image.firing, position.firing)
    assert image.variance(some) == pytest.approx(position.variance(some), rel=1e-6)
    assert image.l0(some) == position.l0(some)


def test_activations_that_do_not_vary_have_no_variance_to_explain(one: SparseAutoencoder) -> None:
    found = reconstruct_positions(one, [np.ones((3, 2, CHANNELS), np.float32)])
    assert np.isnan(found.variance(np.ones(3, bool)))


@pytest.mark.parametrize("block", [5, 4096])
@pytest.mark.parametrize("unit_length", [False, True])
def test_the_edit_replaces_every_position(
    one: SparseAutoencoder,
    activations: np.ndarray,
    unit_length: bool,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domix.analyses.sae.quality.BLOCK", block)
    edit = reconstruction_edit(one, unit_length=unit_length, every_position=True)
    tokens = torch.from_numpy(activations)
    lengths = tokens.norm(dim=2, keepdim=True) if unit_length else torch.ones(IMAGES, POSITIONS, 1)
    with torch.no_grad():
        expected = torch.stack(
            [
                torch.stack([one((x / n)[None])[1][0] * n for x, n in zip(*image, strict=True)])
                for image in zip(tokens, lengths, strict=True)
            ]
        )
        torch.testing.assert_close(edit(tokens), expected)
        torch.testing.assert_close(edit(tokens[:, 0]), expected[:, 0])
        maps = tokens.transpose(1, 2).unflatten(2, (2, 2))
        torch.testing.assert_close(edit(maps), expected.transpose(1, 2).unflatten(2, (2, 2)))
        last = reconstruction_edit(one, unit_length=unit_length, every_position=True, nhwc=True)
        torch.testing.assert_close(last(tokens.unflatten(1, (2, 2))), expected.unflatten(1, (2, 2)))
        assert edit(tokens.half()).dtype == torch.float16
