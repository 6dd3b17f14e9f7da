"""The stage evaluate, from made-up embeddings to the tables of single models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import sklearn.metrics

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
CLASSES = [f"thing_{k}" for k in range(30)]
TESTED = CLASSES[:12]
INDEX = make_index({d: [1] * 30 for d in ("clipart", "real", "sketch")}, 3, classes=CLASSES)
ACCURACY = {"natural-only": 0.0, "leave-out-domain": 0.4, "cg-low": 0.3, "cg-high": 0.5, "cg-high-all": 1.0}
RUN = ["kind", "mixture", "seed"]
METRIC_COLUMNS = [*RUN, "domain", "cells", "metric", "estimate", "low", "high", "n", "n_classes", "chance", "method"]
TABLES = ("metrics", "per_class", "paired", "predictions")


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    summary = {
        "test_domain": "sketch",
        "natural_domain": "real",
        "domains": ["clipart", "real", "sketch"],
        "classes": CLASSES,
        "test_classes": TESTED,
        "mixtures": [{"name": name, "standard_name": name} for name in ACCURACY],
    }
    write_json(Path("artifacts/mixtures/summary.json"), summary)
    for mixture in ACCURACY:
        for seed in (0, 1):
            write_run(mixture, seed)
    return replace(
        loaded, mixtures=list(ACCURACY), seeds=[0, 1], evaluate=replace(loaded.evaluate, bootstrap=400, top_k=5)
    )


def write_run(mixture: str, seed: int, index: pd.DataFrame = INDEX) -> None:
    def right(domain: str, name: str) -> float:
        return ACCURACY[mixture] if domain == "sketch" and name in TESTED else 0.8

    folder = Path("artifacts/embeddings/clip") / f"{mixture}-s{seed}"
    write_embeddings(folder, index, right=right, seed=seed + 10 * list(ACCURACY).index(mixture))


def tables() -> dict[str, pd.DataFrame]:
    return {name: read_table(Path("artifacts/eval") / f"{name}.parquet") for name in TABLES}


def test_the_tables_have_the_contracts_columns_and_one_row_for_everything_asked(params):
    evaluate.main(params)
    made = tables()
    runs, cells = 5 * 2, [("held_out", "sketch"), ("tested", "clipart"), ("tested", "real")]
    metrics = made["metrics"]
    assert list(metrics.columns) == METRIC_COLUMNS
    common = {"balanced_top1", "balanced_top5", "top1", "macro_f1"}
    groups = {*cells, *((k, d) for k in ("seen", "all") for d in ("clipart", "real", "sketch"))}
    for kind, domain in groups:
        part = metrics[(metrics["domain"] == domain) & (metrics["cells"] == kind)]
        wanted = common | ({"balanced_top1_among_test"} if (kind, domain) in cells else set())
        assert set(part["metric"]) == wanted and len(part) == runs * len(wanted)
    assert set(zip(metrics["cells"], metrics["domain"], strict=True)) == groups
    assert len(made["per_class"]) == runs * 3 * 30
    assert len(made["predictions"]) == runs * len(INDEX[INDEX["split"] == "test"])
    columns = [*RUN, "domain", "class", "held_out", "n", "correct", "accuracy", "low", "high"]
    assert list(made["per_class"].columns) == columns
    assert list(made["predictions"].columns) == [*RUN, "row", "domain", "class", "predicted", "rank"]
    assert list(made["paired"].columns)[:7] == ["kind", "seed", "domain", "cells", "metric", "mixture", "baseline"]
    assert metrics["mixture"].drop_duplicates().tolist() == list(ACCURACY)


def test_metrics_follow_from_the_predictions(params):
    evaluate.main(params)
    made = tables()
    said = made["predictions"].query("mixture == 'cg-high' and seed == 1")
    here = said[(said["domain"] == "sketch") & said["class"].isin(TESTED)]
    metrics = made["metrics"].query("mixture == 'cg-high' and seed == 1 and domain == 'sketch' and cells == 'held_out'")
    value = metrics.set_index("metric")["estimate"]
    arguments = {"labels": TESTED, "average": "macro", "zero_division": 0}
    assert value["top1"] == pytest.approx(sklearn.metrics.accuracy_score(here["class"], here["predicted"]))
    assert value["balanced_top1"] == pytest.approx(
        sklearn.metrics.recall_score(here["class"], here["predicted"], **arguments)
    )
    assert value["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(here["class"], here["predicted"], **arguments))
    assert value["balanced_top5"] == pytest.approx((here["rank"] <= 5).groupby(here["class"]).mean().mean())
    assert value["balanced_top1_among_test"] >= value["balanced_top1"]
    by_class = made["per_class"].query("mixture == 'cg-high' and seed == 1 and held_out")
    assert by_class["accuracy"].mean() == pytest.approx(value["balanced_top1"])
    assert by_class["n"].sum() == metrics["n"].iloc[0] == 36
    assert ((said["rank"] == 1) == (said["predicted"] == said["class"])).all()


def test_intervals_surround_their_estimates_and_say_how_they_were_got(params):
    evaluate.main(params)
    metrics = tables()["metrics"]
    plain = metrics[metrics["metric"] != "macro_f1"]
    assert (plain["low"] <= plain["estimate"]).all() and (plain["estimate"] <= plain["high"]).all()
    assert (plain["high"] - plain["low"] > 0.01).all()
    assert (metrics.loc[metrics["metric"] == "macro_f1", "method"] == "none").all()
    assert metrics.loc[metrics["metric"] == "macro_f1", ["low", "high", "chance"]].isna().all(axis=None)
    ends = plain[(plain["cells"] == "held_out") & (plain["metric"] == "balanced_top1")].set_index("mixture")
    assert (ends.loc["natural-only", "method"] == "clopper-pearson").all()
    assert (ends.loc["cg-high-all", "method"] == "clopper-pearson").all()
    assert (ends.loc["cg-high", "method"] == "bootstrap").all()


def test_chance_is_that_of_guessing(params):
    evaluate.main(params)
    chance = tables()["metrics"].groupby("metric")["chance"].unique()
    assert chance["top1"].tolist() == chance["balanced_top1"].tolist() == [1 / 30]
    assert chance["balanced_top5"].tolist() == [5 / 30]
    assert chance["balanced_top1_among_test"].tolist() == [1 / 12]


def test_every_mixture_is_compared_with_each_baseline_on_the_held_out_cells(params):
    evaluate.main(params)
    paired, metrics = tables()["paired"], tables()["metrics"]
    assert set(paired["baseline"]) == {"natural-only", "leave-out-domain", "cg-low", "cg-high-all"}
    assert set(zip(paired["domain"], paired["cells"], strict=True)) == {("sketch", "held_out")}
    assert len(paired) == 2 * 4 * 4 * 3
    assert not paired.duplicated(["seed", "metric", "mixture", "baseline"]).any()
    value = metrics[metrics["cells"] == "held_out"].set_index(["seed", "metric", "mixture"])["estimate"]
    for row in paired.to_dict("records"):
        ours, theirs = (value[row["seed"], row["metric"], row[name]] for name in ("mixture", "baseline"))
        assert row["difference"] == pytest.approx(ours - theirs)
        assert row["low"] <= row["difference"] <= row["high"]
    assert (paired["p_holm"] >= paired["p_value"]).all()
    clear = paired.query("mixture == 'cg-high-all' and baseline == 'natural-only' and metric == 'balanced_top1'")
    assert (clear["p_holm"] < 0.05).all() and (clear["low"] > 0.5).all()


def test_without_a_baseline_there_are_no_comparisons(params):
    evaluate.main(replace(params, mixtures=["cg-high"], seeds=[0]))
    made = tables()
    assert made["paired"].empty
    assert "p_value" in made["paired"].columns
    assert set(made["metrics"]["mixture"]) == {"cg-high"}


def test_names_of_the_reference_serve_as_baselines_too(params):
    path = Path("artifacts/mixtures/summary.json")
    summary = read_json(path)
    summary["mixtures"].append({"name": "lso-real-only", "standard_name": "natural-only"})
    write_json(path, summary)
    old = Path("artifacts/embeddings/clip/natural-only-s0")
    old.rename(old.with_name("lso-real-only-s0"))
    evaluate.main(replace(params, mixtures=["lso-real-only", "cg-high"], seeds=[0]))
    assert set(tables()["paired"]["baseline"]) == {"lso-real-only"}


def test_a_second_run_writes_the_same_bytes_and_another_seed_other_intervals(params):
    evaluate.main(params)
    before = {name: (Path("artifacts/eval") / f"{name}.parquet").read_bytes() for name in TABLES}
    first = tables()["metrics"]
    evaluate.main(params)
    assert {name: (Path("artifacts/eval") / f"{name}.parquet").read_bytes() for name in TABLES} == before
    evaluate.main(replace(params, evaluate=replace(params.evaluate, seed=9)))
    second = tables()["metrics"]
    assert first["estimate"].equals(second["estimate"])
    assert not first["low"].equals(second["low"])


def test_a_run_keeps_its_numbers_when_others_join(params):
    evaluate.main(replace(params, mixtures=["cg-high"], seeds=[0]))
    alone = tables()["metrics"]
    evaluate.main(params)
    together = tables()["metrics"].query("mixture == 'cg-high' and seed == 0").reset_index(drop=True)
    columns = ["estimate", "low", "high"]
    pd.testing.assert_frame_equal(together[columns], alone[columns])


def test_embeddings_that_do_not_fit_are_refused_and_nothing_is_written(params):
    shorter = INDEX.drop(INDEX[INDEX["split"] == "test"].index[0]).reset_index(drop=True)
    write_run("cg-high", 1, shorter)
    with pytest.raises(DataError, match="natural-only seed 0 and cg-high seed 1 were tested on different images"):
        evaluate.main(params)
    write_run("cg-high", 1, make_index({"sketch": [1] * 31}))
    with pytest.raises(DataError, match=r"cg-high-s1 has other classes or domains than the study$"):
        evaluate.main(params)
    with pytest.raises(DataError, match="does not describe the mixture 'cg-low-all'"):
        evaluate.main(replace(params, mixtures=["cg-low-all"]))
    with pytest.raises(DataError, match="cg-high-s7 is missing"):
        evaluate.main(replace(params, mixtures=["cg-high"], seeds=[7]))
    assert not Path("artifacts/eval").exists()


def test_embeddings_of_other_images_than_the_index_lists_are_refused(params):
    index = Path("artifacts/shards/emoji/index.parquet")
    index.parent.mkdir(parents=True)
    INDEX.to_parquet(index)
    meta = Path("artifacts/embeddings/clip/cg-high-s1/meta.json")
    write_json(meta, read_json(meta) | {"index_sha256": "0" * 64})
    with pytest.raises(DataError, match=r"cg-high-s1 was made of other images than .* lists$") as caught:
        evaluate.main(params)
    assert told(caught.value).endswith(" lists: delete it and run dvc repro embed@cg-high-1")
    assert not Path("artifacts/eval").exists()


def test_the_stage_imports_no_torch():
    code = "import json, sys, stages.evaluate; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = json.loads(result.stdout)
    assert "domix.evaluate.tables" in loaded
    assert not {"torch", "open_clip", "torchvision", "lightning"} & set(loaded)
