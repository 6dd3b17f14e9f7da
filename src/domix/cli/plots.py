"""`domix plots`: `dvc plots diff` as a page that needs no network.

DVC's page loads Vega from a network; this one has it inside. Revisions are commits, branches or experiments; without
any, the working tree is compared with the last commit. The page: dvc_plots/index.html.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import vl_convert

PAGE = Path(".dvc/plots/page.html")  # in the repository
SNIPPET = "window.vegaEmbed = vegaEmbed; window.vegaLite = vegaLite; window.vega = vega;"
PLACEHOLDERS = ("{scripts}", "{plot_divs}", "{refresh_tag}")


def offline(page: str) -> str:
    """Return DVC's page template with Vega, Vega-Lite and Vega-Embed in the place of their addresses."""
    scripts = vl_convert.javascript_bundle(SNIPPET).replace("</script", r"<\/script")
    assert not any(name in scripts for name in PLACEHOLDERS)
    return page.replace("{scripts}", f"<script>{scripts}</script>")


def main(root: Path, revisions: Sequence[str]) -> int:
    """Write the page of the repository `root`; return DVC's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "page.html"
        template.write_text(offline((root / PAGE).read_text(encoding="utf-8")), encoding="utf-8")
        command = ["dvc", "plots", "diff", "--html-template", str(template), *revisions]
        return subprocess.run(command, cwd=root, check=False).returncode
