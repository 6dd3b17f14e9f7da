"""What the report shows of CKA between runs: site by site, and the same sites by domain."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.keys import domain_key
from domix.figures import embedding
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.study import Study

SITES = Markup(
    """<p>How alike two models represent the same {n} test images (unbiased linear CKA by mini-batches; 1: alike up to
rotation and scale): every layer of {reference}, downwards, with every layer of the other, across. The first square is
the model with itself: how alike its own layers are. Where another square is fainter at the same place, the two
trainings have led to different layers. Models of one seed begin with the same weights, which keeps them alike;
those of two seeds of one mixture show how much is chance.</p>"""
)
DOMAINS = Markup(
    """<p>The same layer of both models, on the images of one domain at a time. Where the line of
<span class="hot">{test_domain}</span> runs below the others, the two models agree least on that style.</p>{key}"""
)
PLACES = 4


def section(results: AnalysisResults, study: Study) -> Section:
    """Show every run against the reference over all images, then layer by layer of single domains."""
    table = results.tables["run_cka"]
    plots = {"same_site": plot(table, study)}
    if table.empty:
        return Section("CKA between models", (), plots=plots)
    everywhere = table[table["images"] == "all"]
    reference, n = str(table["reference"].iloc[0]), int(everywhere["n"].max())
    tested = {f"On {study.test_domain} images alone": site_panels(table[table["images"] == study.test_domain])}
    parts = [
        Subsection(
            "How alike two models represent the same images",
            SITES.format(reference=reference, n=n),
            site_panels(everywhere),
            {line: figures for line, figures in tested.items() if figures},
        ),
        Subsection(
            "On which images two models agree",
            DOMAINS.format(test_domain=study.test_domain, key=domain_key(study)),
            domain_panels(table, study),
        ),
    ]
    same = everywhere[everywhere["site_a"] == everywhere["site_b"]].groupby("run", sort=False)["value"].mean()
    metrics = {f"{run}.same_site": round(float(value), PLACES) for run, value in same.items() if run != reference}
    return Section("CKA between models", [part for part in parts if part.figures], plots=plots, metrics=metrics)


def plot(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return each other run's CKA with the reference at the same site, on the test domain's images and the others'."""
    same = same_sites(table)
    images = np.where(same["images"] == study.test_domain, "test domain", "other domains")
    same = same.assign(images=images).rename(columns={"run": "mixture", "site_a": "layer", "depth_a": "depth"})
    return same.groupby(["mixture", "layer", "depth", "images"], sort=False, as_index=False)["value"].mean()


def same_sites(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs other than the reference, at the same site of both, on the images of one domain."""
    other = table[(table["images"] != "all") & (table["run"] != table["reference"])]
    return other[other["site_a"] == other["site_b"]]


def site_panels(table: pd.DataFrame) -> dict[str, Figure]:
    """Return every site of the reference with every site of a run, a figure a run, of one group of images."""
    figures = {}
    for run, rows in table.groupby("run", sort=False):
        images, reference = rows[["images", "reference"]].iloc[0]
        order_a, order_b = (
            rows.drop_duplicates(f"site_{side}").sort_values(f"depth_{side}")[f"site_{side}"] for side in "ab"
        )
        wide = rows.pivot(index="site_a", columns="site_b", values="value").loc[order_a, order_b]
        same = rows.loc[rows["site_a"] == rows["site_b"], "value"].mean()
        title = f"CKA of {reference} and {run}, site by site"
        caption = f"Downwards: {reference}; across: {run}."
        alt = f"{title}, on {images} images; at the same site {same:.2f} on average."
        draw = partial(embedding.alike, table=wide)
        figures[f"{reference} and {run}"] = Figure(f"run-cka-{images}-{run}", title, caption, alt, draw)
    return figures


def domain_panels(table: pd.DataFrame, study: Study) -> dict[str, Figure]:
    """Return CKA at the same site by layer, a line a domain, a figure a run other than the reference."""
    same = same_sites(table)
    if same.empty:
        return {}
    limits = (float(same["value"].min()), float(same["value"].max()))
    figures = {}
    for run, rows in same.groupby("run", sort=False):
        reference = rows["reference"].iloc[0]
        last = rows[rows["depth_a"] == rows["depth_a"].max()].set_index("images")["value"]
        title = f"CKA of {reference} and {run} by domain"
        alt = f"{title}; at the last layer {', '.join(f'{name} {value:.2f}' for name, value in last.items())}."
        curves = rows.rename(columns={"site_a": "layer", "depth_a": "depth", "images": "group"})
        draw = partial(_draw_domains, curves=curves, study=study, limits=limits)
        figures[f"{reference} and {run}"] = Figure(f"run-cka-domains-{run}", title, "A line a domain.", alt, draw)
    return figures


def _draw_domains(look: Look, curves: pd.DataFrame, study: Study, limits: tuple[float, float]) -> Drawing:
    colours = look.domain_colours(study.domains, study.test_domain, study.natural_domain)
    return embedding.groups_by_layer(look, curves, colours, study.test_domain, limits)
