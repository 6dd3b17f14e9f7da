"""What the report says of CKA: groups of pairs with their bands, and figures of what there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.analyses.cka.bands import group_bands
from domix.analyses.cka.section import depth_scores
from domix.analyses.contract import Section
from domix.analyses.registry import find
from domix.figures import page
from domix.report.load.study import load_results
from domix.report.page.sections import asked_study
from domix.runtime.tables import read_table, write_table
from tests.fake_report import CONFIDENCE, Fake, results_of

PAIRS = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]


def layers(values: dict[tuple[str, str], list[float]], group: str = "test") -> pd.DataFrame:
    rows = [
        ("cg-high", "test classes", group, f"layer{depth}", depth, *pair, value)
        for pair, curve in values.items()
        for depth, value in enumerate(curve)
        if not np.isnan(value)
    ]
    names = ["mixture", "subset", "group", "layer", "depth", "domain_a", "domain_b", "value"]
    return pd.DataFrame(rows, columns=names)


def test_a_band_is_an_interval_of_the_mean_over_drawn_pairs() -> None:
    values = np.random.default_rng(1).random(len(PAIRS))
    curves = {pair: [value, 0.5] for pair, value in zip(PAIRS, values.tolist(), strict=True)}
    found = group_bands(layers(curves), 0.9)
    assert found["value"].tolist() == pytest.approx([values.mean(), 0.5])
    means = np.random.default_rng(0).choice(values, (100_000, len(values))).mean(axis=1)
    assert found.loc[0, ["low", "high"]].to_numpy(float) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.03)
    assert found.loc[1, ["low", "high"]].tolist() == pytest.approx([0.5, 0.5])
    wider = group_bands(layers(curves), 0.99)
    assert wider.loc[0, "low"] < found.loc[0, "low"] and wider.loc[0, "high"] > found.loc[0, "high"]
    pd.testing.assert_frame_equal(found, group_bands(layers(curves), 0.9))


def test_a_pair_that_lacks_a_layer_counts_in_the_others() -> None:
    found = group_bands(layers({("a", "b"): [0.2, 0.4], ("a", "c"): [np.nan, 0.8]}), 0.95)
    assert found["layer"].tolist() == ["layer0", "layer1"]
    assert found["value"].tolist() == pytest.approx([0.2, 0.6])
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([0.2, 0.2])
    assert found.loc[1, ["low", "high"]].tolist() == pytest.approx([0.4, 0.8])


def test_a_single_pair_has_no_band_and_no_pairs_no_rows() -> None:
    assert group_bands(layers({("a", "b"): [0.2]}), 0.95)[["low", "high"]].isna().all(axis=None)
    assert group_bands(layers({}), 0.95).empty


def section_of(folder: Path, classes: tuple[str, ...] = ("all", "test", "seen")) -> Section:
    fake = Fake(folder, mixtures=["natural-only", "cg-high"], classes=12, test_classes=6)
    path = fake.write() / "analysis/cka/cka.parquet"
    table = read_table(path)
    write_table(path, table[table["classes"].isin(classes)])
    study = load_results(folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["cka"])
    return find("cka").section(results_of(study, "cka"), asked_study(study))


def test_each_mixture_has_a_figure_of_the_three_groups_of_classes(tmp_path: Path) -> None:
    part = section_of(tmp_path).parts[1]
    assert list(part.figures) == ["natural-only", "cg-high"]
    figure = part.figures["cg-high"]
    assert all(f"{name} classes: at the last layer 0." in figure.alt for name in ("test", "seen", "all"))
    drawn = page.svg(figure)
    assert all(f">{name} classes</text>" in drawn for name in ("test", "seen", "all"))
    assert list(part.folded) == ["The same with kernel rbf"]


def test_without_cka_of_the_test_classes_the_others_are_shown(tmp_path: Path) -> None:
    """As where fewer than four classes are held out."""
    section = section_of(tmp_path, ("all", "seen"))
    assert [part.title for part in section.parts] == ["Classes that were held out, seen, and all"]
    drawn = page.svg(section.parts[0].figures["cg-high"])
    assert ">seen classes</text>" in drawn and ">test classes</text>" not in drawn


def test_an_unfinished_study_without_cka_says_nothing(tmp_path: Path) -> None:
    fake = Fake(tmp_path, mixtures=["natural-only", "cg-high"], classes=12, test_classes=6)
    (fake.write() / "analysis/cka/cka.parquet").unlink()
    study = load_results(tmp_path, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["cka"], unfinished=True)
    assert list(find("cka").section(results_of(study, "cka"), asked_study(study)).parts) == []


def test_scores_of_models_are_means_over_the_pairs_of_the_test_domain_in_thirds_of_the_depth(tmp_path: Path) -> None:
    fake = Fake(tmp_path, mixtures=["natural-only", "cg-high"], seeds=[0, 1], classes=12, test_classes=6)
    table = read_table(fake.write() / "analysis" / "cka" / "cka.parquet")
    study = asked_study(load_results(tmp_path, fake.mixtures, fake.seeds, CONFIDENCE))
    table["value"] = np.random.default_rng(0).uniform(size=len(table))
    found = depth_scores(table, study, "linear")
    assert list(found) == ["CKA, early layers", "CKA, middle layers", "CKA, late layers"][: len(found)]
    depths = sorted(set(table["depth"]))
    for frame, mine in zip(found.values(), np.array_split(depths, 3), strict=False):
        for row in frame.itertuples():
            values = [
                r["value"]
                for _, r in table.iterrows()
                if (r["mixture"], r["seed"], r["kernel"], r["classes"]) == (row.mixture, row.seed, "linear", "test")
                and r["depth"] in mine
                and r["domain_a"] != r["domain_b"]
                and study.test_domain in (r["domain_a"], r["domain_b"])
            ]
            assert row.score == pytest.approx(np.mean(values))
    assert all(len(frame) == 4 for frame in found.values())
