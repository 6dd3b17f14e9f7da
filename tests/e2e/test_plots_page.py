"""The page of `dvc plots` that needs no network: every template draws its table of two revisions in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer

from domix.analyses.registry import analyses, find
from domix.cli.plots import PAGE, offline
from domix.report.load.study import load_results
from domix.report.page.sections import asked_study
from domix.report.tables import plot_data
from domix.runs import Run
from tests.dvc_plots import declared_plots
from tests.e2e.browser import CHROMIUM, Browser
from tests.fake_analyses import write_features
from tests.fake_evaluation import write_further
from tests.fake_report import CONFIDENCE, DOMAINS, Fake, results_of
from tests.fake_signatures import write_signatures

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: install the package chromium, or set CHROMIUM to its path"
    ),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def write_page(folder: Path) -> list[str]:
    """Write the page of the plots of dvc.yaml, two revisions of a made-up study each; return the plots' places.

    One more plot has no rows.
    """
    fake = Fake(folder / "artifacts")
    fake.write()
    fake.write_circuits()
    write_features(fake.folder, [(name, seed) for name in fake.mixtures for seed in fake.seeds], DOMAINS)
    write_signatures(fake.folder, [Run("clip", mixture, seed) for mixture in fake.mixtures for seed in fake.seeds])
    write_further(fake, checkpoints=4)
    study = load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=analyses())
    sections = [find(name).section(results_of(study, name), asked_study(study)) for name in analyses()]
    tables = plot_data.frames(study) | {name: plot for section in sections for name, plot in section.plots.items()}
    frames = {name: frame.astype(str).to_dict("records") for name, frame in tables.items()}
    told = declared_plots(ROOT)
    page, places = HTML(offline((ROOT / PAGE).read_text(encoding="utf-8"))), []
    for path, properties in (told | {"empty.csv": told["metrics/plots/curves.csv"]}).items():
        rows = [row | {"rev": rev} for rev in ("HEAD", "experiment") for row in frames.get(Path(path).stem, [])]
        renderer = VegaRenderer(rows, path, **properties, template_dir=ROOT / ".dvc" / "plots")
        page.with_element(renderer.generate_html())
        places.append(renderer.remove_special_chars(path))
    (folder / "index.html").write_text(page.embed(), encoding="utf-8")
    return places


DRAWN = """(async () => {
  for (let i = 0; i < 400; i++) {
    const blocks = [...document.querySelectorAll("#plots > div")];
    if (blocks.every(block => block.querySelector("svg.marks"))) break;
    await new Promise(done => setTimeout(done, 50));
  }
  return [...document.querySelectorAll("#plots > div:has(svg.marks)")].map(block => block.id);
})()"""


def test_every_plot_with_rows_is_drawn_without_a_network(browser, tmp_path) -> None:
    places = write_page(tmp_path)
    browser.open(tmp_path / "index.html", 1400)
    assert browser.evaluate(DRAWN) == places[:-1] and len(places) == len(declared_plots(ROOT)) + 1
    assert browser.evaluate("document.querySelectorAll('#plots > div').length") == len(places) - 1
    assert browser.complaints() == []
    assert browser.requests() == [(tmp_path / "index.html").as_uri()]
    assert browser.evaluate("getComputedStyle(document.getElementById('offline')).display") == "none"


def test_without_the_scripts_the_page_says_how_to_get_them(browser, tmp_path) -> None:
    (tmp_path / "index.html").write_text(PAGE.read_text(encoding="utf-8").replace("{scripts}", ""), encoding="utf-8")
    browser.open(tmp_path / "index.html", 1400)
    assert browser.evaluate("getComputedStyle(document.getElementById('offline')).display") == "block"
