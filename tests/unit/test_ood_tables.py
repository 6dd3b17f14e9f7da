"""Tables of results, the layouts of others, hyper-parameters chosen on a validation set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from domix.ood.choice import choose_options
from domix.ood.metrics import aupr, auroc, fpr95
from domix.ood.tables import (
    MEASURES,
    detection_table,
    group_means,
    measure,
    measure_classes,
    openood_table,
    plp_metrics,
    plp_table,
)
from domix.runtime.errors import DataError, ParameterError

Keyed = dict[tuple[str, float | None], np.ndarray]
RNG = np.random.default_rng(0)
INSIDE = {"msp": RNG.normal(1, 1, 300), "knn": RNG.normal(2, 1, 300)}
OUTSIDE = {name: {score: RNG.normal(0, 1.5, 100 + n) for score in INSIDE} for n, name in enumerate(("a", "b", "c"))}
GROUPS = {"a": "near", "b": "far", "c": "far"}
CLASSES = {"a": np.array(["x"] * 10 + ["y"] * 90)}


def test_all_measures_are_those_of_the_metrics() -> None:
    inside, outside = INSIDE["msp"], OUTSIDE["a"]["msp"]
    found = measure(inside, outside)
    assert tuple(found) == MEASURES
    assert found["auroc"] == auroc(inside, outside)
    for positive in ("id", "ood"):
        assert found[f"aupr_{positive}"] == aupr(inside, outside, positive=positive)
    for convention in ("plp", "mcm", "openood"):
        assert found[f"fpr95_{convention}"] == fpr95(inside, outside, convention=convention)


def test_classes_of_an_ood_set_count_alike_whatever_their_size() -> None:
    outside = OUTSIDE["a"]["msp"]
    found = measure_classes(INSIDE["msp"], outside, CLASSES["a"])
    assert found["class"].tolist() == ["x", "y"] and found["images"].tolist() == [10, 90]
    areas = [auroc(INSIDE["msp"], outside[:10]), auroc(INSIDE["msp"], outside[10:])]
    assert found["auroc"].tolist() == areas
    table = detection_table(INSIDE, OUTSIDE, groups=GROUPS, classes=CLASSES)
    row = table[(table["set"] == "a") & (table["score"] == "msp") & (table["protocol"] == "class mean")]
    assert row["auroc"].item() == pytest.approx(np.mean(areas)) and row["images"].item() == 100
    assert len(table) == 2 * (3 + 1)
    with pytest.raises(DataError, match=r"^there are 101 OOD images and 100 classes of them: give one an image$"):
        measure_classes(INSIDE["msp"], OUTSIDE["b"]["msp"], CLASSES["a"])


def test_means_over_near_and_far_sets_weigh_sets_alike() -> None:
    table = detection_table(INSIDE, OUTSIDE, groups=GROUPS, classes=CLASSES)
    means = group_means(table).set_index(["score", "group", "protocol"])
    pooled = [auroc(INSIDE["knn"], OUTSIDE[name]["knn"]) for name in ("b", "c")]
    assert means.loc[("knn", "far", "pooled"), "auroc"] == pytest.approx(np.mean(pooled))
    assert means.loc[("knn", "far", "class mean"), "auroc"] == pytest.approx(np.mean(pooled))  # they have no classes
    assert means.loc[("knn", "near", "pooled"), "auroc"] == pytest.approx(auroc(INSIDE["knn"], OUTSIDE["a"]["knn"]))
    by_class = measure_classes(INSIDE["knn"], OUTSIDE["a"]["knn"], CLASSES["a"])["auroc"].mean()
    assert means.loc[("knn", "near", "class mean"), "auroc"] == pytest.approx(by_class)
    assert means.loc[("knn", "far", "pooled"), "sets"] == 2 and len(means) == 8


def test_openood_s_layout() -> None:
    outside = {name: some["msp"] for name, some in OUTSIDE.items()}
    table = openood_table(INSIDE["msp"], outside, groups=GROUPS, accuracy=0.81234)
    assert list(table) == ["dataset", "FPR@95", "AUROC", "AUPR_IN", "AUPR_OUT", "ACC"]
    assert table["dataset"].tolist() == ["a", "nearood", "b", "c", "farood"]
    assert (table["ACC"] == 81.23).all()
    rates = [fpr95(INSIDE["msp"], outside[name], convention="openood") for name in ("b", "c")]
    assert table["FPR@95"].tolist()[2:] == [round(100 * value, 2) for value in (*rates, np.mean(rates))]
    areas = [aupr(INSIDE["msp"], outside["a"], positive=p, rule="trapezoid") for p in ("id", "ood")]
    assert table.loc[0, ["AUPR_IN", "AUPR_OUT"]].tolist() == [round(100 * area, 2) for area in areas]
    assert table.loc[0, "AUROC"] == round(100 * auroc(INSIDE["msp"], outside["a"]), 2)
    with pytest.raises(DataError, match=r"^the OOD set c is neither near nor far: say which$"):
        openood_table(INSIDE["msp"], outside, groups={"a": "near", "b": "far"}, accuracy=0.5)
    with pytest.raises(DataError, match=r"^no OOD set is given: there is nothing to report$"):
        openood_table(INSIDE["msp"], {}, groups={}, accuracy=0.5)


def test_the_reference_s_json_and_csv() -> None:
    inside: Keyed = {
        ("mahalanobis", None): INSIDE["knn"],
        ("energy", 1.0): INSIDE["msp"],
        ("energy", 10.0): -INSIDE["msp"],
    }
    outside: dict[str, Keyed] = {"SUN": {key: OUTSIDE["b"]["msp"] - n for n, key in enumerate(inside)}}
    found = plp_metrics(inside, outside)
    one, ten = (100 * auroc(inside["energy", t], outside["SUN"]["energy", t]) for t in (1.0, 10.0))
    rate = 100 * fpr95(inside["energy", 1.0], outside["SUN"]["energy", 1.0], convention="plp")
    assert list(found[0]) == ["out_dist", "auroc", "fpr95"] and found[0]["out_dist"] == "SUN"
    assert found[0]["auroc"]["free_energy"] == [{"temp": 1.0, "auroc": one}, {"temp": 10.0, "auroc": ten}]
    assert found[0]["auroc"]["Mahalanobis"] == 100 * auroc(INSIDE["knn"], outside["SUN"]["mahalanobis", None])
    assert found[0]["fpr95"]["free_energy"][0] == {"temp": 1.0, "fpr95": rate}
    table = plp_table(found)
    names = ["Mahalanobis", "free_energy_temp=1.0", "free_energy_temp=10.0"]
    assert list(table) == ["out_dist", *(f"{metric}_{name}" for metric in ("auroc", "fpr95") for name in names)]
    assert table.loc[0, "auroc_free_energy_temp=10.0"] == round(ten, 2)
    assert table.loc[0, "fpr95_free_energy_temp=1.0"] == round(rate, 2)
    with pytest.raises(ParameterError, match=r"^the reference has no score 'vim', but msp, energy, l1"):
        plp_metrics({("vim", None): INSIDE["msp"]}, outside)
    with pytest.raises(ParameterError, match=r"^the reference lists msp, energy, l1, perplexity by temperature"):
        plp_metrics({("energy", None): INSIDE["msp"]}, outside)
    with pytest.raises(DataError, match=r"^the OOD set SUN lacks the score msp, which the ID images have$"):
        plp_metrics({("msp", 1.0): INSIDE["msp"]}, outside)


def test_sets_without_group_or_score_are_told() -> None:
    with pytest.raises(DataError, match=r"^the OOD set b is neither near nor far: say which$"):
        detection_table(INSIDE, OUTSIDE, groups={"a": "near", "b": "middle"})
    with pytest.raises(DataError, match=r"^the OOD set a lacks the score knn, which the ID images have$"):
        detection_table(INSIDE, {"a": {"msp": OUTSIDE["a"]["msp"]}}, groups=GROUPS)


ALIKE = [{"by": 1.0, "n": 1}, {"by": 1.0, "n": 2}]


def shifted(options: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    return INSIDE["msp"] + options["by"], OUTSIDE["a"]["msp"]


def test_options_are_chosen_by_what_they_do_on_the_validation_set() -> None:
    grid = [{"by": 0.0}, {"by": 3.0}, {"by": -1.0}]
    found = choose_options(grid, shifted, validation="a", tests=["b", "c"])
    assert found.options == {"by": 3.0} and found.validation == "a"
    assert [value for _, value in found.tried] == [auroc(*shifted(options)) for options in grid]
    rates = choose_options(grid, shifted, validation="a", tests=[], metric="fpr95", convention="openood")
    assert rates.options == {"by": 3.0}
    assert rates.tried[0][1] == fpr95(*shifted(grid[0]), convention="openood")
    assert choose_options(ALIKE, shifted, validation="a", tests=[]).options["n"] == 1


def test_options_are_never_chosen_on_a_test_set() -> None:
    message = r"^the OOD set b would both choose hyper-parameters and be reported on: name another for one$"
    with pytest.raises(DataError, match=message):
        choose_options([{"by": 1.0}], shifted, validation="b", tests=["a", "b"])
    with pytest.raises(ParameterError, match=r"^the grid is empty: give options to try$"):
        choose_options([], shifted, validation="a", tests=[])
    with pytest.raises(ParameterError, match=r"^options are chosen by auroc or fpr95, not by 'aupr'$"):
        choose_options([{"by": 1.0}], shifted, validation="a", tests=[], metric="aupr")
