"""A zoo of models on plain arrays and tables: the list, accuracy, effective robustness, relations, CKA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy

from domix.analyses.hsic import cka
from domix.encoders.hub import describe_tag
from domix.evaluate.effective import clamp, fit_line
from domix.model.clip import load_config
from domix.runtime.errors import DataError, ParameterError
from domix.signature.directions import head_directions, head_importance
from domix.signature.pruning import PERCENT, pruned_head, pruning_order
from domix.zoo.figures import axis_title, figures_of
from domix.zoo.likeness import cka_matrix, group_matrix
from domix.zoo.listing import read_listing
from domix.zoo.measures import DRAWS, Head, SetFeatures, model_numbers, pruning_curves, set_accuracy
from domix.zoo.publish import readable, shown
from domix.zoo.relations import relate, targets_of
from domix.zoo.robustness import pruned_robustness, with_robustness, zoo_trends

SHIFTS = ["imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a"]
GOLDEN = Path(__file__).parents[1] / "golden" / "effective_zoo.csv"  # open_clip's published accuracies


def table(count: int = 12) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    known = generator.uniform(0.3, 0.8, count)
    kurtosis = 3 + 5 * known + generator.normal(0, 0.8, count)
    moved = 0.6 * known + 0.02 * kurtosis + generator.normal(0, 0.02, count)
    names = {"name": [f"m{n}" for n in range(count)], "group": ["a", "b"] * (count // 2)}
    numbers = {"id": known, "accuracy far": moved, "kurtosis": kurtosis}
    return pd.DataFrame(names | {"family": ["x", "y", None, "z"] * (count // 4)} | numbers)


def test_effective_robustness_is_that_of_the_published_accuracies() -> None:
    golden = pd.read_csv(GOLDEN)
    models = pd.DataFrame({"name": golden["arch"] + " " + golden["data"], "group": "zero-shot"})
    models["id"] = golden["imagenet"] / 100
    models = models.assign(**{f"accuracy {name}": golden[name] / 100 for name in SHIFTS})
    trends = zoo_trends(models, "imagenet", dict.fromkeys(SHIFTS, 10_000), None, 50_000)
    found = with_robustness(models, trends)
    columns = [*(f"ER {name}" for name in SHIFTS), "ER mean", "ER mean of 5"]
    wanted = golden[["er-v2", "er-r", "er-sketch", "er-objectnet", "er-a", "er-mean", "er-of-mean"]].to_numpy()
    assert len(golden) == 17 and found[columns].to_numpy() == pytest.approx(wanted, abs=0.1)
    four = with_robustness(
        models.drop(columns="accuracy imagenet-a"), {n: t for n, t in trends.items() if "-a" not in n}
    )
    assert "ER mean of 4" in four and "ER mean of 5" not in four


def test_a_group_of_baselines_draws_the_line(caplog: pytest.LogCaptureFixture) -> None:
    models = table()
    trends = zoo_trends(models, "known", {"far": 200}, "a", 400)
    mine = models[models["group"] == "a"]
    line = fit_line(clamp(mine["id"], 400), clamp(mine["accuracy far"], 200))
    assert trends["far"].fit == line
    found = with_robustness(models, trends)
    assert found["ER far"].to_numpy() == pytest.approx(100 * (models["accuracy far"] - line.expected(models["id"])))
    assert found["ER mean"].equals(found["ER far"].rename("ER mean"))
    assert zoo_trends(models[:3], "known", {"far": 200}, "a", 400) == {}
    assert "no effective robustness under far by the group a: a fit needs at least 3 points" in caplog.text
    assert zoo_trends(models, "known", {"far": 200}, None, 400) == {} and "no trend ships" in caplog.text
    assert "ER mean" not in with_robustness(models, {})
    curves = pd.DataFrame({"model": "m0", "order": "importance", "draw": 0, "percent": [0, 99] * 2})
    curves = curves.assign(set=["id", "id", "far", "far"], accuracy=[0.5, 0.0, 0.4, 0.1])
    pruned = pruned_robustness(curves, trends, {"id": 400, "far": 200})["effective"].to_numpy()
    assert np.isnan(pruned[:2]).all()
    assert pruned[2:] == pytest.approx(100 * (np.array([0.4, 0.1]) - line.expected([0.5, 0.5 / 400])))


def test_relations_are_scipys_and_partial_ones_those_of_residuals() -> None:
    models = with_robustness(table(), zoo_trends(table(), "known", {"far": 200}, "a", 400))
    models.loc[3, "kurtosis"] = np.nan  # a model without the number does not count
    found, without = relate(models, resamples=200)
    left = models.drop(index=3)
    x, y, z = (left[name].to_numpy() for name in ("kurtosis", "accuracy far", "id"))
    mine = found[found["target"] == "accuracy far"].set_index("statistic")
    assert mine.loc["pearson", "estimate"] == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert mine.loc["spearman", "estimate"] == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    for name, values in (("pearson", (x, y, z)), ("spearman", tuple(map(scipy.stats.rankdata, (x, y, z))))):
        rests = [part - np.polyval(np.polyfit(values[2], part, 1), values[2]) for part in values[:2]]
        assert mine.loc[f"partial {name}", "estimate"] == pytest.approx(np.corrcoef(*rests)[0, 1])
    assert (mine["models"] == 11).all() and (mine["low"] <= mine["estimate"]).all()
    assert set(found["target"]) == {"ER far", "ER mean", "accuracy far", "id"} == set(targets_of(models))
    assert set(found.loc[found["target"] == "id", "statistic"]) == {"spearman", "pearson"}
    assert set(without["family"]) == {"x", "y", "z"}
    one = without[(without["target"] == "id") & (without["statistic"] == "pearson")].set_index("family")
    some = left[left["family"] != "z"]
    assert one.loc["z", "estimate"] == pytest.approx(np.corrcoef(some["kurtosis"], some["id"])[0, 1])
    assert [len(part) for part in relate(models[:2])] == [0, 0]
    assert relate(models.assign(kurtosis=3.0))[0].empty
    made = figures_of(models, found, {})
    assert [figure.name for figure in made] == ["zoo-kurtosis"]
    assert "effective robustness, mean (points)" in made[0].title and "over 11 models" in made[0].caption
    assert axis_title("accuracy far") == "accuracy under far"
    words = readable(found)
    assert words.shape == (4, 6) and words.loc[3, "partial pearson"] == ""
    first = shown(models).iloc[0]
    assert first["id"] == f"{100 * models['id'][0]:.1f}" and first["ER far"] == f"{models['ER far'][0]:+.1f}"
    assert shown(models)["kurtosis"][3] == ""


def test_what_accuracy_tells_whole_leaves_no_partial_correlation() -> None:
    models = pd.DataFrame({"family": None, "id": np.arange(6.0), "accuracy far": -np.arange(6.0)})
    found, _ = relate(models.assign(kurtosis=[1.0, 5, 2, 8, 3, 4]), resamples=50)
    assert found.loc[found["statistic"].str.startswith("partial"), "estimate"].isna().all()


def test_cka_is_that_of_every_two_models_in_one_batch_and_in_several() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(size=(600, 6))
    features = {name: base @ generator.normal(size=(6, width)) for name, width in (("a", 5), ("b", 9), ("c", 4))}
    features["a"] = features["a"] + generator.normal(size=(600, 5))
    whole = cka_matrix(features, batch=600)
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        assert whole.at[one, other] == whole.at[other, one] == pytest.approx(cka(features[one], features[other]))
    assert np.diag(whole) == pytest.approx(1)
    assert cka_matrix(features, batch=100).to_numpy() == pytest.approx(whole.to_numpy(), abs=0.05)
    groups = group_matrix(whole, {"a": "one", "b": "two", "c": "two"})
    assert np.isnan(groups.at["one", "one"]) and groups.at["two", "two"] == pytest.approx(whole.at["b", "c"])
    assert groups.at["one", "two"] == pytest.approx((whole.at["a", "b"] + whole.at["a", "c"]) / 2)
    with pytest.raises(
        DataError, match=r"^CKA compares models on the same images, at least 4, but there are a 600, b 5"
    ):
        cka_matrix({"a": features["a"], "b": features["b"][:5]})


def test_answers_are_restricted_and_any_right_label_counts() -> None:
    features = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]] + 0.1
    head = Head(np.eye(4, dtype=np.float32), np.array([0, 0, 0, 5], np.float32))
    labels = np.array([0, 1, 2, 3])
    assert set_accuracy(SetFeatures(features, labels), head) == 0.25  # the bias speaks for the last
    assert set_accuracy(SetFeatures(features, labels), Head(head.weight)) == 1
    assert set_accuracy(SetFeatures(features[:3], labels[:3], subset=[0, 1, 2]), head) == 1
    assert set_accuracy(SetFeatures(features[:2], labels[:2], answers=[[0], [1, 3]]), head) == 0.5
    with pytest.raises(DataError, match=r"^the head reads 4 components, but the features have 3: give those"):
        set_accuracy(SetFeatures(features[:, :3], labels), head)


def test_pruned_heads_are_those_of_their_definition() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 10)).astype(np.float32)
    head = Head(generator.normal(size=(6, 10)).astype(np.float32), generator.normal(size=6).astype(np.float32))
    labels = (features @ head.weight.T + generator.normal(size=(300, 6))).argmax(axis=1)
    some = np.flatnonzero(np.isin(labels, [1, 4]))
    known = SetFeatures(features, labels)
    shifts = {
        "few": SetFeatures(features[some], labels[some], subset=[1, 4]),
        "renamed": SetFeatures(features[some], (labels[some] == 4).astype(int), subset=[1, 4], answers=[[1], [4]]),
        "several": SetFeatures(features, labels, answers=[[0, 1], [1], [2], [3], [4], [5]]),
    }
    found = pruning_curves(known, shifts, head)
    assert len(found) == 4 * len(PERCENT) * (2 + DRAWS)
    directions = head_directions(head.weight)
    for order, values in (
        ("importance", head_importance(head.weight, features)),
        ("singular value", directions.singular_values),
    ):
        places = pruning_order(values)
        for percent, kept in ((0, 6), (50, 3), (99, 1)):
            pruned = Head(pruned_head(directions, places[6 - kept :]).astype(np.float32), head.bias)
            mine = found[(found["order"] == order) & (found["percent"] == percent)].set_index("set")
            assert (mine["kept"] == kept).all()
            for name, images in {"id": known, **shifts}.items():
                assert mine.loc[name, "accuracy"] == pytest.approx(set_accuracy(images, pruned), abs=1e-9)
    numbers = model_numbers(known, {"few": shifts["few"]}, head)
    assert numbers["id"] == set_accuracy(known, head) and numbers["accuracy few"] == set_accuracy(shifts["few"], head)
    assert numbers["top"] == pytest.approx(head_importance(head.weight, features).max())
    assert numbers["top_mean_abs"] == pytest.approx(head_importance(head.weight, features, "mean_abs").max())


def test_the_shipped_list_names_public_models_by_their_activation() -> None:
    listing = read_listing("public")
    assert len(listing.models) == 17 and listing.groups == ["zero-shot"] and listing.baselines is None
    assert {entry.family for entry in listing.models} == {
        "openai", "yfcc15m", "cc12m", "laion400m", "laion2b", "datacomp"
    }  # fmt: skip
    quick = 0
    for entry in listing.models:
        assert entry.architecture is not None
        config, described = load_config(entry.architecture), describe_tag(entry.architecture, entry.model)
        assert bool(config.get("quick_gelu")) == bool(described.get("quick_gelu")), entry.name
        quick += bool(config.get("quick_gelu"))
    assert quick == 9  # five of OpenAI's, three of YFCC and CC12M, LAION-400M's ViT-B/32


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models: [", "is not valid YAML"),
        ("models: []", "models must"),
        ("- a", "must be a mapping"),
        ("models: [{name: a, model: b}]", r"models\[0\]\.group|group"),
        ("models: [{name: a, model: b, group: c, colour: d}]", "family"),
        ("models: [{name: a, model: b, group: c}, {name: a, model: d, group: c}]", "names the model 'a' 2 times"),
        ("{baselines: x, models: [{name: a, model: b, group: c}]}", r"baselines is 'x', which is no group .*\(c\)"),
    ],
)
def test_a_bad_list_is_told_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "zoo.yaml").write_text(text)
    with pytest.raises((DataError, ParameterError), match=sentence):
        read_listing(tmp_path / "zoo.yaml")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name a YAML file with the models, or public"):
        read_listing(tmp_path / "none.yaml")
