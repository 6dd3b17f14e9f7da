"""The analyses outliers, directions and pruning on a small project: what they read, and what their tables hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy

from domix.analyses.contract import RunInputs
from domix.analyses.model_facts import cell_groups
from domix.encoders.encoder import ImageEncoder
from domix.evaluate.metrics import balanced_accuracy
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.signature.directions import cosines, head_directions, head_importance
from domix.signature.outliers import large_features, outlier_features
from domix.signature.pruning import pruned_head, pruning_order
from tests.embedded_run import inputs_of, run_analysis, write_embedded_run
from tests.tiny import WORDS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 images, half of them for the test, a model of seed 3, and embeddings of two checkpoints and the last."""
    home = tmp_path_factory.mktemp("project")
    write_embedded_run(home, checkpoints=(2, 5), epochs=7)
    return home


@pytest.fixture
def inputs(project: Path, tmp_path: Path) -> RunInputs:
    return inputs_of(project, tmp_path / "cache")


def run(name: str, inputs: RunInputs, **settings: object) -> dict[str, pd.DataFrame]:
    return run_analysis(name, inputs, **settings)


def test_the_output_is_measured_domain_by_domain_at_every_checkpoint(inputs: RunInputs, project: Path) -> None:
    found = run("outliers", inputs, sites=[], deviations=2.0)
    assert found["sites"].empty and found["features"].empty
    table = found["output"].set_index(["checkpoint", "images"])
    assert list(table.index) == [(epoch, name) for epoch in (2, 5, 7) for name in ("all", "real", "sketch")]
    assert table["n"].tolist() == [72, 36, 36] * 3
    home, domain = project / "artifacts/embeddings/clip/tiny-s3", inputs.embeddings.rows["domain"].to_numpy()
    for epoch, path in ((2, home / "checkpoints/002/image.npy"), (7, home / "image.npy")):
        values = np.load(path).astype(np.float64)
        want = scipy.stats.kurtosis(values, axis=1, fisher=False)
        row = table.loc[(epoch, "sketch")]
        assert row["kurtosis"] == pytest.approx(want[domain == "sketch"].mean())
        assert row["median"] == pytest.approx(np.median(want[domain == "sketch"]))
        assert row["standard_error"] == pytest.approx(scipy.stats.sem(want[domain == "sketch"]))
        outlying = outlier_features(values[domain == "sketch"], 2.0)
        assert (row["outliers"], row["norm_share"]) == (len(outlying.indices), pytest.approx(outlying.norm_share))
    assert table["outliers"].max() > 0


def test_sites_are_measured_before_training_at_every_checkpoint_and_after(inputs: RunInputs) -> None:
    """Before and after are the same here, since the model has not been trained; checkpoints are other models."""
    asked = {"sites": ["layer2.0", "attnpool"], "images": 20, "deviations": 1.5, "magnitude": 0.01, "frequency": 0.5}
    found = run("outliers", inputs, **asked)
    sites = found["sites"]
    assert list(zip(*(sites[name] for name in ("weights", "checkpoint", "site", "images")), strict=True)) == [
        (weights, epochs, site, images)
        for weights, epochs in (("initial", 0), ("kept", 2), ("kept", 5), ("last", 7))
        for site in ("layer2.0", "attnpool")
        for images in ("all", "real", "sketch")
    ]
    assert sites["n"].tolist() == [40, 20, 20] * 8
    one, other = (
        sites[sites["weights"] == weights].drop(columns=["weights", "checkpoint"]).reset_index(drop=True)
        for weights in ("initial", "last")
    )
    pd.testing.assert_frame_equal(one, other)
    moved = run("outliers", replace(inputs, run=Run("clip", "tiny", 3)), **asked, seed=1)["sites"]
    assert not np.allclose(moved["kurtosis"], sites["kurtosis"])

    images = inputs.test_images()
    values = at_site(inputs.model.encoder, inputs, images)
    whole = run("outliers", inputs, **(asked | {"images": 100}))
    table = whole["sites"].set_index(["checkpoint", "site", "images"])["kurtosis"]
    for epochs in (2, 5):  # which are of the seeds 12 and 15
        wanted = scipy.stats.kurtosis(at_site(inputs.model.initial(epochs + 10), inputs, images), axis=1, fisher=False)
        assert table[epochs, "layer2.0", "all"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert set(whole["features"]["checkpoint"]) == {0, 2, 5, 7}
    row = whole["sites"].set_index(["weights", "site", "images"]).loc[("last", "layer2.0", "all")]
    outlying = outlier_features(values, 1.5)
    assert row["width"] == values.shape[1] and row["outliers"] == len(outlying.indices)
    assert row["large"] == len(large_features(values, 0.01, 0.5))
    assert row["kurtosis"] == pytest.approx(scipy.stats.kurtosis(values, axis=1, fisher=False).mean(), rel=1e-5)
    features = whole["features"]
    mine = features[(features["weights"] == "last") & (features["site"] == "layer2.0")]
    assert mine["feature"].tolist() == outlying.indices.tolist() != []
    np.testing.assert_allclose(mine["mean_absolute"], outlying.mean_absolute[outlying.indices], rtol=1e-5)
    np.testing.assert_allclose(mine["times_mean"], mine["mean_absolute"] / outlying.mean_absolute.mean(), rtol=1e-5)


def at_site(encoder: ImageEncoder, inputs: RunInputs, images: pd.DataFrame) -> np.ndarray:
    """Return activations of the site layer2.0, averaged over positions."""
    batches = inputs.model.batches("emoji", images)
    return np.concatenate([encoder.forward(part, ["layer2.0"], pooled=True).sites["layer2.0"] for part in batches])


def test_untrained_weights_that_were_kept_count_once_and_lost_ones_are_named(tmp_path: Path) -> None:
    write_embedded_run(tmp_path, checkpoints=(0, 4), epochs=9)
    inputs, asked = inputs_of(tmp_path, tmp_path / "cache"), {"sites": ["layer2.0"], "images": 20}
    sites = run("outliers", inputs, **asked)["sites"]
    assert sites["checkpoint"].tolist() == [0] * 3 + [4] * 3 + [9] * 3
    assert sites["weights"].unique().tolist() == ["initial", "kept", "last"]
    path = tmp_path / "artifacts/models/clip/tiny-s3/checkpoints/epoch_004.safetensors"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(DataError, match=r"epoch_004\.safetensors are damaged"):
        run("outliers", inputs, **asked)
    path.unlink()
    with pytest.raises(DataError, match=r"tiny-s3 keeps no weights after 4 epochs$"):
        run("outliers", inputs, **asked)


def test_initial_weights_are_those_of_the_runs_seed(project: Path, inputs: RunInputs, tmp_path: Path) -> None:
    other = Run("clip", "tiny", 4)
    for kind in ("models", "embeddings"):
        link = project / f"artifacts/{kind}/clip/tiny-s4"
        if not link.exists():
            link.symlink_to("tiny-s3")
    moved = replace(inputs, run=other, cache=tmp_path / "other")
    sites = run("outliers", moved, sites=["layer4.0"], images=20)["sites"].set_index("weights")["kurtosis"]
    assert not np.allclose(sites["initial"], sites["last"])


def test_a_site_that_the_model_lacks_and_a_dead_one_are_named(inputs: RunInputs, monkeypatch) -> None:
    with pytest.raises(DataError, match=r"^the model has no site 'layer2\.1': did you mean"):
        run("outliers", inputs, sites=["layer2.1"])

    from domix.analyses.outliers import computation

    found = list(computation.activations_of(inputs, inputs.test_images(), ["layer2.0"]))
    for number, which in ((0, "initial weights"), (1, "kept weights after 2 epochs"), (3, "last weights")):
        when, site, values = found[number]
        dead = (when, site, np.zeros_like(values))
        monkeypatch.setattr(computation, "activations_of", lambda *_, dead=dead: [dead])
        says = rf"^site layer2\.0 of tiny seed 3, {which}: all components of the activation are equal for every"
        with pytest.raises(DataError, match=says):
            run("outliers", inputs)


def test_images_that_a_site_is_dead_for_are_left_out_and_counted(inputs: RunInputs, monkeypatch, caplog) -> None:
    from domix.analyses.outliers import computation

    when, site, values = next(computation.activations_of(inputs, inputs.test_images(), ["layer2.0"]))
    dead = values.copy()
    dead[[0, 7]] = 0.25
    monkeypatch.setattr(computation, "activations_of", lambda *_: [(when, site, dead)])
    sites = run("outliers", inputs)["sites"].set_index("images")
    alive = np.delete(values, [0, 7], axis=0)
    assert sites.loc["all", "n"] == len(alive)
    assert sites.loc["all", "kurtosis"] == pytest.approx(scipy.stats.kurtosis(alive, axis=1, fisher=False).mean())
    assert f"2 of {len(values)} images are left out" in caplog.text


@pytest.mark.parametrize("images", ["natural", "all"])
def test_directions_are_those_of_the_prototypes_and_the_images_asked_for(inputs: RunInputs, images: str) -> None:
    found = run("directions", inputs, images=images, deviations=1.0)
    embeddings = inputs.embeddings
    domain = embeddings.rows["domain"].to_numpy()
    values = embeddings.image_embeddings[(domain == "real") | (images == "all")]
    table, directions = found["directions"], head_directions(embeddings.text)
    along = cosines(directions, values)
    np.testing.assert_allclose(table["singular_value"], directions.singular_values)
    for kind in ("abs_mean", "mean_abs"):
        np.testing.assert_allclose(table[kind], head_importance(embeddings.text, values, kind))
    np.testing.assert_allclose(table["cosine_with_mean"], along.with_mean)
    assert table["axis"].tolist() == abs(directions.right).argmax(axis=1).tolist()
    outliers = outlier_features(values, 1.0).indices
    np.testing.assert_allclose(table["outlier_component"], abs(directions.right[:, outliers]).max(axis=1))
    summary = found["summary"].set_index("importance")
    top = table.loc[table["mean_abs"].idxmax()]
    row = summary.loc["mean_abs"]
    assert (row["images"], row["width"], row["rank"]) == (len(values), 16, len(table))
    assert (row["top"], row["direction"]) == (pytest.approx(top["mean_abs"]), top["direction"])
    assert row["max_to_mean"] == pytest.approx(top["mean_abs"] / table["mean_abs"].mean())
    assert row["outlier_component"] == pytest.approx(top["outlier_component"])
    assert row["outliers"] == len(outliers) > 0
    assert found["directions"]["outlier_component"].notna().all()
    none = run("directions", inputs)
    assert none["summary"]["outliers"].eq(0).all() and none["directions"]["outlier_component"].isna().all()


def test_too_few_natural_images_are_told(inputs: RunInputs) -> None:
    rows = inputs.embeddings.rows
    rows.loc[rows.index >= 3, "domain"] = "sketch"
    for name in ("directions", "pruning"):
        with pytest.raises(DataError, match=r"^there are 2 images for the head's \d+ directions"):
            run(name, inputs)


def test_what_is_known_of_a_model(inputs: RunInputs) -> None:
    facts = run("directions", inputs)["models"].iloc[0]
    assert facts["domains"] == 2
    embeddings = inputs.embeddings
    label, rows = embeddings.rows["label"].to_numpy(), embeddings.rows
    right = (embeddings.image_embeddings @ embeddings.text.T).argmax(axis=1) == label
    test, sketch = rows["class"].isin(WORDS[:2]).to_numpy(), (rows["domain"] == "sketch").to_numpy()
    wanted = {"held_out": test & sketch, "seen": ~test & sketch, "natural": ~sketch, "natural_tested": ~sketch & test}
    groups = cell_groups(inputs.study, rows)
    for name, inside in wanted.items():
        assert groups[name].tolist() == inside.tolist()
        assert facts[name] == pytest.approx(balanced_accuracy(label[inside], right[inside]))


def test_pruned_heads_are_judged_one_by_one(inputs: RunInputs) -> None:
    found = run("pruning", inputs, percent=[0, 50, 90], draws=2, seed=5)
    curves = found["curves"]
    embeddings, groups = inputs.embeddings, cell_groups(inputs.study, inputs.embeddings.rows)
    label, directions = embeddings.rows["label"].to_numpy(), head_directions(embeddings.text)
    total = len(directions.right)
    values = head_importance(embeddings.text, embeddings.image_embeddings[groups["natural"]])
    orders = {"importance": pruning_order(values), "singular value": pruning_order(directions.singular_values)}
    for order, first in orders.items():
        for percent in (0, 50, 90):
            kept = total - percent * total // 100
            scores = embeddings.image_embeddings @ pruned_head(directions, first[total - kept :]).T
            right = scores.argmax(axis=1) == label
            rows = curves[(curves["order"] == order) & (curves["percent"] == percent)].set_index("cells")
            assert rows["kept"].unique().tolist() == [kept] and rows["draw"].unique().tolist() == [0]
            for cells, here in groups.items():
                want = balanced_accuracy(label[here], right[here])
                assert rows.loc[cells, "accuracy"] == pytest.approx(want) and rows.loc[cells, "n"] == here.sum()
    random = curves[curves["order"] == "random"]
    assert sorted(random["draw"].unique()) == [0, 1]
    pd.testing.assert_frame_equal(curves, run("pruning", inputs, percent=[0, 50, 90], draws=2, seed=5)["curves"])


def test_the_whole_head_is_judged_at_every_checkpoint(inputs: RunInputs, project: Path) -> None:
    table = run("pruning", inputs, draws=1)["checkpoints"].set_index(["checkpoint", "cells"])
    groups, label = cell_groups(inputs.study, inputs.embeddings.rows), inputs.embeddings.rows["label"].to_numpy()
    assert set(table.index.get_level_values("checkpoint")) == {2, 5, 7}
    home = project / "artifacts/embeddings/clip/tiny-s3"
    for epoch, folder in ((5, home / "checkpoints/005"), (7, home)):
        scores = np.load(folder / "image.npy").astype(np.float32) @ np.load(folder / "text.npy").T
        right = scores.argmax(axis=1) == label
        for cells, here in groups.items():
            want = balanced_accuracy(label[here], right[here])
            assert table.loc[(epoch, cells), "accuracy"] == pytest.approx(want)
