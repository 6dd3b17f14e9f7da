"""The page that a reader opens: one HTML file that needs nothing else, neither a network nor a file beside it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from ruamel.yaml import YAML

from domix.config import Params
from domix.report import (
    beside,
    curves,
    datacards,
    drilldown,
    examples,
    figures,
    leakage,
    maps,
    modelcards,
    tables,
    words,
)
from domix.report.study import Results
from domix.report.style import domain_colours

EXAMPLES = 6  # pictures in each of the two groups
CLASS_ROWS = 14  # best and worst classes shown; all of them where there are not more than both together
TEMPLATES = jinja2.PackageLoader("domix.report", "templates")


@dataclass(frozen=True)
class Provenance:
    """Where the results come from.

    `made` is what `stages.common.provenance` returns, `times` the seconds a stage instance took, `digests` the SHA-256
    of inputs by name.
    """

    made: dict[str, Any]
    times: dict[str, float]
    digests: dict[str, str]


def render(
    study: Results,
    params: Params,
    provenance: Provenance,
    cards: Sequence[datacards.SourceCard],
    read: Callable[[str, int], bytes],
) -> str:
    """Return the page as HTML text; `read` returns the encoded picture of a source and a row of its index."""
    context = {"study": study, "params": params, "title": params.report.title}
    context |= _result(study) | _analyses(study, params) | _origin(study, params, provenance)
    own = partial(read, params.sources[0])
    context |= _further(study) | _pictures(study, own) | _closer(study, own) | _leakage(study, params, read)
    context |= _data(study, cards, read)
    context |= {name: Markup(source(file)) for name, file in (("css", "style.css"), ("js", "page.js"))}
    return environment().get_template("page.html").render(context)


def environment() -> jinja2.Environment:
    """Return the templates with the ways in which pages write numbers."""
    made = jinja2.Environment(
        loader=TEMPLATES, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "percent": words.percent,
        "points": words.points,
        "plain": lambda share: words.percent(share).removesuffix(words.UNIT),
        "duration": duration,
        "thousands": lambda number: f"{int(number):,}",
        "spaced": examples.spaced,
        "listed": words.listed,
        "measure": words.measure,
        "bytes": datacards.size_text,
    }
    made.tests |= {"nan": lambda value: bool(np.isnan(value))}
    return made


def source(file: str) -> str:
    """Return a file of templates/ as it stands: our own CSS or JavaScript, which must not be escaped."""
    return TEMPLATES.get_source(jinja2.Environment(autoescape=True), file)[0]


def _result(study: Results) -> dict[str, Any]:
    """Return what the page's first half shows: the answer, the cells, accuracies and the table."""
    compared = tables.differences(study, study.baseline) if study.baseline else None
    return {
        "conclusion": words.conclude(study),
        "shown": {mixture: words.shown(study, mixture) for mixture in study.mixtures},
        "cells": figures.cells(study),
        "accuracy": {panel[0]: figures.accuracies(study, *panel) for panel in tables.panels(study)},
        "paired": figures.paired(study),
        "rows": tables.result_table(study),
        "compared": {} if compared is None else {row["mixture"]: row for _, row in compared.iterrows()},
        "losses": figures.losses(study),
        "learning": curves.learning(study),
        "beside_rows": beside.result_table(study),
    }


def _further(study: Results) -> dict[str, Any]:
    """Return the statistics over seeds, accuracies on other sets, and effective robustness."""
    estimates, compared = beside.over_seeds(study), beside.comparisons(study)
    robust = beside.robustness_table(study)
    return {
        "estimates_rows": estimates.to_dict("records"),
        "comparison_rows": compared.to_dict("records"),
        "places": [place for place, _, _ in tables.panels(study)],
        "metric_names": list(dict.fromkeys([*estimates["metric"], *compared["metric"]])),
        "most_seeds": int(estimates["seeds"].max()) if len(estimates) else 1,
        "most_checkpoints": int(estimates["checkpoints"].max()) if len(estimates) else 1,
        "robustness_rows": robust,
        "robustness_metrics": list(dict.fromkeys(name for row in robust for name in row["metrics"])),
        "trends": curves.effective(study),
    }


def _closer(study: Results, read: Callable[[int], bytes]) -> dict[str, Any]:
    """Return what the closer look shows."""
    return {
        "mixture_views": drilldown.mixtures(study, read),
        "class_views": drilldown.classes(study, read),
    }


def _analyses(study: Results, params: Params) -> dict[str, Any]:
    """Return the figures of the analyses."""
    chosen = maps.highlighted(study)
    kernel = params.cka.kernels[0]
    kinds = [(kind, classes) for kind in params.cka.kernels for classes in ("test", "seen", "all")]
    every = {f"{kind}, {classes} classes": maps.cka(study, kind, classes) for kind, classes in kinds}
    first = f"{kernel}, test classes"
    return {
        "cka_kernel": kernel,
        "cka_first": every.pop(first),
        "cka_more": {name: panels for name, panels in every.items() if panels},
        "umap_domains": maps.umap_domains(study),
        "umap_classes": maps.umap_classes(study, chosen),
        "class_key": [(name, maps.class_colour(position)) for position, name in enumerate(chosen)],
        "domain_key": list(domain_colours(study.domains, study.test_domain, study.natural_domain).items()),
        "distances": maps.distances(study, "domain"),
        "class_distances": maps.distances(study, "class"),
    }


def _pictures(study: Results, read: Callable[[int], bytes]) -> dict[str, Any]:
    """Return the examples and the figures a class."""
    table = tables.class_table(study)
    blind = tables.blind(study)
    anyhow, telling = examples.choose(study, EXAMPLES)
    best, worst = (table.iloc[:CLASS_ROWS], table.iloc[-CLASS_ROWS:]) if len(table) > 2 * CLASS_ROWS else (table, None)
    return {
        "anyhow": examples.load(study, anyhow, read),
        "telling": examples.load(study, telling, read),
        "class_shares": figures.class_shares(study),
        "classes_best": figures.classes(study, best, "Best read test classes"),
        "classes_worst": None if worst is None else figures.classes(study, worst, "Worst read test classes"),
        "class_count": len(table),
        "class_unread": int((table[blind].max(axis=1) == 0).sum()),
    }


def _leakage(study: Results, params: Params, read: Callable[[str, int], bytes]) -> dict[str, Any]:
    """Return what the section on leakage shows; nothing where an unfinished study has no audit."""
    if not study.leakage.meta:
        return {"leak_verdict": None}
    chosen = leakage.choose(study, params.leakage.examples)
    return {
        "leak_verdict": leakage.verdict(study),
        "leak_advice": leakage.advice(study, params.mixing.drop),
        "leak_likeness": leakage.likeness(study),
        "leak_left_out": leakage.left_out(study),
        "leak_rows": leakage.table(study),
        "leak_examples": leakage.load(study, chosen, read, params.sources[0]),
        "leak_domains": leakage.domain_table(study),
        "leak_domain_sentence": leakage.domain_sentence(study),
        "leak_rates": study.leakage.meta["probe_rates"],
    }


def _data(study: Results, cards: Sequence[datacards.SourceCard], read: Callable[[str, int], bytes]) -> dict[str, Any]:
    """Return the data cards and the model cards."""
    known, licences = set(TEMPLATES.list_templates()), datacards.licences(cards)
    return {
        "source_cards": [
            {
                "card": card,
                "pictures": datacards.load_examples(card, read),
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
    yaml.dump(dataclasses.asdict(params), text)
    runs = [
        {"run": f"{m}-s{s}"} | {k: v for k, v in model["done"].items() if isinstance(v, int | float)}
        for (m, s), model in study.models.items()
    ]
    return {
        "made": provenance.made,
        "times": provenance.times,
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
