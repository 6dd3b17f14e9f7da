"""The report page in a real browser: it stands alone, fits phone, desktop and paper, and its controls work."""

from __future__ import annotations

import base64
import importlib.resources
from pathlib import Path

import pandas as pd
import pytest

from domix.report.load.study import load_results
from domix.report.page import compare, page
from domix.report.page.sections import make_sections
from domix.runs import list_runs
from domix.settings.load import load
from tests.e2e.browser import CHROMIUM, Browser
from tests.fake_evaluation import PUBLIC, SUPERVISED, write_further
from tests.fake_report import CONFIDENCE, MIXTURES, Fake, large_image, read
from tests.fake_signatures import write_signatures

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: install the package chromium, or set CHROMIUM to its path"
    ),
]
ROOT = Path(__file__).parents[2]
ORIGIN = page.Provenance(
    versions={"python": "3.11.7"},
    digests={"artifacts/shards/emoji/index.parquet": "ab" * 32},
)
RUN = page.RunFacts(
    made={
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "experiment": "some-experiment",
        "machine": {"system": "Linux", "processor": "some processor", "cores": 2},
    },
    times={"train cg-high 0": 93.0, "report": 4.0},
    rates={
        "clip/cg-high-s0": pd.DataFrame({"samples": [80, 160], "samples_per_s": [40.0, 80.0], "data_wait": [0.1, 0.0]})
    },
)
FEW = {"seeds": [0, 1], "mixtures": ["natural-only", "cg-high", "cg-high-all"], "classes": 12, "test_classes": 6}
STUDIES = {
    "plain": {},
    "full": {"seeds": [0, 1, 2], "mixtures": [*MIXTURES, "cg-high+0.1"]},
    "no baseline, long names": {"mixtures": ["cg-high+painting+quickdraw-aligned", "cg-high"]},
    "baseline alone": {"mixtures": ["natural-only"], "copies": 0},
    "everything, small": FEW,
    "unfinished": FEW | {"test_domain": "sketch"},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the page of a study by its name in STUDIES; each is made once."""
    made: dict[str, Path] = {}

    def page_of(name: str) -> Path:
        if name not in made:
            made[name] = write(tmp_path_factory.mktemp("page"), name)
        return made[name]

    return page_of


def write(folder: Path, name: str) -> Path:
    fake = Fake(folder / "artifacts", **STUDIES[name])
    fake.write()
    beside = {}
    if name in ("full", "everything, small"):
        write_further(fake)
        write_signatures(fake.folder, list_runs(fake.mixtures, fake.seeds, supervised=SUPERVISED))
        beside = {"supervised": SUPERVISED, "public": PUBLIC}
    if name == "unfinished":
        (fake.folder / "models/clip/cg-high-s0/done.json").unlink()
        (fake.folder / "analysis/cka/cka.parquet").unlink()
        (fake.folder / "analysis/leakage/summary.parquet").unlink()
    params = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    beside |= {"analyses": params.analyses, "unfinished": name == "unfinished"}
    study = load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, **beside)
    file = folder / "index.html"
    give = large_image if name == "full" else read
    sections = list(make_sections(study, params, give)[0].values())
    html = page.render(study, params, ORIGIN, fake.cards(), give, sections)
    file.write_text(page.with_run(html, RUN), encoding="utf-8")
    return file


def unfold(browser: Browser) -> None:
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_stands_alone_and_fits(browser, pages, name):
    file = pages(name)
    for width, scheme in ((1440, "light"), (390, "dark")):
        browser.open(file, width, scheme=scheme)
        assert browser.complaints() == []
        assert browser.requests() == [file.resolve().as_uri()]
        assert browser.evaluate("document.documentElement.dataset.theme") == scheme
        unfold(browser)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        outside = browser.evaluate(
            """[...document.querySelectorAll('main *')]
            .filter(part => !part.closest('.scroll, pre') && part.getBoundingClientRect().right > innerWidth + 1)
            .map(part => part.outerHTML.slice(0, 80))"""
        )
        assert outside == []


def test_a_page_of_many_runs_and_large_images_stays_small(pages):
    """Six mixtures, three seeds, 33 checkpoints, classifiers and a public model; images of 200 kB and more."""
    assert len(large_image("emoji", 0)) > 150_000
    assert 500_000 < pages("full").stat().st_size < 10_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["everything, small", "unfinished"])
def test_the_page_is_accessible(browser, pages, name, scheme):
    """axe-core finds nothing; one part of each kind is unfolded."""
    browser.open(pages(name), 1200, scheme=scheme)
    browser.evaluate(
        """new Map([...document.querySelectorAll('details')].reverse().map(part => [part.className, part]))
        .forEach(part => { part.open = true; })"""
    )
    assert violations(browser) == []


def violations(browser: Browser) -> list[str]:
    browser.evaluate((importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    return browser.evaluate(
        """axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(
        found => found.id + ': ' + found.nodes.slice(0, 2).map(node => node.html.slice(0, 200)).join(' | ')))"""
    )


def test_axe_finds_what_is_wrong(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<html><body><img src='data:,'><p style='color:#bbb'>pale</p></body></html>", encoding="utf-8")
    browser.open(file, 800)
    assert {found.split(":")[0] for found in violations(browser)} >= {"image-alt", "color-contrast", "html-has-lang"}


def test_every_figure_and_image_has_words(browser, pages):
    browser.open(pages("plain"), 1440)
    assert browser.evaluate("document.querySelectorAll('main svg').length") > 20
    assert browser.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label').length > 9)")
    assert browser.evaluate("[...document.images].length") > 6
    assert browser.evaluate("[...document.images].every(i => i.alt && i.naturalWidth > 0)")
    assert browser.evaluate("document.querySelectorAll('h1, main, nav[aria-label]').length") == 3


def test_the_theme_button_switches_and_the_choice_lasts(browser, pages):
    browser.open(pages("plain"), 1440)
    before = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != before
    browser.open(pages("plain"), 1440)
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == before
    browser.evaluate("localStorage.clear()")


def test_the_result_table_sorts_by_keyboard(browser, pages):
    browser.open(pages("everything, small"), 1440)
    column = "[...document.querySelectorAll('table.sortable')[0].tBodies[0].rows].map(r => +r.cells[2].dataset.value)"
    head = "document.querySelectorAll('table.sortable')[0].tHead.rows[0].cells[2]"
    browser.evaluate(f"{head}.previousElementSibling.querySelector('button').focus()")
    browser.press("Tab")
    assert browser.evaluate(f"document.activeElement === {head}.querySelector('button')")
    browser.press("Enter")
    falling = browser.evaluate(column)
    assert falling == sorted(falling, reverse=True) and falling[0] > falling[-1]
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    assert browser.evaluate("document.getElementById('told').textContent").startswith("Sorted by Held-out")
    browser.press("Enter")
    assert browser.evaluate(column) == sorted(falling)
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1


def test_every_table_that_sorts_has_a_button_in_each_head(browser, pages):
    browser.open(pages("everything, small"), 1440)
    counts = "[...document.querySelectorAll('table.sortable thead th')].map(h => h.querySelectorAll('button').length)"
    assert set(browser.evaluate(counts)) == {1}


def test_tables_are_cut_to_one_kind_of_images_and_one_measure(browser, pages):
    browser.open(pages("everything, small"), 1440)
    shown = """[...document.querySelectorAll('table.filtered')].map(t => [...t.tBodies[0].rows]
    .filter(r => !r.hidden).map(r => r.dataset.place + ' ' + r.dataset.metric))"""
    whole = browser.evaluate(shown)
    browser.evaluate(
        """for (const [name, value] of [['place', 'held_out'], ['metric', 'balanced_top1']]) {
        const field = document.getElementById(name + '-filter'); field.value = value;
        field.dispatchEvent(new Event('change')); }"""
    )
    cut = browser.evaluate(shown)
    assert {row for rows in cut for row in rows} == {"held_out balanced_top1"}
    assert [len(rows) for rows in cut] == [rows.count("held_out balanced_top1") for rows in whole]


def test_classes_are_found_by_name(browser, pages):
    browser.open(pages("plain"), 1440)
    visible = "[...document.querySelectorAll('.class-view')].filter(p => !p.hidden).map(p => p.dataset.name)"
    assert len(browser.evaluate(visible)) == 20
    browser.evaluate("document.getElementById('class-filter').focus()")
    browser.type("02 ")  # blanks at the ends count for nothing
    assert browser.evaluate(visible) == [f"object {number:03d}" for number in range(20, 30)]
    assert browser.evaluate("document.getElementById('class-count').textContent") == "10 of 20 classes"


def test_paper_is_light_whole_and_without_controls(browser, pages):
    browser.open(pages("everything, small"), 720, scheme="dark")
    browser.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    hidden = "[...document.querySelectorAll('nav, #theme, select, input, .class-view')].every(p => !p.offsetParent)"
    assert browser.evaluate(hidden)
    assert browser.evaluate("document.documentElement.dataset.theme") == "light"
    assert browser.evaluate("[...document.querySelectorAll('.mixture-view')].every(part => part.open)")
    cut = """[...document.querySelectorAll('table')].filter(t => t.offsetParent
    && t.getBoundingClientRect().right > innerWidth + 1).map(t => t.parentElement.ariaLabel)"""
    assert browser.evaluate(cut) == []
    assert browser.evaluate("[...document.querySelectorAll('.tall')].every(p => p.scrollHeight <= p.clientHeight + 1)")
    browser.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate("document.documentElement.dataset.theme") == "dark"
    browser.call("Emulation.setEmulatedMedia", media="", features=dark)
    paper = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert paper.startswith(b"%PDF") and paper.count(b"/Type /Page\n") > 5 and len(paper) > 100_000


def test_what_is_missing_is_named_first(browser, pages):
    browser.open(pages("unfinished"), 1440)
    named = browser.evaluate("[...document.querySelectorAll('.unfinished li')].map(i => i.textContent)")
    assert named == [
        "the evaluation of cg-high seed 0",
        "cka/cka.parquet",
        "the leakage audit of all these mixtures",
    ]
    browser.open(pages("plain"), 1440)
    assert browser.evaluate("document.querySelectorAll('.unfinished').length") == 0


def test_two_experiments_stand_side_by_side(browser, tmp_path):
    folders = []
    for number, accuracy in enumerate((None, {"cg-high": (0.9, 0.4, 0.4)})):
        fake = Fake(
            tmp_path / str(number), accuracy=accuracy, mixtures=["natural-only", "cg-high"], test_domain="clipart"
        )
        folders.append(fake.write())
    params = {"test_domain": "clipart", "natural_domain": "real", "evaluate": {"confidence": CONFIDENCE}}
    sides = [
        compare.read_experiment(f"experiment {n}", params | {"seeds": [n]}, folder) for n, folder in enumerate(folders)
    ]
    file = tmp_path / "compare.html"
    file.write_text(compare.render(*sides), encoding="utf-8")
    for width, scheme in ((1200, "light"), (390, "dark")):
        browser.open(file, width, scheme=scheme)
        assert browser.complaints() == [] and browser.requests() == [file.resolve().as_uri()]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(browser) == []
    apart = """[...document.querySelectorAll('table.filtered tbody tr')].filter(r => r.cells[6].textContent === 'apart')
    .map(r => r.cells[0].textContent)"""
    assert set(browser.evaluate(apart)) == {"cg-high"}


def test_text_stands_out_from_its_ground(browser, pages):
    """Contrast of WCAG AA, 4.5 : 1, for the colours that text has, in both themes."""
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
        browser.open(pages("plain"), 1440, scheme=scheme)
        assert min(browser.evaluate(script)) >= 4.5
