"""The stages captions and mixtures, from indices to files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import typer
from PIL import Image

from domix.data.mixtures.mixture import check_captions, read_mixture
from domix.data.mixtures.settings import RecipeSpec
from domix.runtime.errors import DataError, DomixError, ParameterError
from domix.runtime.files import read_json
from domix.runtime.settings import replace
from domix.runtime.tables import read_table, write_table
from domix.settings.load import load
from domix.settings.params import Params
from stages import captions, mixtures
from tests.commands import domix, told
from tests.fakes import make_index

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["axe", "lion", "pizza"]
NAMES = ["natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-high-all"]


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    index = make_index({d: [4, 5, 6] for d in ("clipart", "painting", "real", "sketch")}, classes=CLASSES)
    monkeypatch.chdir(tmp_path)
    add_source("emoji", index)
    return replace(loaded, sources=["emoji"], mixtures=NAMES, test_domain="sketch", test_classes=["lion"])


def test_captions_are_written_for_every_sample(params):
    captions.main(params, "emoji")
    made = read_table(Path("artifacts/captions/emoji.parquet"))
    assert made["key"].tolist() == read_table(Path("artifacts/shards/emoji/index.parquet"))["key"].tolist()
    assert made["standard"].str.contains("lion|axe|pizza").all()


def test_all_mixtures_and_their_summary_are_written(params):
    mixtures.main(params)
    folder = Path("artifacts/mixtures")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["summary.json", "captions", "cells.parquet", "cells.png", *(f"{name}.parquet" for name in NAMES)]
    )
    assert sorted(path.stem for path in (folder / "captions").iterdir()) == sorted(NAMES)
    summary = read_json(folder / "summary.json")
    assert [m["name"] for m in summary["mixtures"]] == NAMES
    assert summary["test_classes"] == ["lion"]
    for described in summary["mixtures"]:
        mixture = read_mixture(folder / f"{described['name']}.parquet")
        assert (len(mixture.rows), mixture.digest) == (described["samples"], described["digest"])


def test_a_second_run_writes_the_same_bytes_and_drops_what_is_no_longer_asked_for(params):
    mixtures.main(params)
    folder = Path("artifacts/mixtures")
    before = written()
    mixtures.main(params)
    assert written() == before
    mixtures.main(replace(params, mixtures=["cg-low"]))
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["captions", "cells.parquet", "cells.png", "cg-low.parquet", "summary.json"]


def written() -> dict[str, bytes]:
    """Return every file of the stage mixtures, by its path."""
    folder = Path("artifacts/mixtures")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_further_source_or_set_changes_no_file_that_a_training_depends_on(params):
    mixtures.main(params)
    before = written()
    add_source("web", WEB)
    add_source("sets/imagenet-r", WEB)
    further = replace(params.embed, sets=["imagenet-r"], ood={})
    mixtures.main(replace(params, sources=["emoji", "web"], embed=further))
    assert written() == before


def test_a_source_packed_otherwise_changes_the_mixtures_that_point_into_it(params):
    add_source("web", WEB)
    with_web = replace(params, sources=["emoji", "web"], base=["web"], mixtures=["cg-low"])
    mixtures.main(with_web)
    before = written()
    add_source("web", WEB.assign(width=99))
    mixtures.main(with_web)
    assert {name for name, data in written().items() if data != before[name]} == {"cg-low.parquet"}
    rows = read_mixture(Path("artifacts/mixtures/cg-low.parquet")).rows
    pd.testing.assert_frame_equal(rows, read_table(Path("artifacts/mixtures/cg-low.parquet")))


def test_other_captions_change_what_lies_beside_the_mixtures_alone(params):
    mixtures.main(params)
    before = written()
    write_table(Path("artifacts/captions/emoji.parquet"), pd.DataFrame({"key": ["other"]}))
    mixtures.main(params)
    assert {name for name, data in written().items() if data != before[name]} == {f"captions/{n}.json" for n in NAMES}


def test_mixtures_may_come_before_captions_and_a_training_may_not(params):
    """A classifier needs no captions; CLIP needs those that the mixture has noted."""
    captions, aside = Path("artifacts/captions/emoji.parquet"), Path("aside")
    captions.rename(aside)
    mixtures.main(params)
    path = Path("artifacts/mixtures/cg-low.parquet")
    mixture = read_mixture(path)
    assert read_json(path.parent / "captions/cg-low.json") == {}
    with pytest.raises(DataError, match=r"captions/emoji\.parquet is missing$") as caught:
        check_captions(path, mixture, captions.parent)
    assert told(caught.value).endswith(" is missing: run dvc repro captions@emoji")
    aside.rename(captions)
    with pytest.raises(DataError, match=r"emoji\.parquet is not what the mixture 'cg-low' was made with"):
        check_captions(path, mixture, captions.parent)
    mixtures.main(params)
    check_captions(path, mixture, captions.parent)


def test_another_test_domain_leaves_natural_only_as_it_was(params):
    mixtures.main(params)
    natural = Path("artifacts/mixtures/natural-only.parquet")
    before = natural.read_bytes()
    mixtures.main(replace(params, test_domain="clipart"))
    assert natural.read_bytes() == before


def add_source(name: str, index: pd.DataFrame) -> None:
    """Pack a source, as far as the stage mixtures looks, and caption it."""
    write_table(Path(f"artifacts/shards/{name}/index.parquet"), index)
    write_table(Path(f"artifacts/captions/{name}.parquet"), index[["key"]])


WEB = make_index({"web": [2, 3]}, source="web").assign(label=-1, **{"class": None}).astype({"class": "str"})


def test_base_sources_go_into_every_mixture_and_other_sources_into_none(params):
    add_source("web", WEB)
    add_source("cc3m", WEB)
    mixtures.main(replace(params, sources=["emoji", "web", "cc3m"], base=["cc3m"]))
    for name in NAMES:
        mixture = read_mixture(Path(f"artifacts/mixtures/{name}.parquet"))
        assert mixture.samples.keys() == {"cc3m", "emoji"} and mixture.samples["cc3m"] == 5
        assert mixture.alias.startswith("cc3m-train-lso-")


def test_a_base_that_cannot_be_used_is_refused(params):
    add_source("web", WEB[WEB["split"] == "test"])
    with pytest.raises(DataError, match="base source 'web' has no training samples"):
        mixtures.main(replace(params, sources=["emoji", "web"], base=["web"]))


def test_own_recipes_are_made(params):
    recipes = {"mine": RecipeSpec(domains={"real": 1.0, "sketch": 0.5}, weights={"sketch": 2.0})}
    mixtures.main(replace(params, mixtures=["cg-low", "mine"], recipes=recipes))
    mine = read_mixture(Path("artifacts/mixtures/mine.parquet"))
    assert sorted(mine.rows["weight"].unique()) == [1, 2]
    assert mine.held_out == ("sketch", ("lion",))


def test_copies_of_held_out_images_are_dropped_where_asked_for(params):
    index = read_table(Path("artifacts/shards/emoji/index.parquet"))
    index["sha256"] = [f"{row:064x}" for row in index["row"]]
    index["phash"] = [f"{0x5555 << row % 40:016x}" for row in index["row"]]
    held_out = index.query("domain == 'sketch' and split == 'test' and `class` == 'lion'")
    copy = index.query("domain == 'real' and split == 'train'").index[0]
    index.loc[copy, "sha256"] = held_out["sha256"].iloc[0]
    add_source("emoji", index)
    mixtures.main(params)
    whole = read_mixture(Path("artifacts/mixtures/natural-only.parquet"))
    mixtures.main(replace(params, mixing=replace(params.mixing, drop="exact")))
    left = read_mixture(Path("artifacts/mixtures/natural-only.parquet"))
    assert (whole.dropped, left.dropped, len(whole.rows) - len(left.rows)) == (0, 1, 1)
    assert copy in whole.rows["row"].tolist() and copy not in left.rows["row"].tolist()
    described = read_json(Path("artifacts/mixtures/summary.json"))["mixtures"]
    assert {m["name"]: m["dropped"] for m in described}["natural-only"] == 1


SKETCHES = make_index({"imagenet-sketch": [1] * 1000}, 0, source="imagenet-sketch")


def test_sketches_of_imagenet_take_the_place_of_other_samples(params):
    names = ["natural-only", "cg-high", "cg-high+sketches"]
    params = replace(params, sources=["emoji", "imagenet-sketch"], mixtures=names)
    add_source("imagenet-sketch", SKETCHES.assign(split=["train" if k in (7, 8, 500) else "test" for k in range(1000)]))
    index = read_table(Path("artifacts/shards/emoji/index.parquet"))
    add_source("emoji", index.replace({"class": {"lion": "bird"}}))  # 7 and 8 are birds
    mixtures.main(replace(params, test_classes=["bird"]))
    before, after = (read_mixture(Path(f"artifacts/mixtures/{name}.parquet")) for name in names[1:])
    assert after.samples == {"emoji": before.samples["emoji"] - 1, "imagenet-sketch": 1}
    assert len(after.rows) == len(before.rows)
    assert after.rows.loc[after.rows["source"] == "imagenet-sketch", "row"].tolist() == [500]


def test_sketches_need_their_source(params):
    with pytest.raises(ParameterError, match="need imagenet-sketch among the sources: add it to `sources`"):
        mixtures.main(replace(params, mixtures=["cg-high+sketches"]))


def test_the_list_is_printed_and_nothing_written(params, capsys):
    domix(params, "mixtures")
    assert not Path("artifacts/mixtures").exists()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mixture", *NAMES]
    domix(params, "mixtures", "--reference")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"cg-high+0.05", "cg-low+painting"} <= set(names) and len(names) == 1 + 18 + 2
    with pytest.raises(typer.TyperException, match="--refrence"):
        domix(params, "mixtures", "--refrence")


def test_the_image_of_cells_is_a_readable_png_for_any_number_of_mixtures(params):
    for names in (["cg-low"], [f"cg-high+0.{k}" for k in range(1, 12) if k != 10]):
        mixtures.main(replace(params, mixtures=names))
        with Image.open("artifacts/mixtures/cells.png") as image:
            assert image.format == "PNG" and image.width >= 600 and image.height >= 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_domain": "sktech"}, "did you mean 'sketch'"),
        ({"natural_domain": "photo"}, "natural_domain 'photo' is not in the data"),
        ({"test_classes": ["lino"]}, "'lino'"),
        ({"mixtures": ["cg-hgih"]}, "did you mean 'cg-high'"),
        ({"mixtures": ["cg-low+quickdraw"]}, "'quickdraw' is no domain of the data"),
        ({"sources": ["emoji", "cc3m"], "base": ["cc3m"]}, r"cc3m.index\.parquet is missing"),
        ({"recipes": {"mine": RecipeSpec(domains={"sketsch": 1.0})}}, r"recipes\.mine\.domains names 'sketsch'"),
    ],
)
def test_a_mistake_leaves_the_old_mixtures_and_nothing_half_written(params, changes, message):
    mixtures.main(params)
    before = written()
    with pytest.raises(DomixError, match=message) as caught:
        mixtures.main(replace(params, **changes))
    assert "\n" not in str(caught.value)
    assert written() == before
    assert not [path for path in Path("artifacts").iterdir() if path.name.startswith(".")]


def test_a_missing_index_is_named(params):
    with pytest.raises(DataError, match=r"sketches.index\.parquet is missing"):
        captions.main(params, "sketches")
