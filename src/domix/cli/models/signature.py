"""`domix signature`: kurtosis, outlier features, privileged directions and pruning of one model: docs/signatures.md.

It prints tables and writes nothing but what is kept in .cache: decoded images, and embeddings of packed sources.

Shapes: N images, D components, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from domix.activations.encode import unit_embeddings
from domix.analyses.pruning.computation import orders
from domix.analyses.pruning.settings import Settings
from domix.cli.models.evaluate_model import classifier_folder, folder_of, open_asked
from domix.data.classes.names import class_text
from domix.data.loading.decode import decode_rgb
from domix.data.sources.image_folders import is_image
from domix.data.store.shards import ShardReader
from domix.embed.classifier import outputs_of
from domix.embed.clip import ClipSubject, embed_clip
from domix.embed.embeddings import load_scored
from domix.embed.evaluation_sets import further_set, study_set
from domix.embed.prompts import render_prompts
from domix.embed.run_model import RunModel
from domix.embed.text_tower import class_prototypes
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.preprocess import Preprocess
from domix.encoders.split import split_classifier
from domix.evaluate.metrics import balanced_accuracy
from domix.project.common import ARTIFACTS
from domix.project.embedding import means_of
from domix.project.public_models import from_root
from domix.runtime.errors import DataError, ParameterError, passing
from domix.settings.params import Params
from domix.signature.directions import head_directions
from domix.signature.pruning import PERCENT, correct_when_pruned, kept_count
from domix.signature.summary import signature_numbers
from domix.study import PUBLIC, SUPERVISED

Vectors = NDArray[np.float32]
ALL = "all"
DRAWS = 5  # random orders of pruning


@dataclass(frozen=True)
class Read:
    """What a model makes of images, and the head that reads it."""

    activations: Vectors  # [N, D]: embeddings of length 1; of a classifier what its last layer reads
    head: Vectors  # [K, D]
    bias: Vectors | None  # [K]; of a zero-shot head none
    domains: NDArray[np.object_]  # of the images [N]
    labels: NDArray[np.int64] | None  # rows of the head [N], where the images have such


def main(
    params: Params, name: str, architecture: str | None = None, images: str | None = None, *, pruned: bool = False
) -> None:
    """Let a model read a source's test images, or a folder's, and print its signature; `pruned`: accuracy, too."""
    images = images or params.sources[0]
    packed = images in params.sources or folder_of(images).exists()
    folder, classifier = Path(from_root(images)), classifier_folder(params, name)
    if not packed and not folder.is_dir():
        raise ParameterError(f"there is no packed source and no folder {images}: name one with --images")
    with passing(templates="embed.templates"):
        if classifier is not None:
            read = _by_classifier(params, classifier, images if packed else folder)
        else:
            subject = open_asked(params, name, architecture)
            read = _of_source(params, subject, images) if packed else _of_folder(params, subject, folder)
    table = signature_table(read.activations, read.head, read.domains)
    print(table.to_string(index=False, na_rep="", float_format="{:.3f}".format))
    if pruned:
        print("\n" + pruning_table(read).to_string(index=False, float_format="{:.3f}".format))


def signature_table(activations: Vectors, head: Vectors, domains: NDArray[np.object_]) -> pd.DataFrame:
    """Return a row for all images, and where there are several domains for each.

    A domain of fewer images than the head has directions has no importance.

    Args:
        activations: of the images [N, D].
        head: that reads them [K, D].
        domains: of the images [N].

    Raises:
        DataError: all together are fewer images than directions, or an activation or the head is not finite or dead.
    """
    names = list(dict.fromkeys(domains))
    rows = []
    for name in [ALL, *(names if len(names) > 1 else ())]:
        mine = activations[(domains == name) | (name == ALL)]
        row = {"images": name, "n": len(mine), "width": mine.shape[1]}
        rows.append(row | signature_numbers(mine, head, few=name != ALL))
    return pd.DataFrame(rows)


def pruning_table(read: Read) -> pd.DataFrame:
    """Return balanced accuracy on all images by share pruned, a column an order; at random the mean of DRAWS.

    Raises:
        DataError: the images have no labels that the head knows.
    """
    if read.labels is None:
        raise DataError("these images have no classes of the head, so that nothing can be said of pruning: name others")
    directions = head_directions(read.head)
    total = len(directions.right)
    table = {"percent": list(PERCENT), "kept": [kept_count(total, percent) for percent in PERCENT]}
    found: dict[str, list[list[float]]] = {}
    for name, _, order in orders(directions, read.activations, Settings(draws=DRAWS)):
        correct = correct_when_pruned(directions, read.activations, read.labels, order, bias=read.bias)
        found.setdefault(name.replace(" ", "_"), []).append(
            [balanced_accuracy(read.labels, right) for right in correct]
        )
    table |= {name: np.mean(each, axis=0).tolist() for name, each in found.items()}
    return pd.DataFrame(table)


def _of_source(params: Params, subject: ClipSubject, name: str) -> Read:
    """Read a packed source's test images with a CLIP model."""
    study = params.sources[0]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        sets = [] if name == study else [folder_of(name)]
        shards = ARTIFACTS / "shards" / study
        embed_clip(subject, folder, means_of(params), templates=params.embed.templates, study=shards, sets=sets)
        scored = load_scored(folder, PUBLIC, source=name if sets else None)
        assert scored.text is not None, "a CLIP model has prototypes"
        labels = scored.rows["label"].to_numpy() if scored.answers is None else None
        domains = scored.rows["domain"].to_numpy(dtype=object)
        return Read(np.array(scored.image_embeddings), scored.text, None, domains, labels)


def _of_folder(params: Params, subject: ClipSubject, folder: Path) -> Read:
    """Read all images below a folder with a CLIP model; the head is that of the study's classes."""
    context = means_of(params)
    encoder = clip_encoder(subject.model, subject.preprocess, device=context.device)
    images = list(unit_embeddings(encoder, cut_files(images_below(folder), subject.preprocess, context.batch)))
    classes = [class_text(name) for name in study_set(ARTIFACTS / "shards" / params.sources[0]).classes]
    prompts = render_prompts(params.embed.templates, classes)
    head = class_prototypes(subject.model, subject.tokenizer, prompts, device=context.device)
    activations = np.concatenate(images)
    return Read(activations, head, None, np.full(len(activations), ALL, dtype=object), None)


def _by_classifier(params: Params, folder: Path, images: str | Path) -> Read:
    """Read a packed source's test images, or a folder's, with a supervised classifier; the head is its last layer."""
    context, study = means_of(params), params.sources[0]
    name = study if isinstance(images, Path) else images
    what = study_set(ARTIFACTS / "shards" / study) if name == study else further_set(folder_of(name))
    classifier, config = load_any_classifier(folder)
    split = split_classifier(classifier)
    with ShardReader(what.shards) as reader:
        model = RunModel(folder, SUPERVISED, {name: reader}, context)
        preprocess = model.encoder.preprocess
        packed = not isinstance(images, Path)
        batches = (
            model.batches(name, what.rows) if packed else cut_files(images_below(images), preprocess, context.batch)
        )
        encoder = ImageEncoder(split.tower, classifier.visual, preprocess, output="features", device=context.device)
        activations = np.concatenate([encoder.forward(batch).output.cpu().numpy() for batch in batches])
    first = config["first_class"]
    own = list(range(first, first + len(what.classes)))
    outputs = own if name == study else outputs_of(config["classes"], first, what.classes)
    if outputs is None or (name == study and config["classes"][first:] != what.classes):
        raise DataError(f"the classifier {folder} has no outputs for the classes of {name}: name other images")
    assert isinstance(split.head, nn.Linear), "a classifier's last layer"
    weight, bias = (values.detach().cpu().numpy()[outputs] for values in (split.head.weight, split.head.bias))
    domains = what.rows["domain"].to_numpy(dtype=object) if packed else np.full(len(activations), ALL, dtype=object)
    labels = what.rows["label"].to_numpy() if packed and what.answers is None else None
    return Read(activations, weight, bias, domains, labels)


def images_below(folder: Path) -> list[Path]:
    """List all images below a folder, by name.

    Raises:
        DataError: there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path.name))
    if not files:
        raise DataError(f"there is no image in {folder}: name a folder that holds some")
    return files


def cut_files(files: Sequence[Path], preprocess: Preprocess, batch: int) -> Iterator[Tensor]:
    """Yield image files as a model reads them, uint8 [B, 3, H, W].

    Raises:
        DataError: one is damaged.
    """
    for start in range(0, len(files), batch):
        some = files[start : start + batch]
        cut = [preprocess.cut(Image.fromarray(decode_rgb(path.read_bytes(), str(path)))) for path in some]
        yield torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
