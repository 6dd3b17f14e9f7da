"""One pass over pictures and prompts: equal to the slow way, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from domix.data.augment import CLIP_MEAN, normalise
from domix.evaluate.image_tower import LayerMeans, Reading, embed_pictures, score_pictures
from domix.evaluate.text_tower import class_prototypes
from domix.model import supervised
from domix.model.clip import build, tokenizer
from domix.model.layers import layer_modules, pool_positions
from domix.runtime.errors import DataError
from tests.tiny import CONFIG
from tests.tiny_supervised import RESNET

VIT: dict[str, Any] = CONFIG | {
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
}
READING = Reading(32)
CELLS = np.array([0, 4, 1, 0, 5, 4, 4])  # domain * 3 + label: 2 domains, 3 classes, two cells empty
PROMPTS = [["a photo of an axe.", "an axe"], ["a photo of a large alarm clock.", "an alarm clock"], ["bed", "a bed."]]


def make_pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=generator)


def embed(config: dict[str, Any], batch: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    model = build(config, seed=0)
    with LayerMeans(model.visual, CELLS, domains=2, classes=3) as means:
        parts = list(embed_pictures(model, make_pictures().split(batch), READING, means=means))
    return np.concatenate(parts), means.means()


@pytest.mark.parametrize("config", [CONFIG, VIT], ids=["resnet", "vit"])
def test_pictures_equal_those_embedded_one_by_one(config: dict[str, Any]) -> None:
    image, layers = embed(config, batch=3)
    model = build(config, seed=0).eval()
    activations: dict[str, list[torch.Tensor]] = {name: [] for name in layer_modules(model.visual)}
    for name, module in layer_modules(model.visual).items():
        module.register_forward_hook(lambda m, i, out, name=name: activations[name].append(pool_positions(out)[0]))
    for n, picture in enumerate(make_pictures()):
        with torch.inference_mode():
            expected = F.normalize(model.encode_image(normalise(picture[None].float())), dim=-1)[0]
        np.testing.assert_allclose(image[n], expected, atol=2e-6)
    assert list(layers) == list(activations)
    for name, means in layers.items():
        for cell in range(6):
            mine = [vector for vector, c in zip(activations[name], CELLS, strict=True) if c == cell]
            found = means[cell // 3, cell % 3]
            if mine:
                np.testing.assert_allclose(found, torch.stack(mine).mean(dim=0), rtol=1e-4, atol=1e-5)
            else:
                assert np.isnan(found).all()


def test_embeddings_have_length_one_and_single_precision() -> None:
    image, layers = embed(CONFIG, batch=7)
    assert image.dtype == np.float32
    assert all(means.dtype == np.float32 for means in layers.values())
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=1e-6)


def test_hooks_do_not_outlive_the_pass() -> None:
    model = build(CONFIG, seed=0)
    with LayerMeans(model.visual, CELLS, domains=2, classes=3) as means:
        assert any(module._forward_hooks for module in model.modules())
        list(embed_pictures(model, [make_pictures()], READING, means=means))
    assert not any(module._forward_hooks for module in model.modules())


def test_scores_are_the_logits_of_the_outputs_asked_for() -> None:
    model = supervised.build(RESNET, outputs=9, seed=0).eval()
    found = np.concatenate(list(score_pictures(model, make_pictures().split(3), READING, outputs=[4, 5, 8])))
    with torch.inference_mode():
        expected = model(normalise(make_pictures().float()))[:, [4, 5, 8]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_normalised_as_the_model_was_trained() -> None:
    model, other = build(CONFIG, seed=0), Reading(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    found = next(embed_pictures(model, [make_pictures()], other))
    with torch.inference_mode():
        expected = F.normalize(model.encode_image(make_pictures().float() / 127.5 - 1), dim=-1)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert str(other) == (
        "central square, antialiased bicubic to 32 x 32, mean (0.5, 0.5, 0.5) and deviation (0.5, 0.5, 0.5)"
    )
    assert str(Reading(32, CLIP_MEAN)).endswith("CLIP's mean and deviation")


def test_prototypes_equal_the_slow_way_over_the_whole_context() -> None:
    model, tokens = build(CONFIG, seed=0).eval(), tokenizer(CONFIG)
    rows = []
    for texts in PROMPTS:
        with torch.inference_mode():
            each = [F.normalize(model.encode_text(tokens([text])), dim=-1)[0] for text in texts]
        rows.append(F.normalize(torch.stack(each).mean(dim=0), dim=-1))
    found = class_prototypes(model, tokens, PROMPTS, batch=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch.stack(rows), atol=2e-6)


def test_prototypes_do_not_depend_on_the_batch_or_on_other_classes() -> None:
    model, tokens = build(CONFIG, seed=0), tokenizer(CONFIG)
    whole = class_prototypes(model, tokens, PROMPTS)
    np.testing.assert_allclose(class_prototypes(model, tokens, PROMPTS, batch=1), whole, atol=2e-6)
    np.testing.assert_allclose(class_prototypes(model, tokens, PROMPTS[1:2]), whole[1:2], atol=2e-6)


def test_a_diverged_model_is_named_as_such() -> None:
    model, classifier = build(CONFIG, seed=0), supervised.build(RESNET, outputs=9, seed=0)
    with torch.no_grad():
        for parameter in [*model.parameters(), *classifier.parameters()]:
            parameter.fill_(float("nan"))
    with pytest.raises(DataError, match=r"picture embeddings that are not finite: its weights are damaged"):
        list(embed_pictures(model, [make_pictures()], READING))
    with pytest.raises(DataError, match=r"prompt embeddings that are not finite: its weights are damaged"):
        class_prototypes(model, tokenizer(CONFIG), PROMPTS)
    with pytest.raises(DataError, match=r"gives logits that are not finite: its weights are damaged"):
        list(score_pictures(classifier, [make_pictures()], READING, outputs=[0]))
