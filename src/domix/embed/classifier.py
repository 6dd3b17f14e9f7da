"""Scores of evaluation images by all weights of a supervised classifier, and the features that its last layer reads.

See domix.embed.passes. Where the last layer is linear, features, scores and layer together are what analyses of CLIP's
embeddings and prototypes take in their place (domix.embed.readout). Shapes: B batch, D features, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from domix.activations.encode import encode
from domix.activations.reducers import Outputs
from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.names import class_text
from domix.embed.evaluation_sets import further_set, study_set
from domix.embed.passes import Advance, ComputeContext, Job, Opened, Passes, Weights, write_batches
from domix.embed.readout import FEATURES, HEAD
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.crops import of_classifier_folder
from domix.encoders.encoder import classifier_encoder
from domix.encoders.split import SplitModel, split_classifier
from domix.model.checkpoint import WEIGHTS
from domix.model.classifier import Classifier
from domix.runtime.errors import DataError
from domix.runtime.files import sha256_file

logger = logging.getLogger(__name__)


def embed_classifier(
    model: Path,
    folder: Path,
    means: ComputeContext,
    *,
    study: Path,
    sets: Sequence[Path] = (),
    ood: Mapping[Path, str | None] | None = None,
    checkpoints: Mapping[int, Path] | None = None,
    epochs: int | None = None,
) -> None:
    """Score images with the classifier of a model folder, and write `folder` (see domix.embed.embeddings).

    A set among whose classes the classifier cannot tell is left out, which the log says.

    Args:
        model: folder that the stage train_supervised wrote.
        folder: is replaced.
        means: to do it.
        study: the packed multi-domain source: its test images, of every domain.
        sets: other packed sources, whose images only the last weights read.
        ood: packed out-of-distribution sets, scored by the study's classes -> near, far, or None
            (domix.data.classes.ood_groups).
        checkpoints: epochs -> a file with the weights after as many.
        epochs: after how many the last weights came, if that is known.

    Raises:
        DataError: a file is missing or damaged, weights and configuration do not fit, a source has no test image,
            the classifier is of other classes, or its training has diverged.
        DomixError: there is no room on the disk.
    """
    classifier, config = load_any_classifier(model)
    own = study_set(study).classes
    first = config["first_class"]
    if config["classes"][first : first + len(own)] != own:
        raise DataError(f"{model} tells other classes apart than {study} has", remake=model)
    passes = _ClassifierPasses(classifier, config, sha256_file(model / WEIGHTS), means)
    told = [shards for shards in sets if passes.tells(further_set(shards).classes, shards.name)]
    passes.run(folder, study=study, sets=told, ood=ood or {}, checkpoints=checkpoints or {}, epochs=epochs)


class _ClassifierPasses(Passes):
    """A classifier, whose results are its logits of the classes of a set."""

    def __init__(self, model: Classifier, config: dict[str, Any], sha256: str, means: ComputeContext) -> None:
        about = {name: config[name] for name in ("encoder", "classes", "first_class")}
        super().__init__(model, about, sha256, of_classifier_folder(config), means)
        self.split = _split(model)
        layer = None if self.split is None else self.split.linear()
        self.wide = 0 if layer is None else len(layer[0])  # columns of features before the logits
        whole = model if self.split is None else _Joined(self.split)
        self.encoder = classifier_encoder(whole, self.preprocess, device=means.device)

    def tells(self, classes: Sequence[str], source: str) -> bool:
        """Tell whether there is an output for every class of a set."""
        known = outputs_of(self.about["classes"], self.about["first_class"], classes)
        if known is None:
            logger.warning("the classifier has no outputs for the classes of %s: that set is left out", source)
        return known is not None

    def jobs(self, opened: Opened, weights: Weights, out: Path, *, of_study: bool) -> list[Job]:
        """Return the scores and features of the images, and with the study's the layer between them."""
        first, dtype = self.about["first_class"], "float32" if weights.last else "float16"
        classes, count = opened.what.classes, len(opened.what.rows)
        own = list(range(first, first + len(classes)))
        outputs = (
            own if of_study or opened.what.groups is not None else outputs_of(self.about["classes"], first, classes)
        )
        assert outputs is not None, "sets that the classifier cannot tell are left out"
        again = not weights.last and weights.sha256 == self.sha256  # what the last weights gave, in half precision
        told = {"dtype": dtype, "outputs": outputs, "features": self.wide > 0 and not again}

        def scores(path: Path, advance: Advance) -> None:
            self.hold(weights)
            columns, gives = [self.wide + output for output in outputs], "classifier gives logits"
            file = path / "scores.npy"
            written = [Outputs(file, count, gives=gives, unit=False, columns=columns, dtype=dtype, advance=advance)]
            if self.wide:
                file, columns, gives = path / FEATURES, list(range(self.wide)), "classifier gives features"
                written.append(Outputs(file, count, gives=gives, unit=False, columns=columns, dtype=dtype))
            encode(self.encoder, opened.images.batches(self.means.batch), written)
            for each in written:
                each.result()

        def features(path: Path, advance: Advance) -> None:
            last = np.load(out.parents[1] / FEATURES, mmap_mode="r")
            write_batches(path / FEATURES, iter([last]), len(last), dtype, lambda count: None)

        def head(path: Path, advance: Advance) -> None:
            self.hold(weights)
            (path / HEAD).write_bytes(self._layer(outputs))

        jobs = [Job(self.key("scores", weights, **told, **self.seen(opened)), out, scores, count, "scores.npy")]
        if self.wide and again:
            jobs.append(Job(self.key("features", weights, dtype=dtype, **self.seen(opened)), out, features))
        if self.wide and of_study:
            jobs.append(Job(self.key("head", weights, outputs=outputs), out, head))
        return jobs

    def _layer(self, outputs: Sequence[int]) -> bytes:
        """Return the file of the last layer's rows for some outputs: `weight` [K, D] and `bias` [K]."""
        assert self.split is not None
        found = self.split.linear()
        assert found is not None
        weight, bias = found
        bias = np.zeros(weight.shape[1], np.float32) if bias is None else bias
        return save({"weight": np.ascontiguousarray(weight.T[outputs]), "bias": bias[outputs]})

    def meta(self, opened: Opened, out: Path, *, of_study: bool) -> dict[str, Any]:
        """Return the classes; of a set, how its answers are judged and which of its classes were never learned."""
        what = opened.what
        if what.groups is not None:
            return {"classes": what.classes}
        if of_study:
            return {"domains": what.domains, "classes": what.classes}
        outputs = outputs_of(self.about["classes"], self.about["first_class"], what.classes) or []
        unlearned = [label for label, output in enumerate(outputs) if self.about["classes"][output] is None]
        judged = {"subset": what.subset, "answers": what.answers}
        return {"classes": what.classes} | judged | {"unlearned": unlearned}


def outputs_of(outputs: Sequence[str | None], first: int, classes: Sequence[str]) -> list[int] | None:
    """Return the output of a classifier for each of some classes; None where one has none.

    ImageNet's classes are the outputs before the multi-domain source's `first`, where there are such: also those of no
    name, to which no training sample belonged, since they count as one of the source's classes (a beagle is a dog).
    """
    if list(classes) == list(outputs):  # whose names may be double, as two of ImageNet's cranes
        return list(range(len(outputs)))
    texts = [known.text for known in imagenet_classes().values()]
    if list(classes) == texts:
        return list(range(len(texts))) if first == len(texts) else None
    places = {class_text(name).lower(): place for place, name in enumerate(outputs) if name is not None}
    found = [places.get(class_text(name).lower()) for name in classes]
    known = [place for place in found if place is not None]
    return known if len(known) == len(found) else None


def _split(model: Classifier) -> SplitModel | None:
    """Cut a classifier before its last layer; None where that is no linear layer."""
    try:
        found = split_classifier(model)
    except DataError:
        return None
    return found if isinstance(found.head, nn.Linear) else None


class _Joined(nn.Module):
    """A classifier that gives what its last layer reads, and then its logits: [B, D + K]."""

    def __init__(self, split: SplitModel) -> None:
        super().__init__()
        self.tower, self.head = split.tower, split.head

    def forward(self, images: Tensor) -> Tensor:
        features = self.tower(images)
        return torch.cat([features, self.head(features)], dim=1)
