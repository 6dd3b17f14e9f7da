"""Adversarial images against the reference's loop, written out, and against what a batch must not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domix.analyses.adversarial.perturbation import adversarial_images, perturb, quantised, roughness
from domix.analyses.adversarial.settings import Settings
from domix.encoders.encoder import classifier_encoder
from domix.encoders.preprocess import square

MEAN, STD = torch.tensor([0.48, 0.46, 0.41]).double(), torch.tensor([0.27, 0.26, 0.28]).double()


def toy(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5)
    )


@pytest.fixture
def model() -> nn.Module:
    made = toy().double()
    made(torch.zeros(1, 3, 9, 11).double())
    return made.eval().requires_grad_(False)


def norm(images: Tensor) -> Tensor:
    return (images - MEAN[:, None, None]) / STD[:, None, None]


def gradients(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences down and across, zero in the last row and column."""
    down, across = torch.zeros_like(delta), torch.zeros_like(delta)
    down[:, :, :-1] = delta[:, :, 1:] - delta[:, :, :-1]
    across[:, :, :, :-1] = delta[:, :, :, 1:] - delta[:, :, :, :-1]
    return down, across


def reference(model: nn.Module, y: Tensor, x: Tensor, noise: Tensor, lr: float, steps: int, weight: float) -> Tensor:
    """The loop of the reference, in its order."""
    target = model(norm(x))
    delta = (1e-3 * noise).clone().requires_grad_()
    delta.data = torch.maximum(torch.minimum(delta.data, 1 - y), -y)
    adam = torch.optim.Adam([delta], lr=lr)
    for _ in range(steps):
        delta.grad = None
        down, across = gradients(delta)
        loss = -F.cosine_similarity(model(norm(y + delta)), target).mean()
        loss = loss + weight * (down.square().mean() + across.square().mean())
        loss.backward()
        adam.step()
        delta.data = torch.maximum(torch.minimum(delta.data, 1 - y), -y)
    return y + delta.detach()


def images(seed: int, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y, x = (torch.rand(count, 3, 9, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    y[0, :, :3] = 0.0  # where the noise must not go below, and above
    y[1, :, :, 4:] = 1.0
    return y, x


@pytest.mark.parametrize(("weight", "steps", "lr"), [(5000.0, 60, 1e-3), (0.0, 60, 1e-3), (40.0, 25, 3e-2)])
def test_the_references_loop(model: nn.Module, weight: float, steps: int, lr: float) -> None:
    y, x = images(1)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=y.dtype)
    wanted = reference(model, y, x, noise, lr, steps, weight)
    found = adversarial_images(
        lambda pixels: model(norm(pixels)),
        *(y, x),
        steps=steps,
        lr=lr,
        smoothness=weight,
        generator=torch.Generator().manual_seed(7),
    )
    torch.testing.assert_close(found, wanted.clamp(0, 1), rtol=0, atol=1e-12)
    assert found.min() >= 0 and found.max() <= 1
    alike = [F.cosine_similarity(model(norm(some)), model(norm(x))).mean() for some in (y, found)]
    assert alike[1] > alike[0] + 1e-4


def test_the_references_numbers_are_the_defaults(model: nn.Module) -> None:
    y, x = images(4, count=2)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=y.dtype)
    wanted = reference(model, y, x, noise, 1e-3, 250, 5000.0)
    found = adversarial_images(lambda pixels: model(norm(pixels)), y, x, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(found, wanted.clamp(0, 1), rtol=0, atol=1e-12)
    torch.manual_seed(7)
    assert torch.equal(adversarial_images(lambda pixels: model(norm(pixels)), y, x), found)
    asked = Settings()
    assert (asked.steps, asked.lr, asked.smoothness, asked.ood) == (250, 1e-3, 5000.0, None)


def test_roughness_is_the_mean_square_of_forward_differences() -> None:
    delta = torch.rand(3, 3, 5, 7, dtype=torch.float64)
    down, across = gradients(delta)
    torch.testing.assert_close(roughness(delta).mean(), down.square().mean() + across.square().mean())
    assert roughness(torch.ones(1, 3, 4, 4)).item() == 0
    ramp = torch.arange(4.0)[:, None].expand(1, 1, 4, 5)  # rises by one from row to row: 3 of 4 rows have a difference
    assert roughness(ramp).item() == pytest.approx(3 / 4)
    assert roughness(ramp.mT).item() == pytest.approx(3 / 4)


def test_an_image_is_the_same_in_any_batch(model: nn.Module) -> None:
    y, x = images(2, count=5)

    def made(places: slice) -> Tensor:
        numbers = range(5)[places]
        return adversarial_images(
            lambda pixels: model(norm(pixels)),
            y[places],
            x[places],
            steps=40,
            smoothness=torch.linspace(0, 5000, 5, dtype=y.dtype)[places],
            generator=[torch.Generator().manual_seed(n) for n in numbers],
            averaged_over=16,
        )

    whole = made(slice(0, 5))
    torch.testing.assert_close(torch.cat([made(slice(0, 2)), made(slice(2, 5))]), whole, rtol=0, atol=1e-10)
    lone = reference(
        model, y[:1], x[:1], torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(0), dtype=y.dtype),
        1e-3, 40, 0.0,
    )  # fmt: skip
    torch.testing.assert_close(whole[:1], lone, rtol=0, atol=1e-4)  # averaged over one: another part of the epsilon
    assert (whole[:1] - lone).abs().max() > 1e-12


def test_a_batch_of_sixteen_averages_as_the_reference(model: nn.Module) -> None:
    y, x = images(3, count=16)
    generators = [torch.Generator().manual_seed(n) for n in range(16)]
    noise = torch.stack([torch.randn(3, 9, 11, generator=g, dtype=y.dtype) for g in generators])
    wanted = reference(model, y, x, noise, 1e-3, 30, 0.0)
    found = [
        adversarial_images(
            lambda pixels: model(norm(pixels)),
            y[n : n + 1],
            x[n : n + 1],
            steps=30,
            smoothness=0.0,
            generator=[torch.Generator().manual_seed(n)],
            averaged_over=16,
        )
        for n in range(16)
    ]
    torch.testing.assert_close(torch.cat(found), wanted.clamp(0, 1), rtol=0, atol=1e-10)


class Embedder(nn.Module):
    """The toy model behind an encoder's interface, in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 8, 3)])

    def forward(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = block(images).tanh()
        return images.flatten(1)


def test_an_encoder_is_deceived_as_its_plain_model() -> None:
    torch.manual_seed(0)
    preprocess = square(12)
    model = Embedder()
    encoder = classifier_encoder(model, preprocess)
    y, x = (torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8) for _ in range(2))
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))

    def embed(pixels: Tensor) -> Tensor:
        return model((pixels - mean) / std)

    def streams() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(n) for n in range(3)]

    wanted = adversarial_images(
        embed, y / 255, x / 255, steps=20, lr=1e-2, smoothness=3.0, generator=streams(), averaged_over=16
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        pair = [images.contiguous(memory_format=layout) for images in (y, x)]
        found = perturb(encoder, *pair, steps=20, lr=1e-2, smoothness=3.0, generators=streams())
        assert found.dtype == torch.uint8
        assert (found.int() - quantised(wanted).int()).abs().max() <= 1
        assert (found != y).float().mean() > 0.5
