"""What the report says of the fine-tuned group, from tables whose answer is known."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from matplotlib.text import Text

from domix.analyses.contract import Section
from domix.figures.interpolation import over_share, trade_off
from domix.figures.look import PRINT
from tests import made_section
from tests.fake_signatures import ALPHAS, finetuned_tables

MIXTURES = ("natural-only", "cg-high")


def section(given: dict[str, pd.DataFrame], **settings: Any) -> Section:
    return made_section.section("finetuned", given, made_section.study(2, MIXTURES), **settings)


def test_the_section_tells_both_ends_and_the_best_weight() -> None:
    made = section(finetuned_tables(MIXTURES))
    first, second, third = (" ".join(str(part.text).split()) for part in made.parts)
    assert "1,234 natural training images" in first
    assert (
        "natural-only goes from 21.0 % to 41.0 % on natural images, and from 31.0 % to 11.0 % on held-out cells, where"
        " it is best at weight 0.5 (36.0 %); cg-high goes from 31.0 %" in first
    )
    assert "natural-only from 5.00 to 3.00, at a CKA of 0.60; cg-high from 5.00" in second
    assert "natural-only 50 % zero-shot and 80 % fine-tuned; cg-high 50 %" in third
    assert made.metrics["natural-only.held_out.zero_shot"] == 0.31
    assert made.metrics["cg-high.natural.fine_tuned"] == 0.51
    assert (made.metrics["cg-high.held_out.best"], made.metrics["cg-high.held_out.best_alpha"]) == (0.46, 0.5)
    assert (made.metrics["cg-high.kurtosis.zero_shot"], made.metrics["cg-high.kurtosis.fine_tuned"]) == (5.0, 3.0)
    assert made.metrics["cg-high.cka"] == 0.6
    plot = made.plots["finetuned"].set_index(["mixture", "series", "x"])["y"]
    assert plot["natural-only", "held_out", 0.5] == pytest.approx(0.36) and len(plot) == 2 * 3 * 3


def test_the_trade_off_has_natural_images_across_and_held_out_cells_up() -> None:
    (figure,) = section(finetuned_tables(MIXTURES)).parts[0].figures.values()
    table = figure.draw.keywords["table"]  # ty: ignore[missing-attribute]
    mine = table[table["series"] == "natural-only"]
    assert mine["alpha"].tolist() == list(ALPHAS)
    assert mine["x"].tolist() == pytest.approx([0.21, 0.31, 0.41]) and mine["y"].tolist() == pytest.approx(
        [0.31, 0.36, 0.11]
    )


def test_pruned_curves_go_by_what_is_kept() -> None:
    figures = section(finetuned_tables(MIXTURES)).parts[2].figures
    assert list(figures) == list(MIXTURES)
    table = figures["cg-high"].draw.keywords["table"]  # ty: ignore[missing-attribute]
    before = table[table["series"] == "zero-shot"].set_index("x")["y"]
    assert before.index.tolist() == pytest.approx([1.0, 0.5, 0.2]) and before.tolist() == pytest.approx([0.3, 0.3, 0.1])


def test_no_chosen_mixture_no_section() -> None:
    empty = {name: table.iloc[:0] for name, table in finetuned_tables(MIXTURES).items()}
    made = section(empty)
    assert made.parts == () and made.plots["finetuned"].empty


def test_figures_bear_one_value_and_unknown_ones() -> None:
    table = pd.DataFrame({"series": "a", "alpha": [0.0, 1.0], "x": [0.0, 1.0], "y": [0.2, 0.2]})
    trade_off(PRINT, table, ["a"], "natural")
    over_share(PRINT, table.assign(y=float("nan")), ["a"], "alpha", shares=False)
    plain = over_share(PRINT, table, ["a"], "alpha", shares=True)
    named = over_share(PRINT, table, ["a"], "alpha", shares=True, key=True)
    assert named.get_figheight() > plain.get_figheight()
    words = [[text.get_text() for text in drawn.findobj(Text)] for drawn in (plain, named)]
    assert "a" not in words[0] and "a" in words[1]
