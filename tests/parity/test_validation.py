"""What is measured while CLIP trains, against open_clip's own trainer and scikit-learn on the same embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from open_clip import ClipLoss
from open_clip_train.train import get_clip_metrics
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch.nn import functional as F

from domix.data.loading.augment import normalise
from domix.model import clip
from domix.train.validation.clip import Validation, retrieval
from domix.train.validation.subsets import Subset
from tests.tiny import CONFIG, WORDS

PROMPTS = [f"a picture of a {word}." for word in WORDS]


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("count", [7, 200])
def test_retrieval_is_open_clips_where_no_caption_stands_twice(count: int) -> None:
    image, text = unit(count, 8, seed=0), unit(count, 8, seed=1)
    theirs = get_clip_metrics(image, text, 100.0)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(2))  # our captions have any order
    ours = retrieval(image.numpy(), text[shuffled].numpy(), shuffled.argsort().numpy())
    wanted = {f"{way}_r{k}": theirs[f"{way}_R@{k}"] for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    assert ours == pytest.approx(wanted)
    assert ours["image_to_text_r10"] > 0


def test_retrieval_with_repeated_captions_is_the_obvious_search() -> None:
    image, text = unit(40, 4, seed=3).numpy(), unit(9, 4, seed=4).numpy()
    truth = np.random.default_rng(5).integers(0, 9, 40)
    found = retrieval(image, text, truth)
    used = sorted(set(truth.tolist()))
    for k in (1, 5, 10):
        hits = [truth[n] in sorted(used, key=lambda u: -(image[n] @ text[u]))[:k] for n in range(40)]
        assert found[f"image_to_text_r{k}"] == pytest.approx(np.mean(hits))
        nearest = {u: sorted(range(40), key=lambda n: -(image[n] @ text[u]))[:k] for u in used}
        assert found[f"text_to_image_r{k}"] == pytest.approx(np.mean([u in truth[nearest[u]] for u in used]))


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, float], dict[str, Any]]:
    """Measure an untrained model, and embed the same images and texts with open_clip's own functions."""
    generator = torch.Generator().manual_seed(6)
    model: Any = clip.build(CONFIG, seed=0).eval()
    labels = torch.randint(0, 12, (150,), generator=generator)
    test = torch.tensor([1, 4, 7])[torch.randint(0, 3, (40,), generator=generator)]
    images, held_out = (torch.randint(0, 256, (n, 3, 32, 32), generator=generator).byte() for n in (150, 40))
    captions = [f"a drawing of a {WORDS[label]} number {row % 100}" for row, label in enumerate(labels.tolist())]
    validation = Validation(
        CONFIG,
        Subset(images, labels.numpy(), captions),
        Subset(held_out, test.numpy(), None),
        prompts=PROMPTS,
        test_labels=np.array([1, 4, 7]),
    )
    tokenizer = clip.tokenizer(CONFIG)
    with torch.no_grad():
        theirs = {
            "seen": model.encode_image(normalise(images.float()), normalize=True),
            "held_out": model.encode_image(normalise(held_out.float()), normalize=True),
            "captions": model.encode_text(tokenizer(captions), normalize=True),
            "prompts": model.encode_text(tokenizer(PROMPTS), normalize=True),
            "scale": model.logit_scale.exp(),
            "labels": labels.numpy(),
            "test": test.numpy(),
        }
    return validation.measure(model), theirs


def test_the_loss_is_open_clips(measured: tuple[dict[str, float], dict[str, Any]]) -> None:
    ours, theirs = measured
    loss = ClipLoss()(theirs["seen"], theirs["captions"], theirs["scale"]).item()
    assert ours["loss"] == pytest.approx(loss, rel=1e-5)


def test_accuracies_are_scikit_learns(measured: tuple[dict[str, float], dict[str, Any]]) -> None:
    ours, theirs = measured
    for name, label in (("seen", theirs["labels"]), ("held_out", theirs["test"])):
        said = (theirs[name] @ theirs["prompts"].T).argmax(dim=1).numpy()
        assert ours[f"{name}_top1"] == pytest.approx(accuracy_score(label, said))
        assert ours[f"{name}_balanced_top1"] == pytest.approx(balanced_accuracy_score(label, said))
    test = np.array([1, 4, 7])
    said = test[(theirs["held_out"] @ theirs["prompts"][test].T).argmax(dim=1).numpy()]
    among = balanced_accuracy_score(theirs["test"], said)
    assert ours["held_out_balanced_top1_among_test"] == pytest.approx(among)
    assert among > 0
