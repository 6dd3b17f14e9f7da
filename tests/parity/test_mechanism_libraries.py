"""Sparse autoencoders, circuits' likeness and CKA against sae-lens, grakel and ckatorch, where these are installed.

They are no dependencies of Domix: `pip install sae-lens grakel ckatorch`, and nothing here is skipped.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.analyses.circuits.graphs import ROUNDS, Circuit, Edge, wl_kernel
from domix.analyses.hsic import cka
from domix.analyses.run_cka.minibatch import minibatch_cka, split_rows
from domix.analyses.sae.autoencoder import Activation, SparseAutoencoder, losses
from domix.analyses.sae.files import export_saelens
from domix.analyses.sae.training import ArrayFeed, Training
from domix.runtime.seeds import torch_generator

CHANNELS, UNITS, L1 = 10, 40, 3e-3


def batch(rows: int = 64) -> torch.Tensor:
    return torch.randn(rows, CHANNELS, generator=torch_generator(3)) + 0.3


@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
def test_saelens_loads_what_is_exported_and_computes_the_same(activation: Activation, tmp_path: Path) -> None:
    saes = pytest.importorskip("sae_lens")
    one = SparseAutoencoder(CHANNELS, UNITS, activation=activation, k=4, generator=torch_generator(0))
    Training(one, lr=1e-2, l1=1e-3).run(ArrayFeed(batch(200).numpy(), 20, 0), passes=3)
    one.eval()
    export_saelens(one, tmp_path / "sae", site="attnpool", model="tiny")
    loaded = saes.SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        codes, made = one(batch())
        torch.testing.assert_close(loaded.encode(batch()), codes)
        torch.testing.assert_close(loaded(batch()), made)
    assert loaded.cfg.metadata.hook_name == "attnpool" and loaded.cfg.metadata.model_name == "tiny"


def test_gradients_are_those_of_saelens() -> None:
    """Its squared error is a sum over channels, so that all gradients are as many times as great."""
    pytest.importorskip("sae_lens")
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    one = SparseAutoencoder(CHANNELS, UNITS, generator=torch_generator(0))
    with torch.no_grad():
        one.tied_bias += 0.05
    config = StandardTrainingSAEConfig(d_in=CHANNELS, d_sae=UNITS, l1_coefficient=CHANNELS * L1)
    theirs = StandardTrainingSAE(config)
    with torch.no_grad():
        theirs.W_enc.copy_(one.encoder_weight.T)
        theirs.W_dec.copy_(one.decoder_weight.T)
        theirs.b_enc.copy_(one.encoder_bias)
        theirs.b_dec.copy_(one.tied_bias)
    loss = losses(batch(), *one(batch())).total(L1).mean()
    loss.backward()
    given = TrainStepInput(
        sae_in=batch(),
        coefficients={"l1": CHANNELS * L1},
        dead_neuron_mask=None,
        n_training_steps=0,
        is_logging_step=False,
    )
    other = theirs.training_forward_pass(given).loss
    other.backward()
    torch.testing.assert_close(CHANNELS * loss, other)
    directions = theirs.W_dec.detach()
    along = (theirs.W_dec.grad * directions).sum(dim=1, keepdim=True)
    for ours, their in (
        (one.encoder_weight.grad, theirs.W_enc.grad.T),
        (one.encoder_bias.grad, theirs.b_enc.grad),
        (one.tied_bias.grad, theirs.b_dec.grad),
        (one.decoder_weight.grad, (theirs.W_dec.grad - along * directions).T),
    ):
        assert ours is not None
        torch.testing.assert_close(CHANNELS * ours, their)


def circuits() -> list[Circuit]:
    """Circuits of three sites that have some of their nodes and edges in common."""
    rng, made = np.random.default_rng(0), []
    for _ in range(5):
        sites = [[f"{site}/{channel}" for channel in rng.choice(6, 4, replace=False)] for site in "abc"]
        edges = [
            Edge(u, v, 1.0) for one, other in pairwise(sites) for v in other for u in rng.choice(one, 2, replace=False)
        ]
        made.append(Circuit(tuple(node for site in sites for node in site), tuple(edges)))
    return made


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_kernel_of_circuits_is_grakels(rounds: int) -> None:
    grakel = pytest.importorskip("grakel")
    graphs = [
        grakel.Graph(
            dict.fromkeys(circuit.pairs, 1.0),
            node_labels={node: node for node in circuit.nodes},
            graph_format="dictionary",
        )
        for circuit in circuits()
    ]
    kernel = grakel.WeisfeilerLehman(n_iter=rounds, normalize=True, base_graph_kernel=grakel.VertexHistogram)
    np.testing.assert_allclose(wl_kernel(circuits(), rounds), kernel.fit_transform(graphs), rtol=1e-12)


def test_linear_cka_is_ckatorchs_unbiased_one() -> None:
    """Its RBF kernel has another width: the median of all distances, those of samples to themselves among them."""
    ckatorch = pytest.importorskip("ckatorch")
    rng = np.random.default_rng(1)
    a = rng.normal(size=(50, 7))
    b = a[:, :4] @ rng.normal(size=(4, 5)) + 0.5 * rng.normal(size=(50, 5))
    theirs = ckatorch.cka_base(torch.from_numpy(a), torch.from_numpy(b), unbiased=True)
    assert cka(a, b) == pytest.approx(float(theirs), rel=1e-9)


def test_cka_by_mini_batches_is_ckatorchs() -> None:
    ckatorch = pytest.importorskip("ckatorch")
    rng = np.random.default_rng(1)
    a = rng.normal(size=(96, 7))
    b = a[:, :4] @ rng.normal(size=(4, 5)) + 0.5 * rng.normal(size=(96, 5))
    rows = split_rows(np.arange(96), size=24, seed=0)
    x, y = (torch.from_numpy(np.stack([values[some] for some in rows])) for values in (a, b))
    found = minibatch_cka({"a": a}, {"b": b}, size=24, seed=0)[0, 0]
    assert found == pytest.approx(float(ckatorch.cka_batch(x, y)), rel=1e-9)
