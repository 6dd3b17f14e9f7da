"""What must hold for mixtures of any data: nothing held out leaks, sizes match, prefixes nest, nothing is random."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.data.mixtures.cells import Cells, Split, count_cells, make_split
from domix.data.mixtures.composition import count_shown
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.mixture import Mixture, assert_held_out, describe_rows
from domix.data.mixtures.names import parse_mixture
from domix.data.mixtures.selection import common_size, natural_size
from domix.data.mixtures.settings import RecipeSpec
from domix.runtime.errors import DataError
from tests.studies import NATURAL, Made, studies

NAMES = ("natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low-all", "cg-high-all", "cg-high+0.3")
BLIND = ("natural-only", "leave-out-domain", "cg-low", "cg-high")


def prepare(study: Made) -> tuple[Cells, Split]:
    cells = count_cells(study.index)
    tested = sorted(study.test_classes)
    return cells, make_split(cells, test_domain=study.test_domain, natural_domain=NATURAL, test_classes=tested)


def build(name: str, cells: Cells, split: Split) -> Mixture | None:
    """Build a mixture, or None where its domains hold too few samples."""
    try:
        return build_mixture(parse_mixture(name, split), cells, split, source="emoji")
    except DataError:
        return None


@settings(max_examples=40, deadline=None)
@given(studies())
def test_nothing_held_out_is_shown_and_only_training_samples_are(study: Made) -> None:
    cells, split = prepare(study)
    for name in BLIND:
        mixture = build(name, cells, split)
        if mixture is None:
            continue
        samples = study.index.set_index("row").loc[mixture.rows["row"]]
        assert (samples["split"] == "train").all()
        assert not ((samples["domain"] == study.test_domain) & samples["class"].isin(study.test_classes)).any()
        assert mixture.rows["row"].is_unique
        assert_held_out(describe_rows(mixture.rows, {"emoji": study.index}), mixture)


@settings(max_examples=40, deadline=None)
@given(studies())
def test_all_but_natural_only_are_of_one_size(study: Made) -> None:
    cells, split = prepare(study)
    made = {name: build(name, cells, split) for name in NAMES if name != "natural-only"}
    sizes = {len(mixture.rows) for mixture in made.values() if mixture is not None}
    assert sizes <= {common_size(cells, split)}
    assert all(made[name] is not None for name in NAMES if name.startswith("cg-"))


@settings(max_examples=40, deadline=None)
@given(studies())
def test_every_cell_holds_a_prefix_so_that_mixtures_nest(study: Made) -> None:
    cells, split = prepare(study)
    for name in NAMES:
        mixture = build(name, cells, split)
        if mixture is None:
            continue
        chosen = np.isin(cells.row, mixture.rows["row"])
        shown = count_shown(mixture, cells)
        assert (cells.rank[chosen] < shown.ravel()[cells.code[chosen]]).all()
        assert (shown <= cells.train).all() and shown.sum() == len(mixture.rows)


@settings(max_examples=40, deadline=None)
@given(studies())
def test_the_order_of_the_index_and_repetition_change_nothing(study: Made) -> None:
    cells, split = prepare(study)
    again = Made(study.index.sample(frac=1, random_state=1), study.test_domain, study.test_classes)
    other = prepare(again)
    for name in NAMES:
        one, two = build(name, cells, split), build(name, *other)
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            assert one.digest == two.digest
            pd.testing.assert_frame_equal(one.rows, two.rows)


@settings(max_examples=40, deadline=None)
@given(studies(thin=False))
def test_natural_only_and_its_description_do_not_depend_on_the_test_domain(study: Made) -> None:
    cells, split = prepare(study)
    other = make_split(cells, test_domain="sketch", natural_domain=NATURAL, test_classes=["class_0"])
    one, two = build("natural-only", cells, split), build("natural-only", cells, other)
    assert one is not None and two is not None
    assert {**vars(one), "rows": 0} == {**vars(two), "rows": 0}
    pd.testing.assert_frame_equal(one.rows, two.rows)


@settings(max_examples=40, deadline=None)
@given(studies())
def test_a_larger_share_shows_no_fewer_tested_samples(study: Made) -> None:
    cells, split = prepare(study)
    row = cells.domains.index(study.test_domain)
    labels = [cells.classes.index(name) for name in split.test_classes]
    counts = []
    for name in ("cg-high", "cg-high+0.2", "cg-high+0.6", "cg-high+0.9"):
        mixture = build(name, cells, split)
        assert mixture is not None
        counts.append(int(count_shown(mixture, cells)[row, labels].sum()))
    assert counts == sorted(counts) and counts[0] == 0


@st.composite
def specs(draw: st.DrawFn, study: Made, *, show: bool) -> RecipeSpec:
    """Draw a recipe of one's own for the study's domains and classes."""
    domains, classes = sorted(set(study.index["domain"])), sorted(set(study.index["class"]))
    share = st.floats(0.01, 1.0)
    chosen = draw(st.dictionaries(st.sampled_from(domains), share, min_size=1))
    some = st.lists(st.sampled_from(classes), min_size=1, unique=True)
    return RecipeSpec(
        domains=chosen,
        classes=draw(st.none() | some),
        leave_out=draw(st.dictionaries(st.sampled_from(sorted(chosen)), some)),
        show_test_classes=draw(share) if show else False,
        caps=draw(st.dictionaries(st.sampled_from([*chosen, "*"]), st.integers(1, 8))),
        size=draw(st.none() | st.integers(1, 12)),
        weights=draw(st.dictionaries(st.sampled_from(sorted(chosen)), st.floats(0.5, 4))),
    )


@settings(max_examples=60, deadline=None)
@given(st.data(), studies(), st.booleans())
def test_own_recipes_hold_what_they_say_and_nothing_held_out(data: st.DataObject, study: Made, show: bool) -> None:
    cells, split = prepare(study)
    spec = data.draw(specs(study, show=show))
    try:
        mixture = build_mixture(parse_mixture("own", split, recipes={"own": spec}), cells, split, source="emoji")
    except DataError:
        return
    samples = study.index.set_index("row").loc[mixture.rows["row"]]
    assert mixture.rows["row"].is_unique and (samples["split"] == "train").all()
    assert set(samples["domain"]) <= set(spec.domains)
    tested = (samples["domain"] == study.test_domain) & samples["class"].isin(study.test_classes)
    assert show or not tested.any()
    assert spec.classes is None or set(samples["class"]) <= set(spec.classes)
    assert spec.size is None or len(samples) == spec.size
    for (domain, name), count in samples.groupby(["domain", "class"]).size().items():
        assert name not in spec.leave_out.get(domain, [])
        assert count <= spec.caps.get(domain, spec.caps.get("*", count))
        full = cells.train[cells.domains.index(domain), cells.classes.index(name)]
        assert count <= math.ceil(spec.domains[domain] * full + 1e-9)
    weight = np.array([spec.weights.get(domain, 1.0) for domain in samples["domain"]], dtype=np.float32)
    assert np.array_equal(mixture.rows["weight"], weight)
    assert_held_out(describe_rows(mixture.rows, {"emoji": study.index}), mixture)
    chosen = np.isin(cells.row, mixture.rows["row"])
    assert (cells.rank[chosen] < count_shown(mixture, cells).ravel()[cells.code[chosen]]).all()


@settings(max_examples=40, deadline=None)
@given(studies())
def test_matched_mixtures_are_parts_of_the_others_as_large_as_natural_only(study: Made) -> None:
    cells, split = prepare(study)
    for name in NAMES[1:]:
        mixture = build(name, cells, split)
        if mixture is None:
            continue
        part = build(f"{name}+matched", cells, split)
        if part is None:
            assert natural_size(cells, split) == 0
            continue
        assert len(part.rows) == natural_size(cells, split)
        assert set(part.rows["row"]) <= set(mixture.rows["row"])
