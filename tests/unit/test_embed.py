"""One pass over pictures and prompts: equal to the slow way, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from domix.data.augment import centre_boxes, crop_resize, normalise
from domix.evaluate.embed import class_prototypes, embed_pictures
from domix.model.clip import build, tokenizer
from domix.model.layers import layer_modules, pool_positions
from domix.runtime.errors import DataError
from tests.tiny import CONFIG

VIT: dict[str, Any] = CONFIG | {
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
}
SIZES = torch.tensor([[40, 36], [32, 50], [40, 40], [33, 33], [64, 32], [36, 36], [40, 48]])
CELLS = np.array([0, 4, 1, 0, 5, 4, 4])  # domain * 3 + label: 2 domains, 3 classes, two cells empty
PROMPTS = [["a photo of an axe.", "an axe"], ["a photo of a large alarm clock.", "an alarm clock"], ["bed", "a bed."]]


def make_pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 64, 50), dtype=torch.uint8, generator=generator)


def embed(config: dict[str, Any], batch: int, cells: np.ndarray = CELLS) -> Any:
    pictures = make_pictures()
    batches = [(pictures[i : i + batch], SIZES[i : i + batch]) for i in range(0, len(pictures), batch)]
    return embed_pictures(build(config, seed=0), batches, size=32, cells=cells, domains=2, classes=3)


@pytest.mark.parametrize("config", [CONFIG, VIT], ids=["resnet", "vit"])
def test_pictures_equal_those_embedded_one_by_one(config: dict[str, Any]) -> None:
    result = embed(config, batch=3)
    model = build(config, seed=0).eval()
    activations: dict[str, list[torch.Tensor]] = {name: [] for name in layer_modules(model.visual)}
    for name, module in layer_modules(model.visual).items():
        module.register_forward_hook(lambda m, i, out, name=name: activations[name].append(pool_positions(out)[0]))
    for n, picture in enumerate(make_pictures()):
        inputs = normalise(crop_resize(picture[None], centre_boxes(SIZES[n : n + 1]), 32))
        with torch.inference_mode():
            expected = F.normalize(model.encode_image(inputs), dim=-1)[0]
        np.testing.assert_allclose(result.image[n], expected, atol=2e-6)
    assert list(result.layers) == list(activations)
    for name, means in result.layers.items():
        for cell in range(6):
            mine = [vector for vector, c in zip(activations[name], CELLS, strict=True) if c == cell]
            found = means[cell // 3, cell % 3]
            if mine:
                np.testing.assert_allclose(found, torch.stack(mine).mean(dim=0), rtol=1e-4, atol=1e-5)
            else:
                assert np.isnan(found).all()


def test_embeddings_have_length_one_and_single_precision() -> None:
    result = embed(CONFIG, batch=7)
    assert result.image.dtype == np.float32
    assert all(means.dtype == np.float32 for means in result.layers.values())
    np.testing.assert_allclose(np.linalg.norm(result.image, axis=1), 1, atol=1e-6)


def test_hooks_do_not_outlive_the_pass() -> None:
    model = build(CONFIG, seed=0)
    embed_pictures(model, [(make_pictures(), SIZES)], size=32, cells=CELLS, domains=2, classes=3)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("count", "found"), [(6, "more"), (8, "only 7")])
def test_pictures_that_are_not_as_many_as_the_index_says(count: int, found: str) -> None:
    with pytest.raises(DataError, match=f"lists {count} evaluation pictures, but {found} came"):
        embed(CONFIG, batch=2, cells=np.zeros(count, dtype=np.int64))


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
    model = build(CONFIG, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(DataError, match=r"picture embeddings that are not finite: its training diverged"):
        embed_pictures(model, [(make_pictures(), SIZES)], size=32, cells=CELLS, domains=2, classes=3)
    with pytest.raises(DataError, match=r"prompt embeddings that are not finite: its training diverged"):
        class_prototypes(model, tokenizer(CONFIG), PROMPTS)
