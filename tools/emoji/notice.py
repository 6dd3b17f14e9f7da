"""The notices of the bundled sets: who drew them, under which licence, what stands for what, and what to know."""

from __future__ import annotations

from tools.emoji.artists import ARTISTS, DOMAINS
from tools.emoji.objects import Object

STANDS_FOR = {
    "clipart": "flat coloured pictures with outlines",
    "infograph": "flat coloured shapes without outlines, as in diagrams",
    "painting": "modelled surfaces: the artist's light and shade",
    "quickdraw": "thin or plain black lines, no colour, as drawn by hand",
    "real": "the natural domain: the most shaded, photograph-like drawings",
    "sketch": "black shapes and lines on white, no colour",
}

LICENCE_LINKS = {
    "Apache-2.0": ("LICENSE-Apache-2.0.txt", "https://www.apache.org/licenses/LICENSE-2.0"),
    "CC-BY-4.0": (None, "https://creativecommons.org/licenses/by/4.0/legalcode"),
    "CC-BY-SA-4.0": ("LICENSE-CC-BY-SA-4.0.txt", "https://creativecommons.org/licenses/by-sa/4.0/legalcode"),
    "MIT": ("LICENSE-MIT-Microsoft.txt", "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE"),
    "OFL-1.1": ("LICENSE-OFL-1.1.txt", "https://openfontlicense.org"),
}

HEAD = """\
# The picture set `emoji`

{classes} objects, each drawn by up to {artists} artists in {domains} styles: {pictures} drawings of {side} x {side}
pixels on white. It stands in for DomainNet where a few megabytes must do: same layout, same domain names,
DomainNet's class names where DomainNet has the class ({shared} of its 345). Made by `tools/build_emoji.py`, byte for
byte, from the packages below. The pictures are other people's work: each keeps its artist's licence, whatever the
licence of the code beside it.

## What stands for what
| domain | stands in for it | artist (file name) |
|---|---|---|
"""

CARD = """\

These are drawings, all of them. `real` holds no photographs; it takes the part of the natural domain because its
artists shade the most. Results on this set show how the method works, not how well CLIP reads sketches.

**Shared outlines.** Two houses coloured one set of outlines in several ways. A model that has been shown one of these
cells has seen the contours of the other:
* `fluent-emoji-flat` (infograph), `fluent-emoji` (painting) and `fluent-emoji-high-contrast` (sketch);
* `emojione` (clipart) and `emojione-monotone` (sketch).

So infograph, painting and sketch share outlines in pairs, and so do clipart and sketch; quickdraw and real share
none with any other domain. `noto`, `noto-v1` (real) and `noto-emoji` (quickdraw) are one house's work, drawn anew
each time, but often of the same thing in the same view.

**Why two artists a domain.** A cell drawn by one artist alone gives one test picture and no variety to learn from; so
quickdraw has OpenMoji's black line drawings and the glyphs of the font Noto Emoji. Some cells still have one.

**Splits.** There are too few drawings to divide them. Both lists of a domain name every drawing: a test picture is
the drawing as drawn; training pictures are seeded poses of it (mirrored, tilted, scaled, shifted), made when the set
is packed. What is withheld from training is withheld in every pose; accuracy on cells that are *not* withheld is
accuracy on drawings seen in other poses. Lines are grouped by class in label order; within a class the artists
follow one another, the first one alternating with the label, so that any beginning of a class's lines shows as many
artists as it can.

**Labels** 0 .. {last}: classes sorted by directory name, lower case. `classes.csv` lists them with DomainNet's names.

"""

LICENCES = """\

## Licences
"""

SHARE_ALIKE = """\

Pictures under CC-BY-SA-4.0 may be passed on, changed or not, under that licence only. "EmojiOne" artwork was
provided by EmojiOne (now JoyPixels) and is continued by EmojiTwo; "Twemoji" is by Twitter, Inc and other
contributors; all emojis named `openmoji` were designed by OpenMoji, the open-source emoji and icon project. None of
them endorses this work.
"""


HEAD_OOD = """\
# The picture set `emoji-ood`

{classes} emoji that show no object, by the artists and in the styles of the set `emoji`: {pictures} drawings of
{side} x {side} pixels on white. None of `emoji`'s classes is right for any of them: models of `emoji` should find them
foreign. Made by `tools/build_emoji.py`, byte for byte, from the packages below. The pictures are other people's work:
each keeps its artist's licence, whatever the licence of the code beside it.

## What it holds
| group | emoji |
|---|---|
"""

CARD_OOD = """\

**near** are things drawn as objects are, with bodies, limbs and features; **far** are signs and plain figures. Emoji
that resemble a class of `emoji` were left out: hearts and diamonds (suits of cards), circles (moons, which two artists
draw the same), no-entry signs (stop sign), stars, monkeys. No country's flag is here: Microsoft and the font draw none.

The layout is that of [`emoji`](../emoji/NOTICE.md), where it also stands what each domain stands in for, and which
artists share outlines. Both lists of a domain name every drawing; Domix reads them for testing alone. Labels 0 ..
{last}: classes sorted by directory name. `classes.csv` lists them with their groups.

"""

WHO = """\
## Who drew it
Rendered from the vector drawings in these packages at {side} pixels on white and saved without loss; glyphs of the
font are centred and fitted to the picture; nothing else was changed.

| artist (file name) | package | drawings | author | licence | project |
|---|---|---|---|---|---|
"""


def notice(counts: dict[str, int], *, classes: int, shared: int, side: int) -> str:
    """Write NOTICE.md.

    Args:
        counts: artist -> number of drawings.
        classes: number of objects; shared: how many of them are DomainNet's classes.
        side: pixels.
    """
    numbers = {
        "classes": classes,
        "artists": len(ARTISTS),
        "domains": len(DOMAINS),
        "pictures": f"{sum(counts.values()):,}",
    }
    parts = [HEAD.format(**numbers, side=side, shared=shared)]
    for domain in DOMAINS:
        artists = ", ".join(f"`{a.name}`" for a in ARTISTS if a.domain == domain)
        parts.append(f"| {domain} | {STANDS_FOR[domain]} | {artists} |\n")
    parts.append(CARD.format(last=classes - 1))
    return "".join(parts) + _credits(counts, side)


def notice_ood(counts: dict[str, int], outside: list[Object], *, side: int) -> str:
    """Write NOTICE.md of the emoji that show no object; as `notice`."""
    head = HEAD_OOD.format(classes=len(outside), pictures=f"{sum(counts.values()):,}", side=side)
    groups = {group: ", ".join(o.text for o in outside if o.group == group) for group in ("near", "far")}
    rows = [f"| {group} | {names} |\n" for group, names in groups.items()]
    return head + "".join(rows) + CARD_OOD.format(last=len(outside) - 1) + _credits(counts, side)


def _credits(counts: dict[str, int], side: int) -> str:
    """Write who drew how much, and under which licence."""
    parts = [WHO.format(side=side)]
    for a in ARTISTS:
        package = f"`{a.package}` {a.version}"
        parts.append(f"| `{a.name}` | {package} | {counts[a.name]} | {a.author} | {a.licence} | {a.project} |\n")
    parts.append(LICENCES)
    for licence, (file, link) in sorted(LICENCE_LINKS.items()):
        parts.append(f"* {licence}: " + (f"[{file}]({file}), " if file else "") + f"<{link}>\n")
    parts.append(SHARE_ALIKE)
    return "".join(parts)
