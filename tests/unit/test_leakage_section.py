"""What the report says of leakage follows from the tables: found or not found, and never more than that."""

from __future__ import annotations

import pytest

from domix.analyses.leakage import section as leakage
from domix.analyses.leakage.section import Audit
from domix.analyses.registry import find
from domix.report.load.study import Results, load_results
from domix.report.page.sections import asked_study
from domix.runtime.errors import DataError
from tests.fake_report import CONFIDENCE, Fake, results_of


def read(folder, **kwargs) -> Results:
    fake = Fake(folder, **kwargs)
    return load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE, analyses=["leakage"])


def audit_of(study: Results) -> Audit:
    return leakage.read_audit(results_of(study, "leakage"), asked_study(study))


def study(folder, **kwargs) -> Audit:
    return audit_of(read(folder, **kwargs))


def test_nothing_found_is_said_in_one_clear_sentence(tmp_path):
    made = study(tmp_path, copies=0)
    said = leakage.verdict(made)
    assert said.startswith("No copy found: of the 30 held-out clipart images, none") and said.count(".") == 1
    assert leakage.advice(made, "none") == ""


@pytest.mark.parametrize(
    ("copies", "said"), [(1, "1 training sample may copy 1"), (2, "2 training samples may copy 2")]
)
def test_possible_copies_are_counted_once_for_all_mixtures(tmp_path, copies, said):
    made = study(tmp_path, copies=copies)
    assert said in leakage.verdict(made)
    assert "1 by an equal file" in leakage.verdict(made)
    assert ("1 by a nearly equal image" in leakage.verdict(made)) == (copies == 2)
    assert "mixing.drop" in leakage.advice(made, "none") and "already" in leakage.advice(made, "exact")


def test_samples_of_held_out_cells_are_no_copies(tmp_path):
    made = study(tmp_path)
    made.duplicates["tested"] = True
    assert leakage.verdict(made).startswith("No copy found")
    assert leakage.choose(made, 6) == []


def test_what_an_encoder_finds_alike_is_not_called_a_copy(tmp_path):
    made = study(tmp_path, copies=0)
    said = leakage.likeness(made)
    assert "up to 31 samples of a mixture (natural-only)" in said and "32.3\u00a0%" in said
    assert "not what is a copy" in said
    made.summary["samples"] = 0
    assert "no training sample" in leakage.likeness(made)


def test_copies_come_first_among_the_examples_then_the_likest(tmp_path):
    whole = read(tmp_path)
    made = audit_of(whole)
    pairs = made.duplicates
    chosen = leakage.choose(made, 6)
    assert chosen[:2] == pairs.loc[pairs["kind"] != "embedding", "test_row"].tolist() and len(set(chosen)) == 6
    best = pairs[pairs["kind"] == "embedding"].groupby("test_row")["similarity"].max()
    assert [best[row] for row in chosen[2:]] == sorted((best[row] for row in chosen[2:]), reverse=True)
    shown = leakage.load(made, chosen, results_of(whole, "leakage"))
    assert [item.copied for item in shown] == [True, True, False, False, False, False]
    assert [match.likeness for match in shown[0].matches][:1] == ["equal file"]
    assert shown[0].matches[0].label == "photos" and shown[1].matches[0].likeness == "4 of 64 bits apart"
    assert all(len(item.matches) == 3 for item in shown)


def test_images_that_were_not_compared_by_look_are_admitted(tmp_path):
    made = study(tmp_path)
    assert "7 training samples were compared by file only" in leakage.left_out(made)
    made.facts["flat_samples"] = 0
    assert leakage.left_out(made) == ""


def test_more_of_the_test_domain_than_labelled_is_said_where_the_interval_shows_it(tmp_path):
    made = study(tmp_path)
    said = leakage.domain_sentence(made)
    assert "1,000 samples of photos an estimated 2.0\u00a0% do (1.0 to 5.0\u00a0%)" in said
    made.domains["low"] = 0.0
    assert leakage.domain_sentence(made).startswith("Nowhere does clearly more")
    made.domains["estimate"] = float("nan")
    assert "does not tell clipart from the other domains" in leakage.domain_sentence(made)


def test_numbers_for_the_metrics_are_flat_and_free_of_the_test_domain(tmp_path):
    ours = [leakage.metrics(study(tmp_path / d, test_domain=d)) for d in ("clipart", "sketch")]
    assert ours[0].keys() == ours[1].keys()
    assert ours[0]["cg-high.exact"] == 1 and ours[0]["cg-high.n"] == 1234
    assert ours[0]["cg-high.photos.test_domain_share"] == 0.02
    assert all(not isinstance(value, float) or value == round(value, 4) for value in ours[0].values())


def test_mixtures_no_longer_asked_for_are_forgotten(tmp_path):
    folder = Fake(tmp_path).write()
    made = audit_of(load_results(folder, ["cg-high"], [0], CONFIDENCE, analyses=["leakage"]))
    assert {name for shown in made.duplicates["mixtures"] for name in shown} == {"cg-high"}
    assert [row["mixture"] for row in leakage.table(made)] == ["cg-high"]
    assert "natural-only.n" not in leakage.metrics(made)


def test_a_missing_audit_is_named(tmp_path):
    folder = Fake(tmp_path).write()
    (folder / "analysis/leakage/summary.parquet").unlink()
    with pytest.raises(DataError, match=r"leakage/summary\.parquet is missing"):
        load_results(folder, ["cg-high"], [0], CONFIDENCE, analyses=["leakage"])


def test_the_section_carries_the_numbers_and_stands_among_the_data(tmp_path):
    whole = read(tmp_path)
    section = find("leakage").section(results_of(whole, "leakage"), asked_study(whole))
    assert section.chapter == "data" and section.metrics == leakage.metrics(audit_of(whole))
    assert "Possible copies: 2 training samples" in section.parts[0].text and "<table" in section.parts[0].text
