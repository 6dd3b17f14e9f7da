"""Counted operations and memory against open_clip's published profile, a formula, and what a CPU really does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from domix.model import clip
from domix.train.cost import work
from tests.tiny import CONFIG

LARGER = {  # large enough that activations, not weights, fill the memory
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
}


@pytest.mark.parametrize(
    ("name", "image", "text"),  # GFLOP of a forward pass: open_clip's docs/model_profile.csv, in its two decimals
    [("RN50", 12.22, 5.96), ("ViT-B-32", 8.82, 5.96)],
)
def test_forward_passes_cost_what_open_clip_publishes(name: str, image: float, text: float) -> None:
    config = clip.load_config(name)
    with torch.device("meta"):
        model = clip.build(config, seed=0)
    counted = work.clip_work(model, size=224, context=77)
    assert [one.forward / 1e9 for one in counted] == pytest.approx([image, text], abs=0.005)
    assert [one.step / one.forward for one in counted] == pytest.approx([3, 3], abs=0.06)


def test_a_text_tower_costs_what_its_formula_says() -> None:
    config = CONFIG["text_cfg"]
    width, layers, length = config["width"], config["layers"], 9
    products = 12 * width**2 + 2 * length * width  # of a token and a layer: weights, and attention to all tokens
    expected = 2 * (layers * length * products + width * CONFIG["embed_dim"])
    _, text = work.clip_work(clip.build(CONFIG, seed=0), size=32, context=length)
    assert text.forward == expected


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_counted_is_what_a_cpu_computes(checkpointing: bool) -> None:
    model, images = clip.build(LARGER, seed=0), torch.randn(512, 3, 32, 32)
    model.set_grad_checkpointing(checkpointing)
    counted, _ = work.clip_work(model, size=32, context=16)
    with FlopCounterMode(display=False) as flops:
        model.encode_image(images).sum().backward()
    computed = flops.get_total_flops() / len(images)
    assert counted.step == pytest.approx(computed, rel=0.02)  # attention is computed in other pieces on a CPU
    grown = (_most(model, images) - _most(model, images[:256])) / 256
    assert counted.nbytes == pytest.approx(grown, rel=0.25)


def _most(model: Any, images: torch.Tensor) -> int:
    """Return the most memory that a step takes, as PyTorch's own allocator tells."""
    model.zero_grad(set_to_none=True)
    with profile(profile_memory=True) as profiler:
        model.encode_image(images).sum().backward()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def test_checkpointing_computes_transformer_blocks_again_and_keeps_less() -> None:
    model = clip.build(LARGER, seed=0)
    plain = work.clip_work(model, size=32, context=16)
    model.set_grad_checkpointing(True)
    for before, after in zip(plain, work.clip_work(model, size=32, context=16), strict=True):
        assert after.forward == before.forward
        assert before.step + 0.5 * before.forward < after.step < before.step + before.forward
        assert after.nbytes < 0.7 * before.nbytes


def test_counting_leaves_the_model_as_it_is() -> None:
    model = clip.build(CONFIG, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    work.clip_work(model, size=32, context=16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_memory_grows_with_the_part_and_shrinks_with_precision_and_parts() -> None:
    model = clip.build(CONFIG, seed=0)
    one = sum(work.clip_work(model, size=32, context=16), start=work.Work(0, 0, 0))
    weights = work.weight_bytes(model)
    full = work.training_bytes(model, one, part=64, precision="32-true", moments=2)
    assert full == pytest.approx(4 * weights + 64 * one.nbytes, rel=0.01)  # but for batch norm's buffers
    half = work.training_bytes(model, one, part=64, precision="bf16-mixed", moments=2)
    assert half == pytest.approx(4.5 * weights + 32 * one.nbytes, rel=0.01)


def test_parts_of_a_batch_cost_another_forward_pass() -> None:
    one = work.Work(forward=2, step=6, nbytes=10)
    assert one.accumulated(1) == one
    assert one.accumulated(4) == work.Work(forward=2, step=8, nbytes=10)
    assert one.useful == one.accumulated(4).useful == 6
