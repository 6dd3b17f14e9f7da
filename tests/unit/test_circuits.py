"""Circuits: what is drawn, selected, linked, compared and ablated, on cases whose answer is known."""

from __future__ import annotations

import base64
import io
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from domix.analyses.circuits import computation
from domix.analyses.circuits.attribution import cosine_with, edge_scores, node_scores, select
from domix.analyses.circuits.computation import run
from domix.analyses.circuits.draw import draw_cells, draw_classes
from domix.analyses.circuits.faithfulness import ablated, judged, random_like, selected_by_others
from domix.analyses.circuits.graphs import build_circuit, circuit_similarities
from domix.analyses.circuits.section import averaged, section
from domix.analyses.circuits.settings import Settings
from domix.analyses.contract import AnalysisResults, Images, RunInputs, Shared
from domix.analyses.registry import find
from domix.encoders.encoder import classifier_encoder
from domix.encoders.preprocess import square
from domix.encoders.segments import Segments
from domix.figures.page import svg
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.study import Study
from tests.fakes import DOMAINS, make_index, save_embeddings
from tests.tiny import CONFIG, WORDS, write_project

SHARED = Shared(confidence=0.95, near_bits=6, drop="none", batch=5)


def test_the_tenth_of_the_largest_effects_is_selected() -> None:
    effects = torch.tensor([0.1, -3.0, 2.0, 3.0] + [0.0] * 26)
    assert select(effects, 0.1).tolist() == [1, 3, 2]  # three of thirty; of equal ones the first
    assert select(effects, 0.11).tolist() == [1, 3, 2, 0]
    assert select(torch.tensor([-0.5])).tolist() == [0]  # a site with one channel has a circuit of one
    assert [len(select(torch.zeros(width))) for width in (3, 32, 64, 256, 512, 1024, 2048)] == [
        1,
        4,
        7,
        26,
        52,
        103,
        205,
    ]


def study_of(classes: list[str], tested: int) -> Study:
    return Study(
        "clipart", "real", tuple(classes[:tested]), tuple(DOMAINS), tuple(classes), (Run("clip", "cg-high", 0),)
    )


def test_every_cell_draws_from_a_stream_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    rows = make_index({name: [9] * 4 for name in DOMAINS}, 3)
    rows = rows[~((rows["class"] == "class_2") & (rows["domain"] == "painting"))].reset_index(drop=True)
    caplog.set_level(logging.WARNING)
    every = draw_cells(rows, list(DOMAINS), [f"class_{n}" for n in range(4)], 5, seed=1)
    few = draw_cells(rows, ["sketch"], ["class_3"], 5, seed=1)
    same = next(cell for cell in every if (cell.domain, cell.name) == ("sketch", "class_3"))
    assert np.array_equal(few[0].images, same.images) and len(set(same.images)) == 5
    assert (rows.iloc[same.images][["domain", "class"]] == ["sketch", "class_3"]).all(axis=None)
    assert not np.array_equal(draw_cells(rows, ["sketch"], ["class_3"], 5, seed=2)[0].images, same.images)
    missing = [cell for cell in every if not len(cell.images)]
    assert [(cell.domain, cell.name) for cell in missing] == [("painting", "class_2")]
    assert "1 cells have no test images and no circuit: class_2 in painting" in caplog.text
    assert len(draw_cells(rows, ["sketch"], ["class_3"], 500, seed=1)[0].images) == 9 + 3  # fewer than asked: all
    with pytest.raises(DataError, match="none of the classes drawn for circuits has a test image"):
        draw_cells(rows, ["sketch"], ["class_9"], 5, seed=1)


def test_classes_are_drawn_from_both_sides() -> None:
    study = study_of([f"class_{n}" for n in range(10)], 4)
    drawn = draw_classes(study, 2, 3, seed=0)
    assert (
        len(drawn) == 5 and set(drawn[:2]) <= set(study.test_classes) and not set(drawn[2:]) & set(study.test_classes)
    )
    assert sorted(draw_classes(study, None, None, seed=0)) == sorted(study.classes)
    assert draw_classes(study, 99, 0, seed=0) == list(study.test_classes)


class Line(nn.Module):
    """Two channels, of which the first alone reaches the first output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(images[:, :2]) * 2).mean(dim=(2, 3))


def test_what_is_not_finite_is_named() -> None:
    model = Line()
    segments = Segments(model, {"first": model.first, "second": model.second})
    images, text = torch.ones(2, 3, 2, 2), torch.eye(2)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"an effect at the site first is not finite: the model gives NaN or infinite"):
        node_scores(segments, images, cosine_with(text), ["first", "second"])
    both = {site: torch.tensor([0, 1]) for site in ("first", "second")}
    with pytest.raises(DataError, match=r"a weight from the site first to second is not finite"):
        edge_scores(segments, images, both)


def test_weights_say_which_channel_a_change_comes_from() -> None:
    model = Line()
    segments = Segments(model, {"first": model.first, "second": model.second})
    found = edge_scores(segments, torch.ones(2, 3, 2, 2), {site: torch.tensor([0, 1]) for site in ("first", "second")})
    weights = found["first", "second"]
    assert weights[0, 0] > 0 and weights[1, 1] > 0 and weights[0, 1] == weights[1, 0] == 0


def test_ablation_keeps_what_is_kept() -> None:
    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Conv2d(3, 4, 1)])
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.blocks[0](images).mean(dim=(2, 3))

    torch.manual_seed(0)
    encoder, images = classifier_encoder(Tower(), square(8)), torch.randn(2, 3, 8, 8)
    kept = {"blocks.0": torch.tensor([[True, False, True, False], [False, False, False, True]])}
    whole = encoder.forward(images).output
    means = {"blocks.0": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    torch.testing.assert_close(ablated(encoder, images, kept, None), torch.where(kept["blocks.0"], whole, 0.0))
    torch.testing.assert_close(
        ablated(encoder, images, kept, means), torch.where(kept["blocks.0"], whole, means["blocks.0"])
    )
    drawn = random_like(kept["blocks.0"][0], torch.Generator().manual_seed(0))
    assert drawn.sum() == 2 and not torch.equal(drawn, random_like(drawn, torch.Generator().manual_seed(4)))
    right, cosine = judged(torch.tensor([[2.0, 0.0], [3.0, 4.0]]), torch.eye(2), torch.tensor([0, 0]))
    assert right.tolist() == [True, False] and cosine.tolist() == pytest.approx([1.0, 0.6])


@pytest.fixture
def inputs(tmp_path: Path) -> RunInputs:
    """A project of 48 images of twelve classes in one domain, half of them for the test, and a model."""
    write_project(tmp_path, count=48)
    home = tmp_path / "artifacts"
    from domix.data.store.index import read_index, write_index

    index = read_index(home / "shards/emoji")
    domains = np.resize(["real", "sketch", "sketch"], len(index))
    split = ["test" if n >= 24 else "train" for n in range(48)]
    write_index(home / "shards/emoji", index.assign(split=split, domain=domains).astype(index.dtypes))
    save_weights(build(CONFIG, seed=0), home / "models/clip/tiny-s0/model.safetensors")
    write_json(home / "models/clip/tiny-s0/config.json", {"model": CONFIG})
    run_of = Run("clip", "tiny", 0)
    study = Study("sketch", "real", tuple(WORDS[:4]), ("real", "sketch"), tuple(WORDS), (run_of,))
    made = RunInputs(study, run_of, ("emoji",), home, tmp_path / ".cache", SHARED)
    rows = made.test_images().assign(label=lambda t: t["class"].map(WORDS.index))
    text = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0][: len(WORDS)].astype(np.float32)
    meta = {
        "model_sha256": "0",
        "source": "emoji",
        "templates": "",
        "domains": ["real", "sketch"],
        "classes": WORDS,
        "layers": [],
    }
    save_embeddings(made.embeddings_folder, image=text[rows["label"]], rows=rows, text=text, layers={}, meta=meta)
    return made


def test_a_run_gives_the_declared_tables(inputs: RunInputs) -> None:
    settings = Settings(images=2, test_classes=2, seen_classes=2, random=2, sites=["layer1.0", "layer2.0", "attnpool"])
    tables = find("circuits").run(inputs, settings)
    drawn = tables["cells"]
    assert len(drawn) == 8 and drawn["images"].between(0, 2).all()
    cells = set(drawn[drawn["images"] > 0][["domain", "class"]].itertuples(index=False, name=None))
    assert set(tables["nodes"][["domain", "class"]].itertuples(index=False, name=None)) == cells
    sizes = tables["nodes"].groupby(["domain", "class", "site"], sort=False).size()
    assert set(zip(sizes.index.get_level_values("site"), sizes, strict=True)) == {
        ("layer1.0", 2),
        ("layer2.0", 4),
        ("attnpool", 2),
    }
    assert (tables["edges"].groupby(["domain", "class", "site", "channel"]).size() <= 3).all()
    faithful = tables["faithfulness"]
    assert set(faithful["kept"]) == {"all", "circuit", "random", "not circuit", "not random"}
    assert (
        faithful["accuracy"].between(0, 1).all() and not faithful.duplicated(["domain", "judged", "kept", "by"]).any()
    )
    for judged_by, domain in faithful[["judged", "domain"]].drop_duplicates().itertuples(index=False, name=None):
        rows = faithful[(faithful["judged"] == judged_by) & (faithful["domain"] == domain)]
        sizes = drawn.loc[drawn["domain"] == domain, "images"]
        assert (rows["n"] == sizes[sizes > 1 if judged_by == "held out" else sizes == 1].sum()).all() and len(rows) == 9
    alone = run(inputs, replace_settings(settings, seen_classes=0))  # cells do not see each other
    one = alone["nodes"].iloc[0]
    same = tables["nodes"][
        (tables["nodes"][["domain", "class", "site", "channel"]] == one[["domain", "class", "site", "channel"]]).all(
            axis=1
        )
    ]
    assert same["effect"].item() == pytest.approx(one["effect"], rel=1e-3)


def test_an_image_is_judged_by_the_channels_that_the_others_choose() -> None:
    effects = torch.zeros(3, 10)
    effects[0, 1], effects[1, 2], effects[2, 3], effects[2, 4] = 9.0, -5.0, 4.0, 8.5
    found = selected_by_others(effects, 0.2)
    assert [row.nonzero()[:, 0].tolist() for row in found] == [[2, 4], [1, 4], [1, 2]]
    assert selected_by_others(effects[2:], 0.2).nonzero()[:, 1].tolist() == [3, 4]  # an only image: by its own
    assert selected_by_others(effects).sum(dim=1).tolist() == [1, 1, 1]


def test_a_run_leaves_each_images_own_choice_out(inputs: RunInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(images=2, test_classes=4, seen_classes=8, random=1, sites=["layer2.0", "attnpool"], share=0.2)
    calls: list[tuple[dict[str, torch.Tensor], bool]] = []

    def noted(encoder: Any, images: torch.Tensor, kept: Any, means: Any, **more: bool) -> torch.Tensor:
        calls.append((kept, means is None))
        return ablated(encoder, images, kept, means, **more)

    monkeypatch.setattr(computation, "ablated", noted)
    tables = run(inputs, settings)
    counts = tables["cells"]["images"][tables["cells"]["images"] > 0].tolist()
    assert {1, 2} == set(counts)
    batches = -(-sum(counts) // SHARED.batch)
    zeroed = [torch.cat([calls[9 * n + 1][0][site] for n in range(batches)]) for site in ("layer2.0", "attnpool")]
    assert [by_zero for _, by_zero in calls[:9]] == [True, True, False, True, False, True, False, True, False]
    nodes = tables["nodes"].groupby(["class", "domain"], sort=False)
    cells = tables["cells"][tables["cells"]["images"] > 0][["class", "domain"]].itertuples(index=False, name=None)
    changed, done = 0, 0
    for count, cell in zip(counts, cells, strict=True):
        own = nodes.get_group(cell)
        for mask, site in zip(zeroed, ("layer2.0", "attnpool"), strict=True):
            chosen = set(own[own["site"] == site]["channel"])
            for row in mask[done : done + count]:
                assert row.sum() == len(chosen)
                differs = set(row.nonzero()[:, 0].tolist()) != chosen
                assert not (count == 1 and differs)
                changed += differs
        done += count
    assert changed > 0


def test_a_channel_is_shown_by_the_image_of_the_domain_that_activates_it_most(inputs: RunInputs) -> None:
    tables = run(inputs, Settings(images=2, test_classes=4, seen_classes=8, random=1, sites=["layer2.0", "attnpool"]))
    rows, node = inputs.test_images(), tables["nodes"][tables["nodes"]["domain"] == "sketch"].iloc[0]
    assert len(tables["cells"]) == 2 * len(WORDS)  # all classes, and all images
    here = rows[rows["domain"] == "sketch"].reset_index(drop=True)
    pixels = torch.cat(list(inputs.model.batches("emoji", here)))
    pooled = inputs.model.encoder.forward(pixels, [node["site"]], pooled=True).sites[node["site"]][:, node["channel"]]
    assert node["image"] == here["row"][int(pooled.argmax())]


def test_a_run_without_weights_or_with_broken_ones_is_told(inputs: RunInputs) -> None:
    weights = inputs.model_folder / "model.safetensors"
    broken = build(CONFIG, seed=0)
    with torch.no_grad():
        broken.visual.layer2[0].conv1.weight.fill_(torch.nan)
    weights.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors"):
        run(inputs, Settings())
    save_weights(broken, weights)
    with pytest.raises(DataError, match="is not finite: the model gives NaN or infinite activations there"):
        run(replace(inputs), Settings(test_classes=1, seen_classes=0))


def test_sites_of_one_channel_have_circuits() -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1), nn.Flatten(), nn.Linear(16, 2))
    segments = Segments(tower, {name: tower[int(name)] for name in "0124"})
    images, text = torch.randn(2, 3, 4, 4), torch.eye(2)
    selected = {
        site: select(values) for site, values in node_scores(segments, images, cosine_with(text), "0124").items()
    }
    assert [len(channels) for channels in selected.values()] == [1, 1, 1, 1]
    weights = edge_scores(segments, images, selected)
    found = build_circuit({s: c.numpy() for s, c in selected.items()}, {p: w.numpy() for p, w in weights.items()})
    assert len(found.edges) == 3 and circuit_similarities([found])["wl3"][0, 0] == 1


def replace_settings(settings: Settings, **changes: int) -> Settings:
    return settings.model_copy(update=changes)


def test_a_site_that_the_model_lacks_is_named(inputs: RunInputs) -> None:
    with pytest.raises(DataError, match=r"the model has no site 'layer1\.1': did you mean layer1\.0"):
        run(inputs, Settings(sites=["layer1.1", "attnpool"]))


@pytest.mark.parametrize("sites", [["layer2.0", "layer1.0"], ["layer1.0", "layer1.0"], ["attnpool", "input"]])
def test_sites_out_of_order_are_refused(inputs: RunInputs, sites: list[str]) -> None:
    with pytest.raises(ParameterError, match=rf"the site {sites[1]} does not stand behind {sites[0]}: name each once"):
        run(inputs, Settings(sites=sites))


def results(tables: dict[str, pd.DataFrame]) -> AnalysisResults:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return AnalysisResults(tables, {}, Settings(), SHARED, Images(lambda source, row: uri, str), "emoji")


def test_the_section_of_no_run_is_empty() -> None:
    analysis, study = find("circuits"), study_of(["a", "b"], 1)
    empty = {Path(schema.path).stem: schema.empty() for schema in analysis.written()}
    found = analysis.section(results(empty), study)
    assert not found.parts and not found.metrics and all(table.empty for table in found.plots.values())


def test_averages_go_over_test_seen_and_all_classes() -> None:
    study = study_of(["a", "b", "c"], 1)
    rows = [
        ("cg-high", 0, name, "jaccard", "clipart", "real", value)
        for name, value in zip("abc", (0.1, 0.2, 0.6), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["mixture", "seed", "class", "measure", "domain_a", "domain_b", "value"])
    found = averaged(table, study, ["measure"]).set_index("classes")["value"]
    assert found.round(9).to_dict() == {"test": 0.1, "seen": 0.4, "all": 0.3}


def test_the_page_tells_of_images_held_out_where_there_are_any() -> None:
    columns = ["mixture", "seed", "domain", "judged", "kept", "by", "accuracy", "cosine", "n"]
    ways = [("all", "none")] + [
        (k, b) for k in ("circuit", "random", "not circuit", "not random") for b in ("zero", "mean")
    ]
    both, alone = [("clipart", "held out", 0.5), ("clipart", "own", 0.9)], [("sketch", "own", 0.7)]
    rows = [("cg-high", 0, d, judged, *way, value, 0.0, 3) for d, judged, value in both + alone for way in ways]
    tables = {Path(schema.path).stem: schema.empty() for schema in find("circuits").written()}
    found = section(results(tables | {"faithfulness": pd.DataFrame(rows, columns=columns)}), study_of(["a", "b"], 1))
    assert found.metrics["cg-high.accuracy.circuit.mean"] == 0.5
    assert "In sketch no cell has a second image: there, by its own." in found.parts[0].text


def test_the_section_shows_what_was_found(inputs: RunInputs) -> None:
    settings = Settings(images=2, test_classes=3, seen_classes=2, random=1, sites=["layer1.0", "layer2.0", "attnpool"])
    tables = {name: table.assign(mixture="tiny", seed=0) for name, table in run(inputs, settings).items()}
    nowhere = pd.DataFrame([{"mixture": "tiny", "seed": 0, "domain": "sketch", "class": "a_kite", "images": 0}])
    tables["cells"] = pd.concat([tables["cells"], nowhere])
    found = section(replace(results(tables), settings=settings), inputs.study)
    assert [len(part.figures) for part in found.parts] == [1, 1, 1, 2]
    assert "Cells without test images have none: a kite in sketch." in found.parts[0].text
    drawing = svg(next(iter(found.parts[3].figures.values())))
    name = re.findall("&ldquo;(.*)&rdquo;", found.parts[3].text)[0]
    mine = tables["nodes"][(tables["nodes"]["class"] == name) & (tables["nodes"]["domain"] == "sketch")]
    assert drawing.count("data:image/png") == len(mine) > 0
    likeness = tables["similarity"].merge(tables["cells"], on="class")
    mean = likeness[(likeness["measure"] == "jaccard") & likeness["class"].isin(inputs.study.test_classes)]
    assert found.metrics["tiny.jaccard"] == pytest.approx(mean.drop_duplicates("class")["value"].mean(), abs=1e-4)
