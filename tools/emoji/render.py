"""From SVG to lossless WebP on white. Needs resvg-py and Pillow (requirements/tools.in), imported when first used."""

from __future__ import annotations

import io

SIDE = 80  # pixels: the whole set then takes 11 MB


def render(svg: str, side: int = SIDE) -> bytes:
    """Draw an SVG, centred, on a white square and compress it without loss.

    The same versions of resvg and libwebp give the same bytes on every machine.
    """
    import resvg_py  # ty: ignore[import-not-found]  (requirements/tools.in)
    from PIL import Image

    # Without the system's fonts: they would cost 50 ms a call, and text drawn with them would differ between machines.
    drawing = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(drawing))) as drawn:
        image = drawn.convert("RGB")
    if image.size != (side, side):  # a drawing that is not square keeps its proportions
        square = Image.new("RGB", (side, side), "white")
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    if len(set(image.tobytes())) == 1:
        raise ValueError("the drawing came out blank")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=80, method=6)  # quality 100: 1 % smaller, 50 times slower
    return buffer.getvalue()
