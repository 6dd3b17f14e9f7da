"""Sparse autoencoders against the reference study's steps taken literally, its leading axis of one included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from domix.analyses.sae.autoencoder import SparseAutoencoder, losses
from domix.analyses.sae.files import export_reference
from domix.analyses.sae.training import Training
from domix.runtime.seeds import torch_generator

CHANNELS, UNITS, BATCH, L1, LR = 10, 40, 32, 3e-3, 2e-3
NAMES = {
    "tied_bias": "tied_bias",
    "encoder_weight": "encoder._weight",
    "encoder_bias": "encoder._bias",
    "decoder_weight": "decoder._weight",
}


class Reference:
    """W_d relu(W_e (x - b) + b_e) + b, gradients of W_d by hand, Adam by its formula."""

    def __init__(self, one: SparseAutoencoder) -> None:
        self.weights = {
            name: tensor.double() for name, tensor in export_reference(one).items() if name in NAMES.values()
        }
        self.moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in self.weights.items()}
        self.steps = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and reconstruction [B, 1, ...] of [B, 1, C]."""
        w = self.weights
        codes = torch.relu(torch.einsum("bni,nji->bnj", x - w["tied_bias"], w["encoder._weight"]) + w["encoder._bias"])
        return codes, torch.einsum("bnj,nij->bni", codes, w["decoder._weight"]) + w["tied_bias"]

    def gradients(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the gradients, that of the decoder without its part along the columns."""
        for weight in self.weights.values():
            weight.requires_grad_().grad = None
        codes, made = self.forward(x)
        loss = ((x - made) ** 2).mean(dim=2).mean() + L1 * codes.abs().sum(dim=2).mean()
        loss.backward()
        found = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        for weight in self.weights.values():
            weight.requires_grad_(False)
        gradient = found["decoder._weight"].clone()
        for unit in range(UNITS):
            column = self.weights["decoder._weight"][0, :, unit]
            column = column / torch.sqrt((column**2).sum())
            gradient[0, :, unit] -= column * (column @ gradient[0, :, unit])
        return loss.detach(), found | {"decoder._weight": gradient}

    def step(self, x: Tensor) -> Tensor:
        loss, gradients = self.gradients(x)
        self.steps += 1
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            corrected = first / (1 - 0.9**self.steps), second / (1 - 0.999**self.steps)
            self.weights[name] -= LR * corrected[0] / (torch.sqrt(corrected[1]) + 1e-8)
        columns = self.weights["decoder._weight"]
        columns /= torch.sqrt((columns**2).sum(dim=1, keepdim=True))
        return loss


@pytest.fixture
def batches() -> Tensor:
    """Sixty batches of activations that are not centred."""
    rng = np.random.default_rng(4)
    return torch.from_numpy(rng.normal(size=(60, BATCH, CHANNELS)) @ rng.normal(size=(CHANNELS, CHANNELS)) / 3 + 0.2)


def both() -> tuple[SparseAutoencoder, Reference]:
    one = SparseAutoencoder(CHANNELS, UNITS, generator=torch_generator(1)).double()
    with torch.no_grad():
        one.tied_bias += 0.05
    return one, Reference(one)


def test_forward_and_gradients(batches: Tensor) -> None:
    one, reference = both()
    codes, made = one(batches[0])
    expected = reference.forward(batches[0][:, None])
    torch.testing.assert_close(codes.detach(), expected[0][:, 0])
    torch.testing.assert_close(made.detach(), expected[1][:, 0])
    loss = losses(batches[0], codes, made).total(L1).mean()
    loss.backward()
    value, gradients = reference.gradients(batches[0][:, None])
    torch.testing.assert_close(loss.detach(), value)
    for ours, theirs in NAMES.items():
        torch.testing.assert_close(one.get_parameter(ours).grad, gradients[theirs][0], msg=ours)


def test_sixty_steps(batches: Tensor) -> None:
    one, reference = both()
    training = Training(one, lr=LR, l1=L1)
    for batch in batches:
        torch.testing.assert_close(training.step(batch), reference.step(batch[:, None]))
    for ours, theirs in NAMES.items():
        torch.testing.assert_close(one.get_parameter(ours).detach(), reference.weights[theirs][0], msg=ours)
