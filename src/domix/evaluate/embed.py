"""Embed evaluation pictures and class prompts, once for a checkpoint.

Pictures: central square, antialiased bicubic resize, normalisation; one pass gives the embeddings and the class means
of every layer. Prompts: each class in each template is encoded and L2-normalised, the mean over templates is
L2-normalised again (Radford et al. 2021, section 3.1.4), which makes one prototype a class.

Shapes: B batch, D embedding, N pictures, P distinct prompts, T templates, G domains, K classes, C channels of a layer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.cells import count_cells
from domix.data.index import INDEX, read_index
from domix.data.names import class_text
from domix.data.shards import ShardReader
from domix.evaluate.embeddings import save_embeddings
from domix.evaluate.prompts import render_prompts
from domix.model.layers import channels_last, layer_modules, pool_positions
from domix.runtime.errors import DataError
from domix.runtime.files import sha256_file

if TYPE_CHECKING:
    import torch
    from open_clip import SimpleTokenizer
    from open_clip.model import CLIP, CustomTextCLIP
    from torch import Tensor, nn

log = logging.getLogger(__name__)

DIVERGED = "its training diverged; lower train.lr and train again"


def embed_checkpoint(
    checkpoint: Path, shards: Path, folder: Path, *, templates: str, batch: int, device: str = "cpu", threads: int = 1
) -> None:
    """Embed all test pictures of a packed source, of every domain, and its classes' prompts, and write `folder`.

    `checkpoint` is a model folder (model.safetensors, config.json). Nothing here depends on which domain is tested.

    Raises:
        DataError: a file is missing or damaged, weights and configuration do not fit, the source has no test picture,
            or the model's training has diverged.
    """
    from domix.model.checkpoint import WEIGHTS, load_model
    from domix.model.clip import image_size, tokenizer

    index = read_index(shards)
    cells = count_cells(index)
    rows = index[index["split"] == "test"]
    if rows.empty:
        raise DataError(f"{shards / INDEX} holds no test pictures: a source to evaluate on needs a test split")
    model, config = load_model(checkpoint)
    size = image_size(config["model"])
    domain = pd.Categorical(rows["domain"], categories=cells.domains).codes.astype(np.int64)
    with ShardReader(shards) as reader:
        pictures = embed_pictures(
            model,
            read_batches(reader, rows, batch=batch, threads=threads),
            size=size,
            cells=domain * len(cells.classes) + rows["label"].to_numpy(dtype=np.int64),
            domains=len(cells.domains),
            classes=len(cells.classes),
            device=device,
        )
    prompts = render_prompts(templates, [class_text(name) for name in cells.classes])
    meta = {
        "model_sha256": sha256_file(checkpoint / WEIGHTS),
        "index_sha256": sha256_file(shards / INDEX),
        "source": shards.name,
        "transform": f"central square, antialiased bicubic to {size} x {size}, CLIP's mean and deviation",
        "templates": templates,
        "prompts_a_class": len(prompts[0]),
        "domains": list(cells.domains),
        "classes": list(cells.classes),
        "layers": list(pictures.layers),
    }
    text = class_prototypes(model, tokenizer(config["model"]), prompts, device=device)
    save_embeddings(folder, image=pictures.image, rows=rows, text=text, layers=pictures.layers, meta=meta)


def read_batches(
    reader: ShardReader, rows: pd.DataFrame, *, batch: int, threads: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read and decode pictures in the order of `rows`, one batch ahead of the reader of this iterator.

    Yields:
        Pictures uint8 [B, 3, H, W], padded at the bottom and right, and their sizes int64 [B, 2] (height, width).
    """
    import torch

    from domix.data.pictures import Pictures

    def decode(part: pd.DataFrame) -> tuple[Tensor, Tensor]:
        numbers, keys = part["row"].tolist(), part["key"].tolist()
        sizes = torch.from_numpy(np.array(part[["height", "width"]], dtype=np.int64, order="C"))
        pictures = Pictures.decode(lambda place: reader.read(numbers[place]), keys, sizes, threads=threads)
        return pictures.cut(torch.arange(len(part))), sizes

    parts = [rows.iloc[start : start + batch] for start in range(0, len(rows), batch)]
    with ThreadPoolExecutor(1) as ahead:
        coming = None
        for part in [*parts, None]:
            ready, coming = coming, None if part is None else ahead.submit(decode, part)
            if ready is not None:
                yield ready.result()


@dataclass(frozen=True)
class ImageEmbeddings:
    """What one pass of the image tower over the evaluation pictures gives."""

    image: NDArray[np.float32]  # [N, D], L2-normalised
    layers: dict[str, NDArray[np.float32]]  # class means [G, K, C] by layer, in order of depth; NaN: no picture


class LayerMeans:
    """Collects the mean activation of every layer over the pictures of each cell, by forward hooks, in float64.

    Used as a context: hooks are on inside it. Before each pass of the tower, `expect` says whose pictures come.
    """

    def __init__(self, visual: nn.Module, cells: int) -> None:
        self.modules = layer_modules(visual)
        self.nhwc = channels_last(visual)
        self.counts = np.zeros(cells, dtype=np.int64)
        self.sums: dict[str, Tensor] = {}
        self._cells: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> LayerMeans:
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def expect(self, cells: Tensor) -> None:
        """Say which cell each picture of the next batch belongs to: int64 [B]."""
        self._cells = cells
        np.add.at(self.counts, cells.numpy(), 1)

    def _hook(self, name: str) -> Any:
        def add(module: nn.Module, inputs: object, output: object) -> None:
            assert self._cells is not None, "expect() comes before each pass"
            pooled_BC = pool_positions(output, nhwc=self.nhwc).cpu().double()
            if name not in self.sums:
                self.sums[name] = pooled_BC.new_zeros((len(self.counts), pooled_BC.shape[1]))
            self.sums[name].index_add_(0, self._cells, pooled_BC)

        return add

    def means(self, domains: int) -> dict[str, NDArray[np.float32]]:
        """Return the class means float32 [G, K, C] by layer, in order of depth; NaN where a cell has no picture."""
        counts = self.counts[:, None]
        result = {}
        for name in self.modules:
            if name not in self.sums:  # a block that this configuration never runs
                log.warning("layer %s of the image tower is never computed; it is left out", name)
                continue
            sums = self.sums[name].numpy()
            mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
            result[name] = mean.reshape(domains, -1, mean.shape[1]).astype(np.float32)
        return result


def embed_pictures(
    model: CLIP | CustomTextCLIP,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    size: int,
    cells: NDArray[np.int64],
    domains: int,
    classes: int,
    device: torch.device | str = "cpu",
) -> ImageEmbeddings:
    """Embed pictures and average every layer's activations over each cell, in one pass.

    `batches` gives uint8 pictures [B, 3, H, W], padded at the bottom and right, and their int64 sizes [B, 2] (height,
    width); `size` is the side of the pictures that the model reads; `cells[n]` is picture n's domain * classes + label.

    Raises:
        DataError: there are more or fewer pictures than cells, or an embedding is not finite.
    """
    import torch
    from torch.nn import functional as F

    from domix.data.augment import centre_boxes, crop_resize, normalise

    model = model.to(memory_format=torch.channels_last).to(device).eval()  # the faster layout for convolutions
    cells_N, done, parts = torch.from_numpy(np.ascontiguousarray(cells)), 0, []
    with torch.inference_mode(), LayerMeans(model.visual, domains * classes) as means:
        for pictures, sizes in batches:
            _require_count(done + len(pictures) <= len(cells_N), len(cells_N), "more")
            means.expect(cells_N[done : done + len(pictures)])
            inputs = normalise(crop_resize(pictures.to(device), centre_boxes(sizes), size))
            features_BD = model.encode_image(inputs)
            parts.append(F.normalize(features_BD.float(), dim=-1).cpu())
            done += len(pictures)
    _require_count(done == len(cells_N), len(cells_N), f"only {done}")
    image = torch.cat(parts).numpy() if parts else np.zeros((0, 0), dtype=np.float32)
    if not np.isfinite(image).all():
        raise DataError(f"the model gives picture embeddings that are not finite: {DIVERGED}")
    return ImageEmbeddings(image, means.means(domains))


def _require_count(good: bool, wanted: int, found: str) -> None:
    if not good:
        raise DataError(
            f"the index lists {wanted} evaluation pictures, but {found} came from the shards: run pack again"
        )


def class_prototypes(
    model: CLIP | CustomTextCLIP,
    tokenizer: SimpleTokenizer,
    prompts: Sequence[Sequence[str]],
    *,
    batch: int = 256,  # small enough for a CPU's cache
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Encode the T prompts of each of K classes to one L2-normalised prototype a class: float32 [K, D].

    Raises:
        DataError: an embedding is not finite.
    """
    import torch
    from torch.nn import functional as F

    model = model.to(device).eval()
    place: dict[str, int] = {}
    where_KT = [[place.setdefault(text, len(place)) for text in texts] for texts in prompts]
    with torch.inference_mode():
        features_PD = _encode_prompts(model, tokenizer, list(place), batch, device)
        means_KD = torch.stack([features_PD[where].mean(dim=0) for where in where_KT])
        text = F.normalize(means_KD, dim=-1).float().numpy()
    if not np.isfinite(text).all():
        raise DataError(f"the model gives prompt embeddings that are not finite: {DIVERGED}")
    return text


def _encode_prompts(
    model: CLIP | CustomTextCLIP,
    tokenizer: SimpleTokenizer,
    texts: list[str],
    batch: int,
    device: torch.device | str,
) -> Tensor:
    """Encode distinct prompts to L2-normalised features float64 [P, D], prompts of like length together."""
    import torch
    from torch.nn import functional as F

    from domix.model.clip import encode_text, shortest_context
    from domix.model.tokens import tokenise

    tokens_PL = tokenise(tokenizer, texts)
    order = tokens_PL.argmax(dim=1).argsort(
        stable=True
    )  # the end-of-text token is the greatest: its place is the length
    parts = []
    for some in order.split(batch):
        tokens = shortest_context(model, tokens_PL[some])
        parts.append(F.normalize(encode_text(model, tokens.to(device)).double(), dim=-1).cpu())
    features_PD = torch.empty_like(torch.cat(parts))
    features_PD[order] = torch.cat(parts)
    return features_PD
