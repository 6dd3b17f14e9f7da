"""The analysis leakage on two small packed sources in which copies of held-out images are planted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from domix.analyses.contract import Findings, StudyInputs
from domix.analyses.leakage import computation
from domix.analyses.leakage.settings import Settings
from domix.data.mixtures.mixture import Mixture, write_mixture
from domix.data.store import images
from domix.data.store.index import make_index, shard_name, write_index
from domix.data.store.shards import ShardReader, ShardWriter, make_block
from domix.embed.run_model import RunModel
from domix.model.checkpoint import CONFIG as CONFIG_FILE
from domix.model.checkpoint import WEIGHTS, save_weights
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.runtime.tables import write_table
from domix.settings.params import Params
from stages import analyse
from tests.commands import told
from tests.fixtures import CLASSES, draw, encoded
from tests.tiny import CONFIG, REPOSITORY

DOMAINS = ("clipart", "real", "sketch")
TESTED = ("sketch", CLASSES[0])
OUT = Path("artifacts/analysis/leakage")
TEST_NUMBER = 9  # of the test drawing of each cell


class Packed:
    """Packs images into one shard of a source below the working directory."""

    def __init__(self, source: str) -> None:
        self.source, self.rows = source, []
        self.folder = Path("artifacts/shards") / source
        self.folder.mkdir(parents=True)
        self.writer = ShardWriter(self.folder / shard_name(0))

    def add(self, data: bytes, domain: str, name: str | None, split: str) -> int:
        image = images.decode(data)
        key = f"{domain}/{name}/{len(self.rows)}".replace(" ", "_")
        place = self.writer.add(make_block(key, "png", data, {}))
        row = {"key": key, "source": self.source, "domain": domain, "class": name, "split": split}
        row |= {"label": -1 if name is None else CLASSES.index(name), **place._asdict()}
        row |= {"width": image.width, "height": image.height, "phash": images.phash(image)}
        self.rows.append(row | {"sha256": hashlib.sha256(data).hexdigest()})
        return len(self.rows) - 1

    def close(self) -> pd.DataFrame:
        with self.writer:
            pass
        index = make_index(self.rows)
        write_index(self.folder, index)
        return index


def test_image(name: str) -> Image.Image:
    return draw("sketch", name, TEST_NUMBER, size=40)


test_image.__test__ = False  # a helper


def write_mixtures(indices: dict[str, pd.DataFrame]) -> None:
    main = indices["emoji"]
    train = main[main["split"] == "train"]
    tested = (train["domain"] == TESTED[0]) & (train["class"] == TESTED[1])
    held = {"natural-only": train["domain"] == "real", "cg-high": ~tested, "cg-high-all": tested | True}
    cells = []
    for name, chosen in held.items():
        rows = {"emoji": train.loc[chosen, "row"].tolist(), "web": indices["web"]["row"].tolist()}
        pairs = [(source, row) for source, some in rows.items() for row in some]
        mixture = Mixture(
            name=name,
            alias=name,
            standard_name=name,
            caption="standard",
            domains=DOMAINS,
            held_out=("sketch", (TESTED[1],)) if name == "cg-high" else None,
            parameters={"source": "emoji"},
            samples={source: len(some) for source, some in rows.items()},
            rows=pd.DataFrame(pairs, columns=["source", "row"]).assign(caption="standard"),
        )
        write_mixture(Path(f"artifacts/mixtures/{name}.parquet"), mixture, indices)
        shown = train[chosen].groupby(["domain", "class"]).size().rename("samples").reset_index()
        cells.append(shown.assign(mixture=name))
    write_table(Path("artifacts/mixtures/cells.parquet"), pd.concat(cells, ignore_index=True))
    tree = {"test_domain": "sketch", "natural_domain": "real", "domains": DOMAINS, "classes": CLASSES}
    described = [{"name": name, "standard_name": name} for name in held]
    write_json(Path("artifacts/mixtures/summary.json"), tree | {"test_classes": [TESTED[1]], "mixtures": described})


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A study of three mixtures; the web corpus holds an equal file, a rescaled one and a mirrored one."""
    copied = test_image(TESTED[1])
    rescaled = copied.resize((60, 60), Image.Resampling.BICUBIC)
    return make_study(tmp_path, monkeypatch, web=[copied, rescaled, copied.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])


def make_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, web: list[Image.Image], cell: int = 3) -> Params:
    """Write a study of three mixtures into a folder, which becomes the working directory.

    Args:
        web: images that its corpus holds beside many of other things.
        cell: training images of each cell; from the fourth on, of the held-out cell, they are the held-out image.
    """
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    main, corpus = Packed("emoji"), Packed("web")
    for domain in DOMAINS:
        for name in CLASSES:
            for number in range(cell):
                copy = number >= 3 and (domain, name) == TESTED
                main.add(encoded(draw(domain, name, TEST_NUMBER if copy else number, size=40)), domain, name, "train")
            main.add(encoded(draw(domain, name, TEST_NUMBER, size=40)), domain, name, "test")
    things = [draw("real", f"thing {number}", 0, size=40) for number in range(20)]
    for image in (*web, Image.new("RGB", (40, 40), "white"), *things):
        corpus.add(encoded(image), "web", None, "train")
    write_mixtures({"emoji": main.close(), "web": corpus.close()})
    folder = Path("artifacts/models/clip/cg-high-all-s0")
    folder.mkdir(parents=True)
    save_weights(telling_model(), folder / WEIGHTS)
    write_json(folder / CONFIG_FILE, {"model": CONFIG})
    known = load_params()
    analyses = {"leakage": Settings(similarity=0.999)}
    mixtures = ["natural-only", "cg-high", "cg-high-all"]
    return replace(known, sources=["emoji", "web"], base=["web"], mixtures=mixtures, seeds=[0], analyses=analyses)


def telling_model() -> torch.nn.Module:
    """Return an untrained model with weights great enough to tell images apart: as initialised, all look alike."""
    model = build(CONFIG, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 2 / parameter[0].numel() ** 0.5, generator=generator)
    return model


def embed_files(_model: RunModel, source: str, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Embed equal files alike, and others as if they had nothing in common."""
    with ShardReader(Path("artifacts/shards") / source) as shards:
        for row in rows["row"]:
            seed = int.from_bytes(hashlib.sha256(shards.read(row)).digest()[:8])
            image = np.random.default_rng(seed).normal(size=(1, 64)).astype(np.float32)
            yield image / np.linalg.norm(image)


def summary(kind: str) -> pd.DataFrame:
    table = pd.read_parquet(OUT / "summary.parquet").set_index("mixture")
    return table[table["kind"] == kind]


def test_planted_copies_are_found_in_every_mixture_that_holds_them(params: Params) -> None:
    analyse.main(params, "leakage")
    pairs = pd.read_parquet(OUT / "duplicates.parquet")
    planted = pairs[(pairs["source"] == "web") & pairs["kind"].isin(["exact", "near"])]
    assert planted[["kind", "row"]].values.tolist() == [["exact", 0], ["near", 1]]
    assert set(planted["mixtures"].iloc[0]) == set(params.mixtures)
    assert planted["class"].isna().all() and set(planted["domain"]) == {"web"}
    assert summary("exact")["samples"].to_dict() == dict.fromkeys(params.mixtures, 1)
    assert (summary("exact")["images"] == 1).all() and (summary("exact")["held_out"] == 1).all()
    assert summary("exact")["n"].to_dict() == {"natural-only": 42, "cg-high": 75, "cg-high-all": 78}


def test_the_nearest_images_of_an_encoder_begin_with_the_copies(params: Params) -> None:
    analyse.main(params, "leakage")
    pairs = pd.read_parquet(OUT / "duplicates.parquet")
    near = pairs[pairs["kind"] == "embedding"]
    assert len(near) == 5 and near["similarity"].is_monotonic_decreasing
    first = list(zip(near["source"], near["row"], strict=True))
    assert first[0] == ("web", 0) and set(first[:3]) == {("web", row) for row in range(3)}  # the mirrored one, too
    assert near["similarity"].iloc[0] == pytest.approx(1, abs=1e-5)
    assert not near["tested"].any()
    assert (summary("embedding")["samples"] >= 1).all() and (summary("embedding")["images"] == 1).all()


def test_samples_of_the_held_out_cells_are_counted_apart(params: Params) -> None:
    low = replace(params, analyses={"leakage": Settings(similarity=0.5)})
    analyse.main(low, "leakage")
    tested = summary("embedding")["held_out_samples"].to_dict()
    assert tested == {"natural-only": 0, "cg-high": 0, "cg-high-all": 3}


def test_copies_among_the_held_out_cells_own_samples_are_no_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upper bound shows these cells on purpose: what it shows of them is told, and counted for nothing else."""
    monkeypatch.setattr(RunModel, "embeddings", embed_files)
    analyse.main(make_study(tmp_path, monkeypatch, web=[], cell=4), "leakage")
    counted = ["samples", "same_class", "images", "held_out_samples"]
    for kind in ("exact", "embedding"):
        found = summary(kind)[counted]
        assert found.loc["cg-high-all"].tolist() == [0, 0, 0, 1]
        assert not found.drop("cg-high-all").any(axis=None)
    pairs = pd.read_parquet(OUT / "duplicates.parquet")
    assert pairs.loc[pairs["kind"] == "exact", "tested"].tolist() == [True]
    assert pairs.loc[pairs["kind"] == "exact", "mixtures"].item().tolist() == ["cg-high-all"]
    near = pairs[pairs["kind"] == "embedding"]
    assert len(near) == 5 and not near["tested"].any() and (near["similarity"] < 0.999).all()


def test_every_sample_is_audited_and_what_was_left_out_is_said(params: Params) -> None:
    analyse.main(params, "leakage")
    domains = pd.read_parquet(OUT / "domains.parquet")
    whole = domains[domains["domain"] == "all"].set_index(["mixture", "source"])["n"]
    assert whole["cg-high", "web"] == 24 and whole["cg-high", "emoji"] == 51
    meta = read_json(OUT / "meta.json")
    assert meta["encoder"] == "cg-high-all-s0" and meta["flat_samples"] == 1 and meta["held_out"] == 1
    assert meta["samples"] == 78 and set(meta["probe_rates"]) == set(DOMAINS)


def test_equal_input_gives_equal_bytes(params: Params) -> None:
    analyse.main(params, "leakage")
    before = {path.name: path.read_bytes() for path in OUT.iterdir()}
    analyse.main(params, "leakage")
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == before


def test_a_missing_model_fails_with_one_sentence_and_leaves_nothing(params: Params) -> None:
    Path("artifacts/models/clip/cg-high-all-s0", WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"the weights .* are missing$") as caught:
        analyse.main(params, "leakage")
    assert told(caught.value).endswith(" are missing: run dvc repro train@cg-high-all-0")
    assert not OUT.exists()


def test_the_audit_is_made_again_for_another_search_only(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    made, run_jointly = [], computation.run_jointly

    def counting(inputs: StudyInputs, settings: Settings) -> Findings:
        made.append(settings)
        return run_jointly(inputs, settings)

    monkeypatch.setattr(computation, "run_jointly", counting)
    for settings in (Settings(similarity=0.999), Settings(similarity=0.999, examples=2), Settings(similarity=0.9)):
        analyse.main(replace(params, analyses={"leakage": settings}), "leakage")
    assert [settings.similarity for settings in made] == [0.999, 0.9]  # examples are the section's alone
    few = ["natural-only", "cg-high-all"]
    analyse.main(replace(params, mixtures=few), "leakage")
    assert len(made) == 3 and set(summary("exact").index) == set(few)
