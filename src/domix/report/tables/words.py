"""How the report writes numbers, and what a mixture shows, in words."""

from __future__ import annotations

import re

import pandas as pd

from domix.report.load.study import Results
from domix.runtime.wording import UNIT, listed, percent
from domix.runtime.wording import points as points  # of this module too


def measure(metric: str) -> str:
    """Write a metric's name as words: balanced top-1, macro F1."""
    return re.sub(r"\btop(\d)", r"top-\1", metric.replace("_", " ")).replace("f1", "F1")


def interval(row: pd.Series, confidence: float) -> str:
    """Write an estimate's interval in brackets."""
    low, high = (percent(row[end]).removesuffix(UNIT) for end in ("low", "high"))
    return f"({confidence * 100:g}{UNIT} interval {low} to {high})"


def shown(study: Results, mixture: str) -> str:
    """Say in words what a mixture shows, from its counts."""
    domains = study.shown_domains(mixture)
    others = [d for d in study.domains if d != study.test_domain]
    if domains == [study.natural_domain]:
        return f"{study.natural_domain} images only"
    if study.test_domain not in domains:
        every = f"every domain but {study.test_domain}"
        return every if domains == others else f"{listed(domains)}; no {study.test_domain}"
    what = "every domain" if domains == study.domains else listed(domains)
    tested = study.held_out_samples(mixture)
    if tested == 0:
        return f"{what}; in {study.test_domain} none of the test classes"
    return f"{what}; the test classes in {study.test_domain} too ({tested:,} samples of them)"
