"""What the report shows of CKA: its course over the layers, a panel a mixture."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.cka.bands import group_bands
from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.pairs import with_domain
from domix.figures import embedding
from domix.figures.figure import Figure
from domix.study import Study

SUBSETS = ("test", "seen", "all")
DEPTHS = ("early", "middle", "late")
TEXT = Markup(
    """<p>Centred kernel alignment (CKA, {kernel} kernel, on the class means of the test classes) is 1 where two domains
arrange the classes in the same way and about 0 where their arrangements have nothing to do with each other. If the
lines for pairs with <span class="hot">{test_domain}</span> run below the others, the network has not brought that
style into the common arrangement, and the layer where they part is where it fails to.</p>
<ul class="key"><li><i class="line" style="border-color:var(--hot)"></i> pairs with {test_domain} (thick: mean)</li>
<li><i class="line" style="border-color:var(--mute);border-top-style:dashed"></i> the other pairs (thick:
mean)</li></ul>"""
)

BANDS = Markup(
    """<p>The same ({kernel} kernel) as two means with bands: pairs with <span class="hot">{test_domain}</span>
against the other pairs, over the test classes, the seen ones and all. A gap over the test classes alone would be the
held-out cells' doing; one as wide over the seen classes is the style's. The bands ({share:g} %, over pairs drawn with
replacement) say how much pairs differ, and nothing of seeds or classes.</p>"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Show the first kernel on the test classes, then all classes in groups; the rest is folded away."""
    table = results.tables["cka"]
    kernels = results.settings.kernels
    shown = {(kernel, classes): panels(table, study, kernel, classes) for kernel in kernels for classes in SUBSETS}
    first = shown.pop((kernels[0], "test"))
    bands = {kernel: band_panels(table, study, kernel, results.shared.confidence) for kernel in kernels}
    parts = [
        Subsection(
            "How alike two domains are represented, layer by layer",
            TEXT.format(kernel=kernels[0], test_domain=study.test_domain),
            first,
            {f"CKA with kernel {kernel}, {classes} classes": more for (kernel, classes), more in shown.items() if more},
        ),
        Subsection(
            "Classes that were held out, seen, and all",
            BANDS.format(kernel=kernels[0], test_domain=study.test_domain, share=100 * results.shared.confidence),
            bands.pop(kernels[0]),
            {f"The same with kernel {kernel}": more for kernel, more in bands.items() if more},
        ),
    ]
    return Section(
        "CKA",
        [part for part in parts if part.figures],
        plots={"cka": plot(table, study)},
        model_scores=depth_scores(table, study, kernels[0]),
    )


def depth_scores(table: pd.DataFrame, study: Study, kernel: str) -> dict[str, pd.DataFrame]:
    """Return each model's mean CKA of the pairs with the test domain, over the test classes, in thirds of its depth."""
    rows = table[(table["kernel"] == kernel) & (table["classes"] == "test")]
    rows = rows[(rows["domain_a"] != rows["domain_b"]) & with_domain(rows, study.test_domain)]
    thirds = np.array_split(np.sort(rows["depth"].unique()), len(DEPTHS))
    model = ["mixture", "seed"]
    return {
        f"CKA, {name} layers": rows[rows["depth"].isin(depths)]
        .groupby(model, sort=False, as_index=False)["value"]
        .mean()
        .rename(columns={"value": "score"})
        for name, depths in zip(DEPTHS, thirds, strict=True)
        if len(depths)
    }


def by_layer(table: pd.DataFrame, study: Study, kernel: str, classes: str) -> pd.DataFrame:
    """Return CKA by layer, mean over seeds: `mixture, layer, depth, domain_a, domain_b, group, value`.

    `group` is "test" for pairs that hold the test domain, else "other".
    """
    rows = table[(table["kernel"] == kernel) & (table["classes"] == classes)]
    rows = rows[rows["domain_a"] != rows["domain_b"]]
    rows = rows.assign(group=np.where(with_domain(rows, study.test_domain), "test", "other"))
    keys = ["mixture", "layer", "depth", "domain_a", "domain_b", "group"]
    return rows.groupby(keys, sort=False, as_index=False)["value"].mean()


def plot(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return mean CKA a layer over the test classes, of the pairs with the test domain and of the others."""
    parts = []
    for kernel in table["kernel"].unique():
        layers = by_layer(table, study, kernel, "test")
        means = layers.groupby(["mixture", "layer", "depth", "group"], sort=False, as_index=False)["value"].mean()
        parts.append(means.assign(kernel=kernel))
    names = {"test": "with the test domain", "other": "other pairs"}
    columns = ["mixture", "layer", "depth", "group", "value", "kernel"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return frame.assign(pairs=frame["group"].map(names)).drop(columns="group")


def panels(table: pd.DataFrame, study: Study, kernel: str, classes: str) -> dict[str, Figure]:
    """Return CKA by layer, a figure a mixture: pairs of domains with the test domain against the other pairs."""
    frame = by_layer(table, study, kernel, classes)
    if frame.empty:
        return {}
    frame = frame.assign(tested=frame["group"] == "test", pair=frame["domain_a"] + " and " + frame["domain_b"])
    limits = (float(frame["value"].min()), float(frame["value"].max()))
    known = {mixture: frame[frame["mixture"] == mixture] for mixture in study.mixtures}
    return {
        mixture: _figure(f"cka-{kernel}-{classes}-{mixture}", mixture, mine, study, limits)
        for mixture, mine in known.items()
        if len(mine)
    }


def band_panels(table: pd.DataFrame, study: Study, kernel: str, confidence: float) -> dict[str, Figure]:
    """Return mean CKA of both groups of pairs by layer with bands, a figure a mixture, a panel a subset of classes."""
    layers = [by_layer(table, study, kernel, classes).assign(subset=f"{classes} classes") for classes in SUBSETS]
    frame = group_bands(pd.concat(layers, ignore_index=True), confidence)
    if frame.empty:
        return {}
    frame = frame.assign(tested=frame["group"] == "test")
    ends = frame[["value", "low", "high"]]
    limits = (float(ends.min().min()), float(ends.max().max()))
    names = [f"{classes} classes" for classes in SUBSETS]
    figures = {}
    for mixture in (name for name in study.mixtures if (frame["mixture"] == name).any()):
        mine = frame[frame["mixture"] == mixture]
        title = f"CKA by layer of {mixture}, by classes"
        said = "; ".join(f"{name}: {_ends(rows, study)}" for name, rows in mine.groupby("subset", sort=False))
        draw = partial(embedding.bands_by_layer, table=mine, subsets=names, limits=limits)
        caption = f"Means over pairs, with {100 * confidence:g} % bands."
        figures[mixture] = Figure(f"cka-bands-{kernel}-{mixture}", title, caption, f"{title}. {said}.", draw)
    return figures


def _ends(table: pd.DataFrame, study: Study) -> str:
    """Say what the last layer has."""
    last = table[table["depth"] == table["depth"].max()].groupby("tested")["value"].mean()
    ends = [f"{last.get(tested, np.nan):.2f}" for tested in (True, False)]
    return f"at the last layer {ends[0]} for pairs with {study.test_domain}, {ends[1]} for the others"


def _figure(name: str, mixture: str, table: pd.DataFrame, study: Study, limits: tuple[float, float]) -> Figure:
    title = f"CKA by layer of {mixture}"
    draw = partial(embedding.by_layer, table=table, limits=limits)
    return Figure(name, title, "Thick: means.", f"{title}; {_ends(table, study)}.", draw)
