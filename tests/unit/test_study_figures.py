"""The study view's figures and its folder: which there are, why others are not, equal bytes, readable text."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from domix.cli.studies.places import of_sweep
from domix.figures import printed
from domix.figures.figure import Figure
from domix.figures.look import PRINT
from domix.report.paper import effective, heat_map, interpolation, learning_curves, main_result, sheets
from domix.report.paper.collection import Collection, collect
from domix.report.paper.publish import publish
from domix.report.paper.sheets import Absent, Shown
from tools.made_study import MIXTURES, Asked, make_sweep

FULL = Asked(
    test_domains=("clipart", "sketch"),
    mixtures=(*MIXTURES, "cg-low+painting", "cg-low+infograph+painting", "cg-high+0.1"),
    seeds=(0, 1),
    checkpoints=(0, 1, 2, 4),
    classes=12,
    test_classes=4,
)
BARE = Asked(test_domains=("clipart",), mixtures=("natural-only", "cg-high"), seeds=(0,), checkpoints=(5,), classes=30)


def collected(root: Path, asked: Asked) -> Collection:
    make_sweep(root, asked)
    return collect(of_sweep(root, "made"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return collected(tmp_path_factory.mktemp("full"), FULL)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return collected(tmp_path_factory.mktemp("bare"), BARE)


@pytest.fixture(scope="module")
def folder(bare: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view")
    publish(bare, path, "A <title> & more")
    return path


def lines_of(figure: Figure | Absent) -> list[Line2D]:
    """Return all lines of a figure; those of one panel share a transform."""
    return [artist for artist in drawn(figure).artists if isinstance(artist, Line2D)]


def texts_of(figure: Figure | Absent) -> list[str]:
    return [artist.get_text() for artist in drawn(figure).artists if isinstance(artist, Text)]


def drawn(figure: Figure | Absent) -> matplotlib.figure.Figure:
    assert isinstance(figure, Figure)
    with mpl.rc_context(PRINT.settings()):
        return figure.draw(PRINT)


def values(line: Line2D, axis: str) -> list[float]:
    return np.asarray(line.get_xdata() if axis == "x" else line.get_ydata(), dtype=float).tolist()


def names(figures: Shown) -> list[str]:
    return [figure.name for figure in figures if isinstance(figure, Figure)]


def test_a_full_study_has_every_figure(full: Collection) -> None:
    assert names(main_result.figures(full)) == ["main-result"]
    assert names(interpolation.domain_figures(full)) == ["domain-interpolation-clipart", "domain-interpolation-sketch"]
    assert names(interpolation.exposure_figures(full)) == ["exposure-interpolation"]
    assert names(effective.figures(full)) == ["effective-robustness"]
    assert names(heat_map.figures(full)) == ["classes-clipart", "classes-sketch"]
    assert names(learning_curves.figures(full)) == ["learning-held_out", "learning-natural"]


def test_the_main_figure_leaves_out_what_the_interpolations_show(full: Collection) -> None:
    assert full.main("clip") == list(MIXTURES)
    figure = main_result.figures(full)[0]
    assert [text for text in texts_of(figure) if text in full.domains] == ["clipart", "sketch"]
    points = {round(values(line, "y")[0], 9) for line in lines_of(figure) if str(line.get_marker()) in "sDvo"}
    rows = full.tables["mixtures"]
    rows = rows[(rows["cells"] == "held_out") & (rows["metric"] == "balanced_top1") & rows["mixture"].isin(MIXTURES)]
    assert points == set(rows["estimate"].round(9))


def test_the_exposure_figure_runs_from_nothing_shown_to_all(full: Collection) -> None:
    lines = lines_of(interpolation.exposure_figures(full)[0])
    assert [values(line, "x") for line in lines[:2]] == [[0.0, 1.0], [0.0, 0.1, 1.0]]  # cg-low, cg-high


def test_the_domain_figure_orders_by_how_many_domains_are_shown(full: Collection) -> None:
    figure = interpolation.domain_figures(full)[0]
    lines = lines_of(figure)
    above = [line for line in lines if line.get_transform() == lines[0].get_transform()]
    below = [line for line in lines if line not in above]
    held = [line for line in below if line.get_marker() == "o" and line.get_markerfacecolor() == PRINT.ink]
    assert [len(values(line, "y")) for line in held] == [1, 2, 3, 4, 5, 6]
    assert [text for text in texts_of(figure) if text in full.domains] == full.domains
    assert len([line for line in above if line.get_marker() in ("o", "D")]) == 6


def test_last_weights_alone_are_no_learning_curve(full: Collection) -> None:
    """Their epochs differ from mixture to mixture, as a small mixture is seen more often."""
    curves = full.tables["curves"]
    last = curves[curves["checkpoint"] == curves["checkpoint"].max()]
    last = last.assign(checkpoint=last["checkpoint"] + last["mixture"].astype("category").cat.codes)
    alone = replace(full, tables=full.tables | {"curves": last})
    assert names(learning_curves.figures(alone)) == []
    absent = learning_curves.figures(alone)[0]
    assert isinstance(absent, Absent) and "embed.checkpoints" in absent.reason


def test_learning_curves_count_samples(full: Collection) -> None:
    shown = full.shown["clipart"]["cg-low"]
    checkpoints = full.rows("curves", "clipart", "clip", mixture="cg-low")["checkpoint"].drop_duplicates()
    assert list(learning_curves.seen(full, "clipart", "clip", "cg-low", checkpoints)) == [
        n * shown.samples for n in (0, 1, 2, 4)
    ]
    full.total["clipart", "clip"] = 350_000
    assert list(learning_curves.seen(full, "clipart", "clip", "cg-low", checkpoints))[-1] == 350_000
    full.total["clipart", "clip"] = None


def test_heat_maps_sort_classes_by_ease(full: Collection) -> None:
    table = heat_map.class_accuracy(full, "clipart")
    blind = ["natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low+painting", "cg-low+infograph+painting"]
    ease = table[blind].mean(axis=1)
    assert list(ease) == sorted(ease, reverse=True)
    assert sorted(table.index) == sorted(full.test_classes)


def test_a_bare_study_says_why_figures_are_absent(folder: Path) -> None:
    told = json.loads((folder / "study.json").read_text())
    assert told["figures"] == ["main-result", "classes-clipart", "sharing-classes"]
    assert set(told["absent"]) == {"domain-interpolation", "exposure-interpolation", "effective-robustness", "learning"}
    assert "cg-low+painting" in told["absent"]["domain-interpolation"]
    assert "embed.checkpoints" in told["absent"]["learning"]
    for name in ("README.md", "index.html"):
        text = (folder / name).read_text()
        assert "no figure" in text
        assert "train.checkpoints" in text


def test_the_folder_holds_every_format_and_links_to_each(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    assert "A &lt;title&gt; &amp; more" in page
    linked = set(re.findall(r'(?:href|src)="((?:figures|tables)/[^"]+)"', page))
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    assert linked == there
    assert {Path(name).suffix for name in there} == {".png", ".svg", ".pdf", ".csv", ".md", ".tex"}
    readme = (folder / "README.md").read_text()
    assert set(re.findall(r"\]\(((?:figures|tables)/[^)]+)\)", readme)) == there


def test_equal_studies_give_equal_bytes(bare: Collection, folder: Path, tmp_path: Path) -> None:
    publish(bare, tmp_path, "A <title> & more")
    digests = [
        {p.relative_to(f).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in f.rglob("*") if p.is_file()}
        for f in (folder, tmp_path)
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) > 10


def test_figures_fit_a_column_and_keep_their_text(folder: Path) -> None:
    with Image.open(folder / "figures" / "main-result.png") as image:
        width = image.width / printed.DPI * 25.4
    assert width == pytest.approx(89, abs=0.1)
    tree = ET.parse(folder / "figures" / "main-result.svg")
    texts = {"".join(node.itertext()) for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"natural-only", "cg-high", "clipart", "chance"} <= texts
    sizes = re.findall(r"font-size: ([\d.]+)px", (folder / "figures" / "main-result.svg").read_text())
    assert sizes
    assert min(map(float, sizes)) >= 7  # a px of these files is a point in print
    pdf = (folder / "figures" / "main-result.pdf").read_bytes()
    assert b"CreationDate" not in pdf
    assert b"/Type /Font" in pdf


def test_an_unfinished_study_is_marked_in_every_figure_and_table(tmp_path: Path) -> None:
    asked = replace(BARE, test_domains=("clipart", "sketch"), unfinished=("sketch",))
    study = collected(tmp_path, asked)
    (tmp_path / "out").mkdir()
    publish(study, tmp_path / "out", "x")
    mark = "incomplete: 2 of 4 runs"
    for path in (tmp_path / "out" / "figures").glob("*.svg"):
        assert mark in path.read_text(), path
    for path in [*(tmp_path / "out" / "tables").glob("*.tex"), *(tmp_path / "out" / "tables").glob("*.md")]:
        assert mark.capitalize() in path.read_text(), path
    missing = (tmp_path / "out" / "tables" / "missing.csv").read_text().splitlines()
    assert missing[0] == "test_domain,kind,mixture,seed,state,why,log"
    assert missing[1].startswith("sketch,clip,natural-only,0,done,it is not evaluated,.cache/sweep/made/logs/sketch/")
    assert len(missing) == 3
    assert mark.capitalize() in (tmp_path / "out" / "index.html").read_text()


def test_lines_are_told_apart_without_colour() -> None:
    lines = sheets.lines_of([*MIXTURES, "a", "b", "c", "d"], 1.0)
    assert len({(line.marker, line.hollow) for line in lines.values()}) == len(lines)
    grey = sorted(np.dot((0.299, 0.587, 0.114), to_rgb(lines[m].colour)) for m in ("natural-only", "cg-low", "cg-high"))
    assert np.diff(grey).min() > 0.1
    assert sheets.lines_of(["b", "cg-low"], 1.0)["cg-low"] == lines["cg-low"]  # whoever else is there
