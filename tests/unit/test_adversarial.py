"""Adversarial images: budgets, bad input, what is drawn, files that outlive a kill, tables and section of a run."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from domix.analyses.adversarial import files
from domix.analyses.adversarial.computation import _detection, run
from domix.analyses.adversarial.draw import draw_images
from domix.analyses.adversarial.perturbation import adversarial_images, budgets, quantised
from domix.analyses.adversarial.section import amplified, section
from domix.analyses.adversarial.settings import Settings
from domix.analyses.contract import AnalysisResults, RunInputs, Shared
from domix.analyses.registry import find
from domix.data.store.index import read_index, write_index
from domix.embed.passes import ComputeContext
from domix.embed.run_model import open_run_model
from domix.encoders.preprocess import square
from domix.figures import page
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.ood.metrics import auroc
from domix.runs import Run
from domix.runtime import settings as of_settings
from domix.runtime.errors import DataError, Interrupted, ParameterError
from domix.runtime.files import write_json
from domix.runtime.wording import percent
from domix.study import Study
from tests.fakes import save_embeddings
from tests.tiny import CONFIG, WORDS, _write_mixture, write_project

SHARED = Shared(confidence=0.95, near_bits=6, drop="none", batch=64)
FEW = Settings(pairs=5, steps=12, lr=2e-2, bank=20, batch=2, shown=2, resamples=50)
TESTED = 4  # classes that are held out as sketches


def test_budgets_are_of_pixels_from_zero_to_one() -> None:
    y, changed = torch.full((2, 3, 2, 2), 100, dtype=torch.uint8), torch.full((2, 3, 2, 2), 100, dtype=torch.uint8)
    changed[0, 0, 0, 0], changed[0, 1, 1, 1] = 151, 32  # 51 up, 68 down: both ways over 8 bit's zero
    found = budgets(y, changed)
    assert found["l2"].tolist() == pytest.approx([np.hypot(0.2, 68 / 255), 0])
    assert found["linf"].tolist() == pytest.approx([68 / 255, 0])
    assert (
        found["psnr"][0] == pytest.approx(10 * np.log10(12 / (0.04 + (68 / 255) ** 2))) and found["psnr"][1] == np.inf
    )


def test_images_are_rounded_to_grey_levels() -> None:
    levels = torch.tensor([0.0, 0.4, 0.6, 99.5, 100.5, 254.6, 255.0]) / 255
    assert quantised(levels).tolist() == [0, 0, 1, 100, 100, 255, 255] and quantised(levels).dtype == torch.uint8


def test_what_has_no_gradient_or_is_not_finite_is_said() -> None:
    y, x = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    with pytest.raises(DataError, match="the model gives embeddings without gradients"):
        adversarial_images(lambda pixels: pixels.detach().flatten(1), y, x, steps=1)
    with pytest.raises(DataError, match=r"the embedding of a target is not finite: its weights are damaged"):
        adversarial_images(lambda pixels: pixels.flatten(1) / 0, y, x, steps=1)
    calls = iter([1.0, 1.0, 1.0, float("nan")])
    with pytest.raises(DataError, match=r"the embedding of an image after 2 steps is not finite"):
        adversarial_images(lambda pixels: pixels.flatten(1) * next(calls), y, x, steps=9)
    with pytest.raises(DataError, match=r"sources of the shape \(2, 3, 4, 4\) and targets of \(1, 3, 4, 4\) make no"):
        adversarial_images(lambda pixels: pixels.flatten(1), y, x[:1], steps=1)
    with pytest.raises(DataError, match="there are 1 generators for 2 images: give one of each"):
        adversarial_images(lambda pixels: pixels.flatten(1), y, x, steps=1, generator=[torch.Generator()])


def test_a_bank_holds_more_than_the_targets() -> None:
    with pytest.raises(ParameterError, match=r"bank is 5, of which 5 \(pairs\) are targets"):
        of_settings.replace(FEW, bank=5)
    assert of_settings.replace(FEW, bank=6).bank == 6 and of_settings.replace(FEW, bank=None).bank is None


@pytest.fixture
def inputs(tmp_path: Path) -> RunInputs:
    """A run whose training shows two images a cell of two domains and twelve classes, but no sketch of four classes."""
    write_project(tmp_path, count=96)
    home, split = tmp_path / "artifacts", ["train"] * 48 + ["test"] * 48
    index = read_index(home / "shards/emoji")
    index = index.assign(split=split).astype(index.dtypes)
    write_index(home / "shards/emoji", index)
    held = (index["domain"] == "sketch") & index["class"].isin(WORDS[:TESTED])
    return inputs_of(home, index.index[(index["split"] == "train") & ~held].tolist())


def model_of(seed: int) -> torch.nn.Module:
    """A model that tells noise from noise: as it is built, its batch norms let all images have one embedding."""
    model = build(CONFIG, seed=seed).train()
    noise = square(32).normalise(torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        for _ in range(30):
            model.encode_image(noise)
    return model


def inputs_of(home: Path, rows: list[int]) -> RunInputs:
    index = read_index(home / "shards/emoji")
    _write_mixture(home / "mixtures/tiny.parquet", index, rows)
    save_weights(model_of(0), home / "models/clip/tiny-s0/model.safetensors")
    write_json(home / "models/clip/tiny-s0/config.json", {"model": CONFIG})
    of = Run("clip", "tiny", 0)
    study = Study("sketch", "real", tuple(WORDS[:TESTED]), ("real", "sketch"), tuple(WORDS), (of,))
    made = RunInputs(study, of, ("emoji",), home, home.parent / ".cache", SHARED)
    tests = made.test_images().assign(label=lambda table: table["class"].map(WORDS.index))
    embedded = np.concatenate(list(made.model.embeddings("emoji", tests)))
    meta = {"model_sha256": "0", "source": "emoji", "templates": "", "layers": []}
    meta |= {"domains": ["real", "sketch"], "classes": WORDS}
    text = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0][: len(WORDS)].astype(np.float32)
    save_embeddings(made.embeddings_folder, image=embedded, rows=tests, text=text, layers={}, meta=meta)
    return made


def test_foreign_and_known_images_share_no_cell_and_no_class(inputs: RunInputs) -> None:
    drawn = draw_images(inputs, FEW)
    assert drawn is not None
    tests, held = inputs.test_images(), set(WORDS[:TESTED])
    assert set(drawn.sources["domain"]) == {"sketch"} and set(drawn.sources["class"]) <= held
    assert set(drawn.sources["split"]) == {"test"} and drawn.pairs == 5 and drawn.origin == "emoji"
    assert set(drawn.bank["split"]) == {"train"} and len(drawn.bank) == 20 and not set(drawn.bank["class"]) & held
    known = tests.iloc[drawn.tests]
    assert len(known) == 32 and not set(known["class"]) & held and set(known["domain"]) == {"real", "sketch"}
    assert drawn.targets.equals(drawn.bank.iloc[:5]) and not drawn.bank["row"].duplicated().any()
    more = draw_images(inputs, of_settings.replace(FEW, pairs=7, bank=None))
    assert more is not None and len(more.bank) == 32
    assert more.sources["row"].tolist()[:5] == drawn.sources["row"].tolist()  # more pairs begin with the same
    assert more.bank["row"].tolist()[:20] == drawn.bank["row"].tolist()
    other = draw_images(inputs, of_settings.replace(FEW, seed=1))
    assert other is not None and other.sources["row"].tolist() != drawn.sources["row"].tolist()


def test_cells_of_which_some_images_were_trained_on_are_not_foreign(inputs: RunInputs) -> None:
    index = read_index(inputs.artifacts / "shards/emoji")
    first = (index["split"] == "train") & ~((index["domain"] == "sketch") & index["class"].isin(WORDS[1:TESTED]))
    drawn = draw_images(inputs_of(inputs.artifacts, index.index[first].tolist()), FEW)
    assert drawn is not None and set(drawn.sources["class"]) <= set(WORDS[1:TESTED])


def test_a_run_to_which_nothing_is_foreign_has_no_rows(inputs: RunInputs, caplog: pytest.LogCaptureFixture) -> None:
    index = read_index(inputs.artifacts / "shards/emoji")
    whole = inputs_of(inputs.artifacts, index.index[index["split"] == "train"].tolist())
    tables = find("adversarial").run(whole, FEW)
    assert all(table.empty for table in tables.values())
    assert "tiny-s0: no adversarial images of 0 foreign images, with 32 training and 32 test images" in caplog.text


def test_fewer_images_than_pairs_make_fewer_pairs(inputs: RunInputs, caplog: pytest.LogCaptureFixture) -> None:
    drawn = draw_images(inputs, of_settings.replace(FEW, pairs=50, bank=None))
    assert drawn is not None and drawn.pairs == 8  # two test images of four held-out cells
    assert "tiny-s0: 8 pairs, not 50, of 8 foreign images and 32 training images in the bank" in caplog.text
    index = read_index(inputs.artifacts / "shards/emoji")
    seen = index.index[(index["split"] == "train") & ~index["class"].isin(WORDS[:TESTED])].tolist()
    small = draw_images(inputs_of(inputs.artifacts, seen[:4]), of_settings.replace(FEW, pairs=50, bank=None))
    assert small is not None and (small.pairs, len(small.bank)) == (3, 4)  # one of the bank is no target
    assert draw_images(inputs_of(inputs.artifacts, seen[:2]), FEW) is None


def read(tables: dict[str, pd.DataFrame], variant: str) -> pd.DataFrame:
    return tables["pairs"][tables["pairs"]["variant"] == variant].reset_index(drop=True)


def test_a_run_gives_pairs_detection_and_examples(inputs: RunInputs) -> None:
    tables = find("adversarial").run(inputs, FEW)
    drawn = draw_images(inputs, FEW)
    assert drawn is not None
    (folder,) = [path for path in (inputs.cache / "adversarial").iterdir() if path.is_dir() and path.name != "states"]
    for variant in files.VARIANTS:
        mine = read(tables, variant)
        assert mine["pair"].tolist() == list(range(5)) and mine["source_row"].tolist() == drawn.sources["row"].tolist()
        assert mine["target_row"].tolist() == drawn.targets["row"].tolist() and set(mine["source_set"]) == {"emoji"}
        stored = [torch.from_numpy(np.array(Image.open(folder / name))).permute(2, 0, 1) for name in mine["file"]]
        before = torch.cat(list(inputs.model.batches("emoji", drawn.sources)))
        assert mine["linf"].tolist() == pytest.approx(budgets(before, torch.stack(stored))["linf"].tolist())
        rows = [before, torch.stack(stored), torch.cat(list(inputs.model.batches("emoji", drawn.targets)))]
        units = [torch.nn.functional.normalize(inputs.model.encoder.forward(images).output).numpy() for images in rows]
        assert mine["cosine_before"].tolist() == pytest.approx((units[0] * units[2]).sum(axis=1).tolist(), abs=1e-5)
        assert mine["cosine_after"].tolist() == pytest.approx((units[1] * units[2]).sum(axis=1).tolist(), abs=1e-5)
        bank = np.concatenate(list(inputs.model.embeddings("emoji", drawn.bank)))
        known = inputs.embeddings.image_embeddings[drawn.tests]
        found = tables["detection"][tables["detection"]["variant"] == variant]
        for name, some in (("all", bank), ("without", bank[5:])):
            ends = "" if name == "all" else "_without"
            scores = [(part @ some.T).max(axis=1) for part in (known, *units[:2])]
            assert mine[f"score_before{ends}"].tolist() == pytest.approx(scores[1].tolist(), abs=1e-5)
            assert mine[f"score_after{ends}"].tolist() == pytest.approx(scores[2].tolist(), abs=1e-5)
            both = [auroc(scores[0], part) for part in scores[1:]]
            here = found[found["bank"] == name].set_index("images")
            assert here["auroc"].tolist() == pytest.approx([*both, both[1] - both[0]], abs=1e-6)
            assert here["auroc"]["difference"] == pytest.approx(
                here["auroc"]["adversarial"] - here["auroc"]["original"]
            )
            assert (here["low"] <= here["auroc"] + 1e-9).all() and (here["auroc"] <= here["high"] + 1e-9).all()
            assert here["n_known"].tolist() == [32] * 3 and here["n_foreign"].tolist() == [5] * 3
    smooth, patchy = (read(tables, variant) for variant in files.VARIANTS)
    assert (patchy["cosine_after"] > patchy["cosine_before"]).all()
    assert (patchy["l2"] > smooth["l2"]).all()
    assert 0.03 < patchy["linf"].max() <= FEW.steps * FEW.lr + 0.01  # a step moves a pixel by no more than about lr
    assert (patchy["score_after"] >= patchy["cosine_after"] - 1e-5).all()  # the target is in the bank
    shown = tables["examples"]
    assert shown[["pair", "image"]].drop_duplicates().shape[0] == 2 * 4 and len(shown) == 8
    first = shown[(shown["pair"] == 0) & (shown["image"] == "patchy")].iloc[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["png"]))))
    assert np.array_equal(pixels, np.asarray(Image.open(folder / "patchy-0000.png")))
    assert shown[shown["image"] == "target"]["name"].tolist() == [
        f"{row['domain']}, {row['class']}" for row in drawn.targets.head(2).to_dict("records")
    ]


def test_differences_are_of_the_same_draws() -> None:
    generator = np.random.default_rng(0)
    scores = {("known", bank): generator.normal(0.5, 1, 60) for bank in ("all", "without")}
    scores |= {(what, bank): generator.normal(0, 1, 12) for what in ("source", "patchy") for bank in ("all", "without")}
    scores |= {("smooth", bank): scores["source", bank] for bank in ("all", "without")}  # as if nothing had changed
    found = _detection(scores, of_settings.replace(FEW, resamples=400), 0.9).set_index(["variant", "images", "bank"])
    reach = 1 - 0.05 ** (1 / 12)  # all resamples of the difference are 0: an exact bound, of twelve images
    assert found.loc[("smooth", "difference", "all"), ["auroc", "low", "high"]].tolist() == pytest.approx(
        [0, -reach, reach]
    )
    moved = found.loc[("patchy", "difference", "without")]
    assert moved["auroc"] == pytest.approx(
        auroc(scores["known", "without"], scores["patchy", "without"])
        - auroc(scores["known", "without"], scores["source", "without"])
    )
    assert moved["low"] < moved["auroc"] < moved["high"]
    narrow = _detection(scores, of_settings.replace(FEW, resamples=400), 0.5).set_index(["variant", "images", "bank"])
    assert narrow.loc[("patchy", "difference", "without"), "low"] > moved["low"]
    other = _detection(scores, of_settings.replace(FEW, resamples=400, seed=1), 0.9)["low"]
    assert (other.to_numpy() != found["low"].to_numpy()).any()
    one = _detection(scores, of_settings.replace(FEW, resamples=1), 0.9).set_index(["variant", "images", "bank"])
    assert one.loc[("patchy", "difference", "without"), "low"] == pytest.approx(
        moved["auroc"] - reach
    )  # is alike itself


def images_of(inputs: RunInputs, settings: Settings) -> dict[str, Tensor]:
    drawn = draw_images(inputs, settings)
    assert drawn is not None
    return files.open_images(inputs.model, drawn, "emoji", settings)


def test_images_do_not_depend_on_the_batch_nor_on_further_pairs(inputs: RunInputs, tmp_path: Path) -> None:
    found = images_of(inputs, FEW)
    fresh = replace(inputs, cache=tmp_path / "other")
    again = images_of(fresh, of_settings.replace(FEW, batch=5, pairs=6))
    for what, images in found.items():
        assert (images.int() - again[what][:5].int()).abs().max() <= 1, what
    seeded = images_of(replace(inputs, cache=tmp_path / "third"), FEW)
    assert all(torch.equal(images, seeded[what]) for what, images in found.items())
    drawn = draw_images(inputs, FEW)
    assert drawn is not None
    noisy = files.open_images(inputs.model, drawn, "emoji", of_settings.replace(FEW, seed=1))  # the same pairs
    assert torch.equal(noisy["source"], found["source"]) and not torch.equal(noisy["patchy"], found["patchy"])
    rough = files.open_images(inputs.model, drawn, "emoji", of_settings.replace(FEW, smoothness=1e-3))
    assert torch.equal(rough["patchy"], found["patchy"]) and not torch.equal(rough["smooth"], found["smooth"])


def test_what_was_made_before_a_kill_is_kept(
    inputs: RunInputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = images_of(replace(inputs, cache=tmp_path / "whole"), FEW)
    perturb, calls = files.perturb, []

    def counted(encoder: object, sources: Tensor, *rest: object, **named: object) -> Tensor:
        calls.append(len(sources))
        if len(calls) == 3:
            raise Interrupted("stopped")
        return perturb(encoder, sources, *rest, **named)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr(files, "perturb", counted)
    with pytest.raises(Interrupted):
        images_of(inputs, FEW)
    assert not [path for path in (inputs.cache / "adversarial").iterdir() if (path / files.TABLE).exists()]
    found = images_of(inputs, FEW)
    assert calls == [4, 4, 2, 2]  # both variants of two pairs, twice; the third batch was begun twice
    assert all(torch.equal(images, whole[what]) for what, images in found.items())
    assert not list((inputs.cache / "adversarial/states").iterdir())
    images_of(inputs, FEW)
    assert len(calls) == 4  # kept


def test_a_changed_setting_or_model_makes_images_anew(inputs: RunInputs) -> None:
    def kept() -> int:
        return sum((path / files.TABLE).exists() for path in (inputs.cache / "adversarial").iterdir())

    quick = of_settings.replace(FEW, steps=1, pairs=2)
    images_of(inputs, quick)
    for number, change in enumerate(({"steps": 2}, {"lr": 1e-3}, {"smoothness": 1.0}, {"seed": 1}), start=2):
        images_of(inputs, of_settings.replace(quick, **change))
        assert kept() == number
    images_of(inputs, of_settings.replace(quick, batch=4, shown=0, resamples=5))
    assert kept() == 5
    save_weights(model_of(1), inputs.model_folder / "model.safetensors")
    context = ComputeContext(inputs.cache, 64)
    other = open_run_model(inputs.model_folder, "clip", {"emoji": inputs.artifacts / "shards/emoji"}, context)
    drawn = draw_images(inputs, quick)
    assert drawn is not None
    files.open_images(other, drawn, "emoji", quick)
    assert kept() == 6


def test_a_set_of_its_own_is_foreign(inputs: RunInputs, tmp_path: Path) -> None:
    write_project(tmp_path / "other", count=24)
    home = inputs.artifacts / "shards/sets/odd"
    home.parent.mkdir()
    (inputs.embeddings_folder / "sets/odd").mkdir(parents=True)  # where its embeddings lie
    (tmp_path / "other/artifacts/shards/emoji").rename(home)
    settings = of_settings.replace(FEW, ood="odd", bank=None)
    drawn = draw_images(inputs, settings)
    assert drawn is not None and drawn.origin == "sets/odd"
    assert len(drawn.bank) == 40 and len(drawn.tests) == 40  # what was trained on, of any class
    tables = run(inputs, settings)
    assert set(tables["pairs"]["source_set"]) == {"sets/odd"} and set(tables["pairs"]["target_set"]) == {"emoji"}
    index = read_index(home)
    write_index(home, index.assign(split=["train"] * 22 + ["test"] * 2).astype(index.dtypes))
    few = draw_images(inputs, settings)
    assert few is not None and sorted(few.sources["row"]) == [22, 23]
    write_index(home, index.assign(split=["train"] * 23 + ["test"]).astype(index.dtypes))
    with pytest.raises(DataError, match="the evaluation set odd holds 1 images to be foreign: 2 are needed"):
        draw_images(inputs, settings)
    with pytest.raises(ParameterError, match="there is no evaluation set 'even'"):
        draw_images(inputs, of_settings.replace(FEW, ood="even"))
    (inputs.embeddings_folder / "sets/odd").rmdir()
    with pytest.raises(ParameterError, match=r"there is no evaluation set 'odd': name it in embed\.sets, too"):
        draw_images(inputs, settings)
    assert find("adversarial").reads_sets  # so that other images of a set are computed again


def results(tables: dict[str, pd.DataFrame], settings: Settings = FEW) -> AnalysisResults:
    return AnalysisResults(tables, {}, settings, SHARED, None)  # ty: ignore[invalid-argument-type]


def test_the_section_of_no_run_is_empty(inputs: RunInputs) -> None:
    empty = {Path(schema.path).stem: schema.empty() for schema in find("adversarial").written()}
    found = find("adversarial").section(results(empty), inputs.study)
    assert not found.parts and not found.metrics


def test_the_section_shows_what_was_found(inputs: RunInputs) -> None:
    runs = [run(inputs, settings) for settings in (FEW, of_settings.replace(FEW, seed=3))]
    study = replace(inputs.study, runs=(Run("clip", "tiny", 0), Run("clip", "tiny", 1)))
    tables = {
        name: pd.concat([table[name].assign(mixture="tiny", seed=seed) for seed, table in enumerate(runs)])
        for name in runs[0]
    }
    found = section(results(tables), study)
    assert [list(part.figures) for part in found.parts] == [["tiny"], ["tiny"]]
    detection = tables["detection"].groupby(["variant", "bank", "images"])["auroc"].mean()
    assert found.metrics["tiny.auroc"] == pytest.approx(detection["smooth", "all", "original"], abs=1e-4)
    assert found.metrics["tiny.auroc.without"] == pytest.approx(detection["smooth", "without", "original"], abs=1e-4)
    assert found.metrics["tiny.patchy.auroc"] == pytest.approx(detection["patchy", "all", "adversarial"], abs=1e-4)
    assert found.metrics["tiny.patchy.auroc.without"] == pytest.approx(
        detection["patchy", "without", "adversarial"], abs=1e-4
    )
    medians = tables["pairs"].groupby("variant")[["psnr", "linf"]].median()
    assert found.metrics["tiny.smooth.psnr"] == pytest.approx(medians.loc["smooth", "psnr"], abs=1e-4)
    assert found.metrics["tiny.smooth.linf"] == pytest.approx(medians.loc["smooth", "linf"], abs=1e-4)
    text = found.parts[0].text
    assert "a sketch image of a class that was held out in that style" in text and "5 such images" in text
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in text.split("<tr>")[2:]]
    medians = tables["pairs"].groupby("variant")[["psnr", "linf", "l2", "cosine_before", "cosine_after"]].median()
    for row, variant in zip(cells, ("smooth", "patchy"), strict=True):
        psnr, linf, *others = medians.loc[variant]
        assert row[:6] == [
            variant,
            f"{psnr:.1f}",
            f"{255 * linf:.0f}",
            *(f"{value:.2f}".replace("-", "\u2212") for value in others),
        ]
        shown = [detection[variant, bank, what] for bank in ("all", "without") for what in ("original", "adversarial")]
        assert row[6:] == [percent(value) for value in shown]
    drawn = page.svg(found.parts[0].figures["tiny"])
    for words in ("as it was", "patchy, no targets"):
        assert f">{words}</text>" in drawn
    for variant, bank in (("patchy", "all"), ("smooth", "without")):
        assert f">{100 * detection[variant, bank, 'adversarial']:.1f}</text>" in drawn
    pairs = page.svg(found.parts[1].figures["tiny"])
    assert pairs.count("<image ") == 2 * 6
    of_first = runs[0]["examples"].query("pair == 0").set_index("image")["name"]  # the first seed's alone
    assert f"{of_first['source']} for {of_first['target']}" in found.parts[1].figures["tiny"].alt
    without = tables | {"examples": tables["examples"].iloc[:0]}
    assert len(section(results(without), study).parts) == 1
    assert "an image of odd" in section(results(tables, of_settings.replace(FEW, ood="odd")), study).parts[0].text


def test_a_change_is_shown_five_times_as_strong_on_grey() -> None:
    source, changed = (np.full((1, 4, 3), 100, np.uint8) for _ in range(2))
    changed[0, :, 0] = [100, 110, 90, 200]
    assert amplified(source, changed)[0, :, 0].tolist() == [128, 178, 78, 255]
    assert amplified(source, changed)[0, :, 1].tolist() == [128] * 4
