"""Two experiments side by side: what changed, which intervals lie apart; and the cards of models and mixtures."""

from __future__ import annotations

import pytest

from domix.report.load.study import load_results
from domix.report.page import compare, modelcards
from domix.runtime.errors import DataError
from tests.fake_evaluation import SUPERVISED, write_further
from tests.fake_report import CONFIDENCE, Fake

PARAMS = {"test_domain": "clipart", "natural_domain": "real", "evaluate": {"confidence": CONFIDENCE}}


def experiment(folder, label: str, **kwargs) -> compare.Experiment:
    fake = Fake(folder / label, classes=12, test_classes=6, **kwargs)
    params = PARAMS | {"test_domain": fake.test_domain}
    return compare.read_experiment(label, params, fake.write())


def test_changed_parameters_have_dotted_names():
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "e": {}}
    after = {"a": 1, "b": {"c": [1], "d": None, "f": "x"}}
    found = [(c.name, c.before, c.after) for c in compare.changed(before, after)]
    assert found == [("b.c", "[1, 2]", "[1]"), ("e", "{}", None), ("b.f", None, "x")]
    assert compare.changed(after, after) == []


def test_differences_are_the_second_less_the_first(tmp_path):
    before = experiment(tmp_path, "before", seeds=[0, 1])
    after = experiment(tmp_path, "after", accuracy={"cg-high": (0.9, 0.4, 0.4)}, mixtures=["natural-only", "cg-high"])
    rows = compare.metric_rows(before, after).set_index(["mixture", "place", "metric"])
    mine = rows.loc[("cg-high", "held_out", "balanced_top1")]
    seeds = before.metrics.query("mixture == 'cg-high' and cells == 'held_out' and metric == 'balanced_top1'")
    assert mine["estimate_a"] == pytest.approx(seeds["estimate"].mean()) and mine["seeds_a"] == 2
    assert mine["difference"] == pytest.approx(mine["estimate_b"] - mine["estimate_a"]) and mine["difference"] > 0.3
    assert rows.loc[("cg-low", "held_out", "balanced_top1")][["estimate_b", "difference"]].isna().all()
    classes = compare.class_rows(before, after)
    assert (classes["difference"] != 0).all() and classes["difference"].abs().is_monotonic_decreasing


def test_places_are_named_by_their_part_in_the_study(tmp_path):
    before, after = (experiment(tmp_path, domain, test_domain=domain) for domain in ("clipart", "sketch"))
    rows = compare.metric_rows(before, after)
    both = rows.dropna(subset=["estimate_a", "estimate_b"])
    assert {"held_out", "seen", "natural", "test domain"} <= set(both["place"])
    assert list(dict.fromkeys(rows["place"]))[:3] == ["held_out", "seen", "natural"]
    assert "The test domains differ" in compare.render(before, after)


def test_an_experiment_is_no_different_from_itself(tmp_path):
    one = experiment(tmp_path, "one")
    assert (compare.metric_rows(one, one)["difference"] == 0).all() and compare.class_rows(one, one).empty
    text = compare.render(one, one)
    assert ">apart<" not in text and "None: what differs is the code" in text


def test_parameters_of_no_study_are_refused(tmp_path):
    with pytest.raises(DataError, match="the parameters of x have no test_domain"):
        compare.read_experiment("x", {}, tmp_path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    fake = Fake(tmp_path_factory.mktemp("cards"), classes=12, test_classes=6)
    fake.write()
    write_further(fake, checkpoints=1)
    return load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, supervised=SUPERVISED)


def test_every_model_has_a_card_that_says_what_was_held_out(study):
    cards = {card.name: card for card in modelcards.model_cards(study, {"emoji": "some licence"})}
    assert list(cards) == [f"{m}-s0" for m in study.mixtures] + [f"supervised-{m}-s0" for m in SUPERVISED]
    facts = {term: text for _, section in cards["cg-high-s0"].sections for term, text in section}
    assert facts["Held out in clipart"].startswith("6 of the 6 test classes")
    assert facts["Licence of emoji"] == "some licence" and "SHA-256" in facts["Weights"]
    assert "Blind spots" in facts and "Held out, less natural-only" in facts
    seen = {term for _, section in cards["cg-high-all-s0"].sections for term, _ in section}
    assert "Blind spots" not in seen
    own = study.metrics.query("mixture == 'cg-high' and domain == 'clipart' and cells == 'held_out'")
    line = next(row for row in cards["cg-high-s0"].measured if row[1] == "held_out")
    assert line[3].startswith(f"{own['estimate'].iloc[0] * 100:.1f}") and line[5] == str(own["n"].iloc[0])


def test_a_source_without_a_known_licence_says_so(study):
    (card, *_) = modelcards.data_cards(study, {})
    assert card.name == "mixture-natural-only"
    assert ("Licence of emoji", "unknown: supplied by the user") in card.sections[0][1]


def test_a_card_as_markdown_has_every_heading_and_no_markup_of_its_values(study):
    made = modelcards.Card("a", "A | b", [("Data", [("term", "x_y | <b>*\nz")])], [("a", "b|c", "", "", "", "", "")])
    text = modelcards.markdown(made)
    assert text.startswith("# A | b\n\n## Data\n* **term**: x\\_y \\| \\<b>\\* z\n")
    assert "| a | b\\|c |" in text and text.endswith("|\n")
    heads = ["Model details", "Intended use", "Training data", "Evaluation", "Compared", "Limitations", "Metrics"]
    card = modelcards.model_cards(study, {})[1]
    assert [line[3:] for line in modelcards.markdown(card).splitlines() if line.startswith("## ")] == heads
