"""Zero-shot evaluation of a model of others: predictions and metrics equal to open_clip's and clip-benchmark's.

The whole way is compared: from a saved model and packed images to the numbers, each side with its own code for
reading the model, preparing images, writing prompts, classifying and counting. The images have the model's size, so
that none is resized: how resizing compares is told in test_augment.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification
from open_clip_train.zero_shot import accuracy
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from domix.data.loading.images import Images
from domix.data.store.index import read_index, write_index
from domix.data.store.shards import ShardReader
from domix.embed.embeddings import load_scored
from domix.embed.prompts import render_prompts, templates
from domix.embed.settings import PublicModel
from domix.evaluate import metrics
from domix.evaluate.ranking import Ranks, rank_blocks
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.settings import replace
from stages import embed_public
from tests import tiny
from tests.public_models import INCEPTION, VIT, write_open_clip_folder

COUNT = 240
CONFIG: dict[str, Any] = VIT | {"vision_cfg": VIT["vision_cfg"] | {"image_size": 40}}
TEMPLATES: list[str | list[str]] = ["clip", ["a {}.", "the {}"]]
SHARDS = Path("artifacts/shards/emoji")


def coloured(count: int, **_: object) -> Images:
    """Return soft patches of colour, which a random model tells apart better than noise."""
    generator = torch.Generator().manual_seed(1)
    patches = F.interpolate(torch.randn(count, 3, 4, 4, generator=generator), size=40, mode="bilinear")
    images = Images(torch.full((count, 2), 40))
    for row, patch in enumerate(patches):
        images[row].copy_((128 + 50 * patch).clamp(0, 255).to(torch.uint8))
    return images


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of test images only, and a model of strong random weights that says more than one class."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(tiny, "make_images", coloured)
        tiny.write_project(root, count=COUNT)
        index = read_index(SHARDS)
        write_index(SHARDS, index.assign(split="test").astype(index.dtypes))
        model = build(CONFIG, seed=3).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
        write_open_clip_folder(root / "theirs", model, CONFIG, mean=INCEPTION, std=(0.3, 0.25, 0.2))
        yield root


def ours(spec: str | list[str]) -> tuple[np.ndarray, Ranks]:
    """Return labels and ranks of the pipeline's stage for such a model."""
    params = load_params()
    models = {"theirs": PublicModel(architecture=None, weights="theirs")}
    embed_public.main(replace(params, models=models, embed=replace(params.embed, templates=spec)), "theirs")
    scored = load_scored(Path("artifacts/embeddings/public/theirs"), "public")
    label = scored.rows["label"].to_numpy(dtype=np.int64)
    assert scored.classes == tiny.WORDS
    return label, rank_blocks(scored.blocks(), label, np.arange(1))


@dataclass
class Files(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """The packed images as a data set of torchvision's kind."""

    transform: Any
    classes: list[str]

    def __post_init__(self) -> None:
        index = read_index(SHARDS)
        with ShardReader(SHARDS) as reader:
            self.files = [bytes(reader.read(row)) for row in index["row"]]
        self.labels = index["label"].tolist()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(io.BytesIO(self.files[index]))), self.labels[index]


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tensor of one number become a number: both accuracies call `float` of it, which newer NumPys refuse."""
    numpy = torch.Tensor.numpy

    def converted(tensor: Tensor, **options: Any) -> Any:
        return numpy(tensor.reshape(()) if tensor.shape == (1,) else tensor, **options)

    monkeypatch.setattr(torch.Tensor, "numpy", converted)


def theirs() -> tuple[Any, Any, torch.utils.data.DataLoader[Any]]:
    """Return open_clip's own model, tokenizer and images."""
    model, transform = open_clip.create_model_from_pretrained("local-dir:theirs")
    loader = torch.utils.data.DataLoader(Files(transform, tiny.WORDS), batch_size=32)
    return model.eval(), open_clip.get_tokenizer("local-dir:theirs"), loader


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("spec", TEMPLATES, ids=str)
def test_open_clip_predicts_and_counts_the_same(spec: str | list[str]) -> None:
    label, ranks = ours(spec)
    model, tokenizer, loader = theirs()
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, tiny.WORDS, templates(spec))
    with torch.no_grad():
        logits = torch.cat([100.0 * model.encode_image(images, normalize=True) @ classifier for images, _ in loader])
    np.testing.assert_array_equal(ranks.predicted, logits.argmax(dim=1))
    top1, top5 = accuracy(logits, torch.tensor(label), topk=(1, 5))
    assert (ranks.rank == 1).sum() == top1
    assert (ranks.rank <= 5).sum() == top5
    assert len(np.unique(ranks.predicted)) > 3
    assert 0 < top1 < top5 < COUNT


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("spec", TEMPLATES, ids=str)
def test_clip_benchmark_predicts_and_measures_the_same(spec: str | list[str]) -> None:
    label, ranks = ours(spec)
    model, tokenizer, loader = theirs()
    prompts = dict(zip(tiny.WORDS, render_prompts(spec, tiny.WORDS), strict=True))
    found = zeroshot_classification.evaluate(model, loader, tokenizer, tiny.WORDS, prompts, "cpu", amp=False)
    classifier = zeroshot_classification.zero_shot_classifier(model, tokenizer, tiny.WORDS, prompts, "cpu", amp=False)
    logits, target = zeroshot_classification.run_classification(model, classifier, loader, "cpu", amp=False)
    np.testing.assert_array_equal(label, target)
    np.testing.assert_array_equal(ranks.predicted, logits.argmax(dim=1))
    assert metrics.accuracy(ranks.rank == 1) == pytest.approx(found["acc1"], abs=1e-12)
    assert metrics.accuracy(ranks.rank <= 5) == pytest.approx(found["acc5"], abs=1e-12)
    balanced = metrics.balanced_accuracy(label, ranks.rank == 1)
    assert balanced == pytest.approx(found["mean_per_class_recall"], abs=1e-12)


def test_the_mean_and_deviation_of_the_model_matter(project: Path) -> None:
    """Guards the tests above: CLIP's own mean and deviation would give other predictions."""
    _, ranks = ours("{}")
    folder = project / "theirs" / "open_clip_config.json"
    told = folder.read_text()
    try:
        folder.write_text(told.replace('"mean"', '"was_mean"').replace('"std"', '"was_std"'))
        _, other = ours("{}")
    finally:
        folder.write_text(told)
    assert (ranks.predicted != other.predicted).any()
