"""What the report says of foreign images: who is flagged, who is told from the known ones, and what styles change."""

from __future__ import annotations

from functools import partial
from itertools import product

import pandas as pd

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.groups import each_group
from domix.analyses.ood import words
from domix.analyses.ood.draw import draw_flags, draw_relation
from domix.analyses.ood.models import ACCURACIES
from domix.figures.charts import Bar, Mark, forest, shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import percent_labels
from domix.ood.correlation import LEAST
from domix.runtime.wording import percent, plain, points
from domix.study import Study

PLACES = 4
FLAGGED = 0.05  # of the known images, by choice of the threshold
BY_CHANCE = Mark(0.5, "by luck", (4, 2.7))
NONE = Mark(0.0, "no difference", (4, 2.7))


@each_group({"held_out.auroc": "AUROC of held-out classes", "seen.flagged": "share of seen classes that is flagged"})
def section(results: AnalysisResults, study: Study) -> Section:
    """Show flags, AUROC, what more styles change, and how all goes with accuracy."""
    shown = results.settings.shown_of(results.kind)
    tables = {name: table[table["score"] == shown] for name, table in results.tables.items()}
    metrics, flags = mean_over_seeds(tables["metrics"]), mean_over_seeds(tables["flags"])
    auroc = metrics[metrics["metric"] == "auroc"]
    natural, full = (auroc[auroc["known"] == known] for known in ("natural", "full"))
    groups = groups_of(natural)
    differences = tables["differences"][tables["differences"]["metric"] == "auroc"]
    foreign = {"Foreign objects, by domain (dots: near, rings: far)": _flag_figures(flags, study, ("near", "far"))}
    further = {
        words.FULL.format(test_domain=study.test_domain): _auroc_figures(full, groups, "full"),
        "By every score": _score_figures(results.tables["metrics"], study, groups),
    }
    parts = [
        Subsection(
            "Which images are taken for foreign",
            words.flags(flags, natural, study, shown, results.shared.confidence)
            + words.choices(results.tables["options"]),
            _flag_figures(flags, study, ("seen", "test")),
            _drawn(foreign),
        ),
        Subsection(
            "How well foreign images are told from known ones",
            words.auroc(study, groups),
            _auroc_figures(natural, groups, "natural"),
            _drawn(further),
        ),
        *_styles(differences, tables["models"], study, groups),
        *_relation(tables["models"], tables["correlations"], study, groups, results.shared.confidence),
    ]
    return Section(
        "Foreign images",
        parts,
        plots={"ood_auroc": _auroc_plot(natural, groups), "ood_flags": _flags_plot(flags, results.source)},
        metrics=_numbers(natural, flags, study),
    )


def _drawn(folded: dict[str, dict[str, Figure]]) -> dict[str, dict[str, Figure]]:
    return {line: figures for line, figures in folded.items() if figures}


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return numbers as means over seeds; intervals so are those of single models, averaged."""
    keys = [
        name for name in table if name in ("mixture", "group", "set", "known", "metric", "domain", "cells", "trained")
    ]
    numbers = [name for name in ("estimate", "share", "low", "high", "n", "n_known", "n_ood") if name in table]
    return table.groupby(keys, sort=False, as_index=False)[numbers].mean()


def groups_of(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return what each group and set of a table is called: the set where a group has several."""
    order = list(words.GROUPS)
    pairs = sorted(dict.fromkeys(_pairs(table)), key=lambda pair: order.index(pair[0]))
    several = {group for group, _ in pairs if sum(group == other for other, _ in pairs) > 1}
    return {(group, name): words.GROUPS[group] + (f" ({name})" if group in several else "") for group, name in pairs}


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(table[["group", "set"]].itertuples(index=False, name=None))


def _flag_figures(flags: pd.DataFrame, study: Study, kinds: tuple[str, str]) -> dict[str, Figure]:
    """Return the share flagged of each domain, a figure a mixture, of the study's images or of the sets'."""
    found = flags[flags["cells"].isin(kinds)]
    rows = found.groupby(["mixture", "domain", "cells"], sort=False, as_index=False)[["share", "low", "high"]].mean()
    made = {}
    for mixture in study.mixtures:
        mine = rows[rows["mixture"] == mixture]
        if mine.empty:
            continue
        domains = [name for name in study.domains if name in set(mine["domain"])]
        domains += [name for name in dict.fromkeys(mine["domain"]) if name not in domains]
        title = f"Images that {mixture} takes for foreign, by domain"
        own = mine[mine["domain"] == study.test_domain].set_index("cells")["share"]
        said = ", ".join(f"{percent(share)} of {words.CELLS[kind]}" for kind, share in own.items())
        alt = f"{title}; in {study.test_domain} {said}." if said else f"{title}."
        draw = partial(draw_flags, mine, domains, kinds, study.test_domain, FLAGGED)
        made[mixture] = Figure(f"ood-flags-{'-'.join(kinds)}-{mixture}", title, "Mean over seeds.", alt, draw)
    return made


def _auroc_figures(auroc: pd.DataFrame, groups: dict[tuple[str, str], str], known: str) -> dict[str, Figure]:
    """Return AUROC with intervals, a figure a group, a row a mixture."""
    made = {}
    for (group, name), called in groups.items():
        mine = auroc[(auroc["group"] == group) & (auroc["set"] == name)]
        if len(mine):
            bars = [Bar(row.mixture, row.estimate, row.low, row.high) for row in mine.itertuples()]
            title = f"AUROC of {called}, against {words.KNOWN[known]}"
            alt = f"{title}: {', '.join(f'{bar.label} {percent(bar.estimate)}' for bar in bars)}."
            draw = partial(_draw_forest, bars, BY_CHANCE)
            made[called] = Figure(f"ood-auroc-{known}-{group}-{name}", title, "Mean over seeds.", alt, draw)
    return made


def _draw_forest(bars: list[Bar], mark: Mark, look: Look) -> Drawing:
    signed = mark is NONE
    return forest(
        look,
        bars,
        [mark],
        points if signed else plain,
        "AUROC, difference in percentage points" if signed else "AUROC, %",
        ticks=partial(percent_labels, signed=signed),
    )


def _score_figures(metrics: pd.DataFrame, study: Study, groups: dict[tuple[str, str], str]) -> dict[str, Figure]:
    """Return AUROC by every score and group, a table a mixture."""
    chosen = metrics[(metrics["metric"] == "auroc") & (metrics["known"] == "natural")]
    made = {}
    for mixture in study.mixtures:
        mine = chosen[chosen["mixture"] == mixture]
        if mine.empty:
            continue
        called = [groups[pair] for pair in _pairs(mine)]
        table = mine.assign(called=called).pivot_table(index="score", columns="called", values="estimate", sort=False)
        title = f"AUROC by every score in {mixture}"
        table = table[[name for name in groups.values() if name in table]]
        short = table.rename(index=lambda name: name.replace("relative_", "rel. ").replace("_", " "))
        draw = partial(_draw_scores, short)
        made[mixture] = Figure(f"ood-scores-{mixture}", title, "Mean over seeds.", f"{title}.", draw)
    return made


def _draw_scores(table: pd.DataFrame, look: Look) -> Drawing:
    def tip(score: str, group: str, auroc: float) -> str:
        return f"{score}, {group}: {percent(auroc)}"

    return shaded_table(look, look.panel, table, plain, tip, row=1.8 * look.small)


def _styles(
    differences: pd.DataFrame, models: pd.DataFrame, study: Study, groups: dict[tuple[str, str], str]
) -> list[Subsection]:
    """Return how every mixture differs from the study's baseline, in telling foreign images."""
    baseline = study.named("natural-only") or study.mixtures[0]
    last = models[models["checkpoint"] < 0]
    accuracy = last.groupby("mixture")["zeroshot"].mean().to_dict()
    figures, folded = {}, {}
    for (group, name), called in groups.items():
        for known, made in (("natural", figures), ("full", folded)):
            bars = []
            for mixture in study.mixtures:
                found = words.difference(differences, mixture, baseline, group, name, known)
                if found is not None:
                    bars.append(Bar(mixture, found.estimate, found.low, found.high))
            if bars and group != "seen":
                title = f"AUROC of {called} less that of {baseline}, against {words.KNOWN[known]}"
                alt = f"{title}: {', '.join(f'{bar.label} {percent(bar.estimate, sign=True)}' for bar in bars)}."
                draw = partial(_draw_forest, bars, NONE)
                made[called] = Figure(f"ood-styles-{known}-{group}-{name}", title, "Mean over seeds.", alt, draw)
    if not figures:
        return []
    text = words.styles(differences, accuracy, study, groups, baseline)
    fuller = _drawn({words.FULL.format(test_domain=study.test_domain): folded})
    return [Subsection("Whether more styles make foreign images easier to tell", text, figures, fuller)]


def _relation(
    models: pd.DataFrame,
    correlations: pd.DataFrame,
    study: Study,
    groups: dict[tuple[str, str], str],
    confidence: float,
) -> list[Subsection]:
    """Return accuracy on known images against AUROC, a figure a group, of the accuracies that differ."""
    figures: dict[str, dict[str, Figure]] = {name: {} for name in ACCURACIES}
    for ((group, name), called), accuracy in product(groups.items(), ACCURACIES):
        chosen = (correlations["group"] == group) & (correlations["set"] == name)
        found = correlations[chosen & (correlations["accuracy"] == accuracy)]
        mine = models[(models["group"] == group) & (models["set"] == name)]
        if len(found) and group != "seen" and len(mine) >= LEAST:
            words_for = words.ACCURACIES[study.kind][accuracy]
            title = f"{words_for.capitalize()} and AUROC of {called}"
            alt = f"{title}, {len(mine)} models: {words.r2(found.iloc[0])}."
            draw = partial(_draw_relation, mine, accuracy, words_for, study.mixtures, confidence)
            figures[accuracy][called] = Figure(f"ood-{accuracy}-{group}-{name}", title, "A dot a model.", alt, draw)
    shown, further = figures["zeroshot"], figures["knn"]
    if not shown:
        return []
    text = words.relation(models, correlations, groups, words.ACCURACIES[study.kind]["zeroshot"])
    folded = _drawn({f"By {words.ACCURACIES[study.kind]['knn']}": further})
    return [Subsection("Whether what reads known images well also tells foreign ones", text, shown, folded)]


def _draw_relation(
    models: pd.DataFrame, accuracy: str, called: str, mixtures: list[str], confidence: float, look: Look
) -> Drawing:
    names = models["mixture"].astype(str)
    if models["seed"].nunique() > 1:
        names += "-s" + models["seed"].astype(str)
    names += [f" @{epochs}" if epochs >= 0 else "" for epochs in models["checkpoint"]]
    dots = models.assign(name=names, group=models["mixture"], x=models[accuracy], y=models["auroc"])
    return draw_relation(dots, mixtures, (called, "AUROC"), confidence, look)


def _auroc_plot(auroc: pd.DataFrame, groups: dict[tuple[str, str], str]) -> pd.DataFrame:
    return _plotted(
        auroc.assign(images=[groups[pair] for pair in _pairs(auroc)], n=auroc["n_ood"], chance=BY_CHANCE.value)
    )


def _flags_plot(flags: pd.DataFrame, source: str) -> pd.DataFrame:
    own = flags[(flags["set"] == source) & (flags["cells"] == "seen")]
    return _plotted(own.rename(columns={"share": "estimate", "domain": "images"}).assign(chance=FLAGGED))


def _plotted(table: pd.DataFrame) -> pd.DataFrame:
    numbers = {"estimate": PLACES, "low": PLACES, "high": PLACES}
    return table[["mixture", "images", *numbers, "n", "chance"]].round(numbers).astype({"n": "int64"})


def _numbers(auroc: pd.DataFrame, flags: pd.DataFrame, study: Study) -> dict[str, float]:
    """Return each mixture's AUROC of every group, and the share of the test domain's seen classes that is flagged."""
    means = auroc[auroc["group"] != "seen"].groupby(["mixture", "group"], sort=False)["estimate"].mean()
    own = flags[(flags["domain"] == study.test_domain) & (flags["cells"] == "seen")].set_index("mixture")["share"]
    found = {f"{mixture}.{group}.auroc": value for (mixture, group), value in means.items()}
    found |= {f"{mixture}.seen.flagged": value for mixture, value in own.items()}
    return {name: round(float(value), PLACES) for name, value in found.items()}
