"""Named points with the line through them, and rows of small images: what is drawn, and that names keep apart."""

from __future__ import annotations

import base64
import io
import itertools
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import BboxImage
from PIL import Image

from domix.figures import page
from domix.figures.figure import Figure
from domix.figures.images import ImageRow, image_rows
from domix.figures.look import PAGE, PRINT, Drawing, Look
from domix.figures.relation import place_names, related

LINE = pd.DataFrame({"x": [0.0, 1.0], "low": [0.1, 0.7], "expected": [0.2, 0.8], "high": [0.3, 0.9]})


def boxes(places: list, sizes: list[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    return [(*place, place[0] + w, place[1] + h) for place, (w, h) in zip(places, sizes, strict=True) if place]


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_names_cover_neither_dots_nor_each_other() -> None:
    generator = np.random.default_rng(0)
    at = [(float(x), float(y)) for x, y in generator.uniform(0, 300, (40, 2))]
    sizes = [(30.0 + 10 * (n % 4), 8.0) for n in range(40)]
    places = place_names(at, sizes, (300, 300), 6)
    found = boxes(places, sizes)
    assert len(found) > 30
    assert all(apart(one, other) for one, other in itertools.combinations(found, 2))
    assert all(apart(box, (x - 3, y - 3, x + 3, y + 3)) for box in found for x, y in at)
    assert all(min(box) >= 0 and max(box) <= 300 for box in found)


def test_a_name_stands_to_the_right_or_where_there_is_room() -> None:
    (free,) = place_names([(50, 50)], [(20, 8)], (200, 100), 4)
    assert free is not None and free[0] > 52 and free[1] == 46  # level with its dot
    (edge,) = place_names([(190, 50)], [(20, 8)], (200, 100), 4)
    assert edge is not None and edge[0] + 20 < 188
    assert place_names([(10, 5)], [(50, 20)], (40, 10), 4) == [None]
    one, other = place_names([(50, 50), (50.5, 50)], [(20, 8), (20, 8)], (200, 100), 4)
    assert one is not None and other is not None and one != other


def points(count: int = 4) -> pd.DataFrame:
    x = np.linspace(0.05, 0.95, count)
    return pd.DataFrame({"name": [f"model {n}" for n in range(count)], "group": "ours", "x": x, "y": 0.2 + 0.6 * x})


def drawn(figure: Figure) -> str:
    return page.svg(figure)


def test_the_page_shows_dots_line_band_and_titles() -> None:
    def draw(look: Look) -> Drawing:
        return related(look, points(), LINE, {"ours": look.accent}, ("accuracy", "AUROC"))

    svg = drawn(Figure("related", "t", "c", "a", draw))
    assert [f">model {n}</text>" in svg for n in range(4)] == [True] * 4
    assert "<title>model 0: 0.05, 0.23</title>" in svg and "<title>model 3: 0.95, 0.77</title>" in svg
    assert ">accuracy</text>" in svg and ">AUROC</text>" in svg and 'opacity="0.18"' in svg
    assert svg.count('fill="var(--accent)"') >= 1


def test_without_a_band_the_line_alone_is_drawn() -> None:
    line = LINE.assign(low=np.nan, high=np.nan)

    def draw(look: Look) -> Drawing:
        return related(look, points(), line, {"ours": look.accent}, ("accuracy", "AUROC"))

    assert 'opacity="0.18"' not in drawn(Figure("related", "t", "c", "a", draw))


def test_rows_of_images_stand_side_by_side_and_the_right_way_up() -> None:
    above = np.zeros((8, 8, 3), np.uint8)
    above[:4] = (250, 10, 10)  # the upper half is red
    rows = [ImageRow("first row", [above, None]), ImageRow("second row", [255 - above, above])]

    def draw(look: Look) -> Drawing:
        return image_rows(look, ["one", "two\nlines"], rows)

    svg = drawn(Figure("images", "t", "c", "a", draw))
    assert all(f">{words}</text>" in svg for words in ("first row", "second row", "one"))
    files = re.findall(r'<image [^>]*href="data:image/png;base64,([^"]+)"', svg)
    assert len(files) == 3
    assert svg.count('transform="scale(1 -1) ') == 3  # files are upside down
    uppermost = [np.asarray(Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB"))[-3, 3] for file in files]
    assert [colour.tolist() for colour in uppermost] == [[250, 10, 10], [5, 245, 245], [250, 10, 10]]
    with mpl.rc_context(PRINT.settings()):
        figure = draw(PRINT)
        figure.draw_without_rendering()
        shown = [a.get_window_extent() for a in figure.get_children() if isinstance(a, BboxImage)]
    assert shown[0].x0 < shown[2].x0 and shown[0].ymin > shown[1].ymax  # beside, and below each other
    assert all(box.width == pytest.approx(abs(box.height)) for box in shown)
    assert shown[2].x1 == pytest.approx(PRINT.wide) and PAGE.wide != PRINT.wide
