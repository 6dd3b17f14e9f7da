"""Sparse autoencoders learn what they should, revive dead units, and go on exactly where they were stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domix.activations.store import StoreWriter, open_or_make
from domix.analyses.sae.autoencoder import Activation, SparseAutoencoder, losses, nested_reconstruction
from domix.analyses.sae.files import export_reference, export_saelens, load, load_reference, save
from domix.analyses.sae.resampling import replace_units, resample, sampling_weights
from domix.analyses.sae.training import ArrayFeed, StoreFeed, Training
from domix.encoders.encoder import Activations
from domix.model.checkpoint import load_tensors
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.seeds import torch_generator
from domix.train.resume import Store

CHANNELS, UNITS = 12, 24
ACTIVATIONS: tuple[Activation, ...] = ("relu", "topk", "batchtopk")


def made(activation: Activation = "relu", *, k: int = 3, seed: int = 0) -> SparseAutoencoder:
    return SparseAutoencoder(CHANNELS, UNITS, activation=activation, k=k, generator=torch_generator(seed))


@pytest.fixture(scope="module")
def activations() -> NDArray[np.float32]:
    """Sums of three of sixteen directions, plus a constant."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(16, CHANNELS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    chosen = np.array([rng.choice(16, 3, replace=False) for _ in range(600)])
    strengths = rng.uniform(0.5, 1.5, chosen.shape)
    return ((directions[chosen] * strengths[..., None]).sum(axis=1) + 0.3).astype(np.float32)


def trained(array: NDArray[np.float32], activation: Activation = "relu", *, passes: int = 30) -> SparseAutoencoder:
    training = Training(made(activation), lr=1e-2, l1=1e-2 if activation == "relu" else 0.0)
    training.run(ArrayFeed(array, 50, 0), passes=passes)
    return training.autoencoder.eval()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_explains_activations_by_few_units(activations: NDArray[np.float32], activation: Activation) -> None:
    one = trained(activations, activation)
    with torch.no_grad():
        codes, reconstructed = one(torch.from_numpy(activations))
    left = ((reconstructed.numpy() - activations) ** 2).sum()
    assert left < 0.2 * ((activations - activations.mean(axis=0)) ** 2).sum()
    assert (codes > 0).sum(dim=1).float().mean() < 0.5 * UNITS
    assert bool((codes >= 0).all())


def test_columns_keep_length_one_and_gradients_run_across_them(activations: NDArray[np.float32]) -> None:
    one = made()
    training = Training(one, lr=1e-2, l1=1e-3)
    for _ in range(5):
        training.step(torch.from_numpy(activations[:64]))
        torch.testing.assert_close(one.decoder_weight.norm(dim=0), torch.ones(UNITS))
    gradient = one.decoder_weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0
    batch = torch.from_numpy(activations[64:128])
    one.zero_grad()
    losses(batch, *one(batch)).total(1e-3).mean().backward()
    assert one.decoder_weight.grad is not None
    along = (one.decoder_weight.grad * one.decoder_weight).sum(dim=0)
    torch.testing.assert_close(along, torch.zeros(UNITS), atol=1e-7, rtol=0)


def test_weights_begin_as_the_reference_draws_them() -> None:
    one = SparseAutoencoder(64, 256, generator=torch_generator(0))
    bound = np.sqrt(6) / np.sqrt(64 * 256)
    assert 0.99 * bound < float(one.encoder_weight.detach().abs().max()) <= bound
    assert 0.95 / 16 < float(one.encoder_bias.detach().abs().max()) <= 1 / 16
    assert not one.tied_bias.any()
    torch.testing.assert_close(one.decoder_weight.norm(dim=0), torch.ones(256))


def test_topk_keeps_k_units_an_activation_and_batchtopk_k_on_average(activations: NDArray[np.float32]) -> None:
    batch = torch.from_numpy(activations[:40])
    few = made("topk").encode(batch)
    whole = made("relu").encode(batch)
    assert int((few > 0).sum(dim=1).max()) <= 3
    kept = few > 0
    torch.testing.assert_close(few[kept], whole[kept])
    torch.testing.assert_close(few.sum(dim=1), whole.topk(3, dim=1).values.sum(dim=1))
    mean = made("batchtopk").train()
    codes = mean.encode(batch)
    assert int((codes > 0).sum()) == 3 * 40 and int((codes > 0).sum(dim=1).max()) > 3
    assert float(mean.threshold) == pytest.approx(float(codes[codes > 0].detach().min()))
    after = mean.eval().encode(batch)
    torch.testing.assert_close(after, whole * (whole > mean.threshold))


def test_the_first_units_of_a_nested_one_reconstruct_by_themselves(activations: NDArray[np.float32]) -> None:
    batch, one = torch.from_numpy(activations[:30]), made()
    codes, reconstructed = one(batch)
    parts = [one.decode(torch.cat([codes[:, :size], torch.zeros(30, UNITS - size)], dim=1)) for size in (4, 9)]
    expected = torch.stack([(batch - part).square().mean(dim=1) for part in [*parts, reconstructed]]).mean(dim=0)
    torch.testing.assert_close(nested_reconstruction(one, batch, codes, [9, 4]), expected)
    nested = Training(made(), lr=1e-2, nested=[4])
    nested.run(ArrayFeed(activations, 50, 0), passes=20)
    errors = []
    for each in (nested.autoencoder.eval(), trained(activations, passes=20)):
        codes, _ = each(torch.from_numpy(activations))
        codes[:, 4:] = 0
        errors.append(float((each.decode(codes) - torch.from_numpy(activations)).detach().square().mean()))
    assert errors[0] < errors[1]


class Stopping:
    """A feed that stops after some batches, as a kill does."""

    def __init__(self, feed: ArrayFeed, after: int) -> None:
        self.feed, self.left, self.count = feed, after, feed.count

    def batches(self, number: int) -> Iterator[NDArray[np.float32]]:
        for batch in self.feed.batches(number):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


@pytest.mark.parametrize("after", [1, 7, 12, 20])
@pytest.mark.parametrize("activation", ["relu", "batchtopk"])
def test_a_training_that_was_stopped_ends_in_the_same_weights(
    activations: NDArray[np.float32], tmp_path: Path, after: int, activation: Activation
) -> None:
    """Twelve batches a pass; resampling after 8 and 16 batches, and states saved after every step."""
    feed = ArrayFeed(activations, 50, 3)
    options: dict[str, Any] = {"passes": 3, "resample_every": 400, "seed": 1}
    whole = Training(made(activation), lr=1e-2, l1=1e-2)
    whole.run(feed, **options)
    states = Store(tmp_path / "states", code="one")
    with pytest.raises(KeyboardInterrupt):
        Training(made(activation), lr=1e-2, l1=1e-2).run(
            Stopping(feed, after), states=states, save_every_s=0.0, **options
        )
    again = Training(made(activation, seed=9), lr=1e-2, l1=1e-2)
    again.run(feed, states=states, **options)
    for name, tensor in whole.autoencoder.state_dict().items():
        assert torch.equal(tensor, again.autoencoder.state_dict()[name]) or tensor.isnan(), name
    assert torch.equal(whole.fired, again.fired)


def kill(one: SparseAutoencoder, units: list[int]) -> None:
    with torch.no_grad():
        one.encoder_bias[units] = -100.0


def test_dead_units_get_the_directions_of_what_is_reconstructed_badly(activations: NDArray[np.float32]) -> None:
    one = made()
    training = Training(one, lr=1e-3, l1=1e-3)
    training.step(torch.from_numpy(activations))
    kill(one, [2, 5])
    training.fired.zero_()
    training.step(torch.from_numpy(activations))
    assert training.fired[[2, 5]].tolist() == [0, 0]
    live = training.fired > 0
    length = float(one.encoder_weight[live].detach().norm(dim=1).mean())
    batch, before = torch.from_numpy(activations), {n: t.clone() for n, t in one.state_dict().items()}
    bias_moment = training.optimizer.state[one.tied_bias]["exp_avg"].clone()
    changed = resample(one, training.optimizer, batch, training.fired, l1=1e-3, generator=torch_generator(0))
    dead = (~live).nonzero()[:, 0]
    assert changed == len(dead)
    directions = torch.nn.functional.normalize(batch, dim=1)
    for unit in dead.tolist():
        column = one.decoder_weight[:, unit]
        assert float((directions - column).detach().norm(dim=1).min()) < 1e-6
        torch.testing.assert_close(one.encoder_weight[unit], column * 0.2 * length)
        assert float(one.encoder_bias[unit].detach()) == 0
    for name in ("exp_avg", "exp_avg_sq"):
        assert not training.optimizer.state[one.encoder_weight][name][dead].any()
        assert not training.optimizer.state[one.encoder_bias][name][dead].any()
        assert not training.optimizer.state[one.decoder_weight][name][:, dead].any()
        assert training.optimizer.state[one.decoder_weight][name][:, live].any()
    assert torch.equal(training.optimizer.state[one.tied_bias]["exp_avg"], bias_moment)
    assert torch.equal(one.decoder_weight[:, live], before["decoder_weight"][:, live])
    assert torch.equal(one.tied_bias, before["tied_bias"])


def test_what_is_drawn_goes_by_the_square_of_the_whole_loss(activations: NDArray[np.float32]) -> None:
    one, batch = made(), torch.from_numpy(activations[:5])
    weights = sampling_weights(one, batch, l1=0.5)
    codes, reconstructed = one(batch)
    loss = ((batch - reconstructed) ** 2).mean(dim=1) + 0.5 * codes.sum(dim=1)
    torch.testing.assert_close(weights, (loss**2 / (loss**2).sum()).detach())


def test_activations_are_drawn_once_and_units_beyond_their_number_stay_dead(activations: NDArray[np.float32]) -> None:
    one = made()
    optimizer = torch.optim.Adam(one.parameters())
    fired = torch.zeros(UNITS, dtype=torch.int64)
    fired[:4] = 1
    changed = resample(one, optimizer, torch.from_numpy(activations[:6]), fired, l1=0.0, generator=torch_generator(0))
    assert changed == 6
    columns = one.decoder_weight[:, 4:10].T.detach()
    assert len({tuple(row.tolist()) for row in columns.round(decimals=4)}) == 6


def test_resampling_revives_units_in_training(activations: NDArray[np.float32]) -> None:
    alive = []
    for every in (None, 1200):
        one = made()
        kill(one, list(range(12)))
        training = Training(one, lr=1e-2, l1=1e-4)
        training.run(ArrayFeed(activations, 50, 0), passes=6, resample_every=every)
        training.fired.zero_()
        training.step(torch.from_numpy(activations))
        alive.append(int((training.fired[:12] > 0).sum()))
    assert alive[0] == 0 and alive[1] >= 10


def test_nothing_is_resampled_that_could_not_be_learnt(
    activations: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Training(made(), lr=1e-2).run(ArrayFeed(activations, 50, 0), passes=2, resample_every=601)
    assert "have new directions" not in caplog.text
    Training(made(), lr=1e-2).run(ArrayFeed(activations, 50, 0), passes=2, resample_every=600)
    assert caplog.text.count("have new directions") == 1


@pytest.mark.parametrize("every", [None, 100])
def test_units_that_all_die_are_an_error_that_says_what_to_change(
    activations: NDArray[np.float32], every: int | None
) -> None:
    one = made()
    kill(one, list(range(UNITS)))
    with pytest.raises(DataError, match=r"all 24 units of the sparse autoencoder are dead: lower l1 or lr"):
        Training(one, lr=1e-9).run(ArrayFeed(activations, 50, 0), passes=1, resample_every=every)


def test_units_that_die_late_without_resampling_are_noticed(activations: NDArray[np.float32]) -> None:
    """They have fired at first; what counts is that none does in the end."""
    training = Training(made(), lr=0.1, l1=1e4)
    with pytest.raises(DataError, match=r"all 24 units of the sparse autoencoder are dead: lower l1 or lr"):
        training.run(ArrayFeed(activations, 50, 0), passes=20, resample_every=None)
    assert training.fired.any()


def test_activations_that_are_not_finite_are_named(activations: NDArray[np.float32]) -> None:
    spoilt = activations.copy()
    spoilt[77, 3] = np.nan
    with pytest.raises(DataError, match=r"not finite in pass 1: activations are NaN or infinite, or lr is too high"):
        Training(made(), lr=1e-3).run(ArrayFeed(spoilt, 50, 0), passes=2)


def test_stores_feed_all_their_activations_once_a_pass_in_another_order(
    activations: NDArray[np.float32], tmp_path: Path
) -> None:
    parts = np.split(activations, [250])

    def put(writer: StoreWriter, part: NDArray[np.float32]) -> None:
        batch = torch.from_numpy(part)
        writer.update(Activations(batch, {"site": batch}), np.arange(len(part)))

    stores = [
        open_or_make(tmp_path / str(n), ["site"], len(part), key={"n": n}, make=lambda w, p=part: put(w, p), shard=64)
        for n, part in enumerate(parts)
    ]
    feed = StoreFeed(stores, "site", 32, 1)
    passes = [np.concatenate(list(feed.batches(number))) for number in (0, 0, 1)]
    assert feed.count == len(passes[0]) == 600
    np.testing.assert_array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[0], passes[2])
    expected = np.sort(activations.astype(np.float16).astype(np.float32), axis=0)
    np.testing.assert_array_equal(np.sort(passes[0], axis=0), expected)
    firsts = np.isin(passes[0][:32, 0], parts[0][:, 0].astype(np.float16))
    assert 0 < firsts.sum() < 32  # a batch mixes the stores
    lengths = np.linalg.norm(next(StoreFeed(stores, "site", 32, 1, unit_length=True).batches(0)), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_stores_of_positions_feed_every_row(activations: NDArray[np.float32], tmp_path: Path) -> None:
    maps = torch.from_numpy(activations.reshape(150, 4, CHANNELS))

    def put(writer: StoreWriter) -> None:
        writer.update(Activations(maps, {"site": maps}), np.arange(150))

    store = open_or_make(tmp_path, ["site"], 150, key={}, make=put, shard=16, positions={"site": 4})
    feed = StoreFeed([store], "site", 32, 1)
    rows = np.concatenate(list(feed.batches(0)))
    assert feed.count == len(rows) == 600
    expected = activations.astype(np.float16).astype(np.float32)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_files_hold_what_was_saved(activations: NDArray[np.float32], tmp_path: Path, activation: Activation) -> None:
    one = trained(activations, activation, passes=2)
    save(one, tmp_path)
    read = load(tmp_path)
    batch = torch.from_numpy(activations[:20])
    assert torch.equal(one.encode(batch), read.encode(batch)) and read.activation == activation


def test_a_damaged_file_is_named(activations: NDArray[np.float32], tmp_path: Path) -> None:
    save(made(), tmp_path)
    (tmp_path / "autoencoder.json").write_text('{"activation": "tanh", "k": 3}')
    with pytest.raises(DataError, match=r"names the activation 'tanh', not relu, topk, batchtopk"):
        load(tmp_path)
    (tmp_path / "autoencoder.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match=r"autoencoder.safetensors are damaged"):
        load(tmp_path)


def test_the_references_checkpoints_are_read_and_written(activations: NDArray[np.float32], tmp_path: Path) -> None:
    one = trained(activations, passes=2)
    tensors = export_reference(one)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "tied_bias": (1, CHANNELS),
        "encoder._weight": (1, UNITS, CHANNELS),
        "encoder._bias": (1, UNITS),
        "decoder._weight": (1, CHANNELS, UNITS),
        "pre_encoder_bias._bias_reference": (1, CHANNELS),
        "post_decoder_bias._bias_reference": (1, CHANNELS),
    }
    torch.save(tensors, tmp_path / "sparse_autoencoder_final.pt")
    read = load_reference(tmp_path / "sparse_autoencoder_final.pt")
    batch = torch.from_numpy(activations[:20])
    for ours, theirs in zip(one(batch), read(batch), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(DataError, match="have a ReLU, not topk"):
        export_reference(made("topk"))


def test_other_files_are_no_checkpoints_of_the_reference(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(
        DataError, match=r"other.pt is no sparse autoencoder of the reference study: it lacks tied_bias"
    ):
        load_reference(tmp_path / "other.pt")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saelens_layout_computes_the_same(
    activations: NDArray[np.float32], tmp_path: Path, activation: Activation
) -> None:
    """By the formulas of SAELens' `standard`, `topk` and `jumprelu` on what is in the file."""
    one = trained(activations, activation, passes=2)
    export_saelens(one, tmp_path / "sae", site="attnpool", model="tiny")
    weights, config = load_tensors(tmp_path / "sae/sae_weights.safetensors"), read_json(tmp_path / "sae/cfg.json")
    batch = torch.from_numpy(activations[:20])
    values = torch.relu((batch - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    if config["architecture"] == "topk":
        kept = values.topk(config["k"], dim=1)
        values = torch.zeros_like(values).scatter(1, kept.indices, kept.values)
    if config["architecture"] == "jumprelu":
        values = values * (values > weights["threshold"])
    torch.testing.assert_close(one.encode(batch).detach(), values)
    torch.testing.assert_close(one(batch)[1].detach(), values @ weights["W_dec"] + weights["b_dec"])
    assert (config["d_in"], config["d_sae"]) == (CHANNELS, UNITS) and config["apply_b_dec_to_input"] is True
    assert config["metadata"] == {"model_name": "tiny", "hook_name": "attnpool", "sae_lens_version": "6.0.0"}


def test_replaced_units_keep_the_rest(activations: NDArray[np.float32]) -> None:
    one = made()
    before = one.encoder_weight.detach().clone()
    live = torch.ones(UNITS, dtype=torch.bool)
    live[3] = False
    replace_units(
        one, torch.optim.Adam(one.parameters()), torch.tensor([3]), torch.from_numpy(activations[:1]), live=live
    )
    assert torch.equal(one.encoder_weight[live], before[live])
    assert not torch.equal(one.encoder_weight[3], before[3])
