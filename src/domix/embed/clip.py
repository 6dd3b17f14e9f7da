"""Embed evaluation images and class prompts with all weights of a CLIP model (see domix.embed.passes).

Images: as the model reads them (domix.encoders.preprocess); one pass gives the embeddings and, of the last weights
on the study's images, the class means of every layer. Prompts: domix.embed.text_tower.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domix.activations.encode import encode
from domix.activations.reducers import ClassMeans, Outputs
from domix.data.classes.names import class_text
from domix.embed.embeddings import layers_in, write_layers
from domix.embed.passes import Advance, ComputeContext, Job, Opened, Passes, Weights
from domix.embed.prompts import render_prompts
from domix.embed.text_tower import Prompts, encode_classes
from domix.encoders.encoder import clip_encoder
from domix.encoders.preprocess import Preprocess, square
from domix.encoders.sites import site_modules
from domix.model.checkpoint import WEIGHTS, load_model
from domix.model.clip import image_size, tokenizer
from domix.runtime.arrays import new_array
from domix.runtime.files import digest_of, sha256_file

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

    from domix.model.clip import Clip


@dataclass(frozen=True)
class ClipSubject:
    """A CLIP model to embed with."""

    model: Clip  # holds the last weights; others are put in their place one after the other
    tokenizer: SimpleTokenizer
    about: dict[str, Any]  # what the model is built from, as JSON: with weights and images it decides the embeddings
    sha256: str  # of the file of the last weights
    preprocess: Preprocess


def open_subject(folder: Path) -> ClipSubject:
    """Return the model of a folder that the stage train wrote.

    Raises:
        DataError: a file is missing or damaged, or weights and configuration do not fit together.
    """
    model, config = load_model(folder)
    made_of = config["model"]
    preprocess = square(image_size(made_of))
    return ClipSubject(model, tokenizer(made_of), made_of, sha256_file(folder / WEIGHTS), preprocess)


def embed_clip(
    subject: ClipSubject,
    folder: Path,
    means: ComputeContext,
    *,
    templates: str | Sequence[str],
    study: Path,
    sets: Sequence[Path] = (),
    ood: Mapping[Path, str | None] | None = None,
    checkpoints: Mapping[int, Path] | None = None,
    epochs: int | None = None,
) -> None:
    """Embed images and class prompts with a CLIP model, and write `folder` (see domix.embed.embeddings).

    Nothing here depends on which domain is tested.

    Args:
        subject: whose model holds other weights afterwards, if there are checkpoints.
        folder: is replaced.
        means: to do it.
        templates: see domix.embed.prompts.
        study: the packed multi-domain source: its test images, of every domain.
        sets: other packed sources, whose images are embedded as well.
        ood: packed out-of-distribution sets, embedded likewise -> near, far, or None (domix.data.classes.ood_groups).
        checkpoints: epochs -> a file with the weights after as many.
        epochs: after how many the last weights came, if that is known.

    Raises:
        DataError: a file is missing or damaged, weights and configuration do not fit, a source has no test image,
            or the model's training has diverged.
        DomixError: there is no room on the disk.
    """
    passes = _ClipPasses(subject, means, templates)
    passes.run(folder, study=study, sets=sets, ood=ood or {}, checkpoints=checkpoints or {}, epochs=epochs)


class _ClipPasses(Passes):
    """A CLIP model, whose results are embeddings of images and prototypes of classes."""

    def __init__(self, subject: ClipSubject, means: ComputeContext, templates: str | Sequence[str]) -> None:
        super().__init__(subject.model, subject.about, subject.sha256, subject.preprocess, means)
        self.model = subject.model
        self.encoder = clip_encoder(subject.model, subject.preprocess, device=means.device)
        self.templates = templates if isinstance(templates, str) else list(templates)
        self.tokenised = cache(lambda classes: Prompts.tokenised(subject.tokenizer, self.prompts(classes)))

    def prompts(self, classes: Sequence[str]) -> list[list[str]]:
        """Return the prompts of each class."""
        return render_prompts(self.templates, [class_text(name) for name in classes])

    def jobs(self, opened: Opened, weights: Weights, out: Path, *, of_study: bool) -> list[Job]:
        """Return the embeddings of the images, and the prototypes of the classes."""
        what = opened.what
        with_layers, dtype = of_study and weights.last, "float32" if weights.last else "float16"
        cells = digest_of(cells=what.cells.tolist(), domains=what.domains) if with_layers else None

        def image(path: Path, advance: Advance) -> None:
            self.hold(weights)
            outputs = Outputs(path / "image.npy", len(what.rows), dtype=dtype, advance=advance)
            images = opened.images.batches(self.means.batch)
            if not with_layers:
                encode(self.encoder, images, [outputs])
                outputs.result()
            else:
                counts = {"domains": len(what.domains), "classes": len(what.classes)}
                sites = list(site_modules(self.model.visual))
                means = ClassMeans(sites, what.cells, **counts)
                encode(self.encoder, images, [outputs, means])
                outputs.result()
                write_layers(path, found := means.result())
                for name in (name for name in sites if name not in found):
                    logger.warning("site %s of the image tower is never computed; it is left out", name)

        def text(path: Path, advance: Advance) -> None:
            self.hold(weights)
            prototypes = encode_classes(self.model, self.tokenised(tuple(what.classes)), device=self.means.device)
            new_array(path / "text.npy", prototypes.shape, np.float32)[:] = prototypes

        image_key = self.key("image", weights, dtype=dtype, cells=cells, **self.seen(opened))
        text_key = self.key("text", weights, prompts=digest_of(prompts=self.prompts(what.classes)))
        return [Job(image_key, out, image, len(what.rows), "image.npy"), Job(text_key, out, text)]

    def meta(self, opened: Opened, out: Path, *, of_study: bool) -> dict[str, Any]:
        """Return the templates, the classes, and of the study's images the layers."""
        what = opened.what
        meta = {"templates": self.templates, "prompts_a_class": len(self.prompts(what.classes[:1])[0])}
        if not of_study:
            return meta | {"classes": what.classes, "subset": what.subset, "answers": what.answers}
        known = layers_in(out)
        depth = [name for name in site_modules(self.model.visual) if name in known]
        return meta | {"domains": what.domains, "classes": what.classes, "layers": depth}
