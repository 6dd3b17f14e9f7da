"""The study view's tables: the numbers against a slow computation from the files, and how they are written."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.cli.studies.places import of_sweep
from domix.report.paper import results, rounded, sharing, typeset
from domix.report.paper.collection import Collection, collect
from domix.report.paper.mixtures import read_mixtures
from domix.report.paper.typeset import Typeset
from domix.runtime.files import read_json
from tools.made_study import Asked, make_sweep

ASKED = Asked(
    test_domains=("clipart", "quickdraw"),
    mixtures=("natural-only", "cg-low", "cg-low+painting", "cg-high", "cg-low-all", "cg-high-all"),
    seeds=(0, 1),
    checkpoints=(0, 32),
    classes=12,
    test_classes=4,
    supervised=("cg-high",),
    public=("tiny_clip",),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_sweep(folder, ASKED)
    return folder


@pytest.fixture(scope="module")
def study(root: Path) -> Collection:
    return collect(of_sweep(root, "made"))


def artifacts(root: Path, domain: str) -> Path:
    return root / ".cache" / "sweep" / "made" / domain / "artifacts"


def test_the_result_table_holds_the_evaluations_numbers(root: Path, study: Collection) -> None:
    table = results.result_table(study)
    expected = 0
    for domain in ASKED.test_domains:
        frame = pd.read_parquet(artifacts(root, domain) / "eval" / "mixtures.parquet")
        for _, row in frame.iterrows():
            if row["domain"] != domain or row["cells"] != "held_out":
                continue
            expected += 1
            found = table[(table["test_domain"] == domain) & (table["kind"] == row["kind"])]
            found = found[(found["mixture"] == row["mixture"]) & (found["metric"] == row["metric"])]
            assert len(found) == 1
            for column in ("estimate", "low", "high", "n", "n_classes", "seeds", "checkpoints"):
                assert found[column].iloc[0] == row[column]
            assert found["seeds_asked"].iloc[0] == (1 if row["kind"] == "public" else 2)
    assert len(table) == expected == 2 * 3 * (6 + 1 + 1)


def test_the_relative_gap_is_that_of_the_formula(root: Path, study: Collection) -> None:
    table = results.result_table(study)
    bounds = {"cg-low": "cg-low-all", "cg-low+painting": "cg-low-all", "cg-low-all": "cg-low-all"}
    for domain in ASKED.test_domains:
        per_class = pd.read_parquet(artifacts(root, domain) / "eval" / "per_class.parquet")
        mine = per_class[per_class["held_out"] & (per_class["kind"] == "clip")]
        balanced = {}
        for mixture in ASKED.mixtures:
            shares = []
            for seed in ASKED.seeds:
                rows = [r for _, r in mine.iterrows() if r["mixture"] == mixture and r["seed"] == seed]
                shares.append(sum(row["correct"] / row["n"] for row in rows) / len(rows))
            balanced[mixture] = sum(shares) / len(shares)
        for mixture, value in balanced.items():
            bound = bounds.get(mixture, "cg-high-all")
            gap = (value - balanced["natural-only"]) / (balanced[bound] - balanced["natural-only"])
            row = table[(table["test_domain"] == domain) & (table["kind"] == "clip") & (table["mixture"] == mixture)]
            row = row[row["metric"] == "balanced_top1"].iloc[0]
            assert row["upper_bound"] == bound
            assert row["gap"] == pytest.approx(gap, abs=1e-12)


def test_without_natural_only_or_a_bound_there_is_no_gap(study: Collection) -> None:
    table = results.result_table(study)
    alone = table[table["kind"] != "clip"]  # cg-high alone; a public model
    assert alone["gap"].isna().all()
    assert (alone["upper_bound"] == "").all()


def test_the_comparison_table_holds_each_pair_once_in_order(root: Path, study: Collection) -> None:
    table = results.comparison_table(study)
    parts = [
        pd.read_parquet(artifacts(root, d) / "eval" / "comparisons.parquet").assign(test_domain=d)
        for d in ASKED.test_domains
    ]
    whole = pd.concat(parts)
    keys = ["test_domain", "kind", "metric", "baseline", "mixture"]
    assert not table.duplicated(keys).any()
    left, right = (f.set_index(keys).sort_index()[["difference", "p_holm", "detectable"]] for f in (table, whole))
    pd.testing.assert_frame_equal(left, right)
    assert list(table["test_domain"].unique()) == list(ASKED.test_domains)
    first = table[(table["test_domain"] == "clipart") & (table["metric"] == "balanced_top1")]
    assert list(first["baseline"].unique()) == ["natural-only", "cg-low", "cg-high-all"]


def test_csv_files_can_be_read_back(study: Collection, tmp_path: Path) -> None:
    frame = results.result_table(study)
    typeset.write(rounded.results(study, frame), frame, tmp_path)
    back = pd.read_csv(tmp_path / "results.csv")
    assert list(back.columns) == list(frame.columns)
    np.testing.assert_allclose(back["estimate"], frame["estimate"], atol=5e-7)
    assert b"\r" not in (tmp_path / "results.csv").read_bytes()


def test_readable_numbers_are_the_rounded_ones(study: Collection) -> None:
    frame = results.result_table(study)
    table = rounded.results(study, frame)
    row = next(row for row in table.rows if row[:3] == ["clipart", "CLIP", "cg-high"])
    one = frame[(frame["test_domain"] == "clipart") & (frame["kind"] == "clip") & (frame["mixture"] == "cg-high")]
    main = one[one["metric"] == "balanced_top1"].iloc[0]
    assert row[3] == f"{100 * main['estimate']:.1f} ({100 * main['low']:.1f} to {100 * main['high']:.1f})"
    assert row[6:] == [f"{main['gap']:.2f}", str(main["n"]), "4", "2 of 2"]
    assert table.groups == [8]  # a rule before the second test domain


NASTY = ["50 % & more", "a_b", "#1 {x}", "~^\\$", "<tag>", "pipe | star *", "", "-0.5"]


def nasty(rows: int = 1) -> Typeset:
    right = [False] * 7 + [True]
    return Typeset("nasty", "Nasty", "100 % of_it", [f"h_{n}" for n in range(8)], right, [NASTY] * rows, [])


def test_latex_is_escaped() -> None:
    text = typeset.latex(nasty())
    row = next(line for line in text.splitlines() if line.startswith("50"))
    assert row == (
        r"50 \% \& more & a\_b & \#1 \{x\} & \textasciitilde{}\textasciicircum{}\textbackslash{}\$ &"
        r" \textless{}tag\textgreater{} & pipe | star * &  & $-$0.5 \\"
    )
    assert r"\caption{100 \% of\_it}" in text


@pytest.mark.parametrize("rows", [1, typeset.PAGEFUL, typeset.PAGEFUL + 1])
def test_latex_is_balanced(rows: int) -> None:
    text = typeset.latex(nasty(rows), mark="incomplete: 1 of 2 runs")
    bare = re.sub(r"\\[&%$#_{}\\]", "", text)  # escaped letters and line ends
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    longtable = rows > typeset.PAGEFUL
    assert ("longtable}{lllllllr}" in text, "tabular}{lllllllr}" in text) == (longtable, not longtable)
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in text.splitlines() if re.search(r"(?<!\\)&", line)}
    assert columns == {7}
    assert "(Incomplete: 1 of 2 runs.)" in text


def test_markdown_tables_keep_their_columns() -> None:
    lines = typeset.markdown(nasty(), mark="incomplete: 1 of 2 runs").splitlines()
    assert lines[0] == "100 % of_it (Incomplete: 1 of 2 runs.)"
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]]
    assert cells == [9, 9, 9]
    assert r"pipe \| star \*" in lines[4]
    assert "&lt;tag>" in lines[4]


def test_csv_quotes_what_it_must(tmp_path: Path) -> None:
    frame = pd.DataFrame({"why": ['he said "no", twice', "a\nb"], "x": [1 / 3, 2.0]})
    typeset.write(nasty(), frame, tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / "nasty.csv").read_text())))
    assert rows == [["why", "x"], ['he said "no", twice', "0.333333"], ["a\nb", "2.0"]]


def test_what_a_mixture_shows_is_read_off_its_name(root: Path) -> None:
    summary = read_json(artifacts(root, "clipart") / "mixtures" / "summary.json")
    more = {"samples": 1, "domains": {"real": 5, "sketch": 0}}
    names = [
        "cg-high+0.1",
        "cg-low+0.05",
        "cg-high+aligned",
        "cg-low+sketch+painting+0.2",
        "cg-low-all+painting",
        "mine",
    ]
    mixtures = read_mixtures(summary | {"mixtures": [{"standard_name": name} | more for name in names]})
    lines = {name: (m.line, m.share, m.is_partial, m.is_between) for name, m in mixtures.items()}
    assert lines == {
        "cg-high+0.1": ("cg-high", 0.1, True, False),
        "cg-low+0.05": ("cg-low", 0.05, True, False),
        "cg-high+aligned": ("", 0.0, False, False),
        "cg-low+sketch+painting+0.2": ("", 0.2, False, False),
        "cg-low-all+painting": ("", 1.0, False, False),
        "mine": ("", 0.0, False, False),
    }
    assert mixtures["mine"].domains == ("real",)


def test_what_is_shared_is_related_to_accuracy_over_all_test_domains(root: Path, study: Collection) -> None:
    parts = [
        pd.read_parquet(artifacts(root, domain) / "report" / "scores.parquet").assign(test_domain=domain)
        for domain in ASKED.test_domains
    ]
    units = pd.concat(parts)
    table = sharing.relation_table(study)
    for among, mine, keys in (
        ("classes", units[units["score"] == "features"], ["test_domain", "mixture", "seed"]),
        ("mixtures", units[units["score"] != "features"], ["test_domain", "seed"]),
    ):
        ranks = [rows[["value", "accuracy"]].rank().corr().iloc[0, 1] for _, rows in mine.groupby(keys)]
        whole = table[(table["among"] == among) & (table["way"] == "plain") & (table["left_out"] == "")].iloc[0]
        assert whole["estimate"] == pytest.approx(np.nanmean(ranks))
    assert [figure.name for figure in sharing.figures(study)] == ["sharing-classes", "sharing-mixtures"]
    tables = dict(study.tables)
    classifiers = tables["scores"][tables["scores"]["score"] != "features"].assign(kind="supervised")
    tables["scores"] = pd.concat([tables["scores"], classifiers], ignore_index=True)
    both = replace(study, tables=tables)
    figures = sharing.figures(both)
    assert [figure.name for figure in figures][2:] == ["sharing-mixtures-supervised"]
    assert "of what a supervised classifier shares" in getattr(figures[2], "caption", "")
    rows = sharing.typeset_relations(both, sharing.relation_table(both)).rows
    assert [row[0] for row in rows] == sorted(row[0] for row in rows) and rows[-1][0] == "supervised"
    read = sharing.typeset_relations(study, table)
    assert {row[4] for row in read.rows} == {"", *ASKED.test_domains} and {row[0] for row in read.rows} == {"CLIP"}
    assert all(row[6] == "" and row[7] == "" for row in read.rows if row[4])
