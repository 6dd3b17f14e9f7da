"""Measure embedding: many checkpoints of one run on one set of images, decoded once.

    python -m tools.bench_embed                                33 checkpoints x 512 images, as `make bench` does
    python -m tools.bench_embed --checkpoints 5 --images 64

ours        embed_clip on an empty cache: decoding, reading weights, passes, writing
forward     the passes alone: the same images in memory, the same weights already in the model
reference   a loop that decodes all images for every checkpoint, as the reference study's evaluation does; of a few
            checkpoints, from which the others' time follows

Images are made up, of the size and the weight of photographs; the model is RN50 at half the width and the side. They
are few: at full size the passes take a still larger share. Measured in turns, told is the median; everything also goes
to build/bench/embed.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from domix.data.store.index import make_index, read_index, shard_name, write_index
from domix.data.store.shards import ShardReader, ShardWriter, make_block
from domix.embed.clip import embed_clip, open_subject
from domix.embed.embeddings import load_scored
from domix.embed.passes import ComputeContext, kept_checkpoints
from domix.embed.text_tower import Prompts, encode_classes
from domix.encoders import cutting
from domix.encoders.preprocess import square
from domix.model.checkpoint import fill, load_tensors, save_weights
from domix.model.clip import build, tokenizer
from domix.runtime.errors import ParameterError
from domix.runtime.files import write_json
from tools.bench_train import judge

OUT = Path("build") / "bench"
CLASSES, TEMPLATE, BATCH = 20, "a photo of a {}.", 64
RATIO, EXCESS = 10, 1.1  # targets: times fewer decodes; of the passes' time
SIZES = ((256, 256), (341, 256), (256, 341))  # width and height, in turn
CONFIG: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 112, "layers": [3, 4, 6, 3], "width": 32, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def write_project(root: Path, *, images: int, checkpoints: int) -> None:
    """Write a packed source of test images, and a model folder with checkpoints of random weights."""
    shards = root / "shards" / "photos"
    shards.mkdir(parents=True)
    with ShardWriter(shards / shard_name(0)) as writer:
        write_index(shards, make_index([_add(writer, row) for row in range(images)]))
    model = root / "model"
    write_json(model / "config.json", {"model": CONFIG})
    save_weights(build(CONFIG, seed=0), model / "model.safetensors")
    for epoch in range(checkpoints - 1):
        save_weights(build(CONFIG, seed=1 + epoch), model / f"checkpoints/epoch_{epoch:03d}.safetensors")


def _add(writer: ShardWriter, row: int) -> dict[str, object]:
    generator, (width, height) = np.random.default_rng(row), SIZES[row % len(SIZES)]
    coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.integers(-12, 13, (height, width, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    place, label = writer.add(make_block(f"{row:06d}", "jpg", file.getvalue(), {})), row % CLASSES
    return (
        {"key": f"{row:06d}", "source": "photos", "domain": "real", "class": f"thing {label}", "label": label}
        | {"split": "test", "width": width, "height": height, "phash": "0" * 16}
        | {"sha256": hashlib.sha256(file.getvalue()).hexdigest(), **place._asdict()}
    )


@contextmanager
def counted_decodes() -> Generator[list[int]]:
    """Count the images that are decoded within this block, in the list's only number."""
    count, inner = [0], cutting.cut_image

    def counting(*image: Any) -> np.ndarray:
        count[0] += 1
        return inner(*image)

    with patch.object(cutting, "cut_image", counting):
        yield count


def weights_of(model: Path) -> Iterator[Path]:
    """Yield the files of all weights, the last first."""
    yield model / "model.safetensors"
    yield from kept_checkpoints(model).values()


def ours(root: Path, device: str) -> float:
    """Embed with all weights, from nothing; return the seconds that it takes."""
    shutil.rmtree(root / "cache", ignore_errors=True)
    model, study = root / "model", root / "shards" / "photos"
    subject, means = open_subject(model), ComputeContext(root / "cache", BATCH, device, os.cpu_count() or 1)
    started = time.perf_counter()
    checkpoints = kept_checkpoints(model)
    embed_clip(subject, root / "out", means, templates=TEMPLATE, study=study, checkpoints=checkpoints)
    return time.perf_counter() - started


def forward(root: Path, device: str) -> float:
    """Return the seconds that all weights' passes take on images in memory."""
    ready = list(_read(root))
    subject = open_subject(root / "model")
    prompts = Prompts.tokenised(tokenizer(CONFIG), [[TEMPLATE.replace("{}", f"thing {k}")] for k in range(CLASSES)])
    network, seconds = subject.model.to(memory_format=torch.channels_last).to(device), 0.0
    for path in weights_of(root / "model"):
        fill(network, load_tensors(path), f"the weights {path} are", remake=path)
        started = time.perf_counter()
        for batch in ready:
            _embed(network, batch, device)
        encode_classes(network, prompts, device=device)
        seconds += time.perf_counter() - started
    return seconds


def reference(root: Path, device: str, *, first: int) -> tuple[float, int]:
    """Decode all images for each of the `first` weights; return the seconds, and how many images were decoded."""
    subject = open_subject(root / "model")
    network = subject.model.to(memory_format=torch.channels_last).to(device)
    started = time.perf_counter()
    with counted_decodes() as decoded:
        for path in list(weights_of(root / "model"))[:first]:
            fill(network, load_tensors(path), f"the weights {path} are", remake=path)
            parts = [_embed(network, batch, device) for batch in _read(root)]
    seconds = time.perf_counter() - started
    _check_equal(root / "out", path, torch.cat(parts).numpy(), kept_checkpoints(root / "model"))
    return seconds, decoded[0]


def _read(root: Path) -> Iterator[Tensor]:
    """Decode all images; yield batches uint8 [B, 3, S, S]."""
    reader, rows = ShardReader(root / "shards" / "photos"), read_index(root / "shards" / "photos")
    numbers, threads = rows["row"].tolist(), os.cpu_count() or 1
    preprocess = square(CONFIG["vision_cfg"]["image_size"])
    images = cutting.cut_images(lambda place: reader.read(numbers[place]), rows, preprocess, threads=threads)
    yield from images.split(BATCH)


def _embed(network: Any, images: Tensor, device: str) -> Tensor:
    with torch.inference_mode():
        inputs = square(images.shape[2]).normalise(images.to(device))
        return F.normalize(network.encode_image(inputs).float(), dim=-1).cpu()


def _check_equal(out: Path, path: Path, image: np.ndarray, checkpoints: dict[int, Path]) -> None:
    """Check that the loop gives what we do: to half precision."""
    epoch = next((epoch for epoch, other in checkpoints.items() if other == path), None)
    np.testing.assert_allclose(load_scored(out, "clip", checkpoint=epoch).image_embeddings, image, atol=1e-3)


def measure(root: Path, *, images: int, checkpoints: int, turns: int, device: str) -> dict[str, Any]:
    """Measure all in turns; return medians."""
    write_project(root, images=images, checkpoints=checkpoints)
    found: dict[str, list[float]] = {"ours": [], "forward": [], "reference": []}
    few = min(3, checkpoints)
    for turn in range(turns):
        print(f"\r\033[K  turn {turn + 1} of {turns}", end="", file=sys.stderr, flush=True)
        with counted_decodes() as decoded:
            found["ours"].append(ours(root, device))
        found["forward"].append(forward(root, device))
        seconds, theirs = reference(root, device, first=few)
        found["reference"].append(seconds / few * checkpoints)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    medians = {f"{name}_s": median(seconds) for name, seconds in found.items()}
    counts = {"ours_decodes": decoded[0], "reference_decodes": theirs // few * checkpoints}
    return {"images": images, "checkpoints": checkpoints, "device": device} | counts | medians


def tell(found: dict[str, Any]) -> None:
    """Print what was measured beside its targets."""
    print(f"Embedding {found['images']:,} images with {found['checkpoints']} checkpoints, on {found['device']}.")
    for name in ("ours", "forward", "reference"):
        decodes = f", {found[f'{name}_decodes']:,} decodes" if f"{name}_decodes" in found else ""
        print(f"  {name:<40} {found[f'{name}_s']:>12,.1f} s{decodes}")
    judge("times fewer decodes than the reference", found["reference_decodes"] / found["ours_decodes"], RATIO)
    judge("of the time of the passes alone", found["ours_s"] / found["forward_s"], EXCESS, most=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        ParameterError: a number is not positive.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.bench_embed", description="Measure embedding.")
    parser.add_argument("--images", default=512, help="test images (default: 512)", type=int)
    parser.add_argument("--checkpoints", default=33, help="weights, the last included (default: 33)", type=int)
    parser.add_argument("--turns", default=1, help="how often each is measured (default: 1)", type=int)
    asked = parser.parse_args(arguments)
    for name in ("images", "checkpoints", "turns"):
        if getattr(asked, name) <= 0:
            raise ParameterError(f"--{name} must be positive, not {getattr(asked, name)}")
    return asked


def main() -> None:
    """Measure and tell."""
    asked, root = parse(sys.argv[1:]), OUT / "embed"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shutil.rmtree(root, ignore_errors=True)
    try:
        found = measure(root, device=device, **vars(asked))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    tell(found)
    write_json(OUT / "embed.json", found)


if __name__ == "__main__":
    main()
