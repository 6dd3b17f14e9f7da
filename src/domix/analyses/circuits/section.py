"""What the report says of circuits: how alike they are between domains, how faithful, and what one looks like."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.circuits import HELD_OUT, OWN
from domix.analyses.circuits.graphs import ROUNDS
from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.pairs import both_ways, class_scores, square, with_domain
from domix.analyses.runs import first_seeds
from domix.figures import circuit, embedding, thumbnails
from domix.figures.charts import shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.runtime.wording import listed, plain, spaced
from domix.study import Study

MEASURES = {"jaccard": "Jaccard index of the edges"} | {
    f"wl{rounds}": f"Weisfeiler-Lehman kernel, {rounds} round{'s' * (rounds > 1)}" for rounds in ROUNDS
}
SUBSETS = ("test", "seen", "all")
KEPT = {
    ("all", "none"): "whole model",
    ("circuit", "mean"): "circuit, rest at mean",
    ("random", "mean"): "random, rest at mean",
    ("circuit", "zero"): "circuit, rest at zero",
    ("random", "zero"): "random, rest at zero",
    ("not circuit", "mean"): "circuit at mean",
    ("not random", "mean"): "random at mean",
    ("not circuit", "zero"): "circuit at zero",
    ("not random", "zero"): "random at zero",
}
PLACES = 4
ALIKE = Markup(
    """<p>The circuit of a class in a domain is the {share} % of each layer's channels whose loss would move the cosine
of images and the class's text most, and the strongest edges between them, from layer to layer. A cell says how alike
the circuits of the same class are in two domains, 1 where they are the same: the mean over the test classes that were
drawn. A weak row for <span class="hot">{test_domain}</span> means that the model recognises the classes there by other
means.{missing}</p>"""
)
NODES = Markup(
    """<p>The share of channels that the circuits of a class in two domains have in common (Jaccard index), layer by
layer, mean over the test classes. If pairs with <span class="hot">{test_domain}</span> run below the others, the class
is carried by other channels there, from the layer on where the lines part. Two random choices would have about
{chance} in common.</p>
<ul class="key"><li><i class="line" style="border-color:var(--hot)"></i> pairs with {test_domain} (thick: mean)</li>
<li><i class="line" style="border-color:var(--mute);border-top-style:dashed"></i> the other pairs (thick:
mean)</li></ul>"""
)
FAITHFUL = Markup(
    """<p>Accuracy in per cent, among all classes, when parts of the model are taken away in every layer at once: set to
zero, or to their mean over all images drawn. A circuit that carries a class keeps accuracy by itself, more than as
many random channels do, and without it accuracy goes. Each image is judged by the channels that the other images of
its class and domain choose.{own} Mind that these were chosen by their class: they lead towards it whatever an image
shows, and may so stand above the whole model.</p>"""
)
DRAWN = Markup(
    """<p>The circuit of &ldquo;{name}&rdquo; in {domains}: layers from below, of each the channels of the largest
effects. Blue frames: channels that support the class, orange: those that work against it, the stronger the colour the
more; blue edges add
to the change of the channel above, orange ones lessen it. In each channel's frame stands the image that activates it
most, of the domain's images of all classes drawn.</p>"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Show likeness by measure, by layer, faithfulness, and the circuits of one test class."""
    tables = results.tables
    nodes = averaged(tables["node_similarity"], study, ["site", "depth"])
    edges, faithful = tables["similarity"], best_judged(tables["faithfulness"])
    whole = averaged(edges, study, ["measure"])
    parts = [
        _alike(whole, tables["cells"], results, study),
        _by_layer(nodes, results, study),
        _faithful(faithful, study),
        _drawn(results, study),
    ]
    return Section(
        "Circuits",
        [part for part in parts if part.figures],
        plots={"node_similarity": _plot(nodes, study), "circuit_similarity": _likeness_plot(whole)},
        metrics=_metrics(nodes, whole, faithful, study),
        scores={
            "nodes": class_scores(study, tables["node_similarity"]),
            "edges": class_scores(study, edges[edges["measure"] == "jaccard"]),
        },
    )


def averaged(table: pd.DataFrame, study: Study, keys: list[str]) -> pd.DataFrame:
    """Return the mean of `value` over seeds and the test, seen and all classes, for each pair of domains and `keys`."""
    keys = ["mixture", *keys, "classes", "domain_a", "domain_b"]
    tested = table["class"].isin(study.test_classes)
    chosen = {"test": tested, "seen": ~tested, "all": tested | True}
    parts = [table[rows].assign(classes=name) for name, rows in chosen.items()]
    return pd.concat(parts).groupby(keys, sort=False, as_index=False)["value"].mean()


def _of_mixtures(table: pd.DataFrame, study: Study) -> dict[str, pd.DataFrame]:
    known = {mixture: table[table["mixture"] == mixture] for mixture in study.mixtures}
    return {mixture: rows for mixture, rows in known.items() if len(rows)}


def _alike(whole: pd.DataFrame, cells: pd.DataFrame, results: AnalysisResults, study: Study) -> Subsection:
    shown = {
        (measure, classes): {
            mixture: _likeness(mixture, rows, measure, classes, study)
            for mixture, rows in _of_mixtures(
                whole[(whole["measure"] == measure) & (whole["classes"] == classes)], study
            ).items()
        }
        for measure, classes in [*(("jaccard", name) for name in SUBSETS), *((name, "test") for name in MEASURES)]
    }
    first = shown.pop(("jaccard", "test"))
    text = ALIKE.format(
        share=f"{100 * results.settings.share:g}", test_domain=study.test_domain, missing=_missing(cells)
    )
    folded = {f"{MEASURES[measure]}, {classes} classes": more for (measure, classes), more in shown.items() if more}
    return Subsection("How alike the circuits of a class are between domains", text, first, folded)


def _missing(cells: pd.DataFrame) -> str:
    none = cells[cells["images"] == 0].drop_duplicates(["domain", "class"])
    if none.empty:
        return ""
    named = [f"{spaced(row['class'])} in {row['domain']}" for _, row in none.head(3).iterrows()]
    more = [f"{len(none) - 3} more"] if len(none) > 3 else []
    return f" Cells without test images have none: {listed(named + more)}."


def _likeness(mixture: str, rows: pd.DataFrame, measure: str, classes: str, study: Study) -> Figure:
    domains = [name for name in study.domains if name in {*rows["domain_a"], *rows["domain_b"]}]
    table = square(rows, domains).where(~np.eye(len(domains), dtype=bool), 1.0)
    tested = with_domain(rows, study.test_domain)
    means = [rows[chosen]["value"].mean() for chosen in (tested, ~tested)]
    said = f"pairs with {study.test_domain} {means[0]:.2f}, the others {means[1]:.2f}"
    title = f"Likeness of circuits in {mixture}"
    caption = f"{MEASURES[measure]}, {classes} classes, mean over seeds."
    return Figure(
        f"circuits-{measure}-{classes}-{mixture}",
        title,
        caption,
        f"{title}; {said}.",
        partial(_table, table, study.test_domain),
    )


def _table(table: pd.DataFrame, hot: str, look: Look) -> Drawing:
    def tip(one: str, other: str, value: float) -> str:
        return f"{one} and {other}: {value:.3f}"

    return shaded_table(look, look.panel, table, lambda value: f"{value:.2f}", tip, row=3.1 * look.small, hot=hot)


def _by_layer(nodes: pd.DataFrame, results: AnalysisResults, study: Study) -> Subsection:
    share = results.settings.share
    text = NODES.format(test_domain=study.test_domain, chance=f"{share / (2 - share):.2f}")
    shown = {classes: _panels(nodes[nodes["classes"] == classes], classes, study) for classes in SUBSETS}
    first = shown.pop("test")
    folded = {f"Channels in common, {classes} classes": more for classes, more in shown.items() if more}
    return Subsection("Which channels carry a class, layer by layer", text, first, folded)


def _panels(rows: pd.DataFrame, classes: str, study: Study) -> dict[str, Figure]:
    frame = rows.assign(
        layer=rows["site"],
        tested=with_domain(rows, study.test_domain),
        pair=rows["domain_a"] + " and " + rows["domain_b"],
    )
    limits = (float(frame["value"].min()), float(frame["value"].max()))
    found = {}
    for mixture, mine in _of_mixtures(frame, study).items():
        means = [mine[chosen]["value"].mean() for chosen in (mine["tested"], ~mine["tested"])]
        title = f"Channels that circuits have in common in {mixture}"
        said = f"mean {means[0]:.2f} for pairs with {study.test_domain}, {means[1]:.2f} for the others"
        draw = partial(embedding.by_layer, table=mine, limits=limits)
        found[mixture] = Figure(f"circuit-nodes-{classes}-{mixture}", title, "Thick: means.", f"{title}; {said}.", draw)
    return found


def best_judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images held out, and of domains and runs without any the others."""
    held_out = table["judged"] == HELD_OUT
    return table[held_out | ~held_out.groupby([table[key] for key in ("mixture", "seed", "domain")]).transform("any")]


def _faithful(table: pd.DataFrame, study: Study) -> Subsection:
    keys = ["mixture", "domain", "kept", "by"]
    means = table.groupby(keys, sort=False, as_index=False)["accuracy"].mean()
    figures = {mixture: _accuracy(mixture, rows, study) for mixture, rows in _of_mixtures(means, study).items()}
    own = listed(table.loc[table["judged"] == OWN, "domain"].unique().tolist())
    text = FAITHFUL.format(own=f" In {own} no cell has a second image: there, by its own." if own else "")
    return Subsection("Does the circuit do what the model does?", text, figures)


def _accuracy(mixture: str, rows: pd.DataFrame, study: Study) -> Figure:
    known = rows.set_index(["kept", "by", "domain"])["accuracy"]
    domains = [name for name in study.domains if name in set(rows["domain"])]
    values = {words: [known[(*way, domain)] for domain in domains] for way, words in KEPT.items()}
    table = pd.DataFrame(values, index=domains)
    tested = table.loc[study.test_domain] if study.test_domain in table.index else table.mean()
    title = f"Accuracy of parts of {mixture}"
    numbers = [
        f"{plain(tested[words])} %" for words in ("whole model", KEPT["circuit", "mean"], KEPT["circuit", "zero"])
    ]
    said = (
        f"in {study.test_domain} {numbers[0]} whole, by the circuit alone {numbers[1]} (mean) and {numbers[2]} (zero)"
    )
    return Figure(
        f"circuits-faithfulness-{mixture}",
        title,
        "Mean over seeds.",
        f"{title}; {said}.",
        partial(_shares, table, study.test_domain),
    )


def _shares(table: pd.DataFrame, hot: str, look: Look) -> Drawing:
    def tip(domain: str, kept: str, value: float) -> str:
        return f"{domain}, {kept}: {100 * value:.1f} %"

    return shaded_table(look, look.wide, table, lambda value: f"{100 * value:.0f}", tip, row=3.1 * look.small, hot=hot)


def _drawn(results: AnalysisResults, study: Study) -> Subsection:
    nodes, edges = results.tables["nodes"], results.tables["edges"]
    thumbnail = cache(lambda row: thumbnails.read(results.images.uri(results.source, row)))
    title = "What a circuit looks like"
    domains = [study.test_domain, study.natural_domain]
    of_test = nodes[nodes["class"].isin(study.test_classes)].groupby("class", sort=False)["domain"].unique()
    known = [name for name, mine in of_test.items() if set(domains) <= set(mine)]
    if not known:
        return Subsection(title, "")
    name = str(known[0])
    mine, links = (first_seeds(study, table[table["class"] == name]) for table in (nodes, edges))
    figures = {}
    for mixture, rows in _of_mixtures(mine, study).items():
        ways = links[links["mixture"] == mixture]
        for domain in domains:
            here = rows[rows["domain"] == domain], ways[ways["domain"] == domain]
            drawn = partial(circuit.layers, nodes=here[0], edges=here[1], thumbnail=thumbnail)
            words = f"Circuit of {spaced(name)} in {domain} of {mixture}"
            figures[f"{mixture}, {domain}"] = Figure(
                f"circuit-{mixture}-{domain}", words, "First seed.", f"{words}.", drawn
            )
    return Subsection(title, DRAWN.format(name=spaced(name), domains=listed(domains)), figures)


def _plot(nodes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return mean likeness by layer over the test classes, of the pairs with the test domain and of the others."""
    rows = nodes[nodes["classes"] == "test"].rename(columns={"site": "layer"})
    pairs = np.where(with_domain(rows, study.test_domain), "with the test domain", "other pairs")
    keys = ["mixture", "layer", "depth", "pairs"]
    means = rows.assign(pairs=pairs).groupby(keys, sort=False, as_index=False)["value"].mean()
    return means.astype({"pairs": "str"}).assign(kernel="jaccard").astype({"kernel": "str"})


def _likeness_plot(whole: pd.DataFrame) -> pd.DataFrame:
    """Return the Jaccard index of the edges over the test classes, every ordered pair of domains once."""
    rows = whole[(whole["measure"] == "jaccard") & (whole["classes"] == "test")]
    return both_ways(rows.rename(columns={"value": "likeness"})[["mixture", "domain_a", "domain_b", "likeness"]])


def _metrics(nodes: pd.DataFrame, whole: pd.DataFrame, faithfulness: pd.DataFrame, study: Study) -> Mapping[str, float]:
    """Return likeness of the test domain and among the others, over the test classes, and accuracy when ablated."""
    found: dict[str, float] = {}
    for table, measure in ((nodes.assign(measure="nodes"), "nodes"), *((whole, name) for name in MEASURES)):
        rows = table[(table["measure"] == measure) & (table["classes"] == "test")]
        for mixture, mine in _of_mixtures(rows, study).items():
            tested = with_domain(mine, study.test_domain)
            found[f"{mixture}.{measure}"] = mine[tested]["value"].mean()
            found[f"{mixture}.{measure}.others"] = mine[~tested]["value"].mean()
    rows = faithfulness[faithfulness["domain"] == study.test_domain]
    means = rows.groupby(["mixture", "kept", "by"], sort=False)["accuracy"].mean()
    for (mixture, kept, by), value in means.items():
        if mixture in study.mixtures:
            found[f"{mixture}.accuracy.{kept.replace(' ', '_')}.{by}"] = value
    return {name: round(float(value), PLACES) for name, value in found.items() if not np.isnan(value)}
