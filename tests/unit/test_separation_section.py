"""What the report says of separation: single dimensions, and the map without one domain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domix.analyses.contract import Section
from domix.analyses.registry import find
from domix.analyses.separation.settings import Settings
from domix.figures import page
from domix.report.load.study import load_results
from domix.report.page.sections import asked_study
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from tests.fake_report import CONFIDENCE, Fake, results_of

DIMENSIONS = ["In which dimensions a domain differs", "Images in the dimensions that differ most"]


def section_of(folder: Path, settings: Settings, *emptied: str) -> Section:
    fake = Fake(folder, mixtures=["cg-high", "cg-high+aligned"], classes=40, test_classes=6)
    home = fake.write() / "analysis/separation"
    if settings.without:
        whole = read_table(home / "umap.parquet")
        write_table(home / "umap_without.parquet", whole[whole["domain"] != settings.without])
    for name in emptied:
        path = home / f"{name}.parquet"
        write_table(path, read_table(path).iloc[:0])
    study = load_results(folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["separation"])
    return find("separation").section(results_of(study, "separation", settings), asked_study(study))


def test_mixtures_stand_side_by_side_in_every_part(tmp_path: Path) -> None:
    section = section_of(tmp_path, Settings(without="quickdraw"))
    titles = [part.title for part in section.parts]
    assert (
        titles[:2] == ["Where images lie, by domain", "Where images lie without quickdraw"] and titles[4:] == DIMENSIONS
    )
    assert all(list(part.figures) == ["cg-high", "cg-high+aligned"] for part in section.parts)
    names = [figure.name for part in section.parts for figure in part.figures.values()]
    assert len(set(names)) == len(names)


def test_dimensions_are_named_and_the_greatest_differences_told(tmp_path: Path) -> None:
    curves, images = section_of(tmp_path, Settings()).parts[-2:]
    assert "clipart 0.300" in curves.figures["cg-high"].alt and "sketch 0.100" in curves.figures["cg-high"].alt
    drawn = page.svg(images.figures["cg-high"])
    assert ">dimension 6</text>" in drawn and ">dimension 5</text>" in drawn
    assert next(iter(images.folded)) == "Those in which infograph differs most" and len(images.folded) == 5


def test_what_is_folded_away_has_fewer_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domix.analyses.separation.dimension_panels.DOTS", 10)
    images = section_of(tmp_path, Settings()).parts[-1]
    shown = page.svg(images.figures["cg-high"])
    folded = page.svg(images.folded["Those in which sketch differs most"]["cg-high"])
    counts = [len(re.findall(r"h0", text)) for text in (shown, folded)]
    assert counts[0] > 300 and 50 <= counts[1] <= 60


def test_without_a_second_map_and_a_scatter_the_other_parts_remain(tmp_path: Path) -> None:
    titles = [part.title for part in section_of(tmp_path, Settings(), "scatter").parts]
    assert titles[-1] == DIMENSIONS[0] and len(titles) == 4
    assert [title for title in titles if "without" in title] == []


def test_a_table_that_is_not_optional_must_hold_every_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"differences\.parquet holds nothing for cg-high seed 0"):
        section_of(tmp_path, Settings(), "differences")
