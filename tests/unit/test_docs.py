"""What the documentation shows in YAML is what the loader takes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from domix.settings.load import load

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(text, id=f"{path.name}-{number}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, text in enumerate(BLOCK.findall(path.read_text(encoding="utf-8")))
    if "stages:" not in text and path.name != "adding-an-analysis.md"  # applied by test_adding_an_analysis.py
]


@pytest.mark.parametrize("block", BLOCKS)
def test_parameters_of_the_documentation_load(block: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    tree: dict[str, Any] = yaml.load((ROOT / "presets/mini.yaml").read_text(encoding="utf-8"))
    for key, value in yaml.load(block).items():
        tree[key] = tree[key] | value if isinstance(value, dict) else value
    stream = io.StringIO()
    yaml.dump(tree, stream)
    load(stream.getvalue())


def test_there_are_such_blocks() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("encoders", "attnpool"),
        ("adversarial", "psnr"),
        ("correlation", "0."),
        ("ood", "Interval("),
        ("sae", "tensor("),
        ("sharing", "mpct_shared@20"),
    ],
)
def test_the_example_of_a_page_runs(page: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    names: dict[str, object] = {}
    exec(compile(code, f"docs/{page}.md", "exec"), names)
    assert printed in capsys.readouterr().out
