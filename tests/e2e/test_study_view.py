"""The index of the study view in a browser: images load from disk, no network is asked, axe finds nothing."""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path

import pytest

from domix.cli.studies.places import of_sweep
from domix.report.paper.collection import collect
from domix.report.paper.publish import publish
from tests.e2e.browser import CHROMIUM, Browser
from tools.made_study import Asked, make_sweep

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]
ASKED = Asked(
    test_domains=("clipart", "sketch"),
    mixtures=("natural-only", "cg-high"),
    seeds=(0,),
    checkpoints=(3,),
    classes=8,
    test_classes=3,
)


def test_the_index_opens_from_disk(tmp_path: Path) -> None:
    make_sweep(tmp_path, replace(ASKED, unfinished=("sketch",)))
    folder = tmp_path / "view"
    folder.mkdir()
    publish(collect(of_sweep(tmp_path, "made")), folder, "Made up")
    with Browser(tmp_path / "profile") as browser:
        browser.open(folder / "index.html", 390)
        assert browser.complaints() == []
        assert [url for url in browser.requests() if not url.startswith("file:")] == []
        widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 2
        assert min(widths) > 0
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        browser.evaluate((importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
        script = "axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(v => v.id))"
        assert browser.evaluate(script) == []
