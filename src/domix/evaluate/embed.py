"""Embed evaluation pictures and class prompts with all weights of a CLIP model (see domix.evaluate.passes).

Pictures: central square, antialiased bicubic resize, normalisation; one pass gives the embeddings and, of the last
weights on the study's pictures, the class means of every layer. Prompts: domix.evaluate.text_tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from domix.data import augment
from domix.data.names import class_text
from domix.evaluate import image_tower, text_tower
from domix.evaluate.embeddings import layers_in, write_layers
from domix.evaluate.image_tower import LayerMeans, Reading, embed_pictures
from domix.evaluate.passes import Advance, Job, Means, Opened, Passes, Weights, write_batches
from domix.evaluate.prompts import render_prompts
from domix.evaluate.text_tower import Prompts, encode_classes
from domix.model import clip, layers, tokens
from domix.model.checkpoint import WEIGHTS, load_model
from domix.model.clip import image_size, tokenizer
from domix.model.layers import layer_modules
from domix.runtime.arrays import new_array
from domix.runtime.files import digest_of, sha256_file

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

    from domix.model.clip import Clip


@dataclass(frozen=True)
class ClipSubject:
    """A CLIP model to embed with."""

    model: Clip  # holds the last weights; others are put in their place one after the other
    tokenizer: SimpleTokenizer
    about: dict[str, Any]  # what the model is built from, as JSON: with weights and pictures it decides the embeddings
    sha256: str  # of the file of the last weights
    reading: Reading


def open_subject(folder: Path) -> ClipSubject:
    """Return the model of a folder that the stage train wrote.

    Raises:
        DataError: a file is missing or damaged, or weights and configuration do not fit together.
    """
    model, config = load_model(folder)
    made_of = config["model"]
    reading = Reading(image_size(made_of))
    return ClipSubject(model, tokenizer(made_of), made_of, sha256_file(folder / WEIGHTS), reading)


def embed_clip(
    subject: ClipSubject,
    folder: Path,
    means: Means,
    *,
    templates: str | Sequence[str],
    study: Path,
    sets: Sequence[Path] = (),
    checkpoints: Mapping[int, Path] | None = None,
    epochs: int | None = None,
) -> None:
    """Embed pictures and class prompts with a CLIP model, and write `folder` (see domix.evaluate.embeddings).

    Nothing here depends on which domain is tested.

    Args:
        subject: whose model holds other weights afterwards, if there are checkpoints.
        folder: is replaced.
        means: to do it.
        templates: see domix.evaluate.prompts.
        study: the packed multi-domain source: its test pictures, of every domain.
        sets: other packed sources, whose pictures are embedded as well.
        checkpoints: epochs -> a file with the weights after as many.
        epochs: after how many the last weights came, if that is known.

    Raises:
        DataError: a file is missing or damaged, weights and configuration do not fit, a source has no test picture,
            or the model's training has diverged.
        DomixError: there is no room on the disk.
    """
    passes = _ClipPasses(subject, means, templates)
    passes.run(folder, study=study, sets=sets, checkpoints=checkpoints or {}, epochs=epochs)


class _ClipPasses(Passes):
    """A CLIP model, whose results are embeddings of pictures and prototypes of classes."""

    def __init__(self, subject: ClipSubject, means: Means, templates: str | Sequence[str]) -> None:
        super().__init__(subject.model, subject.about, subject.sha256, subject.reading, means)
        self.model = subject.model
        self.templates = templates if isinstance(templates, str) else list(templates)
        self.tokenised = cache(lambda classes: Prompts.tokenised(subject.tokenizer, self.prompts(classes)))

    def code(self) -> list[ModuleType]:
        """Return the modules that decide what is made."""
        return [augment, image_tower, text_tower, clip, layers, tokens]

    def prompts(self, classes: Sequence[str]) -> list[list[str]]:
        """Return the prompts of each class."""
        return render_prompts(self.templates, [class_text(name) for name in classes])

    def jobs(self, opened: Opened, weights: Weights, out: Path, *, of_study: bool) -> list[Job]:
        """Return the embeddings of the pictures, and the prototypes of the classes."""
        what = opened.what
        with_layers, dtype = of_study and weights.last, "float32" if weights.last else "float16"
        cells = digest_of(cells=what.cells.tolist(), domains=what.domains) if with_layers else None

        def image(path: Path, advance: Advance) -> None:
            self.hold(weights)
            counts = {"domains": len(what.domains), "classes": len(what.classes)}
            means = LayerMeans(self.model.visual, what.cells, **counts) if with_layers else None
            coming = opened.pictures.batches(self.means.batch)
            with means or nullcontext():
                batches = embed_pictures(self.model, coming, self.reading, means=means, device=self.means.device)
                write_batches(path / "image.npy", batches, len(what.rows), dtype, advance)
            if means is not None:
                write_layers(path, means.means())

        def text(path: Path, advance: Advance) -> None:
            self.hold(weights)
            prototypes = encode_classes(self.model, self.tokenised(tuple(what.classes)), device=self.means.device)
            new_array(path / "text.npy", prototypes.shape, np.float32)[:] = prototypes

        image_key = self.key("image", weights, dtype=dtype, cells=cells, **self.seen(opened))
        text_key = self.key("text", weights, prompts=digest_of(prompts=self.prompts(what.classes)))
        return [Job(image_key, out, image, len(what.rows), "image.npy"), Job(text_key, out, text)]

    def meta(self, opened: Opened, out: Path, *, of_study: bool) -> dict[str, Any]:
        """Return the templates, the classes, and of the study's pictures the layers."""
        what = opened.what
        meta = {"templates": self.templates, "prompts_a_class": len(self.prompts(what.classes[:1])[0])}
        if not of_study:
            return meta | {"classes": what.classes, "subset": what.subset, "answers": what.answers}
        known = layers_in(out)
        depth = [name for name in layer_modules(self.model.visual) if name in known]
        return meta | {"domains": what.domains, "classes": what.classes, "layers": depth}
