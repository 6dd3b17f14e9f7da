"""The analyses of sparse autoencoders on a small project: tables, one training for both, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from domix.activations.store import ActivationStore
from domix.analyses.contract import RUN_COLUMNS, AnalysisResults, Images, RunInputs, Shared
from domix.analyses.registry import find
from domix.analyses.runner import join_runs
from domix.analyses.sae import trained as sae_trained
from domix.analyses.sae import units as sae_units
from domix.analyses.sae.quality import cross_entropy, edited_embeddings, measure, reconstruction_edit
from domix.analyses.sae.reconstruction import decode, encode, explained_variance
from domix.analyses.sae.settings import Autoencoder, Settings
from domix.analyses.sae.trained import train_for
from domix.analyses.sharing.settings import Settings as Sharing
from domix.data.store.index import read_index, write_index
from domix.embed.clip import embed_clip, open_subject
from domix.embed.passes import ComputeContext
from domix.figures.page import svg
from domix.model.checkpoint import load_tensors, save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.settings import replace as changed
from domix.study import Study
from tests.tiny import CONFIG, WORDS, write_project

SHARED = Shared(confidence=0.9, near_bits=6, drop="none", batch=16)
SMALL: dict[str, Any] = {"units": 24, "batch": 16, "passes": 6, "lr": 3e-3, "resample_every": 60, "l1": 1e-3}
SETTINGS = Settings(**SMALL, browsed=5, top=2, bins=4)
SHARING = Sharing(**SMALL, draws=5, resamples=20, permutations=10)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 images, every third pair for the test, a model, and its embeddings."""
    home = tmp_path_factory.mktemp("project")
    write_project(home, count=72)
    shards = home / "artifacts/shards/emoji"
    index = read_index(shards)
    split = ["test" if row // 24 == 2 else "train" for row in range(72)]
    write_index(shards, index.assign(split=split).astype(index.dtypes))
    folder = home / "artifacts/models/clip/tiny-s0"
    save_weights(build(CONFIG, seed=0), folder / "model.safetensors")
    write_json(folder / "config.json", {"model": CONFIG})
    context = ComputeContext(home / ".cache", 16)
    embed_clip(
        open_subject(folder),
        home / "artifacts/embeddings/clip/tiny-s0",
        context,
        templates="a {}.",
        study=shards,
    )
    return home


@pytest.fixture
def inputs(project: Path, tmp_path: Path) -> RunInputs:
    run = Run("clip", "tiny", 0)
    study = Study("sketch", "real", (WORDS[0], WORDS[1]), ("real", "sketch"), tuple(sorted(WORDS)), (run,))
    return RunInputs(study, run, ("emoji",), project / "artifacts", tmp_path / "cache", SHARED)


def results(name: str, inputs: RunInputs, settings: Autoencoder) -> AnalysisResults:
    tables = find(name).run(inputs, settings)
    joined = {key: join_runs([(Run("clip", "tiny", 0), table)], RUN_COLUMNS) for key, table in tables.items()}
    images = Images(lambda source, row: f"data:image/png;base64,{row}", lambda row: "apple")
    return AnalysisResults(joined, {}, settings, SHARED, images, "emoji")


def test_tables_and_section_of_the_autoencoder(inputs: RunInputs) -> None:
    found = results("sae", inputs, SETTINGS)
    quality = found.tables["quality"].iloc[0]
    assert (quality["site"], quality["channels"], quality["units"], quality["n"]) == ("attnpool", 16, 24, 24)
    assert quality["explained_variance"] < 1 and 0 < quality["l0"] <= 24
    domains = found.tables["domains"]
    assert set(zip(domains["domain"], domains["cells"], strict=True)) == {
        (domain, cells) for domain in ("real", "sketch") for cells in ("all", "test", "seen")
    }
    np.testing.assert_allclose(domains["loss_ablated"], np.log(12), rtol=1e-6)
    units = found.tables["units"]
    assert len(units) == 24 and units["word"].notna().all() and units["cosine"].between(-1, 1).all()
    section = find("sae").section(found, inputs.study)
    assert "the activation of each image (attnpool, 16 numbers)" in section.parts[0].text
    assert {"tiny.explained_variance", "tiny.l0", "tiny.dead", "tiny.dense"} <= set(section.metrics)
    assert "With the sum in place" in section.parts[0].text
    plot = section.plots["reconstruction"].set_index("domain")
    test = domains[domains["cells"] == "test"].set_index("domain")
    for name in ("explained_variance", "l0", "accuracy", "accuracy_reconstructed"):
        assert plot[name].to_dict() == pytest.approx(test[name].to_dict())
    assert all("svg" in svg(figure) for part in section.parts for figure in part.figures.values())


def test_the_browser_shows_units_with_images_of_their_domains(
    inputs: RunInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrained model finds all images alike, so that a unit fires on all or none."""
    monkeypatch.setattr(sae_units, "MOST", 1.0)
    found = results("sae", inputs, SETTINGS)
    images, counts = found.tables["images"], found.tables["histograms"]
    assert images["unit"].nunique() <= 5 and images["place"].max() <= 1
    rows = inputs.embeddings.rows.set_index("row")
    assert (rows.loc[images["row"], "domain"].to_numpy() == images["domain"].to_numpy()).all()
    assert (counts.groupby("unit")["n"].sum() == 24).all()
    text = find("sae").section(found, inputs.study).parts[-1].text
    assert 'id="unit-filter"' in text and text.count("<details") == images["unit"].nunique() > 0
    assert text.count("<img") == len(images)
    units = found.tables["units"].set_index("unit")
    for unit in images["unit"].unique():
        searched = text.split(f"unit {unit},")[0].rsplit('data-name="', 1)[1].split('"')[0]
        words = {"tiny", units.loc[unit, "domain"], units.loc[unit, "class"], *images.query("unit == @unit")["class"]}
        assert all(word in searched for word in words)
    bound = replace(found, settings=changed(SETTINGS, browsed=2))
    assert find("sae").section(bound, inputs.study).parts[-1].text.count("<details") == 2


def test_both_analyses_train_one_autoencoder(inputs: RunInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    inner = sae_trained._train
    monkeypatch.setattr(sae_trained, "_train", lambda *given: made.append(1) or inner(*given))
    find("sae").run(inputs, SETTINGS)
    tables = find("sharing").run(replace(inputs), SHARING)
    assert len(made) == 1
    assert set(tables) == {"classes", "pairs", "scores"}
    find("sharing").run(replace(inputs), changed(SHARING, units=20))
    assert len(made) == 2
    assert not list((inputs.cache / "autoencoders/states").iterdir())


def test_the_same_settings_give_the_same_weights(inputs: RunInputs, tmp_path: Path) -> None:
    one = train_for(inputs, SETTINGS)
    other = train_for(replace(inputs, cache=tmp_path / "elsewhere"), SETTINGS)
    for name, tensor in one.autoencoder.state_dict().items():
        assert torch.equal(tensor, other.autoencoder.state_dict()[name]) or tensor.isnan(), name


def test_sharing_has_all_pairs_and_a_section(inputs: RunInputs) -> None:
    found = results("sharing", inputs, SHARING)
    scores = found.tables["scores"]
    assert set(zip(scores["domain"], scores["cells"], strict=True)) == {
        (domain, cells) for domain in ("real", "sketch") for cells in ("all", "test", "seen")
    }
    assert found.tables["classes"]["value"].between(0, 1).all()
    section = find("sharing").section(found, inputs.study)
    assert {"tiny.score", "tiny.null", "tiny.p"} <= set(section.metrics)
    assert all("svg" in svg(figure) for part in section.parts for figure in part.figures.values())
    assert "Sketch has" in section.parts[0].text
    plot = section.plots["shared_features"]
    pair = found.tables["pairs"].query("cells == 'test'")["value"].item()
    assert plot[["domain_a", "domain_b"]].values.tolist() == [["real", "sketch"], ["sketch", "real"]]
    assert plot["likeness"].tolist() == [pair, pair]
    scores = section.scores["features"].set_index("class")["score"]
    rows = found.tables["classes"].query("domain_a == 'sketch' or domain_b == 'sketch'")
    assert scores.to_dict() == pytest.approx(rows.groupby("class")["value"].mean().to_dict())
    assert len(scores)


def test_parity_mode_has_no_intervals_and_the_last_domains_score(inputs: RunInputs) -> None:
    tables = find("sharing").run(inputs, changed(SHARING, parity=True))
    scores = tables["scores"]
    assert scores["low"].isna().all() and scores["p_value"].isna().all()
    assert scores.groupby("cells")["value"].nunique().eq(1).all()
    assert tables["pairs"]["value"].notna().all()
    found = results("sharing", inputs, changed(SHARING, parity=True))
    assert find("sharing").section(found, inputs.study).parts


@pytest.mark.parametrize("name", ["sae", "sharing"])
def test_without_chosen_runs_the_page_says_nothing(inputs: RunInputs, name: str) -> None:
    analysis = find(name)
    schemas = {Path(schema.path).stem: schema for schema in analysis.written()}
    nothing = {key: schemas[key].empty() for key in analysis.tables}
    found = AnalysisResults(nothing, {}, analysis.Settings(), SHARED, Images(lambda s, r: "", lambda r: ""))
    assert not analysis.section(found, inputs.study).parts


def test_an_inner_site_is_edited_and_its_units_have_no_names(inputs: RunInputs) -> None:
    settings = changed(SETTINGS, site="layer2.0", unit_length=False)
    tables = find("sae").run(inputs, settings)
    assert tables["units"]["word"].isna().all() and tables["units"]["cosine"].isna().all()
    assert tables["quality"]["site"].item() == "layer2.0"
    assert np.isfinite(tables["domains"][["loss_reconstructed", "loss_ablated"]]).all().all()
    found = results("sae", inputs, settings)
    assert find("sae").section(found, inputs.study).parts


def test_every_position_of_an_inner_site_is_learnt_from_and_replaced(inputs: RunInputs) -> None:
    """Against the encoder's own maps, position by position; layer1.0 has 8 x 8 of them."""
    settings = changed(SETTINGS, site="layer1.0", positions="every", images=4, passes=2)
    one, encoder = train_for(inputs, settings), inputs.model.encoder
    stores = {
        store.count: store.positions["layer1.0"]
        for store in map(ActivationStore, (inputs.cache / "activations").iterdir())
    }
    assert stores == {8: 64}
    maps = torch.cat(
        [
            encoder.forward(batch, ["layer1.0"]).sites["layer1.0"]
            for batch in inputs.model.batches("emoji", inputs.test_images())
        ]
    )
    rows = torch.nn.functional.normalize(maps.half().float().permute(0, 2, 3, 1).flatten(0, 2), dim=1).numpy()
    codes = encode(one.autoencoder, rows).reshape(24, 64, -1)
    np.testing.assert_allclose(one.codes, codes.mean(axis=1), rtol=1e-3, atol=1e-5)
    quality, domains = measure(one)
    made = decode(one.autoencoder, codes.reshape(24 * 64, -1))
    assert quality["explained_variance"].item() == pytest.approx(explained_variance(rows, made), rel=1e-3)
    assert quality["l0"].item() == pytest.approx((codes > 0).sum(axis=2).mean(), rel=1e-3)

    def edit(activation: torch.Tensor) -> torch.Tensor:
        last = activation.permute(0, 2, 3, 1)
        length = last.norm(dim=-1, keepdim=True)
        units = one.autoencoder.encode((last / length).reshape(-1, last.shape[-1]))
        return (one.autoencoder.decode(units).reshape(last.shape) * length).permute(0, 3, 1, 2)

    batches = inputs.model.batches("emoji", one.rows)
    embeddings = edited_embeddings(encoder, batches, "layer1.0", edit)
    label = inputs.embeddings.rows["label"].to_numpy()
    scale = float(load_tensors(inputs.model_folder / "model.safetensors")["logit_scale"].exp())
    loss = cross_entropy(embeddings, inputs.embeddings.text, label, scale)
    here = (inputs.embeddings.rows["domain"] == "real").to_numpy()
    found = domains[(domains["domain"] == "real") & (domains["cells"] == "all")].iloc[0]
    assert found["loss_reconstructed"] == pytest.approx(loss[here].mean(), rel=1e-4)
    assert set(find("sharing").run(inputs, changed(SHARING, **settings.model_dump(include={"site", "positions"})))) == {
        "classes",
        "pairs",
        "scores",
    }


def test_a_site_without_positions_has_one(inputs: RunInputs) -> None:
    pooled, every = (train_for(inputs, changed(SETTINGS, positions=each)) for each in ("pooled", "every"))
    assert not every.every_position
    for name, tensor in pooled.autoencoder.state_dict().items():
        assert torch.equal(tensor, every.autoencoder.state_dict()[name]) or tensor.isnan(), name
    pd.testing.assert_frame_equal(measure(pooled)[1], measure(every)[1])


def test_at_the_embedding_the_edit_is_what_is_computed_without_a_pass(inputs: RunInputs) -> None:
    one = train_for(inputs, SETTINGS)
    edit = reconstruction_edit(one.autoencoder, unit_length=True)
    model = inputs.model
    passed = edited_embeddings(model.encoder, model.batches("emoji", one.rows), "attnpool", edit)
    with torch.no_grad():
        made = one.autoencoder(torch.from_numpy(one.activations))[1]
    np.testing.assert_allclose(passed, torch.nn.functional.normalize(made, dim=1).numpy(), atol=2e-3)
    whole, _ = measure(one)
    assert whole["n"].item() == 24


def test_a_site_that_does_not_exist_is_answered_with_the_nearest(inputs: RunInputs) -> None:
    with pytest.raises(ParameterError, match=r"no site 'layer2.00'.*layer2\.0") as caught:
        train_for(inputs, changed(SETTINGS, site="layer2.00"))
    assert caught.value.argument == "site"


@pytest.mark.parametrize(("field", "value"), [("k", 25), ("nested", [30])])
def test_more_units_than_there_are_are_refused(inputs: RunInputs, field: str, value: object) -> None:
    with pytest.raises(ParameterError, match="more than the 24 units") as caught:
        train_for(inputs, changed(SETTINGS, **{field: value}))
    assert caught.value.argument == field


def test_a_penalty_that_kills_all_units_says_what_to_change(inputs: RunInputs) -> None:
    with pytest.raises(DataError, match=r"all 24 units of the sparse autoencoder are dead: lower l1 or lr"):
        train_for(inputs, changed(SETTINGS, l1=1e4, lr=0.1, passes=40))
    assert not list((inputs.cache / "autoencoders").glob("*/autoencoder.safetensors"))


def test_a_model_that_gives_nan_is_named(inputs: RunInputs) -> None:
    model = inputs.model
    with torch.no_grad():
        for weight in model.encoder._module.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"activations of site attnpool are not finite"):
        train_for(inputs, SETTINGS)


def test_fewer_training_images_are_drawn_by_seed(inputs: RunInputs) -> None:
    train_for(inputs, changed(SETTINGS, images=10))
    stores = [pd.read_json(path, typ="series") for path in (inputs.cache / "activations").glob("*/about.json")]
    assert sorted(int(store["count"]) for store in stores) == [20]
