"""Scores of evaluation images by all weights of a supervised classifier (see domix.embed.passes)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domix.activations.encode import encode
from domix.activations.reducers import Outputs
from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.names import class_text
from domix.embed.evaluation_sets import further_set, study_set
from domix.embed.passes import Advance, ComputeContext, Job, Opened, Passes, Weights
from domix.encoders.crops import of_classifier_folder
from domix.encoders.encoder import classifier_encoder
from domix.model.checkpoint import WEIGHTS
from domix.model.classifier import Classifier
from domix.model.zero_shot_classifier import load_any_classifier
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
        self.encoder = classifier_encoder(model, self.preprocess, device=means.device)

    def tells(self, classes: Sequence[str], source: str) -> bool:
        """Tell whether there is an output for every class of a set."""
        known = outputs_of(self.about["classes"], self.about["first_class"], classes)
        if known is None:
            logger.warning("the classifier has no outputs for the classes of %s: that set is left out", source)
        return known is not None

    def jobs(self, opened: Opened, weights: Weights, out: Path, *, of_study: bool) -> list[Job]:
        """Return the scores of the images."""
        first, dtype = self.about["first_class"], "float32" if weights.last else "float16"
        classes, count = opened.what.classes, len(opened.what.rows)
        own = list(range(first, first + len(classes)))
        outputs = (
            own if of_study or opened.what.groups is not None else outputs_of(self.about["classes"], first, classes)
        )
        assert outputs is not None, "sets that the classifier cannot tell are left out"

        def scores(path: Path, advance: Advance) -> None:
            self.hold(weights)
            gives = "classifier gives logits"
            path = path / "scores.npy"
            written = Outputs(path, count, gives=gives, unit=False, columns=outputs, dtype=dtype, advance=advance)
            encode(self.encoder, opened.images.batches(self.means.batch), [written])
            written.result()

        key = self.key("scores", weights, dtype=dtype, outputs=outputs, **self.seen(opened))
        return [Job(key, out, scores, count, "scores.npy")]

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
