"""One look for every figure: colours, sizes of text and panels, and matplotlib's settings.

A figure is drawn with the look that it is given: PAGE for an HTML page, PRINT for a column of a paper. Lengths are
points; on a page a point is a CSS pixel of a figure at its full width. The palette is Okabe and Ito's (2008), which
colour-blind readers can tell apart.

Colours of PAGE are stand-ins: `domix.figures.page` writes the CSS variable of that name in their place, so that one
figure follows the light theme, the dark one, and paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure

Drawing = Figure  # what a figure is drawn into: the name that tells it from domix.figures.figure.Figure

POINTS_PER_INCH = 72.0
MM = POINTS_PER_INCH / 25.4  # a millimetre in points
LETTER = 0.56  # width of an average letter, in sizes of its text
TIP = "tip: "  # what an artist's gid starts with where the rest is shown when a pointer rests on it
NAMES = ("ink", "mute", "grid", "paper", "accent", "on-accent", "hot")
SERIES = 8  # colours told apart: the first is the test domain's, the second the natural domain's
FONTS = ("DejaVu Sans", "Verdana", "Arial", "sans-serif")  # the first comes with matplotlib


@dataclass(frozen=True)
class Look:
    """How figures look in one place.

    `ink`, `mute` and `grid` are the colours of text, lesser text and grid lines, `paper` that of the ground;
    `accent` is the colour of what counts, `on_accent` of text upon it, `hot` of what is tested; `series` are the
    colours of domains and classes. `panel` and `wide` are the widths of a panel of which several, or two, stand side
    by side.
    """

    ink: str
    mute: str
    grid: str
    paper: str
    accent: str
    on_accent: str
    hot: str
    series: tuple[str, ...]
    text: float
    small: float
    panel: float
    wide: float
    stroke: float  # width of a curve
    tips: bool  # does a pointer's rest show words?
    font: str

    def domain_colours(self, domains: Sequence[str], test_domain: str, natural_domain: str) -> dict[str, str]:
        """Give each domain its colour: the test and the natural one always the same; beyond eight, others repeat."""
        return {name: self.series[slot] for name, slot in domain_slots(domains, test_domain, natural_domain).items()}

    def tip(self, artist: Artist, words: str) -> None:
        """Show words when a pointer rests on the artist, where there is a pointer."""
        if self.tips:
            artist.set_gid(TIP + words)

    def sheet(self, width: float, height: float) -> Figure:
        """Return an empty figure of a size in points."""
        return Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), dpi=POINTS_PER_INCH)

    def width_of(self, words: str, size: float) -> float:
        """Return about how wide words in a size of text are, in points."""
        return len(words) * size * LETTER

    def settings(self) -> Any:  # matplotlib asks for a dict of its own literals
        """Return matplotlib's settings (rcParams) under which figures of this look are drawn."""
        text, thin = self.small, self.stroke * 0.5
        return {
            "font.family": self.font,
            "font.sans-serif": FONTS,
            "font.size": text,
            "axes.titlesize": self.text,
            "axes.labelsize": text,
            "xtick.labelsize": text,
            "ytick.labelsize": text,
            "legend.fontsize": text,
            "figure.titlesize": text,
            "text.color": self.ink,
            "axes.facecolor": "none",
            "axes.labelcolor": self.ink,
            "axes.edgecolor": self.mute,
            "xtick.color": self.mute,
            "ytick.color": self.mute,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "axes.linewidth": thin,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "text.parse_math": False,  # a dollar is a dollar
            "grid.color": self.grid,
            "grid.linewidth": thin,
            "xtick.major.width": thin,
            "ytick.major.width": thin,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "xtick.minor.size": 0,
            "ytick.minor.size": 0,
            "lines.linewidth": self.stroke,
            "legend.frameon": False,
            "legend.handlelength": 2.2,
            "svg.fonttype": "none",  # text stays text
            "svg.hashsalt": "domix",  # ids in the file do not change from run to run
            "pdf.fonttype": 42,
        }


def domain_slots(domains: Sequence[str], test_domain: str, natural_domain: str) -> dict[str, int]:
    """Return each domain's place among the colours of a series; the first two places are never used twice."""
    others = [domain for domain in domains if domain not in (test_domain, natural_domain)]
    order = dict.fromkeys([test_domain, natural_domain, *others])
    return {name: n if n < SERIES else 2 + (n - 2) % (SERIES - 2) for n, name in enumerate(order)}


VARIABLES = (*NAMES, *(f"d{number}" for number in range(SERIES)))  # of templates/style.css, without their hyphens
CODES = {name: f"#0d0e{number:02x}" for number, name in enumerate(VARIABLES)}  # stand-ins: colours that no figure has

PAGE = Look(
    **{name.replace("-", "_"): CODES[name] for name in NAMES},
    series=tuple(CODES[f"d{number}"] for number in range(SERIES)),
    text=13,
    small=11,
    panel=300,
    wide=400,
    stroke=2,
    tips=True,
    font=FONTS[0],  # to measure by: the page sets its own
)
PRINT = Look(
    ink="#1b1f24",
    mute="#56606b",
    grid="#d5dbe1",
    paper="#ffffff",
    accent="#0072b2",
    on_accent="#ffffff",
    hot="#b84a00",
    series=("#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#555b66", "#a89a00"),
    text=7.5,
    small=7,
    panel=89 * MM,
    wide=183 * MM,
    stroke=1.1,
    tips=False,
    font="sans-serif",
)
