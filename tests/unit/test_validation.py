"""What is measured while CLIP trains: on the right images, by the right formulas, leaving no trace in the model."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from domix.data.loading.samples import Opened
from domix.data.mixtures.mixture import Mixture
from domix.runtime.errors import DataError, Interrupted
from domix.runtime.tables import write_table
from domix.runtime.tracking.tracker import NullTracker
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.session import Validator
from domix.train.validation import subsets
from domix.train.validation.clip import Validation, evaluating, retrieval
from tests.tiny import CONFIG, make_job
from tests.unit.test_fit import DROPPING, stop_at

CLASSES = ["apple", "bear", "castle"]
PROMPTS = [f"a picture of a {name}." for name in CLASSES]
MEASURED = {
    "n_seen", "loss", "image_to_text_r1", "image_to_text_r5", "image_to_text_r10", "text_to_image_r1",
    "text_to_image_r5", "text_to_image_r10", "seen_top1", "seen_balanced_top1", "n_held_out", "held_out_top1",
    "held_out_balanced_top1", "held_out_balanced_top1_among_test",
}  # fmt: skip


def subset(count: int, *, labels: list[int] | None = None, captions: bool = True) -> subsets.Subset:
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count)).byte()
    chosen = np.array(labels if labels is not None else [row % 3 for row in range(count)])
    texts = [f"a drawing of a {CLASSES[label]}" for label in chosen] if captions else None
    return subsets.Subset(images, chosen, texts)


def make(**named: Any) -> Validation:
    given = {"prompts": PROMPTS, "test_labels": np.array([0, 2])} | named
    held_out = given.pop("held_out", subset(4, labels=[0, 2, 0, 2], captions=False))
    return Validation(CONFIG, given.pop("seen", subset(6)), held_out, **given)


def run(job: Job, folder: Path, validation: Validation | None, every: int = 3, **named: Any) -> Path:
    validator = validation and Validator(every, validation.measure)
    about = {"mixture": {"name": "m"}}
    make_validator = lambda: validator  # noqa: E731
    fit(job, out=folder / "model", resume=folder / "resume", about=about, make_validator=make_validator, **named)
    return folder / "model"


def curve(model: Path) -> list[dict[str, str]]:
    with open(model / "validation.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("config", "changes"),
    [(CONFIG, {"grad_checkpointing": True}), (CONFIG, {"accumulate": 2, "bn_group": 4}), (DROPPING, {})],
    ids=["checkpointing", "parts and groups", "vit with dropout"],
)
def test_a_training_is_the_same_bit_for_bit_with_and_without(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    job = make_job(config=config, samples=8 * 5, **changes)
    validation = Validation(config, subset(6), None, prompts=PROMPTS, test_labels=np.array([0]))
    torch.manual_seed(1)
    with_it = run(job, tmp_path / "with", validation, every=1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    without = run(job, tmp_path / "without", None)
    assert torch.equal(drawn, torch.rand(3))
    name = "model.safetensors"
    assert (with_it / name).read_bytes() == (without / name).read_bytes()
    assert len(curve(with_it)) == 5
    assert not (without / "validation.csv").exists()


def test_curves_are_written_and_told_with_a_last_row_and_their_numbers_change(tmp_path: Path) -> None:
    told: dict[str, list[int]] = {}

    class Listener(NullTracker):
        def metrics(self, values: Any, step: int) -> None:
            for name in values:
                told.setdefault(name, []).append(step)

    rows = curve(run(make_job(), tmp_path, make(), every=5, open_tracker=Listener))
    assert [row["step"] for row in rows] == ["5", "10", "12"]
    assert set(rows[0]) == MEASURED | {"step"}
    assert len({row["loss"] for row in rows}) == 3
    assert told["validation/loss"] == [5, 10, 12]
    assert {"validation/" + name for name in MEASURED} <= set(told)
    assert [(row["n_seen"], row["n_held_out"]) for row in rows] == [("6", "4")] * 3


def test_curves_resume_without_gaps_or_doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(make_job(), tmp_path / "whole", make())
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Interrupted):
            run(make_job(), tmp_path / "cut", make())
    told: list[int] = []

    class Listener(NullTracker):
        def metrics(self, values: Any, step: int) -> None:
            told.extend([step] * ("validation/loss" in values))

    resumed = run(make_job(), tmp_path / "cut", make(), open_tracker=Listener)
    assert (resumed / "validation.csv").read_bytes() == (whole / "validation.csv").read_bytes()
    assert told == [3, 6, 9, 12]


def test_measurements_that_begin_only_after_a_stop_leave_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Interrupted):
            run(make_job(), tmp_path, make(held_out=None))
    rows = curve(run(make_job(), tmp_path, make()))
    assert [row["n_held_out"] for row in rows] == ["", "", "4", "4"]


def test_the_model_is_left_module_by_module_as_it_was() -> None:
    model = make_job().task.build(0).train()
    model.visual.bn1.eval()  # frozen on purpose
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make().measure(model)
    assert model.training
    assert model.visual.layer1.training
    assert not model.visual.bn1.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not model.training
        _ = 1 / 0
    assert model.training


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_lower_precision_measures_nearly_the_same(precision: Any) -> None:
    model = make_job().task.build(0)
    exact = make().measure(model)
    lower = make(precision=precision, channels_last=True).measure(model)
    assert lower.keys() == exact.keys()
    assert lower["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert lower["loss"] != exact["loss"]


@pytest.mark.parametrize(
    ("named", "missing"),
    [
        ({"held_out": None}, {"held_out", "n_held_out"}),
        ({"seen": None}, {"n_seen", "loss", "image", "text", "seen"}),
        ({"prompts": []}, {"seen", "held_out"}),
        ({"seen": subset(6, captions=False)}, {"loss", "image", "text"}),
        ({"seen": replace(subset(6), labels=np.full(6, -1))}, {"seen"}),
    ],
)
def test_what_cannot_be_measured_is_left_out(named: dict[str, Any], missing: set[str]) -> None:
    found = make(**named).measure(make_job().task.build(0))
    gone = {name for name in MEASURED if name in missing or name.startswith(tuple(f"{part}_" for part in missing))}
    assert set(found) == MEASURED - gone


def test_a_model_that_has_diverged_finds_nothing_and_nothing_infinite_is_told() -> None:
    model = make_job().task.build(0)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    found = make().measure(model)
    assert "loss" not in found
    right = {name: value for name, value in found.items() if name.endswith(("r1", "top1"))}
    assert set(right.values()) == {0}
    assert len(right) == 6


def test_captions_that_read_alike_count_as_one_and_as_a_hit_for_each_of_their_images() -> None:
    image = np.eye(4, dtype=np.float32)
    text = np.array([[0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
    found = retrieval(image, text, np.array([0, 0, 1, 2]))
    assert (found["image_to_text_r1"], found["text_to_image_r1"]) == (1, 1)
    # The first caption now is nearest to the third image, and nearest of those of its own at the third place.
    found = retrieval(image, np.array([[0.1, 0, 0.7, 0.6], [0, 0, 1, 0], [0, 0, 0, 1]]), np.array([0, 0, 1, 2]))
    assert found["image_to_text_r1"] == 0.75  # the second image is as near to all captions: ties go against it
    assert found["text_to_image_r1"] == pytest.approx(2 / 3)
    assert found["text_to_image_r5"] == 1


def test_a_model_that_says_the_same_of_everything_gets_nothing_right() -> None:
    found = retrieval(np.ones((20, 2), np.float32), np.ones((20, 2), np.float32), np.arange(20))
    assert set(found.values()) == {0.0}


# -- which images


class Reader:
    """Stands for the shards of a source."""

    def read(self, row: int) -> bytes:
        raise AssertionError("not to be read")


def index(rows: list[tuple[str, str | None, int, str]], source: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["domain", "class", "label", "split"])
    return frame.assign(row=range(len(frame)), key=[f"{source}/{row}" for row in range(len(frame))])


MAIN = [
    (domain, name, label, split)
    for domain in ("real", "sketch")
    for label, name in enumerate(CLASSES)
    for split in ("train", "test", "test")
]
CORPUS: list[tuple[str, str | None, int, str]] = [("corpus", None, -1, s) for s in ("train", "test", "test")]


def cells_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(rows["domain"], rows["class"], strict=True))


def opened(shown: list[tuple[str, str]], *, corpus: bool = False, main: bool = True, **parameters: Any) -> Opened:
    """Return a mixture that holds the training images of some cells, and perhaps of a corpus without classes."""
    indices = {"emoji": index(MAIN, "emoji"), "corpus": index(CORPUS, "corpus")}
    indices = {name: frame for name, frame in indices.items() if (main if name == "emoji" else corpus)}
    train = [frame[frame["split"] == "train"].assign(source=name) for name, frame in indices.items()]
    parts = [frame[[cell in shown or cell[0] == "corpus" for cell in cells_of(frame)]] for frame in train]
    mixture = Mixture(
        name="m",
        alias="m",
        standard_name="m",
        caption="standard",
        domains=("real", "sketch"),
        held_out=None,
        parameters={"source": "emoji"} | parameters,
        samples=dict.fromkeys(indices, 1),
        rows=pd.DataFrame(),
    )
    readers: Any = {name: Reader() for name in indices}
    return Opened(mixture, pd.concat(parts), indices, readers, {})


TEST: dict[str, Any] = {"test_domain": "sketch", "test_classes": ["apple"]}
ALL = [(domain, name) for domain in ("real", "sketch") for name in CLASSES]


def test_seen_images_are_test_images_of_shown_cells_alone() -> None:
    shown = [("real", "apple"), ("sketch", "bear")]
    rows = subsets.choose_seen(opened(shown, corpus=True, **TEST), 100, 0)
    assert set(cells_of(rows)) == set(shown)
    assert set(rows["split"]) == {"test"}
    assert len(rows) == 4
    assert set(cells_of(subsets.choose_held_out(opened(shown, **TEST), 100, 0))) == {("sketch", "apple")}


def test_an_upper_bound_has_the_same_test_cells_and_does_not_count_them_as_seen() -> None:
    rows = subsets.choose_seen(opened(ALL, **TEST), 100, 0)
    assert set(cells_of(rows)) == set(ALL) - {("sketch", "apple")}
    assert set(cells_of(subsets.choose_held_out(opened(ALL, **TEST), 100, 0))) == {("sketch", "apple")}


def test_a_mixture_that_knows_no_test_domain_has_no_test_cells() -> None:
    natural = opened([("real", name) for name in CLASSES])
    assert subsets.choose_held_out(natural, 100, 0).empty
    assert set(cells_of(subsets.choose_seen(natural, 100, 0))) == {("real", name) for name in CLASSES}


@pytest.mark.parametrize("main", [True, False])
def test_without_shown_cells_the_other_sources_test_images_are_seen_without_classes(main: bool) -> None:
    rows = subsets.choose_seen(opened([], corpus=True, main=main, **TEST), 100, 0)
    assert rows["source"].tolist() == ["corpus"] * 2
    assert rows["label"].tolist() == [-1] * 2
    assert subsets.class_names(opened([], corpus=True, main=main)) == (CLASSES if main else [])


def test_no_test_images_at_all_are_no_error() -> None:
    assert subsets.choose_seen(opened([], **TEST), 100, 0).empty
    streamed = replace(opened(ALL, **TEST), readers={})  # the shards lie elsewhere
    assert subsets.choose_seen(streamed, 100, 0).empty
    assert subsets.choose_held_out(streamed, 100, 0).empty
    assert subsets.prepare(pd.DataFrame(), {}, size=32, threads=1) is None


def test_the_draw_is_bounded_and_depends_on_the_seed_alone() -> None:
    draws = [subsets.choose_seen(opened(ALL, **TEST), 4, seed)["row"].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 4
    assert draws[0] == sorted(draws[0])


def test_captions_are_found_by_key_and_a_missing_one_is_told(tmp_path: Path) -> None:
    rows = subsets.choose_seen(opened(ALL, **TEST), 100, 0)
    texts = [f"number {key}" for key in rows["key"]]
    table = pd.DataFrame({"key": rows["key"], "standard": texts, "aligned": "x"})
    write_table(tmp_path / "emoji.parquet", table.iloc[::-1])
    assert subsets.captions_of(rows, tmp_path, "standard") == texts
    write_table(tmp_path / "emoji.parquet", table.iloc[1:])
    with pytest.raises(DataError, match=f"no caption for '{rows['key'].iloc[0]}'"):
        subsets.captions_of(rows, tmp_path, "standard")
