"""`domix signature`: kurtosis, outlier features and privileged directions of one model: docs/signatures.md.

It prints a table and writes nothing but what is kept in .cache: decoded images and embeddings of packed sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from domix.activations.encode import unit_embeddings
from domix.cli.models.evaluate_model import folder_of, open_asked
from domix.data.classes.names import class_text
from domix.data.loading.decode import decode_rgb
from domix.data.sources.image_folders import is_image
from domix.embed.clip import ClipSubject, embed_clip
from domix.embed.embeddings import load_scored
from domix.embed.evaluation_sets import study_set
from domix.embed.prompts import render_prompts
from domix.embed.text_tower import class_prototypes
from domix.encoders.encoder import clip_encoder
from domix.project.common import ARTIFACTS
from domix.project.embedding import means_of
from domix.project.public_models import from_root
from domix.runtime.errors import DataError, ParameterError, passing
from domix.settings.params import Params
from domix.signature.directions import head_directions, head_importance, heavy_tail
from domix.signature.kurtosis import activation_kurtosis, summarise
from domix.signature.outliers import outlier_features
from domix.study import PUBLIC

Vectors = NDArray[np.float32]
ALL = "all"


def main(params: Params, name: str, architecture: str | None = None, images: str | None = None) -> None:
    """Embed a source's test images, or a folder's, with a model, and print its signature."""
    images = images or params.sources[0]
    packed = images in params.sources or folder_of(images).exists()
    folder = Path(from_root(images))
    if not packed and not folder.is_dir():
        raise ParameterError(f"there is no packed source and no folder {images}: name one with --images")
    subject = open_asked(params, name, architecture)
    with passing(templates="embed.templates"):
        embeddings, head, domains = (
            _of_source(params, subject, images) if packed else _of_folder(params, subject, folder)
        )
    print(signature_table(embeddings, head, domains).to_string(index=False, na_rep="", float_format="{:.2f}".format))


def signature_table(embeddings: Vectors, head: Vectors, domains: NDArray[np.object_]) -> pd.DataFrame:
    """Return a row for all images, and where there are several domains for each.

    A domain of fewer images than the head has directions has no importance.

    Args:
        embeddings: of the images [N, D].
        head: class prototypes [K, D].
        domains: of the images [N].

    Raises:
        DataError: all together are fewer images than directions, or an embedding or the head is not finite or dead.
    """
    rank, names = len(head_directions(head).right), list(dict.fromkeys(domains))
    rows = []
    for name in [ALL, *(names if len(names) > 1 else ())]:
        mine = embeddings[(domains == name) | (name == ALL)]
        over, outlying = summarise(activation_kurtosis(mine)), outlier_features(mine)
        row = {"images": name, "n": len(mine), "width": mine.shape[1], "kurtosis": over.mean, "median": over.median}
        row |= {"se": over.standard_error, "outliers": len(outlying.indices), "norm_share": outlying.norm_share}
        if name == ALL or len(mine) >= rank:
            tail = heavy_tail(head_importance(head, mine))
            row |= {"top": tail.top, "max_to_mean": tail.max_to_mean, "effective_rank": tail.effective_rank}
        rows.append(row | {"rank": rank})
    return pd.DataFrame(rows)


def _of_source(params: Params, subject: ClipSubject, name: str) -> tuple[Vectors, Vectors, NDArray[np.object_]]:
    """Return embeddings, prototypes and domains of a packed source's test images."""
    study = params.sources[0]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        sets = [] if name == study else [folder_of(name)]
        shards = ARTIFACTS / "shards" / study
        embed_clip(subject, folder, means_of(params), templates=params.embed.templates, study=shards, sets=sets)
        scored = load_scored(folder, PUBLIC, source=name if sets else None)
        assert scored.text is not None, "a CLIP model has prototypes"
        return np.array(scored.image_embeddings), scored.text, scored.rows["domain"].to_numpy(dtype=object)


def _of_folder(params: Params, subject: ClipSubject, folder: Path) -> tuple[Vectors, Vectors, NDArray[np.object_]]:
    """Return embeddings of all images below a folder, of the prototypes of the study's classes, and one domain."""
    context = means_of(params)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path.name))
    if not files:
        raise DataError(f"there is no image in {folder}: name a folder that holds some")

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(files), context.batch):
            some = files[start : start + context.batch]
            cut = [subject.preprocess.cut(Image.fromarray(decode_rgb(path.read_bytes(), str(path)))) for path in some]
            yield torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)

    encoder = clip_encoder(subject.model, subject.preprocess, device=context.device)
    embeddings = np.concatenate(list(unit_embeddings(encoder, batches())))
    classes = [class_text(name) for name in study_set(ARTIFACTS / "shards" / params.sources[0]).classes]
    prompts = render_prompts(params.embed.templates, classes)
    head = class_prototypes(subject.model, subject.tokenizer, prompts, device=context.device)
    return embeddings, head, np.full(len(files), ALL, dtype=object)
