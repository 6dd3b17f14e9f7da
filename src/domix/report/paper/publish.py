"""Write the study view: figures, tables, and two indices that show them, one for browsers and one for Git hosts."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl

from domix.report.paper import effective, heat_map, ink, interpolation, learning, main_result, results, rounded, typeset
from domix.report.paper.collection import Collection
from domix.report.paper.drawn import Drawn
from domix.report.paper.typeset import Typeset
from domix.runtime.files import write_json, write_text

FIGURES = (
    main_result.draw,
    interpolation.draw_domains,
    interpolation.draw_exposure,
    effective.draw,
    heat_map.draw,
    learning.draw,
)


def publish(study: Collection, folder: Path, title: str) -> None:
    """Write everything into the empty folder `folder`."""
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    tables = _write_tables(study, folder / "tables")
    with mpl.rc_context(ink.STYLE):
        drawn = [figure for draw in FIGURES for figure in draw(study)]
        for figure in drawn:
            if figure.figure is not None:
                ink.save(figure.figure, folder / "figures", figure.name)
    write_json(folder / "study.json", describe(study, drawn))
    for name in ("index.html", "README.md"):
        write_text(folder / name, _render(f"study_{name.lower()}", study, drawn, tables, title))


def _write_tables(study: Collection, folder: Path) -> list[Typeset]:
    makers = {
        results.result_table: rounded.results,
        results.comparison_table: rounded.comparisons,
        results.robustness_table: rounded.robustness,
        results.missing_table: rounded.missing,
    }
    written = []
    for numbers_of, read in makers.items():
        frame = numbers_of(study)
        if len(frame):
            written.append(read(study, frame))
            typeset.write(written[-1], frame, folder, study.mark)
    return written


def describe(study: Collection, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Return what was collected, for machines."""
    return {
        "places": study.places,
        "test_domains": study.test_domains,
        "mixtures": study.mixtures,
        "runs_asked": study.asked,
        "runs_missing": results.missing_table(study).to_dict("records"),
        "notes": study.notes,
        "figures": [figure.name for figure in drawn if figure.figure is not None],
        "absent": {figure.name: figure.caption for figure in drawn if figure.figure is None},
    }


def _render(name: str, study: Collection, drawn: Sequence[Drawn], tables: Sequence[Typeset], title: str) -> str:
    source = importlib.resources.files("domix.report.paper").joinpath("templates", name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=name.endswith(".html"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source).render(
        title=title,
        study=study,
        made=[figure for figure in drawn if figure.figure is not None],
        absent=[figure for figure in drawn if figure.figure is None],
        tables=tables,
        formats=ink.FORMATS,
        endings=typeset.ENDINGS,
    )
