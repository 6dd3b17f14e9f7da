"""Figures for an HTML page: inline SVG that follows the page's theme, small, and readable by screen readers.

matplotlib's SVG is rewritten: stand-in colours become the page's CSS variables, styles become attributes, numbers
lose needless digits, groups without meaning go, and ids are the figure's own, since a page holds many figures.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html import escape
from typing import Any, ClassVar

import matplotlib as mpl
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure as Drawing
from matplotlib.font_manager import FontProperties

from domix.figures.figure import Figure
from domix.figures.look import CODES, PAGE, POINTS_PER_INCH, TIP

COLOURS = {code: f"var(--{name})" for name, code in CODES.items()}
KEPT = ("d", "x", "y", "width", "height", "transform")  # attributes that are taken over
STYLES = (
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-dashoffset",
    "stroke-linecap", "stroke-linejoin", "opacity", "font-size", "font-weight", "font-style", "text-anchor",
)  # fmt: skip
NEUTRAL = {
    ("fill", "#000000"), ("opacity", "1"), ("stroke-linecap", "butt"), ("stroke-linejoin", "round"),
    ("stroke-dashoffset", "0"), ("stroke-width", "1"), ("font-size", f"{PAGE.small:g}"), ("text-anchor", "start"),
    ("font-weight", "400"), ("font-style", "normal"),
}  # fmt: skip
SHARP = 1.5  # dots of an image in a point, across
HREF = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")
_ZEROS = re.compile(r"(?<=\d)\.0+(?!\d)|(?<=\.[1-9])0(?!\d)")  # that end a number of up to two decimals
_MINUS_ZERO = re.compile(r"-0(?![\d.])")
_BLANKS = re.compile(r" ?([A-Za-z,]) ?")
_DOT = re.compile(r"M([\d.-]+ [\d.-]+)L\1(?=M|$)")  # a segment of no length
_LINK = re.compile(r"url\(#([^)]+)\)")


def svg(figure: Figure) -> str:
    """Return the figure as an inline SVG element, as wide as its place on the page allows."""
    with mpl.rc_context(PAGE.settings()):
        drawing = figure.draw(PAGE)
        width, height = (side * POINTS_PER_INCH for side in drawing.get_size_inches())
        body = _Writer(figure.name).write(_matplotlib_svg(drawing))
    own = _slug(figure.name)
    head = (
        f'<svg viewBox="0 0 {_short(width)} {_short(height)}" role="img" aria-label="{escape(figure.title)}"'
        f' aria-describedby="{own}-alt" font-size="{PAGE.small:g}" stroke-linejoin="round">'
        f'<desc id="{own}-alt">{escape(figure.alt)}</desc>'
    )
    return f"{head}{body}</svg>"


def _matplotlib_svg(drawing: Drawing) -> ET.Element:
    text = io.StringIO()
    drawing.set_dpi(POINTS_PER_INCH)
    drawing.patch.set_visible(False)  # the page is the ground
    width, height = (side * POINTS_PER_INCH for side in drawing.get_size_inches())
    renderer = _Renderer(
        width, height, text, image_dpi=SHARP * POINTS_PER_INCH, metadata={"Date": None, "Creator": None}
    )
    drawing.draw(renderer)
    renderer.finalize()
    return ET.fromstring(text.getvalue())


class _Renderer(RendererSVG):
    """matplotlib's, with one memory of how large a text is for all figures: most write the same few numbers."""

    _sizes: ClassVar[dict[tuple[str, float, object], tuple[float, float, float]]] = {}

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        key = (s, prop.get_size_in_points(), prop.get_weight())
        if key not in self._sizes:
            self._sizes[key] = super().get_text_width_height_descent(s, prop, ismath)
        return self._sizes[key]


class _Writer:
    """Rewrites one figure; ids become <figure>-0, <figure>-1 ..."""

    def __init__(self, name: str) -> None:
        self.own = _slug(name)
        self.ids: dict[str, str] = {}

    def write(self, element: ET.Element) -> str:
        """Return an element's SVG; the outermost one's content only."""
        tag = element.tag.rpartition("}")[2]
        if tag in ("metadata", "style"):
            return ""
        inner = "".join(map(self.write, element))
        if tag in ("svg", "defs"):
            return f"<defs>{inner}</defs>" if inner and tag == "defs" else inner
        attributes = self._attributes(element, tag)
        if tag == "g":
            return self._group(element, attributes, inner)
        if tag == "text":
            inner = escape(element.text or "", quote=False)
        if (tag == "path" and not attributes.get("d")) or (tag == "text" and not inner) or _unseen(attributes):
            return ""
        return f"{_start(tag, attributes)}>{inner}</{tag}>" if inner else f"{_start(tag, attributes)}/>"

    def _group(self, element: ET.Element, attributes: dict[str, str], inner: str) -> str:
        words = element.get("id", "")
        tip = f"<title>{escape(words.removeprefix(TIP), quote=False)}</title>" if words.startswith(TIP) else ""
        if not inner or not (attributes or tip):
            return inner
        return f"{_start('g', attributes)}>{tip}{inner}</g>"

    def _attributes(self, element: ET.Element, tag: str) -> dict[str, str]:
        found = {name: element.attrib[name] for name in KEPT if name in element.attrib}
        if tag in ("path", "clipPath") and "id" in element.attrib:
            found["id"] = self._id(element.attrib["id"])
        if (link := element.get(HREF, "")).startswith("data:"):
            found["href"] = link
        elif link:
            found["href"] = f"#{self._id(link[1:])}"
        if clip := _LINK.match(element.get("clip-path", "")):
            found["clip-path"] = f"url(#{self._id(clip[1])})"
        if found.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
            del found["transform"]
        places = 2 if "id" in found else 1  # markers are small
        for name in ("d", "x", "y", "width", "height", "transform"):
            if name in found:
                found[name] = _numbers(found[name], places)
        return found | _style(element.get("style", ""))

    def _id(self, known: str) -> str:
        return self.ids.setdefault(known, f"{self.own}-{len(self.ids)}")


def _style(text: str) -> dict[str, str]:
    """Return a style as attributes, what is so anyway left out."""
    pairs = (pair.partition(":")[::2] for pair in text.split(";") if ":" in pair)
    found = {name.strip(): COLOURS.get(value.strip(), value.strip()) for name, value in pairs}
    if font := found.pop("font", None):  # "700 11px 'DejaVu Sans', ..."
        size = re.search(r"([\d.]+)px", font)
        found |= {"font-size": size[1]} if size else {}
        found |= {"font-weight": weight[1]} if (weight := re.match(r"(?:\w+ )*?(bold|[1-9]00) ", font)) else {}
    found = {name: _numbers(found[name].removesuffix("px"), 2) for name in STYLES if name in found}
    return {name: value for name, value in found.items() if (name, value) not in NEUTRAL}


def _unseen(attributes: dict[str, str]) -> bool:
    """Has a shape neither a filling nor an outline?"""
    return attributes.get("fill") == "none" and "stroke" not in attributes


def _start(tag: str, attributes: dict[str, str]) -> str:
    return f"<{tag}" + "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _numbers(text: str, places: int) -> str:
    """Round the numbers of an attribute and take out blanks that part nothing."""
    numbers = tuple(map(float, _NUMBER.findall(text)))
    if numbers:  # all at once: a map has thousands
        text = _ZEROS.sub("", f"%.{places}f".join(_NUMBER.split(text)) % numbers)
        text = _MINUS_ZERO.sub("0", text)
    if text[:1] != "M":
        return text
    return _DOT.sub(r"M\1h0", _BLANKS.sub(r"\1", " ".join(text.split())))


def _short(number: float, places: int = 1) -> str:
    text = f"{number:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _slug(name: str) -> str:
    """Return a figure's name as an id: letters, digits and hyphens."""
    return "fig-" + re.sub(r"[^a-z0-9]+", lambda match: "-p-" if "+" in match[0] else "-", name.lower()).strip("-")
