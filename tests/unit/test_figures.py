"""Figures: one drawing for the page, which follows its theme, and for print, with equal bytes."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from domix.figures import charts, circuit, embedding, page, printed, thumbnails
from domix.figures.charts import Bar, Line, Mark
from domix.figures.figure import Figure
from domix.figures.look import CODES, PAGE, PRINT, VARIABLES, Look
from domix.figures.panel import panel, percent_labels, round_ticks, short, ticks_within, wrap

SVG = "{http://www.w3.org/2000/svg}"
ROOM = Path(__file__).parents[2] / "src" / "domix"


def curves(look: Look) -> matplotlib.figure.Figure:
    made = panel(look, look.panel, 120, (30, 8, 10, 36))
    made.limits((0, 4), (0, 1))
    made.mark_up([0, 0.5, 1], ["0", "50", "100"])
    made.mark_across([0, 2, 4], ["0", "2", "4"], "epochs & <script>")
    charts.band(made, [0, 1, 2], [0, 0.1, 0.2], [0.2, 0.3, np.nan], look.mute)
    charts.curve(made, [0, 1, 2, 3], [0, 0.5, np.nan, 1], Line(look.accent, look.stroke, marker="o"), "seed <0>")
    charts.dots(made, [1, 2, 3], [0.5, 0.5, 0.5], look.series[0], 4, 0.5)
    charts.rings(made, [1], [0.2], look.hot, 6)
    return made.figure


def figure(name: str = "some-figure", draw=curves) -> Figure:
    return Figure(name, "A title", "A caption.", "What it shows, <in words>.", draw)


def saved(folder: Path) -> list[Path]:
    printed.save(figure(), folder)
    return [folder / f"some-figure.{ending}" for ending in printed.FORMATS]


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def table(look: Look) -> matplotlib.figure.Figure:
    values = pd.DataFrame(
        [[0.0, 1.0], [np.nan, 0.4]], index=["sketch", "a class of a very long name" * 4], columns=["x", "sketch"]
    )
    return charts.shaded_table(
        look, look.panel, values, lambda v: f"{v * 100:.0f}", lambda a, b, v: f"{a}, {b}: {v}", row=20, hot="sketch"
    )


def estimates(look: Look) -> matplotlib.figure.Figure:
    bars = [
        Bar("lower", 0.1, 0.05, 0.2, "lower"),
        Bar("plain", 0.2, 0.1, 0.3),
        Bar("cg-high+painting+quickdraw-aligned", 0.3, 0.2, 0.4, "upper", (0.25, 0.35)),
    ]
    return charts.forest(look, bars, [Mark(0.02, "chance", (2, 3))], lambda v: f"{v * 100:.1f}", "accuracy, %")


def test_dots_are_seen_in_print_and_cost_few_bytes_on_a_page(tmp_path):
    def cloud(look: Look) -> matplotlib.figure.Figure:
        made = panel(look, look.panel, look.panel, (8, 8, 8, 8))
        charts.dots(made, [0.25, 0.5, 0.75], [0.25, 0.5, 0.75], look.series[0], 12)
        return made.figure

    printed.save(figure(draw=cloud), tmp_path)
    grey = np.asarray(Image.open(tmp_path / "some-figure.png").convert("L"))
    drawn = (grey < 250).sum() * (72 / printed.DPI) ** 2
    assert drawn == pytest.approx(3 * np.pi * 6**2, rel=0.1)
    assert len(re.findall(r"M[\d.]+ [\d.]+h0", page.svg(figure(draw=cloud)))) == 3


@pytest.mark.parametrize("draw", [curves, table, estimates])
def test_a_page_figure_has_no_colour_of_its_own(draw):
    """Every colour is a CSS variable, so that light, dark and paper can set it."""
    text = page.svg(figure(draw=draw))
    assert re.findall(r"#[0-9a-fA-F]{6}\b", text) == []
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", text)) <= set(VARIABLES)
    assert "var(--accent)" in text and "font-family" not in text and "style=" not in text


def test_the_variables_are_the_page_s():
    css = next(ROOM.glob("report/**/style.css")).read_text(encoding="utf-8")
    for block in (css.split(":root {")[1], css.split(':root[data-theme="dark"] {')[1]):
        assert set(VARIABLES) <= set(re.findall(r"--([a-z0-9-]+):", block.split("}")[0]))
    assert len(set(CODES.values())) == len(VARIABLES)


def test_a_page_figure_says_what_it_shows():
    root = parsed(page.svg(figure()))
    words = {node.get("id"): node.text for node in root.iter(f"{SVG}desc")}
    assert root.get("role") == "img" and root.get("aria-label") == "A title"
    assert words == {root.get("aria-describedby"): "What it shows, <in words>."}
    assert "width" not in root.attrib and root.get("viewBox") == "0 0 300 120"
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert texts == ["0", "50", "100", "0", "2", "4", "epochs & <script>"]
    assert [node.text for node in root.iter(f"{SVG}title")] == ["seed <0>"]


def test_ids_are_a_figure_s_own():
    one, other = (page.svg(figure(name)) for name in ("cg-high", "cg-high+0.1"))
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]
    for text, known in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= known


def test_figures_are_equal_from_run_to_run(tmp_path):
    assert page.svg(figure()) == page.svg(figure())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    digests = [[hashlib.sha256(file.read_bytes()).hexdigest() for file in saved(tmp_path / name)] for name in "ab"]
    assert digests[0] == digests[1] and len(set(digests[0])) == 3


def test_print_is_as_wide_as_a_column_in_its_own_colours(tmp_path):
    assert printed.save(figure(), tmp_path) == pytest.approx(89 / 25.4)
    png, svg, pdf = saved(tmp_path)
    with Image.open(png) as image:
        assert image.width / printed.DPI * 25.4 == pytest.approx(89, abs=0.1)
    text = svg.read_text(encoding="utf-8")
    assert PRINT.accent in text and not any(code in text for code in CODES.values())
    assert "epochs &amp; &lt;script&gt;" in text and "seed" not in text  # text stays text; on paper no pointer rests
    assert b"CreationDate" not in pdf.read_bytes()


def test_a_page_figure_is_small():
    assert len(page.svg(figure())) < 4000


def test_curves_and_bands_leave_out_what_is_unknown():
    with matplotlib.rc_context(PAGE.settings()):
        drawing = curves(PAGE)
    drawn = next(line for line in drawing.artists if line.get_gid() == "tip: seed <0>")
    assert list(drawn.get_xdata()) == [0, 1, 3]


def test_a_shaded_table_is_as_strong_as_its_values():
    root = parsed(page.svg(figure(draw=table)))
    shades = [(node.get("opacity"), node.get("fill")) for node in root.iter(f"{SVG}path")]
    assert shades == [("0.05", "var(--accent)"), (None, "var(--accent)"), ("0.43", "var(--accent)")]
    colours = {node.text: node.get("fill") for node in root.iter(f"{SVG}text")}
    assert colours["100"] == "var(--on-accent)" and colours["0"] == "var(--ink)" and colours["sketch"] == "var(--hot)"
    assert any(str(text).endswith("\N{HORIZONTAL ELLIPSIS}") for text in colours)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_turned_names_of_columns_end_inside_the_table(count: int) -> None:
    names = [f"supervised leave-out-domain-{place}" for place in range(count)]
    values = pd.DataFrame(np.eye(count), names, names)
    with mpl.rc_context(PRINT.settings()):
        made = charts.shaded_table(PRINT, PRINT.wide, values, str, lambda one, other, value: one, row=20)
        ends = [text.get_window_extent().x1 for text in made.findobj(Text) if text.get_rotation()]
    assert len(ends) == count and max(ends) <= made.bbox.x1 + 1


def test_a_map_is_moved_into_its_square_and_not_stretched():
    shape = pd.DataFrame({"x": np.linspace(3, 7, 1001), "y": np.linspace(0, 2, 1001), "group": "a"})
    for points, wide, narrow in ((shape, "x", "y"), (shape.rename(columns={"x": "y", "y": "x"}), "y", "x")):
        made = embedding.fitted(points)
        assert (made[wide].min(), made[wide].max()) == (0, 1)
        assert made[narrow].iloc[[250, 500, 750]].tolist() == pytest.approx([0.375, 0.5, 0.625], abs=0.003)
        assert made[wide].iloc[[250, 500, 750]].tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.003)


@pytest.mark.parametrize(("across", "up"), [((0, 2), (0, 4)), ((2, 0), (4, 0)), ((-1, 1), (3, -1))])
def test_a_range_begins_at_the_lower_left_corner_whichever_way_it_runs(across, up):
    made = panel(PRINT, 100, 100, (10, 20, 30, 40))
    made.limits(across, up)
    pixels = made.data.transform([(across[0], up[0]), (across[1], up[1]), (sum(across) / 2, sum(up) / 2)])
    points = pixels * 72 / made.figure.dpi
    assert points.round(6).tolist() == [[10, 40], [70, 80], [40, 60]]


def test_estimates_stand_beside_their_bars():
    texts = [node.text for node in parsed(page.svg(figure(draw=estimates))).iter(f"{SVG}text")]
    assert {
        "10.0",
        "5.0 to 20.0",
        "30.0",
        "20.0 to 40.0",
        "accuracy, %",
        "cg-high+painting",
        "+quickdraw-",
        "aligned",
    } <= set(texts)


def test_domains_keep_their_colours():
    domains = [f"d{number}" for number in range(12)]
    colours = PAGE.domain_colours(domains, "d3", "d5")
    assert colours["d3"] == PAGE.series[0] and colours["d5"] == PAGE.series[1]
    assert list(colours.values()).count(PAGE.series[0]) == 1 and len(set(colours.values())) == 8


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.12, 0.31), (0, 0.0123), (0, 90_112), (3, 3)])
def test_ticks_are_few_and_span_the_values(low, high):
    ticks = round_ticks(low, high, 6)
    assert ticks[0] <= low <= high <= ticks[-1] + 1e-9 and 2 <= len(ticks) <= 6
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("end", "ticks"), [(32, [0, 10, 20, 30]), (90_112, [0, 20e3, 40e3, 60e3, 80e3]), (1, None)])
def test_ticks_within_end_at_the_data(end, ticks):
    found = ticks_within(end, 5)
    assert found[0] == 0 and found[-1] <= end and len(found) >= 3
    assert ticks is None or found == ticks


def test_ticks_are_round():
    assert round_ticks(0, 0.53, 5) == [0, 0.2, 0.4, 0.6]
    assert round_ticks(-0.04, 0.44, 5) == [-0.2, 0, 0.2, 0.4, 0.6]


def test_labels():
    assert percent_labels([-0.1, 0, 0.125], signed=True) == ["\N{MINUS SIGN}10", "0", "+12.5"]
    assert [short(n) for n in (0, 950, 90_000, 1.5e6, 2e9)] == ["0", "950", "90k", "1.5M", "2B"]
    assert wrap("cg-high+painting+quickdraw", 130, 13) == ["cg-high+painting", "+quickdraw"]
    assert wrap("cg-low", 130, 13) == ["cg-low"] and "".join(wrap("leave-out-domain", 60, 13)) == "leave-out-domain"
    assert wrap("cg-high+painting+quickdraw", 80, 11) == ["cg-high", "+painting", "+quickdraw"]
    assert "".join(wrap("a-b+c", 1, 11)) == "a-b+c"


def test_the_room_stands_on_runtime_alone():
    for file in (ROOM / "figures").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            known = ("domix.figures", "domix.runtime")
            assert all(name.startswith(known) for name in names if name.startswith("domix")), file


def test_a_thumbnail_is_cut_to_its_middle_upon_white() -> None:
    wide, file = Image.new("RGBA", (192, 64), (0, 0, 0, 0)), io.BytesIO()
    wide.paste((255, 0, 0, 255), (96, 0, 128, 64))
    wide.paste((0, 0, 255, 255), (128, 0, 192, 64))  # outside the square
    wide.save(file, "PNG")
    found = thumbnails.read(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    assert found.shape == (64, 64, 3) and found[0, 0].tolist() == [255] * 3 and found[9, 60].tolist() == [255, 0, 0]


def test_a_circuit_shows_an_image_or_a_dot_a_channel() -> None:
    rows = [("one", 0, 3, -0.5, 7), ("one", 0, 4, 0.25, -1), ("two", 1, 0, 0.1, 8)]
    nodes = pd.DataFrame(rows, columns=["site", "depth", "channel", "effect", "image"])
    edges = pd.DataFrame([("two", 1, 0, 3, 0.5)], columns=["site", "depth", "channel", "upstream", "weight"])
    asked = list[int]()

    def thumbnail(row: int) -> np.ndarray:
        asked.append(row)
        return np.full((64, 64, 3), 255 * (row == 8), np.uint8)

    made = Figure("circuit", "A", "", "B", partial(circuit.layers, nodes=nodes, edges=edges, thumbnail=thumbnail))
    root = parsed(page.svg(made))
    assert sorted(asked) == [7, 8]
    shown = [node.attrib for node in root.iter(f"{SVG}image")]
    colours = [Image.open(io.BytesIO(base64.b64decode(a["href"].split(",")[1]))).convert("RGB") for a in shown]
    heights = [float(a["y"]) for a in shown]  # of a picture turned upside down: below zero, the less the higher up
    assert sorted(zip(heights, (image.getpixel((9, 9)) for image in colours), strict=True))[0][1] == (0, 0, 0)
    shapes: dict[str, str] = dict(re.findall(r"<title>(.*?)</title>(.*?)</g>", page.svg(made)))
    assert sorted(shapes) == ["one/3: effect -0.5", "one/4: effect +0.25", "two/0: effect +0.1"]
    assert "var(--accent)" in shapes["one/3: effect -0.5"] and "var(--hot)" in shapes["two/0: effect +0.1"]
    assert "stroke-opacity" not in shapes["two/0: effect +0.1"]  # the strongest of its site
    assert 'fill-opacity="0.57"' in shapes["one/4: effect +0.25"]  # half as strong as the strongest
