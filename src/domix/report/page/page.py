"""The page that a reader opens: one HTML file that needs nothing else, neither a network nor a file beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from ruamel.yaml import YAML

from domix.analyses.contract import Section
from domix.figures.figure import Figure
from domix.figures.page import svg
from domix.report.figures import accuracies, cells, classes, effective, learning
from domix.report.load.study import Results
from domix.report.page import datacards, drilldown, examples, modelcards
from domix.report.page.run_facts import RunFacts, insert, mean_rates
from domix.report.tables import findings, other_models, summary, words
from domix.runtime import wording
from domix.settings.params import Params

EXAMPLES = 6  # images in each of the two groups
CLASS_ROWS = 14  # best and worst classes shown; all of them where there are not more than both together
TEMPLATES = jinja2.PackageLoader("domix.report.page", "templates")


@dataclass(frozen=True)
class Provenance:
    """What the results were made with and of: `versions` of packages, and `digests`, the SHA-256 of inputs, by name."""

    versions: dict[str, str]
    digests: dict[str, str]


def render(
    study: Results,
    params: Params,
    provenance: Provenance,
    cards: Sequence[datacards.SourceCard],
    read: Callable[[str, int], bytes],
    sections: Sequence[Section] = (),
) -> str:
    """Return the page as HTML text.

    Equal studies give equal pages: what tells of the run that made one is added by `with_run`.

    Args:
        read: returns the encoded image of a source and a row of its index.
        sections: what the analyses say, in their order.
    """
    context = {"study": study, "params": params, "title": params.report.title}
    context |= _result(study) | _analyses(sections) | _origin(study, params, provenance)
    own = partial(read, params.sources[0])
    context |= _further(study) | _images(study, own) | _closer(study, own)
    context |= _data(study, cards, read)
    context |= {name: Markup(source(file)) for name, file in (("css", "style.css"), ("js", "page.js"))}
    return environment().get_template("page.html").render(context)


def with_run(html: str, facts: RunFacts) -> str:
    """Return a page with the commit, machine, times and rates of the run that made it."""
    context = {"made": facts.made, "times": facts.times, "rates": mean_rates(facts.rates)}
    return insert(html, environment().get_template("run_facts.html").render(context))


def environment() -> jinja2.Environment:
    """Return the templates with the ways in which pages write numbers."""
    made = jinja2.Environment(
        loader=TEMPLATES, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "percent": wording.percent,
        "points": words.points,
        "plain": wording.plain,
        "duration": duration,
        "thousands": lambda number: f"{int(number):,}",
        "spaced": wording.spaced,
        "listed": wording.listed,
        "paragraphs": paragraphs,
        "measure": words.measure,
        "bytes": datacards.size_text,
        "svg": lambda figure: Markup(svg(figure)),  # its texts are escaped
    }
    made.tests |= {"nan": lambda value: bool(np.isnan(value))}
    return made


def paragraphs(text: str) -> Markup:
    """Return Markup as it is; plain text escaped, each of its paragraphs as HTML."""
    if isinstance(text, Markup):
        return text
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    return Markup("").join(Markup("<p>{}</p>").format(part) for part in parts)


def source(file: str) -> str:
    """Return a file of templates/ as it stands: our own CSS or JavaScript, which must not be escaped."""
    return TEMPLATES.get_source(jinja2.Environment(autoescape=True), file)[0]


def _result(study: Results) -> dict[str, Any]:
    """Return what the page's first half shows: the answer, the cells, accuracies and the table."""
    compared = summary.differences(study, study.baseline) if study.baseline else None
    return {
        "conclusion": findings.conclude(study),
        "shown": {mixture: words.shown(study, mixture) for mixture in study.mixtures},
        "cells": cells.cells(study),
        "accuracy": accuracies.accuracies(study),
        "paired": accuracies.paired(study),
        "rows": summary.result_table(study),
        "compared": {} if compared is None else {row["mixture"]: row for _, row in compared.iterrows()},
        "losses": learning.losses(study),
        "learning": learning.learning(study),
        "beside_rows": other_models.result_table(study),
    }


def _further(study: Results) -> dict[str, Any]:
    """Return the statistics over seeds, accuracies on other sets, and effective robustness."""
    estimates, compared = other_models.over_seeds(study), other_models.comparisons(study)
    robust = other_models.robustness_table(study)
    return {
        "estimates_rows": estimates.to_dict("records"),
        "comparison_rows": compared.to_dict("records"),
        "places": [place for place, _, _ in summary.panels(study)],
        "metric_names": list(dict.fromkeys([*estimates["metric"], *compared["metric"]])),
        "most_seeds": int(estimates["seeds"].max()) if len(estimates) else 1,
        "most_checkpoints": int(estimates["checkpoints"].max()) if len(estimates) else 1,
        "robustness_rows": robust,
        "robustness_metrics": list(dict.fromkeys(name for row in robust for name in row["metrics"])),
        "trends": effective.effective(study),
    }


def _closer(study: Results, read: Callable[[int], bytes]) -> dict[str, Any]:
    """Return what the closer look shows."""
    return {
        "mixture_views": drilldown.mixtures(study, read),
        "class_views": drilldown.classes(study, read),
    }


def _analyses(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the analyses' sections by chapter, those that say something."""
    said = [section for section in sections if section.parts]
    return {
        "model_sections": [section for section in said if section.chapter == "model"],
        "data_sections": [section for section in said if section.chapter == "data"],
    }


def _images(study: Results, read: Callable[[int], bytes]) -> dict[str, Any]:
    """Return the examples and the figures a class."""
    table = summary.class_table(study)
    blind = summary.blind(study)
    anyhow, telling = examples.choose(study, EXAMPLES)
    best, worst = (table.iloc[:CLASS_ROWS], table.iloc[-CLASS_ROWS:]) if len(table) > 2 * CLASS_ROWS else (table, None)
    return {
        "anyhow": examples.load(study, anyhow, read),
        "telling": examples.load(study, telling, read),
        "class_shares": classes.class_shares(study),
        "classes_best": _classes("best", "Best read test classes", best),
        "classes_worst": _classes("worst", "Worst read test classes", worst),
        "class_count": len(table),
        "class_unread": int((table[blind].max(axis=1) == 0).sum()),
    }


def _classes(name: str, title: str, table: pd.DataFrame | None) -> Figure | None:
    return None if table is None or table.empty else classes.by_class(f"classes-{name}", title, table)


def _data(study: Results, cards: Sequence[datacards.SourceCard], read: Callable[[str, int], bytes]) -> dict[str, Any]:
    """Return the data cards and the model cards."""
    known, licences = set(TEMPLATES.list_templates()), datacards.licences(cards)
    return {
        "source_cards": [
            {
                "card": card,
                "images": datacards.load_examples(card, read),
                "more": f"card_{card.name}.html" if f"card_{card.name}.html" in known else None,
            }
            for card in cards
        ],
        "mixture_cards": [
            (card, modelcards.training_data(study, card, licences)) for card in datacards.mixture_cards(study)
        ],
        "model_cards": modelcards.model_cards(study, licences),
        "card_head": modelcards.HEAD,
    }


def _origin(study: Results, params: Params, provenance: Provenance) -> dict[str, Any]:
    """Return what the last section lists."""
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(params.model_dump(), text)
    runs = [
        {"run": f"{m}-s{s}"} | {k: v for k, v in model["done"].items() if isinstance(v, int | float)}
        for (m, s), model in study.models.items()
    ]
    return {
        "versions": provenance.versions,
        "digests": provenance.digests,
        "runs": runs,
        "run_columns": list(dict.fromkeys(key for run in runs for key in run)),
        "params_text": text.getvalue(),
    }


def duration(seconds: float) -> str:
    """Write seconds as a reader says them: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
