"""Write the study view: figures, tables, and two indices that show them, one for browsers and one for Git hosts."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from domix.figures.figure import Figure
from domix.figures.printed import FORMATS, page_style, save
from domix.report.paper import (
    effective,
    heat_map,
    interpolation,
    learning_curves,
    main_result,
    results,
    rounded,
    sharing,
    typeset,
)
from domix.report.paper.collection import Collection
from domix.report.paper.sheets import Absent
from domix.report.paper.typeset import Typeset
from domix.runtime.files import write_json, write_text

FIGURES = (
    main_result.figures,
    interpolation.domain_figures,
    interpolation.exposure_figures,
    effective.figures,
    heat_map.figures,
    learning_curves.figures,
    sharing.figures,
)


def publish(study: Collection, folder: Path, title: str) -> None:
    """Write everything into the empty folder `folder`."""
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    tables = _write_tables(study, folder / "tables")
    every = [figure for figures in FIGURES for figure in figures(study)]
    made = [figure for figure in every if isinstance(figure, Figure)]
    absent = [figure for figure in every if isinstance(figure, Absent)]
    widths = {figure.name: save(figure, folder / "figures") for figure in made}
    write_json(folder / "study.json", describe(study, made, absent))
    for name in ("index.html", "README.md"):
        text = _render(
            f"study_{name.lower()}", title=title, study=study, made=made, absent=absent, widths=widths, tables=tables
        )
        write_text(folder / name, text)


def _write_tables(study: Collection, folder: Path) -> list[Typeset]:
    makers = {
        results.result_table: rounded.results,
        results.comparison_table: rounded.comparisons,
        results.robustness_table: rounded.robustness,
        sharing.relation_table: sharing.typeset_relations,
        results.missing_table: rounded.missing,
    }
    written = []
    for numbers_of, read in makers.items():
        frame = numbers_of(study)
        if len(frame):
            written.append(read(study, frame))
            typeset.write(written[-1], frame, folder, study.mark)
    return written


def describe(study: Collection, made: Sequence[Figure], absent: Sequence[Absent]) -> dict[str, Any]:
    """Return what was collected, for machines."""
    return {
        "places": study.places,
        "test_domains": study.test_domains,
        "mixtures": study.mixtures,
        "runs_asked": study.asked,
        "runs_missing": results.missing_table(study).to_dict("records"),
        "notes": study.notes,
        "figures": [figure.name for figure in made],
        "absent": {figure.name: figure.reason for figure in absent},
    }


def _render(name: str, **context: Any) -> str:
    source = importlib.resources.files("domix.report.paper").joinpath("templates", name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=name.endswith(".html"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    given = {"formats": FORMATS, "endings": typeset.ENDINGS, "style": page_style()}
    return environment.from_string(source).render(**given, **context)
