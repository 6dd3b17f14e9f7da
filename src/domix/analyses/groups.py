"""The groups of models that an analysis compares: zero-shot CLIP models, and supervised classifiers beside them.

A section is written of one group at a time, by a function that knows of no other; here it is asked for each group, and
what it says is put together, with the numbers of both groups side by side. The tests stay those of each group alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps

from markupsafe import Markup

from domix.analyses.contract import KIND, AnalysisResults, Section, Subsection
from domix.figures.charts import Line, curve, dots, rings
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import gutter, panel, round_ticks
from domix.runtime.wording import MINUS, listed
from domix.study import CLIP, SUPERVISED, Study

Written = Callable[[AnalysisResults, Study], Section]
GROUPS = {CLIP: "zero-shot models", SUPERVISED: "supervised classifiers"}
HEADS = {CLIP: "zero-shot head", SUPERVISED: "last layer"}
ACTIVATIONS = {CLIP: "embedding", SUPERVISED: "feature vector"}  # of an image: what the head reads
BESIDE = Markup(
    """<p>A classifier is trained on the same images with their classes in place of captions; its activations are what
its last layer reads. {said} Each is the mean over seeds. {unlike}</p>"""
)
KEY = Markup(
    """<ul class="key"><li><i style="background:var(--accent)"></i> zero-shot models</li>
<li><i class="ring"></i> supervised classifiers</li></ul>"""
)


def each_group(numbers: Mapping[str, str]) -> Callable[[Written], Written]:
    """Let a section be written of each group of models that the study has, and put them together.

    Args:
        numbers: what both groups are compared by: the ends of metrics' names, `<mixture>.<number>`, and their words.
    """

    def of(section: Written) -> Written:
        @wraps(section)
        def both(results: AnalysisResults, study: Study) -> Section:
            kinds = [kind for kind in GROUPS if kind == CLIP or study.runs_of(kind)]
            made = {kind: section(of_group(results, kind), study.of_kind(kind)) for kind in kinds}
            return _joined(made, numbers, study, results.unlike)

        return both

    return of


def of_group(results: AnalysisResults, kind: str) -> AnalysisResults:
    """Return the results of one group, as if there were no other."""
    tables = {
        name: table[table[KIND.name] == kind].drop(columns=KIND.name).reset_index(drop=True)
        if KIND.name in table
        else table
        for name, table in results.tables.items()
    }
    return replace(results, tables=tables, kind=kind, every_group=results.tables)


def label(kind: str, mixture: str) -> str:
    """Name the models of a mixture where groups stand beside each other."""
    return mixture if kind == CLIP else f"{kind} {mixture}"


def _joined(made: Mapping[str, Section], numbers: Mapping[str, str], study: Study, unlike: str) -> Section:
    """Put the sections of groups together; metrics of classifiers are led by `supervised`.

    Scores stay apart by group: the report holds them against the accuracy of the models of that group.
    """
    import pandas as pd

    first = made[CLIP]
    others = {kind: section for kind, section in made.items() if kind != CLIP and section.parts}
    if not others:
        return first
    parts, metrics = [*first.parts, *_beside({CLIP: first, **others}, numbers, study, unlike)], dict(first.metrics)
    plots = {name: [table] for name, table in first.plots.items()}
    for kind, section in others.items():
        parts += [_renamed(part, kind) for part in section.parts]
        metrics |= {f"{kind}.{name}": value for name, value in section.metrics.items()}
        for name, table in section.plots.items():
            plots[name].append(table.assign(mixture=f"{kind} " + table["mixture"]))
    joined = {name: pd.concat(tables, ignore_index=True) for name, tables in plots.items()}
    scores = {kind: section.model_scores for kind, section in others.items()}
    return replace(first, parts=parts, metrics=metrics, plots=joined, other_scores=scores)


def _renamed(part: Subsection, kind: str) -> Subsection:
    """Return a part whose title and figures say of which group they are."""

    def named(figures: Mapping[str, Figure]) -> dict[str, Figure]:
        words = GROUPS[kind]
        return {
            key: replace(
                figure, name=f"{kind}-{figure.name}", title=f"{figure.title} ({words})", alt=f"{words}: {figure.alt}"
            )
            for key, figure in figures.items()
        }

    folded = {line: named(figures) for line, figures in part.folded.items()}
    return replace(part, title=f"{GROUPS[kind].capitalize()}: {part.title}", figures=named(part.figures), folded=folded)


def _beside(made: Mapping[str, Section], numbers: Mapping[str, str], study: Study, unlike: str) -> list[Subsection]:
    """Return the numbers of both groups side by side, a figure a number; one that is the same everywhere has none."""
    figures, sentences = {}, []
    for number, words in numbers.items():
        values = {
            kind: {
                mixture: float(section.metrics[f"{mixture}.{number}"])
                for mixture in study.mixtures_of(kind)
                if f"{mixture}.{number}" in section.metrics
            }
            for kind, section in made.items()
        }
        if not all(values.values()):
            continue
        told = [
            f"{GROUPS[kind]} "
            + listed([f"{mixture} {value:.3g}".replace(" -", f" {MINUS}") for mixture, value in mine.items()])
            for kind, mine in values.items()
        ]
        title = f"{words[:1].upper()}{words[1:]}, zero-shot and supervised"
        sentences.append(Markup("{}: {}.").format(words[:1].upper() + words[1:], "; ".join(told)))
        if len({value for mine in values.values() for value in mine.values()}) < 2:
            continue
        name = f"groups-{number.replace('.', '-')}"
        draw = partial(_draw, values=values)
        figures[words[:1].upper() + words[1:]] = Figure(
            name, title, "Mean over seeds.", f"{title}: {'; '.join(told)}.", draw
        )
    if not sentences:
        return []
    text = BESIDE.format(said=Markup(" ").join(sentences), unlike=unlike) + (KEY if figures else "")
    return [Subsection("Do supervised classifiers differ from zero-shot models?", text, figures)]


def _draw(look: Look, values: Mapping[str, Mapping[str, float]]) -> Drawing:
    """Draw a row a mixture, a dot the zero-shot models, a ring the classifiers."""
    names = list(dict.fromkeys(name for mine in values.values() for name in mine))
    size, row = look.small, 1.9 * look.small
    made = panel(look, look.panel, row * len(names) + 3 * size, (gutter(names, size), size, size, 2 * size))
    every = [value for mine in values.values() for value in mine.values()]
    ticks = round_ticks(min(every), max(every))
    room = 0.04 * (ticks[-1] - ticks[0])  # so that no marker lies on a name
    made.limits((ticks[0] - room, ticks[-1] + room), (len(names), 0))
    made.mark_across(ticks, [f"{tick:g}".replace("-", MINUS) for tick in ticks], lines=True)
    for place, name in enumerate(names):
        y = place + 0.5
        made.label(y, name)
        mine = {kind: of[name] for kind, of in values.items() if name in of}
        curve(made, list(mine.values()), [y] * len(mine), Line(look.mute, look.stroke), name)
        if CLIP in mine:
            dots(made, [mine[CLIP]], [y], look.accent, 4 * look.stroke)
        if SUPERVISED in mine:
            rings(made, [mine[SUPERVISED]], [y], look.accent, 3.2 * look.stroke)
    return made.figure
