"""Further sets of images, from raw files through the stages fetch and pack to the labels that judge models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.imagenet_subsets import subset_labels
from domix.embed.evaluation_sets import further_set
from domix.embed.label_spaces import LabelSpace, label_space
from domix.evaluate.schemas import ROBUSTNESS
from domix.project.common import SETS, load_params
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import captions, evaluate, fetch, fetch_set, pack, pack_set
from tests.commands import told
from tests.fakes import make_index, write_embeddings
from tests.objectnet import LABELS_OF, make_objectnet
from tests.scored_sets import write_set
from tests.source_trees import WNIDS, image, make_tar, make_tree
from tests.tiny import REPOSITORY

TEXTS = [known.text for known in imagenet_classes().values()]


def write_v2(root: Path) -> None:
    folder = "imagenetv2-matched-frequency-format-val"
    members = [f"{folder}/{label}/{n}.jpeg" for label in (10, 9, 999) for n in "ab"]
    make_tar(root / "imagenetv2-matched-frequency.tar", {name: image(name) for name in members})


def write_r(root: Path) -> None:
    make_tree(root, *[f"imagenet-r/{wnid}/art_{n}.jpg" for wnid in ("n01443537", "n12267677") for n in (0, 1)])


def write_a(root: Path) -> None:
    make_tree(root, *[f"imagenet-a/n01498041/0.00{n}_digital clock_0.9.jpg" for n in (1, 2)])


def write_sketch(root: Path) -> None:
    make_tree(root, *[f"sketch/{wnid}/sketch_{n}.JPEG" for wnid in WNIDS for n in (0, 1)])


def write_imagenet(root: Path) -> None:
    make_tree(root, *[f"train/{wnid}/{wnid}_{n}.JPEG" for wnid in WNIDS for n in (0, 1)])
    make_tree(root, *[f"val/{wnid}/ILSVRC2012_val_{n}.JPEG" for n, wnid in enumerate(WNIDS)])


def write_own(root: Path) -> None:
    make_tree(root, *[f"{d}/{c}/{n}.png" for d in ("photo", "plan") for c in ("bed", "ice_cream") for n in range(12)])


WRITERS: dict[str, Callable[[Path], object]] = {
    "imagenet-v2": write_v2,
    "imagenet-r": write_r,
    "imagenet-a": write_a,
    "imagenet-sketch": write_sketch,
    "imagenet": write_imagenet,
    "objectnet": make_objectnet,
    "mine": write_own,
}
LABELS = {  # of the images that are evaluated
    "imagenet-v2": [9, 9, 10, 10, 999, 999],
    "imagenet-r": [1, 1, 988, 988],
    "imagenet-a": [6, 6],
    "imagenet-sketch": [0, 0, 1, 1, 278, 278],
    "imagenet": [0, 1, 278],
    "objectnet": [0, 0, 1, 1, 2, 2],
}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Write params.yaml into a folder, which becomes the working directory."""
    tree = YAML(typ="safe", pure=True).load(REPOSITORY / "params.yaml")
    tree["embed"] |= {"sets": list(WRITERS), "ood": {}}
    tree["fetch"] |= {"paths": {name: str(tmp_path / "raw" / name) for name in WRITERS}, "offline": True}
    tree["pack"] |= {"size": 8, "shard_samples": 4, "workers": 1}
    YAML(typ="safe", pure=True).dump(tree, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return load_params()


def write(params: Params, name: str) -> Path:
    root = Path(params.fetch.paths[name])
    root.mkdir(parents=True)
    WRITERS[name](root)
    return root


def prepare(params: Params, name: str) -> Path:
    if name in params.fetch.paths and not Path(params.fetch.paths[name]).exists():
        write(params, name)
    fetch_set.main(params, name)
    pack_set.main(params, name)
    return SETS / name


@pytest.mark.parametrize("name", LABELS)
def test_labels_and_label_space_of_every_set(params, name):
    shards = prepare(params, name)
    found = further_set(shards)
    space = label_space(name, shards)
    assert found.rows["label"].tolist() == LABELS[name]
    assert (found.classes, found.subset, found.answers) == (space.classes, space.subset, space.answers)
    assert space.classes == TEXTS
    if name == "objectnet":
        answers = [LABELS_OF[directory] for directory in sorted(LABELS_OF)]
        assert space == LabelSpace(TEXTS, [409, 530, 610, 729], answers, "test")
        assert found.rows["class"].tolist()[::2] == ["Alarm clock", "Drying rack for plates", "T-shirt"]
    else:
        split = "all" if name == "imagenet-sketch" else "test"
        assert space == LabelSpace(TEXTS, subset_labels(name), None, split)
        assert found.rows["class"].tolist() == [TEXTS[label] for label in LABELS[name]]
    assert set(found.rows["domain"]) == {name}


def test_a_folder_of_ones_own_is_told_apart_by_its_own_classes(params):
    shards = prepare(params, "mine")
    assert label_space("mine", shards) == LabelSpace(["bed", "ice cream"], None, None, "test")
    index = pd.read_parquet(shards / "index.parquet")
    found = further_set(shards)
    assert found.rows["key"].tolist() == index.loc[index["split"] == "test", "key"].tolist()
    assert 0 < len(found.rows) < len(index)
    assert set(found.rows["domain"]) == {"photo", "plan"}


def test_a_folder_of_wnids_is_told_apart_by_imagenets_classes(params):
    """A model would read nothing from `a photo of a n01443537`."""
    wnids = ("n12267677", "n01443537")
    make_tree(Path(params.fetch.paths["mine"]), *[f"fog/{wnid}/{n}.png" for wnid in wnids for n in range(12)])
    shards = prepare(params, "mine")
    assert label_space("mine", shards) == LabelSpace(TEXTS, [1, 988], [[1], [988]], "test")
    assert set(further_set(shards).rows["label"]) == {0, 1}


def test_sketches_are_evaluated_although_mixtures_train_on_them(params):
    shards = prepare(params, "imagenet-sketch")
    assert set(pd.read_parquet(shards / "index.parquet")["split"]) == {"train"}
    assert len(further_set(shards).rows) == 6


@pytest.mark.parametrize("name", ["imagenet-r", "objectnet"])
def test_captions_can_be_written_of_every_source(params, name):
    """The stage runs for all sources, also those that nothing trains on."""
    write(params, name)
    fetch.main(params, name)
    pack.main(params, name)
    captions.main(params, name)
    table = pd.read_parquet(f"artifacts/captions/{name}.parquet")
    assert len(table) == len(LABELS[name])


def test_an_unknown_set_is_refused_before_anything_is_trained(params):
    """Trainings wait for the mixtures, and these for all that is packed, sets included."""
    with pytest.raises(ParameterError, match="imagenet-w"):
        fetch_set.main(params, "imagenet-w")
    stages = YAML(typ="safe", pure=True).load(REPOSITORY / "dvc.yaml")["stages"]
    assert stages["pack_set"]["outs"] == [f"{SETS}/${{item.source}}"]
    assert "artifacts/shards" in stages["mixtures"]["deps"] and SETS.is_relative_to("artifacts/shards")


def test_answers_are_kept_of_objectnet_alone(params):
    for name in ("objectnet", "imagenet-a"):
        assert (prepare(params, name) / "answers.json").is_file() == (name == "objectnet")


def test_the_stage_evaluate_writes_a_table_of_the_sets_asked_for(params):
    index = make_index({d: [1] * 4 for d in ("clipart", "real", "sketch")}, 3)
    classes = sorted(set(index["class"]))
    summary = {"test_domain": "sketch", "natural_domain": "real", "domains": ["clipart", "real", "sketch"]}
    mixtures = [{"name": "cg-low", "standard_name": "cg-low"}]
    summary |= {"classes": classes, "test_classes": classes[:2], "mixtures": mixtures}
    write_json(Path("artifacts/mixtures/summary.json"), summary)
    folder = Path("artifacts/embeddings/clip/cg-low-s0")
    write_embeddings(folder, index, right=lambda domain, name: 0.5, seed=0)
    for name in ("imagenet", "imagenet-r"):
        label = np.repeat([1, 2, 988], 3) if name == "imagenet" else np.repeat([1, 988], 3)
        scores = np.random.default_rng(0).normal(size=(len(label), 1000)).astype(np.float32)
        write_set(folder, name, label, scores, subset=subset_labels(name))
    params = replace(params, mixtures=["cg-low"], evaluate=replace(params.evaluate, bootstrap=100))
    for asked, count in (["imagenet", "imagenet-r"], 4 * 3), ([], 0):
        evaluate.main(replace(params, embed=replace(params.embed, sets=asked)))
        table = pd.read_parquet("artifacts/eval/robustness.parquet")
        assert list(table.columns) == ROBUSTNESS.names
        assert len(table) == count
        assert set(table["kind"]) <= {"clip"}


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imagenet-v2.tar.gz", "imagenet-r.tar", "imagenet-a.tar"])
def test_an_archive_that_is_not_the_published_one(params, name):
    """Also one's own copy is compared with the manifest: a wrong test set would give wrong numbers without a word."""
    source = name.partition(".")[0]
    root = Path(params.fetch.paths[source])
    make_tar(root / name.replace("imagenet-v2", "imagenetv2-matched-frequency"), {"a/n01498041/a.jpg": b"x"})
    with pytest.raises(DataError, match=r"has 10,240 bytes, not .* as its manifest says: replace it by the right file"):
        fetch.main(params, source)


def test_a_mapping_that_is_missing(params):
    (write(params, "objectnet") / "mappings/objectnet_to_imagenet_1k.json").unlink()
    with pytest.raises(DataError, match=r"objectnet_to_imagenet_1k\.json is missing: complete ObjectNet's mappings"):
        prepare(params, "objectnet")


def test_a_folder_that_is_no_class(params):
    make_tree(write(params, "imagenet-r"), "imagenet-r/others/a.jpg")
    with pytest.raises(DataError, match="holds the directory 'others', which is none of the 200 classes"):
        prepare(params, "imagenet-r")


def test_a_set_that_was_not_named_a_folder_for(params):
    del params.fetch.paths["objectnet"]
    with pytest.raises(DataError, match=r"objectnet cannot be downloaded: .* fetch\.paths\.objectnet.*objectnet\.dev"):
        prepare(params, "objectnet")


@pytest.mark.parametrize("answers", [[[409], [1]], [[409], [1000], [1]], [[409], [], [1]], {"0": [1]}, [[409], 5, [1]]])
def test_answers_that_do_not_fit(params, answers):
    shards = prepare(params, "objectnet")
    write_json(shards / "answers.json", answers)
    with pytest.raises(
        DataError, match=r"answers\.json does not name ImageNet labels from 0 to 999 for every class$"
    ) as caught:
        label_space("objectnet", shards)
    assert told(caught.value).endswith(" every class: delete it and run dvc repro pack_set@objectnet")


def test_images_without_a_class(params):
    shards = prepare(params, "mine")
    path = shards / "index.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "class"] = None
    table.to_parquet(path, index=False)
    with pytest.raises(DataError, match=r"holds images without a class: leave the set out$"):
        label_space("mine", shards)
