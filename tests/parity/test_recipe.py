"""Optimiser groups, hyper-parameters, schedule and text tower against open_clip's own."""

from __future__ import annotations

import pytest
import torch
from open_clip_train.params import get_default_params
from open_clip_train.scheduler import cosine_lr

from domix.model import clip
from domix.model.tokens import tokenise
from domix.train import optim
from domix.train.schedule import WarmupCosine
from tests.tiny import CONFIG

VIT = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}


@pytest.mark.parametrize("vision", [CONFIG["vision_cfg"], VIT], ids=["resnet", "vit"])
def test_weights_decay_by_open_clips_rule(vision: dict) -> None:
    model = clip.build(CONFIG | {"vision_cfg": vision}, seed=0)

    def exclude(n: str, p: torch.Tensor) -> bool:  # as in open_clip_train.main, where it is a local lambda
        return p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n

    optimizer = optim.make_adamw(model, lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98), eps=1e-6)
    decayed, exempt = optimizer.param_groups
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.2, 0.0)
    named = list(model.named_parameters())
    assert [id(p) for p in exempt["params"]] == [id(p) for n, p in named if exclude(n, p)]
    assert [id(p) for p in decayed["params"]] == [id(p) for n, p in named if not exclude(n, p)]


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "mini", "swin_base_patch4_window7_224", "coca_ViT-B-32"])
def test_betas_and_epsilon_are_open_clips(name: str) -> None:
    default = get_default_params(name)
    betas, eps = optim.betas_and_eps(name, None, None)
    assert (*betas, eps) == (default["beta1"], default["beta2"], default["eps"])
    assert optim.betas_and_eps(name, (0.8, 0.9), 1e-4) == ((0.8, 0.9), 1e-4)


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (1, 7), (0, 20), (35, 351)])
def test_the_learning_rate_is_open_clips(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = cosine_lr(optimizer, 3e-3, warmup, total)
    ours = WarmupCosine(3e-3, warmup, total)
    assert [ours(step) for step in range(total)] == pytest.approx([theirs(step) for step in range(total)], rel=1e-12)


def test_captions_without_their_padding_give_the_same_features_and_gradients() -> None:
    captions = ["a bear", "a drawing of a large red apple.", "a kite in a castle"]
    tokens = tokenise(clip.tokenizer(CONFIG), captions)
    results = []
    for given in (tokens, None):
        model = clip.build(CONFIG, seed=0).double()
        given = clip.shortest_context(model, tokens) if given is None else given
        features = clip.encode_text(model, given)
        features.square().sum().backward()
        results.append(
            (given.shape[1], features, {n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        )
    (whole, features, gradients), (short, short_features, short_gradients) = results
    assert (whole, short) == (16, 10)
    torch.testing.assert_close(short_features, features, rtol=1e-10, atol=1e-12)
    assert gradients.keys() == short_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(short_gradients[name], gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}])
def test_captions_keep_their_padding_where_the_model_reads_it(text: dict) -> None:
    model = clip.build(CONFIG | {"text_cfg": CONFIG["text_cfg"] | text}, seed=0)
    tokens = tokenise(clip.tokenizer(CONFIG), ["a bear"])
    assert clip.shortest_context(model, tokens) is tokens
    assert torch.equal(clip.encode_text(model, tokens), model.encode_text(tokens))
