"""CKA of two models: what it must not depend on, what it refuses, and what the report says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domix.analyses.contract import Section
from domix.analyses.registry import find
from domix.analyses.run_cka.minibatch import MinibatchCka, minibatch_cka, split_rows
from domix.figures import page
from domix.report.load.study import load_results
from domix.report.page.sections import asked_study
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from tests.fake_report import CONFIDENCE, DOMAINS, Fake, results_of

RNG = np.random.default_rng(0)
SITES = {"first": RNG.normal(size=(60, 6)), "second": RNG.normal(size=(60, 3))}


@pytest.mark.parametrize("n", [4, 7, 8, 100, 257])
@pytest.mark.parametrize("size", [4, 6, 50, 256])
def test_batches_hold_every_image_once_and_enough_of_them(n: int, size: int) -> None:
    rows = np.arange(n) * 3
    batches = split_rows(rows, size=size, seed=1)
    assert sorted(np.concatenate(batches)) == rows.tolist()
    sizes = [len(batch) for batch in batches]
    assert min(sizes) >= 4 and max(sizes) - min(sizes) <= 1 and max(sizes) <= max(size, 7)
    if n > 8:
        assert not np.array_equal(np.concatenate(batches), np.concatenate(split_rows(rows, size=size, seed=2)))


def test_a_model_is_like_itself_turned_scaled_and_moved() -> None:
    turned = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    found = minibatch_cka(SITES, {"first": 3 * SITES["first"] @ turned - 2, "second": SITES["second"]}, size=20)
    np.testing.assert_allclose(found.diagonal(), 1)
    assert abs(found[0, 1]) < 0.3


def test_a_site_that_tells_no_images_apart_has_none() -> None:
    found = minibatch_cka(SITES, {"dead": np.full((60, 2), 0.1), "first": SITES["first"]}, size=20)
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_named(value: float) -> None:
    broken = SITES["second"].copy()
    broken[5, 1] = value
    with pytest.raises(DataError, match=r"^the activations of site second are not finite, so that they cannot be"):
        minibatch_cka(SITES, SITES | {"second": broken}, size=20)


@pytest.mark.parametrize(("a", "b"), [(3, 3), (8, 9)])
def test_refuses_too_few_or_unpaired_images(a: int, b: int) -> None:
    with pytest.raises(ValueError, match="same images of both models, at least 4"):
        MinibatchCka().update({"x": np.eye(a)}, {"x": np.eye(b)})


def section_of(folder: Path, seeds: tuple[int, ...] = (0,), keep: tuple[str, ...] = ("all", *DOMAINS)) -> Section:
    fake = Fake(folder, mixtures=["cg-high", "leave-out-domain"], seeds=list(seeds), classes=12, test_classes=6)
    path = fake.write() / "analysis/run_cka/run_cka.parquet"
    table = read_table(path)
    write_table(path, table[table["images"].isin(keep)])
    study = load_results(folder, fake.mixtures, fake.seeds, CONFIDENCE, analyses=["run_cka"])
    return find("run_cka").section(results_of(study, "run_cka"), asked_study(study))


def test_each_run_has_a_square_and_each_other_run_a_line_a_domain(tmp_path: Path) -> None:
    section = section_of(tmp_path, seeds=(0, 1))
    squares, lines = section.parts
    runs = ["cg-high-s0", "cg-high-s1", "leave-out-domain-s0", "leave-out-domain-s1"]
    assert list(squares.figures) == [f"cg-high-s0 and {run}" for run in runs]
    assert list(lines.figures) == [f"cg-high-s0 and {run}" for run in runs[1:]]
    assert list(squares.folded) == ["On clipart images alone"]
    drawn = page.svg(squares.figures["cg-high-s0 and leave-out-domain-s0"])
    assert "attnpool and attnpool: 0.750" in drawn and "stem and attnpool: 0.500" in drawn
    assert "clipart 0.65" in lines.figures["cg-high-s0 and leave-out-domain-s0"].alt
    assert section.metrics["leave-out-domain-s0.same_site"] == pytest.approx(0.875)
    assert "cg-high-s0.same_site" not in section.metrics


def test_the_plot_has_the_same_site_of_other_runs_by_whose_images(tmp_path: Path) -> None:
    plot = section_of(tmp_path).plots["same_site"]
    assert set(plot["mixture"]) == {"leave-out-domain-s0"}
    found = plot.set_index(["layer", "images"])["value"]
    assert found["attnpool", "test domain"] == pytest.approx(0.65)
    assert found["attnpool", "other domains"] == pytest.approx(0.75)
    assert plot.loc[plot["layer"] == "attnpool", "depth"].unique().tolist() == [5]


def test_without_images_of_single_domains_the_squares_remain(tmp_path: Path) -> None:
    assert [len(part.figures) for part in section_of(tmp_path, keep=("all",)).parts] == [2]


def test_a_study_of_none_of_these_mixtures_says_nothing(tmp_path: Path) -> None:
    assert list(section_of(tmp_path, keep=()).parts) == []
