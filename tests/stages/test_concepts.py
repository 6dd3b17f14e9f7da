"""The analysis concepts on a small project: what it reads, and what its tables hold."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from domix.analyses.concepts.study_concepts import class_kinds, colours_of, one_each, study_concepts
from domix.analyses.contract import RunInputs
from domix.analyses.sampling import draw_rows
from domix.data.store.index import read_index
from domix.runtime.errors import DataError
from domix.signature.concepts import concept_curve
from tests.embedded_run import inputs_of, run_analysis, write_embedded_run
from tests.tiny import REPOSITORY, WORDS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 images, half of them for the test, a model of seed 3, and its embeddings."""
    home = tmp_path_factory.mktemp("project")
    write_embedded_run(home)
    return home


@pytest.fixture
def inputs(project: Path, tmp_path: Path) -> RunInputs:
    return inputs_of(project, tmp_path / "cache")


def run(inputs: RunInputs, **settings: object) -> dict[str, pd.DataFrame]:
    return run_analysis("concepts", inputs, **{"least": 3} | settings)


def test_the_output_is_ranked_for_the_concepts_of_drawn_images(inputs: RunInputs) -> None:
    found = run(inputs, images=30, seed=4)
    rows = inputs.embeddings.rows
    drawn = draw_rows(rows["domain"].to_numpy(dtype=object), 30, seed=4)
    known = study_concepts(rows.iloc[drawn], inputs.artifacts / "shards/emoji").usable("category", 3)
    concepts = found["concepts"]
    assert len(drawn) == 60 and set(concepts["site"]) == {"output"}
    assert concepts["concept"].tolist() == list(known.names) and {"real", "sketch"} <= set(known.names)
    assert concepts["category"].unique().tolist() == ["group", "subgroup", "domain"]  # all images are of one colour
    values = inputs.embeddings.image_embeddings[drawn]
    ap = np.empty((values.shape[1], len(known.names)))
    for place, category in enumerate(known.category):
        mine = known.annotated[:, category]
        assert (concepts["shown"][place], concepts["images"][place]) == (known.shown[:, place].sum(), mine.sum())
        for unit, column in enumerate(values.T):
            ap[unit, place] = average_precision_score(known.shown[mine, place], column[mine])
    np.testing.assert_allclose(concepts["ap"], ap.max(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(concepts["unit"], ap.argmax(axis=0))
    pairs = found["units"]
    assert len(pairs) == (ap >= 0.5).sum() > 0 and set(pairs["sign"]) == set(concepts["sign"]) == {1}
    named = [(name, known.categories[place]) for name, place in zip(known.names, known.category, strict=True)]
    told = zip(pairs["unit"], zip(pairs["concept"], pairs["category"], strict=True), strict=True)
    np.testing.assert_allclose(pairs["ap"], [ap[unit, named.index(concept)] for unit, concept in told], rtol=1e-12)
    curve = concept_curve(ap)
    np.testing.assert_array_equal(found["curve"]["unique"], curve.unique)
    np.testing.assert_allclose(found["curve"]["polysemanticity"], curve.polysemanticity)
    np.testing.assert_array_equal(found["curve"]["threshold"], curve.thresholds)
    assert len(found["models"]) == 1
    pd.testing.assert_frame_equal(run(inputs, images=30, seed=4)["units"], pairs)
    assert not run(inputs, images=30, seed=5)["concepts"].equals(concepts)


def test_a_unit_may_encode_by_being_low(inputs: RunInputs) -> None:
    plain, both = run(inputs), run(inputs, negated=True)
    assert set(both["units"]["sign"]) == {1, -1}
    kept = both["units"][both["units"]["sign"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, plain["units"])
    assert (both["concepts"]["ap"] >= plain["concepts"]["ap"]).all()
    assert both["units"]["unit"].max() < inputs.embeddings.image_embeddings.shape[1]
    best = both["concepts"][both["concepts"]["sign"] == -1].iloc[0]
    rows = inputs.embeddings.rows
    known = study_concepts(rows, inputs.artifacts / "shards/emoji")
    place = [(name, known.categories[at]) for name, at in zip(known.names, known.category, strict=True)].index(
        (best["concept"], best["category"])
    )
    mine = known.annotated[:, known.category[place]]
    want = average_precision_score(known.shown[mine, place], -inputs.embeddings.image_embeddings[mine, best["unit"]])
    assert best["ap"] == pytest.approx(want)


def test_negatives_may_be_all_images(inputs: RunInputs) -> None:
    images = [set(run(inputs, negatives=negatives)["concepts"]["images"]) for negatives in ("all", "category")]
    assert images[0] == {72} < images[1]  # some words are of no known group


def test_channels_of_sites_are_read_where_asked_for(inputs: RunInputs) -> None:
    found = run(inputs, sites=["layer4.0", "act1"])
    assert found["concepts"]["site"].unique().tolist() == ["output", "layer4.0", "act1"]
    assert found["curve"].groupby("site").size().eq(501).all()
    images = inputs.test_images()
    batches = inputs.model.batches("emoji", images)
    forward = inputs.model.encoder.forward
    values = np.concatenate([forward(batch, ["act1"], pooled=True).sites["act1"].cpu().numpy() for batch in batches])
    row = found["concepts"].set_index(["site", "concept"]).loc[("act1", "sketch")]
    shown = (images["domain"] == "sketch").to_numpy()
    want = [average_precision_score(shown, column) for column in values.T]
    assert row["ap"] == pytest.approx(max(want)) and row["unit"] == int(np.argmax(want))
    with pytest.raises(DataError, match="layer2"):
        run(inputs, sites=["layer2.1"])


def test_too_few_images_and_broken_embeddings_are_told(inputs: RunInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^none of \d+ concepts is shown by 73 images or more, and not by all"):
        run(inputs, least=73)
    broken = replace(inputs.embeddings, image_embeddings=np.full_like(inputs.embeddings.image_embeddings, np.nan))
    monkeypatch.setitem(inputs.__dict__, "embeddings", broken)
    with pytest.raises(DataError, match=r"^site output of tiny-s3: activations are not finite \(row 0\)"):
        run(inputs)


def test_kinds_of_the_bundled_set_are_openmojis() -> None:
    def table(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader((REPOSITORY / path).read_text(encoding="utf-8").splitlines()))

    objects = {row["emoji"]: row for row in table("tools/emoji/objects.csv")}
    kinds = class_kinds("emoji")
    for category in ("group", "subgroup"):
        want = {row["class"]: objects[row["emoji"]][category] for row in table("bundled/emoji/classes.csv")}
        assert kinds[category] == want
    assert class_kinds("domainnet") == {}


def test_classes_are_kinds_where_none_are_shipped(project: Path, tmp_path: Path) -> None:
    rows = read_index(project / "artifacts/shards/emoji").iloc[72:]
    (tmp_path / "other").symlink_to(project / "artifacts/shards/emoji")
    known = study_concepts(rows, tmp_path / "other")
    assert known.categories == ("class", "domain", "colour") and known.annotated.all()
    assert known.names[: len(WORDS)] == tuple(sorted(set(rows["class"])))
    colours = colours_of(rows, tmp_path / "other")
    assert set(known.names[len(WORDS) + 2 :]) == set(colours)
    np.testing.assert_array_equal(known.shown[:, known.names.index("sketch")], rows["domain"] == "sketch")


def test_what_is_not_known_is_not_annotated() -> None:
    known = one_each({"group": ["b", None, "a"], "domain": ["x", "x", "y"]})
    assert known.names == ("a", "b", "x", "y") and known.category.tolist() == [0, 0, 1, 1]
    assert known.annotated.tolist() == [[True, True], [False, True], [True, True]]
    assert known.shown.T.tolist() == [
        [False, False, True],
        [True, False, False],
        [True, True, False],
        [False, False, True],
    ]
