"""From raw files to a trained model, over a multi-domain source and corpora: the stages one after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.mixture import read_mixture
from domix.project.common import load_params
from domix.runtime.errors import DataError
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import captions, fetch, mixtures, pack, train
from tests.commands import told
from tests.source_trees import image, make_tar, make_tree
from tests.tiny import CONFIG, RECIPE, REPOSITORY

TEXTS = ['he said "no"', "tabs\tand\nlines", "NA", '"quoted', "d\u00e9j\u00e0 vu \U0001f600", "plain"]
WNIDS = sorted(imagenet_classes())[:3]
CHANGES: dict[str, Any] = {
    "test_domain": "sketch",
    "test_classes": ["axe"],
    "sources": ["styles", "imagenet-captions", "imagenet-sketch", "cc3m"],
    "base": ["imagenet-captions", "cc3m"],
    "mixtures": ["natural-only", "cg-high", "mine"],
    "recipes": {"mine": {"domains": {"real": 1.0, "sketch": 1.0}, "weights": {"sketch": 2.0}, "base": False}},
}


def write_styles(root: Path) -> None:
    """Write a tree of the user's own."""
    names = [f"{d}/{c}/{n}.png" for d in ("clipart", "real", "sketch") for c in ("axe", "bed") for n in range(12)]
    make_tree(root, *names)


def write_imagenet_captions(root: Path) -> None:
    names = [f"{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(len(TEXTS))]
    make_tree(root / "imagenet/train", *[f"{name.split('_')[0]}/{name}" for name in names])
    fields = [{"filename": n, "wnid": n.split("_")[0], "title": TEXTS[i % 6]} for i, n in enumerate(names)]
    rows = [row | {"description": "", "tags": ["a", "b"]} for row in fields]
    (root / "imagenet_captions.json").write_text(json.dumps(rows))
    split = {"train": names[:-2], "val": names[-2:]}
    (root / "imagenet_captions_train_val_split.json").write_text(json.dumps(split))


def write_cc3m(root: Path) -> None:
    members = {}
    for number, text in enumerate(TEXTS):
        members[f"{number:09d}.jpg"] = image(f"{number}.jpg")
        members[f"{number:09d}.txt"] = text.encode()
    make_tar(root / "00000.tar", members)


def write_sketches(root: Path) -> None:
    make_tree(root, *[f"sketch/{wnid}/sketch_{number}.JPEG" for wnid in WNIDS for number in range(3)])


WRITERS: dict[str, Callable[[Path], None]] = {
    "styles": write_styles,
    "imagenet-captions": write_imagenet_captions,
    "imagenet-sketch": write_sketches,
    "cc3m": write_cc3m,
}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Write raw files and params.yaml into a folder, which becomes the working directory."""
    tree = YAML(typ="safe", pure=True).load(REPOSITORY / "params.yaml") | CHANGES
    tree["fetch"] |= {"paths": {name: str(tmp_path / "raw" / name) for name in WRITERS}, "offline": True}
    tree["pack"] |= {"size": 40, "shard_samples": 10, "workers": 1}
    tree["model"]["name"] = "model.json"
    tree["train"] = replace(RECIPE, samples=8 * 4).model_dump()
    tree["tracking"]["enabled"] = False
    YAML(typ="safe", pure=True).dump(tree, tmp_path / "params.yaml")
    (tmp_path / "model.json").write_text(json.dumps(CONFIG))
    for name, write in WRITERS.items():
        write(tmp_path / "raw" / name)
    monkeypatch.chdir(tmp_path)
    return load_params()


def prepare(params: Params) -> None:
    for name in params.sources:
        fetch.main(params, name)
        pack.main(params, name)
        captions.main(params, name)
    mixtures.main(params)


def test_every_stage_from_raw_files_to_a_model(params: Params) -> None:
    prepare(params)
    made = {name: read_mixture(Path(f"artifacts/mixtures/{name}.parquet")) for name in params.mixtures}
    assert made["cg-high"].samples["cc3m"] == len(TEXTS)
    assert made["cg-high"].samples["imagenet-captions"] == len(WNIDS) * len(TEXTS) - 2
    assert set(made["mine"].samples) == {"styles"}
    assert made["mine"].rows["weight"].nunique() == 2
    corpus = pd.read_parquet("artifacts/captions/cc3m.parquet")
    assert corpus["standard"].tolist() == corpus["aligned"].tolist() == TEXTS
    for name in ("cg-high", "mine"):
        train.main(params, name, "0")
        assert (Path("artifacts/models/clip") / f"{name}-s0" / "model.safetensors").is_file()


def test_captions_that_a_corpus_lacks_are_named(params: Params) -> None:
    prepare(params)
    path = Path("artifacts/captions/cc3m.parquet")
    table = pd.read_parquet(path)
    table.iloc[1:].to_parquet(path, index=False)
    with pytest.raises(DataError) as caught:
        train.main(params, "cg-high", "0")
    assert told(caught.value) == (
        "artifacts/captions/cc3m.parquet is not what the mixture 'cg-high' was made with:"
        " delete artifacts/mixtures/cg-high.parquet and run dvc repro mixtures"
    )
    mixtures.main(params)
    with pytest.raises(DataError, match=r"^source 'cc3m' has no caption for .* and 0 others$") as caught:
        train.main(params, "cg-high", "0")
    assert told(caught.value).endswith(" others: delete artifacts/captions and run dvc repro captions")


def test_other_shards_than_those_of_the_mixture_are_refused(params: Params) -> None:
    """Another encoding of the same images, which a mixture's rows point into as well."""
    prepare(params)
    pack.main(replace(params, pack=replace(params.pack, format="jpeg")), "cc3m")
    with pytest.raises(DataError) as caught:
        train.main(params, "cg-high", "0")
    assert told(caught.value) == (
        "artifacts/shards/cc3m is not what the mixture 'cg-high' was made from:"
        " delete artifacts/mixtures/cg-high.parquet and run dvc repro mixtures"
    )
    train.main(params, "mine", "0")  # which holds nothing of it
    mixtures.main(params)
    train.main(params, "cg-high", "0")


def test_raw_files_that_changed_since_fetch_are_not_packed(params: Params) -> None:
    fetch.main(params, "imagenet-captions")
    Path(params.fetch.paths["imagenet-captions"], "imagenet_captions.json").write_text("[]")
    with pytest.raises(DataError, match=r"imagenet_captions\.json has 2 bytes, and had") as caught:
        pack.main(params, "imagenet-captions")
    assert told(caught.value).endswith(" when it was verified: run dvc repro -f -s fetch@imagenet-captions")
    assert not Path("artifacts/shards/imagenet-captions").exists()
