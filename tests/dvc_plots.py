"""What `dvc plots` is told of: the plots of dvc.yaml, and those of each analysis' folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def declared_plots(root: Path) -> dict[str, dict[str, Any]]:
    """Return each plot's properties by its path below `root`."""
    told = {}
    for file in (root / "dvc.yaml", *sorted((root / "src/domix/analyses").glob("*/dvc.yaml"))):
        for entry in YAML(typ="safe").load(file.read_text(encoding="utf-8"))["plots"]:
            for path, properties in entry.items():
                told[os.path.relpath(file.parent / path, root)] = properties
    return told
