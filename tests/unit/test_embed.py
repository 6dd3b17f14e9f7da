"""One pass over images and prompts: equal to the slow way, whatever the batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from domix.activations.encode import encode, unit_embeddings
from domix.activations.reducers import ClassMeans, Outputs
from domix.data.loading.augment import CLIP_MEAN, normalise
from domix.embed.text_tower import class_prototypes
from domix.encoders.encoder import classifier_encoder, clip_encoder
from domix.encoders.preprocess import Preprocess, square
from domix.encoders.sites import pool_positions, site_modules
from domix.model import classifier as supervised
from domix.model.clip import build, tokenizer
from domix.runtime.errors import DataError
from tests.tiny import CONFIG
from tests.tiny_supervised import RESNET

VIT: dict[str, Any] = CONFIG | {
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
}
PREPROCESS = square(32)
CELLS = np.array([0, 4, 1, 0, 5, 4, 4])  # domain * 3 + label: 2 domains, 3 classes, two cells empty
PROMPTS = [["a photo of an axe.", "an axe"], ["a photo of a large alarm clock.", "an alarm clock"], ["bed", "a bed."]]


def make_images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=generator)


def embed(config: dict[str, Any], batch: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    model = build(config, seed=0)
    outputs = Outputs(Path(tempfile.mkdtemp()) / "image.npy", 7)
    means = ClassMeans(list(site_modules(model.visual)), CELLS, domains=2, classes=3)
    assert encode(clip_encoder(model, PREPROCESS), make_images().split(batch), [outputs, means]) == 7
    return np.array(outputs.result()["output"]), means.result()


@pytest.mark.parametrize("config", [CONFIG, VIT], ids=["resnet", "vit"])
def test_images_equal_those_embedded_one_by_one(config: dict[str, Any]) -> None:
    embedded, layers = embed(config, batch=3)
    model = build(config, seed=0).eval()
    activations: dict[str, list[torch.Tensor]] = {name: [] for name in site_modules(model.visual)}
    for name, module in site_modules(model.visual).items():
        module.register_forward_hook(lambda m, i, out, name=name: activations[name].append(pool_positions(out)[0]))
    for n, image in enumerate(make_images()):
        with torch.inference_mode():
            expected = F.normalize(model.encode_image(normalise(image[None].float())), dim=-1)[0]
        np.testing.assert_allclose(embedded[n], expected, atol=2e-6)
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
    embedded, layers = embed(CONFIG, batch=7)
    assert embedded.dtype == np.float32
    assert all(means.dtype == np.float32 for means in layers.values())
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)


def test_hooks_do_not_outlive_the_pass() -> None:
    model, seen = build(CONFIG, seed=0), []
    encoder = clip_encoder(model, PREPROCESS)

    def look(activation: torch.Tensor) -> torch.Tensor:
        seen.append(any(module._forward_hooks for module in model.modules()))
        return activation

    encoder.forward(make_images(), ["layer1.0"], edits={"layer1.0": look})
    assert seen == [True]
    assert not any(module._forward_hooks for module in model.modules())

    def fail(activation: torch.Tensor) -> torch.Tensor:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        encoder.forward(make_images(), ["attnpool"], edits={"layer1.0": fail})
    assert not any(module._forward_hooks for module in model.modules())


def test_scores_are_the_logits_of_the_outputs_asked_for(tmp_path: Path) -> None:
    model = supervised.build(RESNET, outputs=9, seed=0).eval()
    written = Outputs(tmp_path / "scores.npy", 7, unit=False, columns=[4, 5, 8])
    encode(classifier_encoder(model, PREPROCESS), make_images().split(3), [written])
    found = written.result()["output"]
    with torch.inference_mode():
        expected = model(normalise(make_images().float()))[:, [4, 5, 8]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_images_are_normalised_as_the_model_was_trained() -> None:
    model, other = build(CONFIG, seed=0), Preprocess((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    found = next(unit_embeddings(clip_encoder(model, other), [make_images()]))
    with torch.inference_mode():
        expected = F.normalize(model.encode_image(make_images().float() / 127.5 - 1), dim=-1)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert str(other) == (
        "central square, antialiased bicubic to 32 x 32, mean (0.5, 0.5, 0.5) and deviation (0.5, 0.5, 0.5)"
    )
    assert str(Preprocess((32, 32), CLIP_MEAN)).endswith("CLIP's mean and deviation")


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


def test_a_diverged_model_is_named_as_such(tmp_path: Path) -> None:
    model, classifier = build(CONFIG, seed=0), supervised.build(RESNET, outputs=9, seed=0)
    with torch.no_grad():
        for parameter in [*model.parameters(), *classifier.parameters()]:
            parameter.fill_(float("nan"))
    with pytest.raises(DataError, match=r"image embeddings that are not finite: its weights are damaged"):
        list(unit_embeddings(clip_encoder(model, PREPROCESS), [make_images()]))
    with pytest.raises(DataError, match=r"prompt embeddings that are not finite: its weights are damaged"):
        class_prototypes(model, tokenizer(CONFIG), PROMPTS)
    with pytest.raises(DataError, match=r"gives logits that are not finite: its weights are damaged"):
        written = Outputs(tmp_path / "scores.npy", 7, unit=False, columns=[0], gives="classifier gives logits")
        encode(classifier_encoder(classifier, PREPROCESS), [make_images()], [written])
