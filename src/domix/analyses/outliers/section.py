"""What the report says of outlier features: at the output, site by site, over training, and the controlled test."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.controlled import (
    against_domains,
    controlled_metrics,
    controlled_tests,
    mean_metrics,
    say_controlled,
)
from domix.analyses.groups import ACTIVATIONS, each_group
from domix.analyses.keys import series_key
from domix.figures import embedding
from domix.figures.charts import shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.runtime.wording import listed, percent
from domix.study import Study

RUN = ["mixture", "seed"]
SERIES = {"initial": "before training", "last": "after training"}
SIGNATURES = {"kurtosis": "kurtosis at the output", "outliers": "outlier features at the output"}
OUTPUT = Markup(
    """<p>The kurtosis of an image's {activation} is 3 where its components spread as a normal distribution does, and
far above where a few stand out; such outlier features were found in zero-shot CLIP models that are robust, and in no
others (<cite>Interpreting CLIP</cite>, 2024). It is read on images of <strong>{natural}</strong>, the domain that no
model finds foreign. {said}</p>"""
)
SITES = Markup(
    """<p>The same at every layer, averaged over positions, on {n} images of all domains: after training, a line a
mixture. Folded away: each mixture against its weights before training, where whatever stands out is the architecture's
doing. {outlying}</p>{key}"""
)
COURSE = Markup(
    """<p>Kurtosis at the output on {natural} images over the checkpoints that were kept, a line a
mixture.</p>{key}"""
)
TRAINED = Markup(
    """<p>Kurtosis at every layer, averaged over positions, on {n} images of all domains: a row a layer, a column the
epochs trained (0: before training). The darker, the higher, on one logarithmic scale for all mixtures.</p>"""
)


@each_group(SIGNATURES)
def section(results: AnalysisResults, study: Study) -> Section:
    """Show kurtosis by site, over checkpoints where there are any, and the controlled test."""
    tables = results.tables
    models = signatures(tables["output"], study).merge(tables["models"], on=RUN)
    if models.empty:
        return Section("Outlier features", (), plots={"kurtosis": _plot(tables["sites"])})
    tests = {name: controlled_tests(models, column, results.shared.confidence) for column, name in SIGNATURES.items()}
    by_column = {column: tests[name] for column, name in SIGNATURES.items()}
    parts = [
        Subsection(
            "Do outlier features appear?",
            OUTPUT.format(
                activation=ACTIVATIONS[results.kind], natural=study.natural_domain, said=_said(models, results.kind)
            ),
        ),
        _by_site(tables["sites"], tables["features"], study),
        _course(tables["output"], study),
        _layers_over_training(tables["sites"], study),
        Subsection(
            "Do outlier features move with the training domains, at equal accuracy?",
            say_controlled(tests, models, study, results.shared.confidence),
            against_domains("outliers", models, SIGNATURES, study),
        ),
    ]
    return Section(
        "Outlier features",
        [part for part in parts if part.text],
        plots={"kurtosis": _plot(tables["sites"])},
        metrics=mean_metrics(models, ("kurtosis", "median", "outliers", "norm_share")) | controlled_metrics(by_column),
        model_scores={
            "kurtosis at the output": models[[*RUN, "kurtosis"]].rename(columns={"kurtosis": "score"}),
        },
    )


def signatures(output: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return each model's numbers at the output with its last weights, on images of the natural domain."""
    rows = output[output["images"] == study.natural_domain]
    last = rows["checkpoint"] == rows.groupby(RUN)["checkpoint"].transform("max")
    return rows[last].drop(columns=["checkpoint", "images"])


def before_and_after(sites: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over images of all domains of the weights before and after training, without those on the way."""
    return sites[(sites["images"] == "all") & sites["weights"].isin(list(SERIES))]


def _said(models: pd.DataFrame, kind: str) -> str:
    by_mixture = models.groupby("mixture", sort=False)[["kurtosis", "outliers", "norm_share"]].mean()
    values = listed([f"{mixture} {row['kurtosis']:.2f}" for mixture, row in by_mixture.iterrows()])
    having = by_mixture[by_mixture["outliers"] > 0]
    if having.empty:
        return f"Here it is: {values}. No component of any {ACTIVATIONS[kind]} is an outlier feature."
    found = listed(
        [
            f"{mixture} {row['outliers']:.3g} ({percent(row['norm_share'])} of the squared length)"
            for mixture, row in having.iterrows()
        ]
    )
    return f"Here it is: {values}. Outlier features, mean over seeds: {found}; the other mixtures have none."


def _by_site(sites: pd.DataFrame, features: pd.DataFrame, study: Study) -> Subsection:
    title = "Kurtosis layer by layer"
    rows = before_and_after(sites).rename(columns={"site": "layer", "kurtosis": "value"})
    if rows.empty:
        return Subsection(title, "")
    keys = ["mixture", "weights", "layer", "depth"]
    means = rows.groupby(keys, sort=False, as_index=False)["value"].mean()
    limits = (float(means["value"].min()), float(means["value"].max()))
    names = [mixture for mixture in study.mixtures if (means["mixture"] == mixture).any()]
    last = means[means["weights"] == "last"].rename(columns={"mixture": "group"})
    every = {"All mixtures, after training": _figure("outliers-sites", title, last, names, limits)}
    each = {}
    for mixture in names:
        mine = means[means["mixture"] == mixture].assign(group=lambda frame: frame["weights"].map(SERIES))
        each[mixture] = _figure(f"outliers-sites-{mixture}", f"{title} of {mixture}", mine, [], limits)
    text = SITES.format(n=int(rows["n"].max()), outlying=_outlying(features), key=series_key(names))
    return Subsection(title, text, every, {"Each mixture before training (grey) and after (blue)": each})


def _outlying(features: pd.DataFrame) -> str:
    after = features[features["weights"] == "last"]
    if after.empty:
        return "No layer of a trained model has an outlier feature."
    found = after.groupby("site", sort=False)["mixture"].nunique()
    sites = [f"{site} (in {count} mixtures)" for site, count in found.items()]
    return f"Outlier features after training: {listed(sites)}."


def _course(output: pd.DataFrame, study: Study) -> Subsection:
    title = "Kurtosis over training"
    rows = output[output["images"] == study.natural_domain]
    if rows.groupby(RUN)["checkpoint"].nunique().max() < 2:
        return Subsection(title, "")
    means = rows.groupby(["mixture", "checkpoint"], sort=False, as_index=False)["kurtosis"].mean()
    names = [mixture for mixture in study.mixtures if (means["mixture"] == mixture).any()]
    curves = means.rename(columns={"mixture": "group", "kurtosis": "value", "checkpoint": "depth"})
    curves["layer"] = curves["depth"].astype("str") + " epochs"
    limits = (float(curves["value"].min()), float(curves["value"].max()))
    figures = {"Output": _figure("outliers-course", title, curves, names, limits)}
    return Subsection(title, COURSE.format(natural=study.natural_domain, key=series_key(names)), figures)


def _layers_over_training(sites: pd.DataFrame, study: Study) -> Subsection:
    title = "Kurtosis layer by layer, over training"
    rows = sites[sites["images"] == "all"]
    if not (rows["weights"] == "kept").any():
        return Subsection(title, "")
    keys = ["mixture", "depth", "site", "checkpoint"]
    means = rows.groupby(keys, sort=False, as_index=False)["kurtosis"].mean()
    limits = (float(means["kurtosis"].min()), float(means["kurtosis"].max()))
    names = [mixture for mixture in study.mixtures if (means["mixture"] == mixture).any()]
    figures = {name: _shades(name, means[means["mixture"] == name], limits) for name in names}
    return Subsection(title, TRAINED.format(n=int(rows["n"].max())), figures)


def _shades(mixture: str, rows: pd.DataFrame, limits: tuple[float, float]) -> Figure:
    """Return the kurtosis of each layer (down) after each number of epochs (across) as shades of its logarithm."""
    wide = rows.pivot(index=["depth", "site"], columns="checkpoint", values="kurtosis").droplevel("depth")
    low, span = limits[0], np.log(limits[1] / limits[0]) or 1.0
    title = f"Kurtosis of {mixture}, layer by layer, over training"
    ends = [f"{site} {row.iloc[0]:.2f} before training and {row.iloc[-1]:.2f} after" for site, row in wide.iterrows()]
    draw = partial(_draw_shades, (np.log(wide / low) / span).rename(columns=str), low, span)
    return Figure(f"outliers-layers-{mixture}", title, "Mean over seeds.", f"{title}: {'; '.join(ends)}.", draw)


def _draw_shades(shares: pd.DataFrame, low: float, span: float, look: Look) -> Drawing:
    def value(share: float) -> float:
        return low * float(np.exp(share * span))

    def tip(site: str, epochs: str, share: float) -> str:
        return f"{site} after {epochs} epochs: {value(share):.2f}"

    return shaded_table(
        look, look.panel, shares, lambda share: f"{value(share):#.3g}".rstrip("."), tip, row=1.8 * look.small
    )


def _figure(name: str, title: str, curves: pd.DataFrame, mixtures: list[str], limits: tuple[float, float]) -> Figure:
    deepest = curves[curves["depth"] == curves["depth"].max()]
    ends = listed([f"{row.group} {row.value:.2f}" for row in deepest.itertuples()])
    alt = f"{title}; at {deepest['layer'].iloc[0]}: {ends}."
    return Figure(name, title, "Mean over images and seeds.", alt, partial(_draw, curves, mixtures, limits))


def _draw(curves: pd.DataFrame, mixtures: list[str], limits: tuple[float, float], look: Look) -> Drawing:
    colours = {name: look.series[place % len(look.series)] for place, name in enumerate(mixtures)}
    colours |= {SERIES["initial"]: look.mute, SERIES["last"]: look.accent}
    return embedding.groups_by_layer(look, curves, colours, SERIES["last"], limits)


def _plot(sites: pd.DataFrame) -> pd.DataFrame:
    rows = before_and_after(sites).assign(series=lambda frame: frame["weights"].map(SERIES).astype("str"))
    keys = ["mixture", "series", "depth"]
    means = rows.groupby(keys, sort=False, as_index=False)["kurtosis"].mean()
    return means.rename(columns={"depth": "x", "kurtosis": "y"}).astype({"mixture": "str"})
