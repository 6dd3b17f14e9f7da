"""`dvc plots diff` as a page that needs no network: python -m tools.plots [REVISION ...]

DVC's page loads Vega from a network; this one has it inside. Revisions are commits, branches or experiments; without
any, the working tree is compared with the last commit. The page: dvc_plots/index.html.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import vl_convert

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / ".dvc" / "plots" / "page.html"
SNIPPET = "window.vegaEmbed = vegaEmbed; window.vegaLite = vegaLite; window.vega = vega;"
PLACEHOLDERS = ("{scripts}", "{plot_divs}", "{refresh_tag}")


def offline(page: str) -> str:
    """Return DVC's page template with Vega, Vega-Lite and Vega-Embed in the place of their addresses."""
    scripts = vl_convert.javascript_bundle(SNIPPET).replace("</script", r"<\/script")
    assert not any(name in scripts for name in PLACEHOLDERS)
    return page.replace("{scripts}", f"<script>{scripts}</script>")


def main() -> int:
    """Write the page; return DVC's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "page.html"
        template.write_text(offline(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        command = ["dvc", "plots", "diff", "--html-template", str(template), *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
