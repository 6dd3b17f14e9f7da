"""The stage evaluate on every kind of model, over seeds and over checkpoints, against slow computations by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from domix.embed.embeddings import load_embeddings
from domix.embed.settings import PublicModel
from domix.evaluate.trajectories import final_epoch
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.runtime.tables import read_table
from domix.settings.load import load
from domix.settings.params import Params
from stages import evaluate
from tests.commands import told
from tests.fakes import make_index, write_embeddings

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [f"thing_{k:02d}" for k in range(10)]
TESTED = CLASSES[:6]
DOMAINS = ["clipart", "real", "sketch"]
TEST_IMAGES = {domain: [2] * 10 for domain in DOMAINS} | {"sketch": [0, *[3] * 9]}  # no sketch of the first class
INDEX = make_index({d: [1] * 10 for d in DOMAINS}, TEST_IMAGES, classes=CLASSES)
MIXTURES, SEEDS, EPOCHS = ["natural-only", "cg-low", "cg-high"], [0, 1, 2], [0, 3, 6]
SKILL = {"natural-only": 0.2, "cg-low": 0.4, "cg-high": 0.7}
EMBEDDINGS = Path("artifacts/embeddings")
PLACE = ["domain", "cells", "metric"]


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    summary = {"test_domain": "sketch", "natural_domain": "real", "domains": DOMAINS, "classes": CLASSES}
    named = [{"name": name, "standard_name": name} for name in MIXTURES]
    write_json(Path("artifacts/mixtures/summary.json"), summary | {"test_classes": TESTED, "mixtures": named})
    for number, (mixture, seed) in enumerate((m, s) for m in MIXTURES for s in SEEDS):
        write_run(EMBEDDINGS / "clip" / f"{mixture}-s{seed}", SKILL[mixture], number)
    return replace(
        loaded,
        mixtures=MIXTURES,
        seeds=SEEDS,
        models={"theirs": PublicModel(architecture=None, weights="theirs.pt")},
        supervised=replace(loaded.supervised, mixtures=["natural-only", "cg-high"]),
        evaluate=replace(loaded.evaluate, bootstrap=200, top_k=3),
    )


@pytest.fixture
def whole(params) -> Params:
    """Every kind of model is there."""
    write_run(EMBEDDINGS / "public" / "theirs", 0.9, 50)
    for number, (mixture, seed) in enumerate((m, s) for m in params.supervised.mixtures for s in SEEDS):
        write_classifier(EMBEDDINGS / "supervised" / f"{mixture}-s{seed}", SKILL[mixture], 60 + number)
    return params


@pytest.fixture
def clip_alone(params) -> Params:
    return replace(params, models={}, supervised=replace(params.supervised, mixtures=[]))


def write_run(folder: Path, skill: float, seed: int) -> None:
    write_embeddings(folder, INDEX, right=lambda domain, name: skill, seed=seed)


def write_classifier(folder: Path, skill: float, seed: int) -> None:
    """Write a run's scores in place of its embeddings."""
    write_run(folder, skill, seed)
    made = load_embeddings(folder)
    np.save(folder / "scores.npy", made.image_embeddings @ made.text.T)
    for name in ("image.npy", "text.npy", "layers.safetensors"):
        (folder / name).unlink()


def keep_checkpoints(folder: Path, *, epochs: int) -> None:
    """Add checkpoints of growing skill to a run; the last is the last weights', if these came after `epochs`."""
    final = load_embeddings(folder)
    for epoch in EPOCHS:
        other = folder.with_name("other")
        write_run(other, 0.1 * epoch, 100 + epoch)
        made = final if epoch == epochs else load_embeddings(other)
        where = folder / "checkpoints" / f"{epoch:03d}"
        where.mkdir(parents=True)
        np.save(where / "image.npy", made.image_embeddings.astype(np.float16))
        np.save(where / "text.npy", made.text)
        shutil.rmtree(other)
    write_json(folder / "meta.json", read_json(folder / "meta.json") | {"epochs": epochs})


def table(name: str) -> pd.DataFrame:
    return read_table(Path("artifacts/eval") / f"{name}.parquet")


def by_hand(said: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Compute the balanced accuracies of one model from its predictions."""
    values = {}
    for domain, here in said.groupby("domain"):
        tested = here["class"].isin(TESTED)
        special = "held_out" if domain == "sketch" else "tested"
        for cells, part in ((special, here[tested]), ("seen", here[~tested]), ("all", here)):
            for metric, k in (("balanced_top1", 1), ("balanced_top3", 3)):
                right = part["rank"] <= k
                values[str(domain), cells, metric] = right.groupby(part["class"]).mean().mean()
    return values


def test_every_kind_of_model_is_in_the_tables_under_its_name(whole):
    evaluate.main(whole)
    wanted = {("clip", m, s) for m in MIXTURES for s in SEEDS} | {("public", "theirs", 0)}
    wanted |= {("supervised", m, s) for m in ("natural-only", "cg-high") for s in SEEDS}
    for name in ("metrics", "per_class", "predictions"):
        made = table(name)
        assert set(zip(made["kind"], made["mixture"], made["seed"], strict=True)) == wanted
    over = table("mixtures").drop_duplicates(["kind", "mixture"])
    assert dict(zip(zip(over["kind"], over["mixture"], strict=True), over["seeds"], strict=True)) == {
        (kind, mixture): 1 if kind == "public" else 3 for kind, mixture, _ in wanted
    }
    for name in ("paired", "comparisons", "curves"):
        assert set(table(name)["kind"]) == {"clip", "supervised"}


def test_a_classifiers_tables_are_those_of_its_scores(whole):
    """The same scores, as embeddings or as logits, are the same predictions."""
    write_run(EMBEDDINGS / "clip" / "cg-high-s0", 0.5, 77)
    write_classifier(EMBEDDINGS / "supervised" / "cg-high-s0", 0.5, 77)
    evaluate.main(whole)
    said = table("predictions").query("mixture == 'cg-high' and seed == 0")
    clip, supervised = (said[said["kind"] == kind].reset_index(drop=True) for kind in ("clip", "supervised"))
    pd.testing.assert_frame_equal(clip.drop(columns="kind"), supervised.drop(columns="kind"))


def test_estimates_over_seeds_are_means_and_intervals_cover_them(clip_alone):
    evaluate.main(clip_alone)
    over, said = table("mixtures"), table("predictions")
    values = {run: by_hand(part) for run, part in said.groupby(["mixture", "seed"])}
    for row in over[over["metric"].isin(["balanced_top1", "balanced_top3"])].to_dict("records"):
        place = (row["domain"], row["cells"], row["metric"])
        assert row["estimate"] == pytest.approx(np.mean([values[row["mixture"], s][place] for s in SEEDS]))
        assert row["low"] <= row["estimate"] <= row["high"]
    assert (over["seeds"] == 3).all() and (over["checkpoints"] == 1).all()
    single = table("metrics").groupby(["mixture", *PLACE])["estimate"].mean()
    merged = over.set_index(["mixture", *PLACE])["estimate"]
    pd.testing.assert_series_equal(merged.sort_index(), single.sort_index())


def test_seeds_that_differ_widen_the_intervals_of_estimates_and_differences(clip_alone):
    for seed, skill in zip(SEEDS, (0.1, 0.5, 0.9), strict=True):
        write_run(EMBEDDINGS / "clip" / f"cg-high-s{seed}", skill, 200 + seed)
    evaluate.main(clip_alone)
    chosen = "mixture == 'cg-high' and domain == 'real' and cells == 'all' and metric == 'balanced_top1'"
    single, over = table("metrics").query(chosen), table("mixtures").query(chosen)
    change = table("comparisons").query(f"{chosen} and baseline == 'natural-only'")
    widths = [(frame["high"] - frame["low"]).mean() for frame in (single, over, change)]
    assert widths[1] > 1.3 * widths[0] and widths[2] > 1.3 * widths[0]


@pytest.mark.parametrize(("meta", "kept", "expected"), [({}, [], 0), ({}, [0, 6], 7), ({"epochs": 9}, [0, 6], 9)])
def test_last_weights_come_after_those_that_were_kept(meta, kept, expected):
    assert final_epoch(meta, kept) == expected


def test_with_one_seed_a_mixture_is_its_model(clip_alone):
    evaluate.main(replace(clip_alone, seeds=[1]))
    metrics, over = table("metrics"), table("mixtures")
    columns = ["kind", "mixture", *PLACE, "estimate", "low", "high", "n", "n_classes", "chance", "method"]
    pd.testing.assert_frame_equal(metrics[columns], over[columns])
    assert (over["seeds"] == 1).all()


def test_comparisons_are_differences_of_means_over_seeds_corrected_in_their_family(clip_alone):
    evaluate.main(clip_alone)
    made, over = table("comparisons"), table("mixtures").set_index(["mixture", *PLACE])["estimate"]
    pairs = set(zip(made["mixture"], made["baseline"], strict=True))
    assert pairs == {("cg-low", "natural-only"), ("cg-high", "natural-only"), ("cg-high", "cg-low")}
    for row in made.to_dict("records"):
        ours, theirs = (over[row[name], row["domain"], row["cells"], row["metric"]] for name in ("mixture", "baseline"))
        assert row["difference"] == pytest.approx(ours - theirs)
        assert row["low"] <= row["difference"] <= row["high"]
    assert (made["detectable"] > 0).all() and (made["seeds"] == 3).all()
    families = made.groupby(["domain", "cells", "metric"])
    assert set(families.size()) == {3}
    for _, family in families:
        np.testing.assert_allclose(family["p_holm"], multipletests(family["p_value"], method="holm")[1])
    assert set(made["domain"]) == {"real", "sketch"}


def test_a_class_without_test_images_is_in_no_mean(clip_alone):
    evaluate.main(clip_alone)
    for name in ("metrics", "mixtures", "comparisons", "curves"):
        classes = table(name).groupby(["domain", "cells"])["n_classes"].unique()
        assert classes["sketch", "held_out"].tolist() == [5]
        assert classes["real", "tested"].tolist() == [6]
    assert CLASSES[0] not in set(table("per_class").query("domain == 'sketch'")["class"])


def test_curves_follow_the_checkpoints_and_end_in_the_metrics(clip_alone):
    folder = EMBEDDINGS / "clip" / "cg-high-s1"
    keep_checkpoints(folder, epochs=8)
    evaluate.main(clip_alone)
    curves = table("curves").query("mixture == 'cg-high' and seed == 1")
    assert curves["checkpoint"].drop_duplicates().tolist() == [*EPOCHS, 8]
    held_out = curves.query("cells == 'held_out' and metric == 'balanced_top1'").set_index("checkpoint")["estimate"]
    assert held_out[0] < held_out[6]
    metrics = table("metrics").query("mixture == 'cg-high' and seed == 1")
    last = curves[curves["checkpoint"] == 8]
    columns = [*PLACE, "estimate", "n", "n_classes"]
    pd.testing.assert_frame_equal(last[columns].reset_index(drop=True), metrics[columns].reset_index(drop=True))
    counts = table("curves_per_class").query("mixture == 'cg-high' and seed == 1")
    here = counts[counts["domain"] == "sketch"]
    means = (here["correct"] / here["n"]).groupby(here["checkpoint"]).mean()
    pd.testing.assert_series_equal(means, held_out, check_names=False)
    assert set(counts["domain"]) == {"real", "sketch"} and set(counts["class"]) <= set(TESTED)


def test_weights_that_were_kept_at_the_end_count_once(clip_alone):
    keep_checkpoints(EMBEDDINGS / "clip" / "cg-high-s1", epochs=6)
    evaluate.main(clip_alone)
    curves = table("curves").query("mixture == 'cg-high' and seed == 1")
    assert curves["checkpoint"].drop_duplicates().tolist() == EPOCHS
    for name in ("curves", "curves_per_class"):
        keys = [key for key in ("kind", "mixture", "seed", "checkpoint", *PLACE, "class") if key in table(name)]
        assert not table(name).duplicated(keys).any()


def test_the_last_checkpoints_are_averaged(clip_alone):
    for mixture in MIXTURES:
        for seed in SEEDS:
            keep_checkpoints(EMBEDDINGS / "clip" / f"{mixture}-s{seed}", epochs=8)
    evaluate.main(replace(clip_alone, evaluate=replace(clip_alone.evaluate, last=2)))
    over, curves = table("mixtures"), table("curves")
    assert (over["checkpoints"] == 2).all() and (table("comparisons")["checkpoints"] == 2).all()
    wanted = curves[curves["checkpoint"] >= 6].groupby(["mixture", *PLACE])["estimate"].mean()
    merged = over.set_index(["mixture", *PLACE])["estimate"]
    pd.testing.assert_series_equal(merged.sort_index(), wanted.sort_index())
    final = curves[curves["checkpoint"] == 8].set_index(["mixture", "seed", *PLACE])["estimate"]
    single = table("metrics").set_index(["mixture", "seed", *PLACE])["estimate"]
    pd.testing.assert_series_equal(single, final)


def test_too_few_checkpoints_to_average_are_an_error(clip_alone):
    asked = replace(clip_alone, evaluate=replace(clip_alone.evaluate, last=3))
    with pytest.raises(DataError, match=r"^evaluate\.last, train\.checkpoints, embed\.checkpoints: the last 3 "):
        evaluate.main(asked)


def test_an_unfinished_study_names_the_run_and_the_stage(params):
    with pytest.raises(DataError, match=r"supervised/natural-only-s0 is missing$") as caught:
        evaluate.main(params)
    assert told(caught.value).endswith(": run dvc repro embed_supervised@natural-only-0")
    with pytest.raises(DataError, match=r"public/theirs is missing$") as caught:
        evaluate.main(replace(params, supervised=replace(params.supervised, mixtures=[])))
    assert told(caught.value).endswith(": run dvc repro embed_public@theirs")
    assert not Path("artifacts/eval").exists()


def test_scores_that_are_no_numbers_are_refused(whole):
    path = EMBEDDINGS / "supervised" / "cg-high-s2" / "scores.npy"
    scores = np.load(path)
    scores[7, 3] = np.nan
    np.save(path, scores)
    with pytest.raises(DataError, match=r"cg-high-s2 holds NaN or infinite values, as after a training that diverged"):
        evaluate.main(whole)
