"""A model, a recipe and images so small that a training takes a second, and a project around them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from ruamel.yaml import YAML

from domix.data.loading.images import Images
from domix.data.mixtures.mixture import Mixture, write_mixture
from domix.data.store.index import make_index, read_index, shard_name, write_index
from domix.data.store.shards import ShardWriter, make_block
from domix.runtime.settings import replace
from domix.runtime.tables import write_table
from domix.train.clip_module import ClipTask
from domix.train.job import Job
from domix.train.settings import Train, Trainer

REPOSITORY = Path(__file__).parent.parent

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
WORDS = ["apple", "bear", "castle", "drum", "engine", "fork", "guitar", "hat", "igloo", "jar", "kite", "lantern"]
RECIPE = Train(
    samples=8 * 12,
    epochs=None,
    batch=8,
    accumulate=1,
    bn_group=None,
    window=None,
    drop_last=False,
    lr=3e-3,
    warmup=0.25,
    weight_decay=0.2,
    betas=None,
    eps=None,
    clip_grad=None,
    crop_scale=[0.6, 1.0],
    crop_ratio=[0.75, 1.3333],
    hflip=0.5,
    context="trim",
    checkpoints=[],
)
TRAINER = Trainer(
    accelerator="cpu",
    devices=1,
    nodes=1,
    strategy="auto",
    precision="32",
    tf32=False,
    channels_last=True,
    compile=False,
    fused=True,
    grad_checkpointing=False,
    deterministic=True,
    loader="auto",
    workers=0,
    pin_memory=False,
    decode="cpu",
    shards={},
    threads=1,
    save_every_s=1000,
    keep_states=2,
    log_every=5,
)


def split_changes(changes: dict[str, Any]) -> tuple[Train, Trainer]:
    """Apply changes to the recipe or the trainer, whichever has a parameter of the name."""
    own = {key: value for key, value in changes.items() if hasattr(TRAINER, key)}
    return replace(RECIPE, **{k: v for k, v in changes.items() if k not in own}), replace(TRAINER, **own)


def make_images(count: int, *, ragged: bool = False) -> Images:
    """Return images of noise, 40 pixels square or of various sizes."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.full((count, 2), 40)
    if ragged:
        sizes = torch.randint(33, 50, (count, 2), generator=generator)
    images = Images(sizes)
    for row in range(count):
        images[row].random_(0, 256, generator=generator)
    return images


def make_job(count: int = 20, *, config: dict[str, Any] = CONFIG, seed: int = 0, **changes: Any) -> Job:
    """Return a training of 12 steps on `count` samples; `changes` are parameters of the recipe or the trainer."""
    captions = [f"a {WORDS[row % 12]} and a {WORDS[(row * 5 + 1) % 12]}" for row in range(count)]
    recipe, trainer = split_changes(changes)
    task = ClipTask(
        name="tiny",
        config=config,
        recipe=recipe,
        captions=captions,
        grad_checkpointing=trainer.grad_checkpointing,
    )
    shards = [row // 4 for row in range(count)]
    images = make_images(count, ragged=True)
    return Job(task=task, recipe=recipe, trainer=trainer, seed=seed, images=images, shards=shards)


def write_split_project(root: Path) -> None:
    """Write a project of 48 images, the last 28 of them for testing."""
    write_project(root, count=48)
    shards = root / "artifacts/shards/emoji"
    index = read_index(shards)
    write_index(shards, index.assign(split=["train"] * 20 + ["test"] * 28).astype(index.dtypes))


def write_project(
    root: Path,
    *,
    count: int = 24,
    rows: Sequence[int] | None = None,
    config: dict[str, Any] = CONFIG,
    **changes: Any,
) -> None:
    """Write what the stage train needs below `root`: the stages, params.yaml, and artifacts of `count` images.

    Every other image is a sketch, the rest are real; WORDS are the classes. The mixture is called `tiny`, withholds
    the sketches of the first class, and holds `rows` of the index, if given, though that may break its promise.
    """
    shutil.copytree(REPOSITORY / "stages", root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "model.json").write_text(json.dumps(config))
    tree = YAML(typ="safe", pure=True).load(REPOSITORY / "params.yaml")
    tree["model"]["name"] = "model.json"
    recipe, trainer = split_changes(changes)
    tree["train"], tree["trainer"] = recipe.model_dump(), trainer.model_dump()
    tree["validation"]["every"] = None
    tree["sources"] = ["emoji"]
    tree["embed"] |= {"sets": [], "ood": {}}
    tree["tracking"]["enabled"] = False
    YAML(typ="safe", pure=True).dump(tree, root / "params.yaml")
    index = _write_shards(root / "artifacts/shards/emoji", make_images(count))
    texts = [f"a {domain} of a {name}" for domain, name in zip(index["domain"], index["class"], strict=True)]
    captions = pd.DataFrame({"key": index["key"], "standard": texts, "aligned": texts})
    write_table(root / "artifacts/captions/emoji.parquet", captions)
    allowed = index.index[(index["domain"] != "sketch") | (index["class"] != WORDS[0])]
    _write_mixture(root / "artifacts/mixtures/tiny.parquet", index, list(allowed if rows is None else rows))


def _write_shards(folder: Path, images: Images) -> pd.DataFrame:
    folder.mkdir(parents=True)
    described = []
    half = len(images) // 2
    for number, rows in enumerate((range(half), range(half, len(images)))):
        with ShardWriter(folder / shard_name(number)) as writer:
            described += [_write_sample(writer, row, images[row]) for row in rows]
    index = make_index(described)
    write_index(folder, index)
    return index


def _write_sample(writer: ShardWriter, row: int, image: torch.Tensor) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    label, domain = row // 2 % len(WORDS), ("real", "sketch")[row % 2]
    key = f"{domain}/{WORDS[label]}/{row}"
    place = writer.add(make_block(key, "png", file.getvalue(), {}))
    return (
        {"key": key, "source": "emoji", "domain": domain, "class": WORDS[label], "label": label}
        | {"split": "train", **place._asdict(), "width": 40, "height": 40, "phash": "0" * 16}
        | {"sha256": hashlib.sha256(file.getvalue()).hexdigest()}
    )


def _write_mixture(path: Path, index: pd.DataFrame, rows: list[int]) -> None:
    mixture = Mixture(
        name="tiny",
        alias="tiny",
        standard_name="tiny",
        caption="standard",
        domains=("real", "sketch"),
        held_out=("sketch", (WORDS[0],)),
        parameters={"source": "emoji"},
        samples={"emoji": len(rows)},
        rows=pd.DataFrame({"source": "emoji", "row": rows, "caption": "standard"}),
    )
    honest = index.assign(domain="real")  # a promise broken on purpose is for the training to find
    write_mixture(path, mixture, {"emoji": honest})
