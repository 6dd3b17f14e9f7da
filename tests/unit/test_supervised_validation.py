"""What is measured while a classifier trains, and that measuring leaves no trace in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from domix.data.loading.augment import normalise
from domix.data.loading.samples import Opened
from domix.data.mixtures.mixture import Mixture
from domix.train.fit import fit
from domix.train.session import Validator
from domix.train.settings import Validation
from domix.train.validation import subsets
from domix.train.validation.classifier import SupervisedValidation, make_validator
from tests.tiny import WORDS
from tests.tiny_supervised import DROPPING, RESNET, make_job

OWN = range(4, 12)  # of the 12 outputs of tests.tiny_supervised


def subset(count: int, labels: list[int] | None = None) -> subsets.Subset:
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count)).byte()
    return subsets.Subset(images, np.array(labels or [row % len(OWN) for row in range(count)]), None)


def make(**named: Any) -> SupervisedValidation:
    given: dict[str, Any] = {"seen": subset(131), "held_out": subset(5, [1, 6, 1, 1, 6])}
    return SupervisedValidation(**given | {"own": OWN, "test_labels": np.array([1, 6])} | named)


def expected(model: Any, given: subsets.Subset) -> dict[str, float]:
    """Return the measurements written out, image by image."""
    losses, right, among = [], [], []
    model.eval()
    for image, label in zip(given.images, given.labels.tolist(), strict=True):
        with torch.no_grad():
            logits = model(normalise(image[None].float()))[0].double()
        losses.append(F.cross_entropy(logits[None], torch.tensor([label + 4])).item())
        right.append(logits[4:].argmax().item() == label)
        among.append((1 if logits[5] > logits[10] else 6) == label)
    frame = pd.DataFrame({"label": given.labels, "right": right, "among": among})
    return {
        "loss": sum(losses) / len(losses),
        "top1": sum(right) / len(right),
        "balanced_top1": frame.groupby("label")["right"].mean().mean(),
        "balanced_top1_among_test": frame.groupby("label")["among"].mean().mean(),
    }


def test_every_image_counts_once() -> None:
    """The last batch, which the reference drops, included; 131 is no multiple of any."""
    validation, model = make(), make_job().task.build(0)
    row = validation.measure(model)
    assert (row.pop("n_seen"), row.pop("n_held_out")) == (131, 5)
    wanted = {}
    for name, given in (("seen", validation.seen), ("held_out", validation.held_out)):
        assert given is not None
        measured = expected(model, given)
        if name == "seen":
            del measured["balanced_top1_among_test"]
        wanted |= {f"{name}_{measure}": value for measure, value in measured.items()}
    assert row == pytest.approx(wanted, rel=1e-5)
    assert row["held_out_balanced_top1_among_test"] + row["seen_top1"] > 0


@pytest.mark.parametrize("encoder", [RESNET, DROPPING], ids=["resnet", "vit with dropout"])
def test_a_training_is_the_same_bit_for_bit_with_and_without(tmp_path: Path, encoder: dict[str, Any]) -> None:
    job = make_job(encoder=encoder, samples=8 * 5)
    validator = Validator(1, make().measure)
    for name, found in (("with", validator), ("without", None)):
        folder = tmp_path / name
        fit(job, out=folder / "model", resume=folder / "resume", about={}, make_validator=lambda found=found: found)
    one, other = (tmp_path / name / "model" for name in ("with", "without"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "validation.csv").read_text().count("\n") == 6


def test_what_a_model_lacks_is_left_out() -> None:
    model = make_job().task.build(0)
    assert set(make(held_out=None).measure(model)) == {"n_seen", "seen_loss", "seen_top1", "seen_balanced_top1"}
    torch.nn.init.constant_(model.head.bias, float("inf"))
    assert "seen_loss" not in make().measure(model)


def test_lower_precision_measures_nearly_the_same() -> None:
    model = make_job().task.build(0).to(memory_format=torch.channels_last)
    exact, lower = make().measure(model), make(precision="bf16-mixed", channels_last=True).measure(model)
    assert lower["seen_loss"] == pytest.approx(exact["seen_loss"], rel=0.02)
    assert lower["seen_loss"] != exact["seen_loss"]


def opened(test: int) -> Opened:
    """Return a mixture of a source that has so many test images."""
    labels = [number % 12 for number in range(24 + test)]
    index = pd.DataFrame({"row": range(24 + test), "label": labels, "domain": "real", "key": "k"})
    index = index.assign(split=["train"] * 24 + ["test"] * test, **{"class": [WORDS[label] for label in labels]})
    rows = pd.DataFrame({"source": "styles", "row": range(24), "caption": "standard"})
    fields: dict[str, Any] = {"alias": "m", "standard_name": "m", "caption": "standard", "domains": ("real",)}
    parameters = {"source": "styles", "test_domain": "sketch", "test_classes": ["bear"]}
    mixture = Mixture(name="m", held_out=None, parameters=parameters, samples={"styles": 24}, rows=rows, **fields)
    samples = index[:24].assign(source="styles")
    return Opened(mixture, samples, {"styles": index}, readers={"styles": None}, folders={})  # no image is read


SETTINGS = Validation(every=2, images=4, template="{}")


def test_nothing_is_measured_where_nothing_is_asked_for_or_there() -> None:
    job = make_job()
    none = Validation(every=None, images=4, template="{}")
    assert make_validator(opened(test=3), job, none, first=0) is None
    assert make_validator(opened(test=0), job, SETTINGS, first=0) is None


def test_images_of_another_sources_labels_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the multi-domain source has no fitting test images, `choose_seen` gives those of others, of no label."""
    from domix.train.validation import classifier as supervised_validation

    known = opened(test=3).indices["styles"][24:].assign(source="styles")
    for rows, measured in ((known, True), (known.assign(label=-1), False)):
        monkeypatch.setattr(supervised_validation, "choose_seen", lambda *_, rows=rows: rows)
        monkeypatch.setattr(supervised_validation, "prepare", lambda rows, *_, **__: subset(len(rows)))
        made = make_validator(opened(test=0), make_job(), SETTINGS, first=0)
        assert (made is not None) == measured
