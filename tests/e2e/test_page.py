"""The report page in a real browser: it stands alone, fits phone and desktop, and its controls work."""

from __future__ import annotations

from pathlib import Path

import pytest

from domix.config import load
from domix.report import page
from domix.report.study import load_study
from tests.e2e.browser import CHROMIUM, Browser
from tests.fake_report import CONFIDENCE, Fake, read

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: install the package chromium, or set CHROMIUM to its path"
    ),
]
ROOT = Path(__file__).parents[2]
ORIGIN = page.Provenance(
    made={
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "experiment": "some-experiment",
        "versions": {"python": "3.11.7"},
        "machine": {"system": "Linux", "processor": "some processor", "cores": 2},
    },
    times={"train cg-high 0": 93.0, "report": 4.0},
    digests={"artifacts/shards/emoji/index.parquet": "ab" * 32},
)
STUDIES = {
    "plain": {},
    "sketch, three seeds": {"test_domain": "sketch", "seeds": [0, 1, 2]},
    "no baseline, long names": {"mixtures": ["cg-high+painting+quickdraw-aligned", "cg-high"]},
    "baseline alone": {"mixtures": ["natural-only"]},
    "no copies": {"copies": 0},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def write(folder: Path, **kwargs) -> Path:
    fake = Fake(folder / "artifacts", **kwargs)
    study = load_study(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)
    params = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    file = folder / "index.html"
    file.write_text(page.render(study, params, ORIGIN, fake.cards(), read), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_stands_alone_and_fits(browser, tmp_path, name):
    file = write(tmp_path, **STUDIES[name])
    assert file.stat().st_size < 10_000_000
    for width, scheme in ((1440, "light"), (390, "dark")):
        browser.open(file, width, scheme=scheme)
        assert browser.complaints() == []
        assert browser.requests() == [file.resolve().as_uri()]
        assert browser.evaluate("document.documentElement.dataset.theme") == scheme
        browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        outside = browser.evaluate(
            """[...document.querySelectorAll('main *')]
            .filter(part => !part.closest('.scroll, pre') && part.getBoundingClientRect().right > innerWidth + 1)
            .map(part => part.outerHTML.slice(0, 80))"""
        )
        assert outside == []


def test_every_figure_and_picture_has_words(browser, tmp_path):
    browser.open(write(tmp_path), 1440)
    assert browser.evaluate("document.querySelectorAll('main svg').length") > 20
    assert browser.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label').length > 9)")
    assert browser.evaluate("[...document.images].length") > 6
    assert browser.evaluate("[...document.images].every(i => i.alt && i.naturalWidth > 0)")
    assert browser.evaluate("document.querySelectorAll('h1, main, nav[aria-label]').length") == 3


def test_the_theme_button_switches(browser, tmp_path):
    browser.open(write(tmp_path), 1440)
    before = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != before
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_the_result_table_sorts(browser, tmp_path):
    browser.open(write(tmp_path), 1440)
    column = "[...document.querySelectorAll('table.sortable')[0].tBodies[0].rows].map(r => +r.cells[2].dataset.value)"
    head = "document.querySelectorAll('table.sortable')[0].tHead.rows[0].cells[2]"
    browser.evaluate(f"{head}.querySelector('button').click()")
    falling = browser.evaluate(column)
    assert falling == sorted(falling, reverse=True) and falling[0] > falling[-1]
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    browser.evaluate(f"{head}.querySelector('button').click()")
    assert browser.evaluate(column) == falling[::-1]


def test_text_stands_out_from_its_ground(browser, tmp_path):
    """Contrast of WCAG AA, 4.5 : 1, for the colours that text has, in both themes."""
    file = write(tmp_path)
    script = """(() => {
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1);
        const [r, g, b] = [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16) / 255)
          .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [['--ink', '--paper'], ['--mute', '--paper'], ['--mute', '--card'], ['--hot', '--paper'],
              ['--accent', '--paper'], ['--on-accent', '--accent']].map(([a, b]) => ratio(light(a), light(b)));
    })()"""
    for scheme in ("light", "dark"):
        browser.open(file, 1440, scheme=scheme)
        assert min(browser.evaluate(script)) >= 4.5
