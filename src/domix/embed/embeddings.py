"""The embeddings of one run on disk: what the embedding stages write and every later stage reads, without torch.

Shapes: N images, D embedding width, K classes, G domains, C channels of a layer, B images of one block.

    image.npy            float32 [N, D]   images, L2-normalised, in the order of rows.parquet
    rows.parquet         N rows           row, key, domain, class, label
    text.npy             float32 [K, D]   class prototypes, L2-normalised, in label order
    layers.safetensors   float32 [G, K, C] for each layer: class means; NaN where a domain has no image of a class
    meta.json            model_sha256, source, templates, domains, classes, layers (in order of depth), ...
    checkpoints/NNN/     the same images after NNN epochs: image.npy float16, text.npy
    sets/<source>/       other images: image.npy, rows.parquet, text.npy, meta.json; of an out-of-distribution set the
                         prototypes are the study's, every label is -1, and the meta has `groups`: class -> near or far

A supervised classifier has no text: `scores.npy` [N, K], its logits of the K classes, stands in place of image.npy and
text.npy, float32 (of checkpoints float16), and there are no layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from domix.runtime.arrays import BLOCK
from domix.runtime.errors import DataError, passing
from domix.runtime.files import read_json, sha256_file, write_json
from domix.runtime.tables import Column, TableSchema

FORMAT = 1
ROWS = TableSchema(
    "rows",
    (
        Column("row", "int64", "the image's row in the index of its source"),
        Column("key", "str", "its key there"),
        Column("domain", "str", "its domain"),
        Column("class", "str", "its class"),
        Column("label", "int64", "number of the class in label order"),
    ),
    "the images that were embedded, in the order of the embeddings: the test split of the study's source, or a set's",
    path="artifacts/embeddings/<kind>/<run>/rows.parquet",
    written_by="embed, embed_supervised, embed_public",
)
ROW_COLUMNS = tuple(ROWS.names)
META_KEYS = ("format", "model_sha256", "source", "templates", "domains", "classes", "layers")
SCORED_KEYS = ("format", "model_sha256", "source", "classes")  # what the meta of any kind and set has
SUPERVISED = "supervised"  # the kind of models that have scores in place of embeddings
CHECKPOINTS, SETS = "checkpoints", "sets"
LENGTH_TOLERANCE = 1e-3  # of an L2-normalised vector; wide enough for embeddings computed in bf16 and normalised there


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of one checkpoint; `layer` reads the class means of one layer when they are asked for."""

    folder: Path
    image_embeddings: NDArray[np.float32]  # [N, D]
    rows: pd.DataFrame  # N rows: ROW_COLUMNS
    text: NDArray[np.float32]  # [K, D]
    meta: dict[str, Any]

    @property
    def domains(self) -> list[str]:
        """Domain names in the order of the layers' first axis."""
        return self.meta["domains"]

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return self.meta["classes"]

    @property
    def layers(self) -> list[str]:
        """Layer names in order of depth."""
        return self.meta["layers"]

    def layer(self, name: str) -> NDArray[np.float32]:
        """Read the class means float32 [G, K, C] of one layer; a cell without images is NaN in every channel.

        Raises:
            DataError: the layer is absent, or its shape does not fit.
        """
        path = self.folder / "layers.safetensors"
        with _open_layers(path) as file:
            if name not in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                raise DataError(f"{path} has no layer {name!r}: it holds {', '.join(sorted(file.keys()))}")
            means_GKC = file.get_tensor(name)
        expected = (len(self.domains), len(self.classes))
        if means_GKC.ndim != 3 or means_GKC.shape[:2] != expected:
            raise DataError(
                f"{path}: layer {name!r} has shape {means_GKC.shape}, not {(*expected, 'C')}", remake=self.folder
            )
        return means_GKC


def write_layers(folder: Path, layers: dict[str, NDArray[np.float32]]) -> None:
    """Write the class means of every layer."""
    # as bytes: safetensors' own file would be its owner's alone to read
    data = save({name: np.ascontiguousarray(means) for name, means in layers.items()})
    (folder / "layers.safetensors").write_bytes(data)


def layers_in(folder: Path) -> list[str]:
    """List the layers that have class means, in any order."""
    with _open_layers(folder / "layers.safetensors") as file:
        return list(file.keys())


def write_about(folder: Path, rows: pd.DataFrame, meta: dict[str, Any]) -> None:
    """Write what the images are, and all else that is known; `meta` gains the format's number."""
    ROWS.write(rows[list(ROW_COLUMNS)].reset_index(drop=True), folder / "rows.parquet")
    write_json(folder / "meta.json", {"format": FORMAT, **meta})


def load_embeddings(folder: Path) -> Embeddings:
    """Read the embeddings of one checkpoint and check that they are whole; layers are read on demand.

    Raises:
        DataError: a file is missing or damaged, or the parts do not fit each other.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing", remake=folder)
    embeddings = Embeddings(
        folder=folder,
        image_embeddings=_read_array(folder / "image.npy"),
        rows=ROWS.read(folder / "rows.parquet"),
        text=_read_array(folder / "text.npy"),
        meta=read_json(folder / "meta.json"),
    )
    with passing(folder=folder):
        _check(embeddings)
    with _open_layers(folder / "layers.safetensors") as file:
        if missing := sorted(set(embeddings.layers) - set(file.keys())):
            raise DataError(f"{folder / 'layers.safetensors'} lacks the layers {', '.join(missing)}", remake=folder)
    return embeddings


@dataclass(frozen=True)
class Scored:
    """What one model says of one set of images: a score for each image and class, computed a block at a time."""

    folder: Path
    rows: pd.DataFrame  # N rows: ROW_COLUMNS; of an out-of-distribution set also `group`, near or far
    classes: list[str]  # the K classes that have scores
    meta: dict[str, Any]
    image_embeddings: NDArray[np.floating[Any]]  # [N, D], mapped from its file; of a classifier its scores, [N, K]
    text: NDArray[np.float32] | None  # [K, D]; of a classifier None

    @property
    def subset(self) -> list[int] | None:
        """Labels among the K to which predictions may be restricted, rising; None: there is no such restriction."""
        return self.meta.get("subset")

    @property
    def answers(self) -> list[list[int]] | None:
        """For each label of `rows` those of the K classes that count as right; None: the class of the same number."""
        return self.meta.get("answers")

    def blocks(self, size: int = BLOCK) -> Iterator[NDArray[np.float32]]:
        """Yield the scores float32 [B, K] of all images, in the order of `rows`.

        Raises:
            DataError: a score is not finite.
        """
        for start in range(0, len(self.image_embeddings), size):
            part = np.array(self.image_embeddings[start : start + size], dtype=np.float32)
            with np.errstate(invalid="ignore"):  # told below
                scores = part if self.text is None else part @ self.text.T
            if not np.isfinite(scores).all():
                raise DataError(
                    f"{self.folder} holds NaN or infinite values, as after a training that diverged", remake=self.folder
                )
            yield scores


def load_scored(folder: Path, kind: str, *, checkpoint: int | None = None, source: str | None = None) -> Scored:
    """Open what the model of a run's `folder` says of its test images; little is read before `blocks` is.

    Args:
        folder: artifacts/embeddings/<kind>/<run>.
        kind: clip, supervised or public.
        checkpoint: epochs after which the weights were kept; None: the last weights.
        source: another set of images (see `sets_of`); None: those of the study.

    Raises:
        DataError: a file is missing or damaged, or the parts do not fit each other.
    """
    home = folder if source is None else folder / SETS / source
    where = home if checkpoint is None else home / CHECKPOINTS / checkpoint_name(checkpoint)
    if not where.is_dir():
        raise DataError(f"{where} is missing", remake=where)
    rows, meta = ROWS.read(home / "rows.parquet"), read_json(home / "meta.json")
    meta = meta if isinstance(meta, dict) else {}
    if (groups := meta.get("groups")) is not None:
        rows = rows.assign(group=rows["class"].map(groups))
    names = ("scores.npy", None) if kind == SUPERVISED else ("image.npy", "text.npy")
    scored = Scored(
        folder=where,
        rows=rows,
        classes=meta.get("classes", []),
        meta=meta,
        image_embeddings=_read_array(where / names[0], mapped=True),
        text=_read_array(where / names[1]) if names[1] else None,
    )
    with passing(folder=where):
        _check_scored(scored, where / names[0])
    return scored


def checkpoint_name(epoch: int) -> str:
    """Return the folder name of a checkpoint's embeddings."""
    return f"{epoch:03d}"


def checkpoints_of(folder: Path) -> list[int]:
    """List the epochs whose weights were embedded beside the last, rising."""
    names = [path.name for path in (folder / CHECKPOINTS).glob("*") if re.fullmatch(r"\d{3,}", path.name)]
    return sorted(map(int, names))


def sets_of(folder: Path) -> list[str]:
    """List the sources whose images were embedded beside the study's, by name."""
    return sorted(path.parent.name for path in (folder / SETS).glob("*/meta.json"))


def ood_sets_of(folder: Path) -> list[str]:
    """List those of `sets_of` that are out-of-distribution sets."""
    return [name for name in sets_of(folder) if "groups" in read_json(folder / SETS / name / "meta.json")]


def check_index(folder: Path, index: Path) -> None:
    """Check that a run's embeddings are of the images that the index of their packed source lists.

    Raises:
        DataError: they are of others.
    """
    known = read_json(folder / "meta.json").get("index_sha256")
    if known is not None and known != sha256_file(index):
        raise DataError(f"{folder} was made of other images than {index} lists", remake=folder)


def _check_scored(s: Scored, path: Path) -> None:
    """Raise DataError unless the parts fit each other."""
    missing = [key for key in SCORED_KEYS if key not in s.meta]
    _require(not missing, f"{s.folder}: meta.json lacks {', '.join(missing)}")
    _require(s.meta["format"] == FORMAT, f"{s.folder} has format {s.meta['format']}, but this version reads {FORMAT}")
    array = s.image_embeddings
    good = array.ndim == 2 and array.dtype in (np.float16, np.float32)
    _require(good, f"{path} is {array.dtype} {array.shape}, not two axes of float16 or float32")
    _require(len(array) == len(s.rows), f"{path} has {len(array)} rows, but there are {len(s.rows)} images")
    _require(len(s.rows) > 0, f"{s.folder} holds no images")
    scored = array.shape[1] if s.text is None else len(s.text)
    _require(scored == len(s.classes), f"{s.folder} has scores of {scored} classes, but names {len(s.classes)}")
    if s.text is not None:
        widths = (array.shape[1], s.text.shape[1])
        _require(widths[0] == widths[1], f"{s.folder}: image.npy is {widths[0]} wide, but text.npy {widths[1]}")
    labels = len(s.classes if s.answers is None else s.answers)
    if "group" in s.rows:
        grouped = s.rows["group"].notna().all()
        _require(bool(grouped), f"{s.folder}: rows.parquet has classes whose group meta.json does not know")
    else:
        known = s.rows["label"].between(0, labels - 1).all()
        _require(bool(known), f"{s.folder}: rows.parquet has labels that meta.json does not know")


def _check(e: Embeddings) -> None:
    """Raise DataError unless the parts fit each other."""
    missing = [key for key in META_KEYS if not isinstance(e.meta, dict) or key not in e.meta]
    _require(not missing, f"{e.folder / 'meta.json'} lacks {', '.join(missing)}")
    _require(e.meta["format"] == FORMAT, f"{e.folder} has format {e.meta['format']}, but this version reads {FORMAT}")
    for name, array, count, what in (
        ("image.npy", e.image_embeddings, len(e.rows), "images in rows.parquet"),
        ("text.npy", e.text, len(e.classes), "classes in meta.json"),
    ):
        path = e.folder / name
        _require(
            array.ndim == 2 and array.dtype == np.float32, f"{path} is {array.dtype} {array.shape}, not float32 2-D"
        )
        _require(len(array) == count, f"{path} has {len(array)} rows, but there are {count} {what}")
        _require(
            bool(np.isfinite(array).all()), f"{path} holds NaN or infinite values, as after a training that diverged"
        )
        lengths = np.linalg.norm(array, axis=1)
        _require(bool((abs(lengths - 1) < LENGTH_TOLERANCE).all()), f"{path} holds vectors that are not L2-normalised")
    widths = (e.image_embeddings.shape[1], e.text.shape[1])
    _require(widths[0] == widths[1], f"{e.folder}: image.npy is {widths[0]} wide, but text.npy {widths[1]}")
    _require(len(e.rows) > 0, f"{e.folder} holds no images")
    known = e.rows["domain"].isin(e.domains) & e.rows["label"].between(0, len(e.classes) - 1)
    _require(bool(known.all()), f"{e.folder / 'rows.parquet'} names domains or labels that meta.json does not know")
    named = np.asarray(e.classes, dtype=object)[e.rows["label"].to_numpy()] == e.rows["class"].to_numpy(dtype=object)
    _require(bool(named.all()), f"{e.folder}: classes and labels of rows.parquet are not those of meta.json")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(message, argument="folder")


def _read_array(path: Path, *, mapped: bool = False) -> NDArray[np.float32]:
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing", remake=path) from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=path) from error


def _open_layers(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise DataError(f"{path} is missing", remake=path) from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=path) from error
