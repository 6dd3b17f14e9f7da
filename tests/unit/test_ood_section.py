"""What the report says of foreign images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from domix.analyses.contract import Section
from domix.analyses.ood import words
from domix.analyses.ood.section import groups_of, mean_over_seeds
from domix.analyses.registry import find
from domix.figures import page
from domix.report.load.study import load_results
from domix.report.page.sections import asked_study
from domix.runtime.tables import read_table, write_table
from tests.fake_report import CONFIDENCE, DOMAINS, Fake, results_of


def section_of(fake: Fake) -> Section:
    study = load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["ood"])
    return find("ood").section(results_of(study, "ood"), asked_study(study))


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    fake = Fake(tmp_path, seeds=[0, 1])
    fake.write()
    return fake


def plain(text: str) -> str:
    """Return a text on one line, with plain blanks and signs."""
    return " ".join(text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_page_answers_its_questions_with_numbers(fake: Fake) -> None:
    flags, auroc, styles, relation = section_of(fake).parts
    assert (
        "Of the clipart images of seen classes are flagged 25.0 % (natural-only) and 25.0 % (leave-out-domain) where"
        " the model never saw the style; 25.0 % (cg-low), 25.0 % (cg-high) and 25.0 % (cg-high-all) where the model saw"
        " other images of them." in plain(flags.text)
    )
    assert "the 20 seen classes, by their names and by 40 real images of them" in plain(flags.text)
    assert "<em>Held-out classes</em> are the 20 test classes in clipart" in plain(auroc.text)
    assert "Near" not in auroc.text  # there is no set of foreign images
    assert (
        "Compared with natural-only, leave-out-domain with its further styles tells (in points of AUROC) worse:"
        " held-out classes (-5.0; -6.0 to -4.0). It reads 80.0 % of the known images, natural-only 90.0 %."
        in plain(styles.text)
    )
    assert "over 10 models: held-out classes R² 0.90 (0.10 to 0.90)" in plain(relation.text)


def test_classifiers_know_classes_by_their_outputs(fake: Fake) -> None:
    study = load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["ood"])
    results, asked = results_of(study, "ood"), asked_study(study)
    tables = {
        name: pd.concat([table, table.assign(kind="supervised").replace({"score": "mcm"}, "msp")], ignore_index=True)
        for name, table in results.tables.items()
    }
    both = replace(asked, runs=(*asked.runs, *(replace(run, kind="supervised") for run in asked.runs)))
    made = find("ood").section(replace(results, tables=tables), both).parts
    clip, own = (
        next(part for part in made if part.title.endswith(title))
        for title in (
            "Which images are taken for foreign",
            "Supervised classifiers: Which images are taken for foreign",
        )
    )
    assert "seen classes, by their names and by 40" in plain(clip.text) and "score <em>mcm</em>" in clip.text
    assert "seen classes, by its outputs for them and by 40" in plain(own.text) and "score <em>msp</em>" in own.text
    assert sum("neither its outputs for them nor the cells are known" in plain(part.text) for part in made) == 1
    assert sum("neither their names nor the cells are known" in plain(part.text) for part in made) == 1


def test_figures_are_by_mixture_and_by_group(fake: Fake) -> None:
    flags, auroc, styles, relation = section_of(fake).parts
    assert list(flags.figures) == fake.mixtures and not flags.folded
    assert list(auroc.figures) == ["held-out classes", "tested classes", "seen classes"]
    assert list(auroc.folded) == [words.FULL.format(test_domain="clipart"), "By every score"]
    assert list(styles.figures) == ["held-out classes"] and list(relation.figures) == ["held-out classes"]
    assert list(relation.folded) == ["By accuracy of neighbours"]
    figures = [figure for part in (flags, auroc, styles, relation) for figure in part.figures.values()]
    figures += [f for part in (auroc, relation) for folded in part.folded.values() for f in folded.values()]
    assert len({figure.name for figure in figures}) == len(figures)
    assert all(page.svg(figure).startswith("<svg") for figure in figures)


def test_a_difference_is_found_whichever_way_it_stands() -> None:
    table = pd.DataFrame(
        [("b", "a", "near", "signs", "natural", 0.2, 0.1, 0.4)],
        columns=["mixture_a", "mixture_b", "group", "set", "known", "difference", "low", "high"],
    )
    assert words.difference(table, "b", "a", "near", "signs", "natural") == (0.2, 0.1, 0.4)
    assert words.difference(table, "a", "b", "near", "signs", "natural") == (-0.2, -0.4, -0.1)
    assert words.difference(table, "a", "b", "far", "signs", "natural") is None
    assert words.difference(table, "a", "b", "near", "signs", "full") is None


@pytest.mark.parametrize(
    ("ends", "word"),
    [((-0.3, -0.1), "worse"), ((0.1, 0.3), "better"), ((-0.1, 0.1), "as well")],
)
def test_the_interval_decides_what_is_said(fake: Fake, ends: tuple[float, float], word: str) -> None:
    path = fake.folder / "analysis/ood/differences.parquet"
    write_table(path, read_table(path).assign(low=ends[0], high=ends[1]))
    assert f"(in points of AUROC) {word}: held-out classes (" in plain(section_of(fake).parts[2].text)


def test_near_and_far_objects_are_named_by_their_set_where_there_are_several() -> None:
    pairs = [("near", "signs"), ("held_out", "emoji"), ("near", "faces"), ("near", "mean"), ("far", "signs")]
    assert groups_of(pd.DataFrame(pairs, columns=["group", "set"])) == {
        ("held_out", "emoji"): "held-out classes",
        ("near", "signs"): "near objects (signs)",
        ("near", "faces"): "near objects (faces)",
        ("near", "mean"): "near objects (mean)",
        ("far", "signs"): "far objects",
    }


def test_seeds_are_averaged() -> None:
    table = pd.DataFrame({"mixture": "a", "seed": [0, 1], "group": "near", "estimate": [0.2, 0.4], "n_ood": 7})
    assert mean_over_seeds(table).to_dict("records") == [
        {"mixture": "a", "group": "near", "estimate": pytest.approx(0.3), "n_ood": 7}
    ]


def test_numbers_and_plots(fake: Fake) -> None:
    section = section_of(fake)
    assert section.metrics["cg-low.held_out.auroc"] == 0.7 and section.metrics["cg-low.seen.flagged"] == 0.25
    assert len(section.metrics) == 5 * 3
    auroc, flags = (section.plots[name] for name in ("ood_auroc", "ood_flags"))
    assert set(auroc["images"]) == {"held-out classes", "tested classes", "seen classes"}
    assert set(auroc["chance"]) == {0.5} and set(auroc["n"]) == {60} and len(auroc) == 15
    assert list(flags["images"])[:6] == DOMAINS and set(flags["chance"]) == {0.05} and len(flags) == 30


def test_of_one_mixture_nothing_is_compared(tmp_path: Path) -> None:
    fake = Fake(tmp_path, mixtures=["cg-high"])
    fake.write()
    titles = [part.title for part in section_of(fake).parts]
    assert "Whether more styles make foreign images easier to tell" not in titles and len(titles) >= 2
