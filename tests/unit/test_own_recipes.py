"""Mixtures of the user's own: what each key of a recipe does, that nothing held out slips in, and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domix.data.mixtures.cells import count_cells, make_split
from domix.data.mixtures.composition import count_shown
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.mixture import Mixture, assert_held_out, describe_rows, read_mixture, write_mixture
from domix.data.mixtures.names import parse_mixture, parse_mixtures
from domix.data.mixtures.selection import common_size
from domix.data.mixtures.settings import RecipeSpec
from domix.runtime.errors import DataError, ParameterError
from domix.settings.load import load
from tests.fakes import make_index

CLASSES = ["axe", "lion", "pizza", "yo_yo"]
INDEX = make_index({d: [4, 5, 6, 7] for d in ("clipart", "painting", "real", "sketch")}, classes=CLASSES)
CELLS = count_cells(INDEX)
SPLIT = make_split(CELLS, test_domain="sketch", natural_domain="real", test_classes=["lion", "axe"])
PARAMS = Path(__file__).parents[2] / "params.yaml"
BASE = {"web": np.arange(3)}


def build(**spec) -> Mixture:
    recipe = parse_mixture("mine", SPLIT, base=["web"], recipes={"mine": RecipeSpec(**spec)})
    mixture = build_mixture(recipe, CELLS, SPLIT, source="emoji", base=BASE)
    rows = mixture.rows[mixture.rows["source"] == "emoji"]
    assert_held_out(describe_rows(rows, {"emoji": INDEX}), mixture)
    assert INDEX.set_index("row").loc[rows["row"], "split"].eq("train").all()
    chosen = np.isin(CELLS.row, rows["row"])
    assert (CELLS.rank[chosen] < count_shown(mixture, CELLS).ravel()[CELLS.code[chosen]]).all()  # prefixes
    return mixture


def shown(**spec) -> dict[str, list[int]]:
    """Return domain -> samples of each class, of the domains that the mixture shows."""
    counts = count_shown(build(**spec), CELLS).tolist()
    return {domain: row for domain, row in zip(CELLS.domains, counts, strict=True) if any(row)}


def test_a_recipe_shows_its_domains_without_the_held_out_cells():
    assert shown(domains={"real": 1.0, "sketch": 1.0}) == {"real": [4, 5, 6, 7], "sketch": [0, 0, 6, 7]}
    assert shown(domains={"real": 0.5, "painting": 0.1}) == {"real": [2, 3, 3, 4], "painting": [1, 1, 1, 1]}


def test_held_out_cells_are_shown_only_where_the_recipe_says_so():
    assert shown(domains={"sketch": 1.0}, show_test_classes=True) == {"sketch": [4, 5, 6, 7]}
    assert shown(domains={"sketch": 1.0}, show_test_classes=0.5) == {"sketch": [2, 3, 6, 7]}
    assert shown(domains={"sketch": 0.5}, show_test_classes=0.5) == {"sketch": [1, 2, 3, 4]}
    assert build(domains={"sketch": 1.0}).held_out == ("sketch", ("axe", "lion"))
    assert build(domains={"real": 1.0}).held_out == ("sketch", tuple(CLASSES))
    assert build(domains={"sketch": 1.0}, show_test_classes=0.1).held_out is None


def test_classes_and_cells_are_left_out():
    assert shown(domains={"real": 1.0, "clipart": 1.0}, classes=["pizza", "axe"], leave_out={"clipart": ["axe"]}) == {
        "real": [4, 0, 6, 0],
        "clipart": [0, 0, 6, 0],
    }


def test_caps_hold_for_a_domain_or_all_others():
    domains = {"real": 1.0, "clipart": 1.0, "painting": 1.0}
    assert shown(domains=domains, caps={"real": 5, "*": 2}) == {
        "real": [4, 5, 5, 5],
        "clipart": [2, 2, 2, 2],
        "painting": [2, 2, 2, 2],
    }


def test_sizes():
    domains = {"real": 1.0, "clipart": 1.0, "painting": 1.0}
    common = build(domains=domains, size="common")
    assert common.samples["emoji"] == common_size(CELLS, SPLIT) == 35
    assert build(domains=domains, size=10).samples["emoji"] == 10
    assert build(domains=domains).samples["emoji"] == 66
    high = build_mixture(
        parse_mixture("leave-out-domain", SPLIT, base=["web"]), CELLS, SPLIT, source="emoji", base=BASE
    )
    assert common.digest == high.digest
    with pytest.raises(DataError, match=r"'mine' cannot be made 100 samples large: its domains .* hold 66"):
        build(domains=domains, size=100)
    with pytest.raises(DataError, match="'mine' is empty"):
        build(domains={"sketch": 1.0}, classes=["lion"])


def test_weights_are_those_of_domains_and_base_sources(tmp_path):
    made = build(domains={"real": 1.0, "sketch": 1.0}, weights={"sketch": 3.0, "web": 0.5})
    rows = made.rows.assign(domain=describe_rows(made.rows.query("source == 'emoji'"), {"emoji": INDEX})["domain"])
    assert rows.loc[rows["source"] == "web", "weight"].tolist() == [0.5] * 3
    assert rows.loc[rows["domain"] == "sketch", "weight"].unique().tolist() == [3.0]
    assert rows.loc[rows["domain"] == "real", "weight"].unique().tolist() == [1.0]
    assert made.digest != build(domains={"real": 1.0, "sketch": 1.0}).digest
    web = make_index({"web": [3]}, source="web").assign(**{"class": None})
    write_mixture(tmp_path / "m", made, {"emoji": INDEX, "web": web})
    assert read_mixture(tmp_path / "m").digest == made.digest


def test_captions_and_base():
    made = build(domains={"real": 1.0}, caption="aligned", base=False)
    assert (made.samples, made.caption) == ({"emoji": 22}, "aligned")
    assert made.rows["caption"].unique().tolist() == ["aligned"]
    assert (made.name, made.alias, made.standard_name) == ("mine", "mine", "mine")
    assert made.parameters["recipe"]["domains"] == {"real": 1.0}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"domains": {"sktech": 1.0}},
            "mine.domains names 'sktech', which is not there: did you mean 'sketch'",
        ),
        ({"classes": ["lino"]}, "recipes.mine.classes names 'lino'"),
        ({"leave_out": {"sketch": ["axe"]}}, "recipes.mine.leave_out names 'sketch'"),
        ({"leave_out": {"real": ["ax"]}}, "recipes.mine.leave_out.real names 'ax'.*did you mean 'axe'"),
        ({"caps": {"sketch": 3}}, "recipes.mine.caps names 'sketch'"),
        ({"weights": {"webb": 3.0}}, "recipes.mine.weights names 'webb'.*did you mean 'web'"),
        ({"weights": {"web": 3.0}, "base": False}, "recipes.mine.weights names 'web'"),
    ],
)
def test_names_that_the_data_do_not_have_are_refused(spec, message):
    with pytest.raises(ParameterError, match=message) as caught:
        build(**{"domains": {"real": 1.0}} | spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cg-high", "lso-mine", "cc3m-train-mine", "a+b", "a/b", "", ".hidden", "a b"])
def test_names_that_cannot_be_a_recipes_are_refused(name):
    with pytest.raises(ParameterError, match="cannot name a recipe"):
        parse_mixtures(["cg-low"], SPLIT, recipes={name: RecipeSpec(domains={"real": 1.0})})


def test_recipes_stand_beside_other_mixtures():
    recipes = {"mine": RecipeSpec(domains={"real": 1.0})}
    assert [r.family for r in parse_mixtures(["cg-low", "mine"], SPLIT, recipes=recipes)] == ["cg-low", "own"]
    with pytest.raises(ParameterError, match="'mien' is unknown: did you mean 'mine'"):
        parse_mixture("mien", SPLIT, recipes=recipes)
    with pytest.raises(ParameterError, match="same mixture"):
        parse_mixtures(["mine", "mine"], SPLIT, recipes=recipes)


def test_recipes_are_read_from_params():
    text = PARAMS.read_text(encoding="utf-8")
    assert text.count("\nrecipes: {}") == 1
    own = "\nrecipes:\n  mine:\n    domains: {real: 1, sketch: 0.5}\n    caps: {'*': 9}\n    show_test_classes: true\n"
    spec = load(text.replace("\nrecipes: {}", own)).recipes["mine"]
    assert spec == RecipeSpec(domains={"real": 1.0, "sketch": 0.5}, caps={"*": 9}, show_test_classes=True)
    for change in ("domain: {real: 1}", "domains: {real: 0}", "domains: {real: 1}, size: 0", "domains: {real: yes}"):
        with pytest.raises(ParameterError, match=r"recipes\.mine"):
            load(text.replace("\nrecipes: {}", f"\nrecipes: {{mine: {{{change}}}}}"))
