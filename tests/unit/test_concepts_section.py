"""What the report says of concepts, from tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from domix.analyses.concepts.section import encoded, model_numbers
from tests.fake_signatures import concept_tables
from tests.made_section import section, study


def test_the_section_tells_concepts_and_their_overlap() -> None:
    made = section("concepts", concept_tables(list(study().runs)), threshold=0.7)
    count, best, shared, controlled = made.parts
    assert "of 3 (group: 1, domain: 1 and colour: 1) on 40 test images" in count.text
    told = "natural-only 1, cg-low 1, leave-out-domain 2, cg-high 2 and cg-high-all 2"
    assert f"Unique concepts at 0.7: {told}." in count.text and list(count.figures) == ["All mixtures"]
    assert "encodes so many: natural-only 1.00, cg-low 1.00" in count.text
    assert "mean over concepts: natural-only 0.50, cg-low 0.55" in count.text
    assert best.figures["All mixtures"].alt.split(": ")[1].split("; ") == [
        "food 25 % 0.80",
        "sketch 25 % 0.70",
        "food 25 % 0.30.",
    ]
    assert "At 0.7, 1 of 2 concepts are encoded by all mixtures; 1 by none but leave-out-domain, cg-high" in shared.text
    assert "leave-out-domain and natural-only 0.50" in shared.figures["Output"].alt
    assert list(controlled.figures) == ["Unique concepts at the output", "Mean average precision of concepts"]
    assert made.metrics["leave-out-domain.unique"] == 2 and made.metrics["cg-low.polysemanticity"] == 1
    assert made.metrics["cg-high.ap"] == pytest.approx(0.65) and "controlled.ap.domains" in made.metrics
    assert made.model_scores["unique concepts at the output"]["score"].tolist() == [1, 1, 2, 2, 2]
    plot = made.plots["concepts"]
    assert len(plot) == 5 * 51 and set(plot["series"]) == {"output"}
    rows = plot[plot["mixture"] == "natural-only"].set_index("x")["y"]
    assert (rows[0.5], rows[0.6], rows[0.61], rows[0.7], rows[0.71], rows[1.0]) == (2, 2, 1, 1, 0, 0)


def test_nothing_encoded_is_said() -> None:
    made = section("concepts", concept_tables(list(study().runs)), threshold=1.0)
    assert "Unique concepts at 1: natural-only 0" in made.parts[0].text and "No unit encodes any." in made.parts[0].text
    assert made.parts[2].text == "<p>No mixture encodes a concept at 1.</p>" and not made.parts[2].figures
    assert "cg-low.polysemanticity" not in made.metrics and made.metrics["cg-low.unique"] == 0
    empty = {name: table.iloc[:0] for name, table in concept_tables(list(study().runs)).items()}
    assert section("concepts", empty).parts == () and section("concepts", empty).plots["concepts"].empty


def test_numbers_are_those_at_the_threshold() -> None:
    tables = concept_tables(list(study(2).runs), ("output", "act1"))
    numbers = model_numbers(tables, 0.5).set_index(["mixture", "seed"])
    assert len(numbers) == 10 and numbers.loc[("natural-only", 0), "unique"] == 2
    assert numbers.loc[("natural-only", 0), "polysemanticity"] == 1.5  # two, and one
    assert np.isnan(model_numbers(tables, 0.99).set_index(["mixture", "seed"]).loc[("cg-low", 1), "polysemanticity"])
    concepts = tables["concepts"][tables["concepts"]["site"] == "output"]
    assert encoded(concepts, 0.605)["natural-only"] == {"food (group)", "sketch (domain)"}  # mean of 0.6 and 0.61
    assert encoded(concepts, 0.61)["natural-only"] == {"food (group)"}
    made = section("concepts", tables, study(2), threshold=0.5)
    assert list(made.parts[0].folded["At other sites"]) == ["act1"]
    assert made.metrics["natural-only.ap"] == pytest.approx(0.505)
