"""Mixtures as files: what they promise is checked on writing, on reading and when a training opens them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from domix.data.mixtures.cells import count_cells, make_split
from domix.data.mixtures.composition import compose, format_table, write_summary
from domix.data.mixtures.mixing import base_rows, build_mixture
from domix.data.mixtures.mixture import (
    Mixture,
    assert_held_out,
    describe_rows,
    drop_rows,
    read_mixture,
    write_mixture,
)
from domix.data.mixtures.names import parse_mixture
from domix.data.mixtures.selection import quotas
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.runtime.tables import read_metadata, read_table, write_table
from tests.fakes import make_index

CLASSES = ["axe", "lion", "pizza", "yo_yo"]
INDEX = make_index({d: [4, 5, 6, 7] for d in ("clipart", "painting", "real", "sketch")}, classes=CLASSES)
CELLS = count_cells(INDEX)
SPLIT = make_split(CELLS, test_domain="sketch", natural_domain="real", test_classes=["lion", "axe"])
BASE = make_index({"web": [3, 3]}, source="web").assign(**{"domain": None, "class": None})


def build(name: str, base: dict[str, np.ndarray] | None = None) -> Mixture:
    return build_mixture(parse_mixture(name, SPLIT, base=list(base or ())), CELLS, SPLIT, source="emoji", base=base)


def test_a_mixture_reads_back_as_it_was_written(tmp_path):
    for name in ("natural-only", "leave-out-domain", "cg-high+0.3+aligned"):
        made = build(name)
        write_mixture(tmp_path / name, made, {"emoji": INDEX})
        again = read_mixture(tmp_path / name)
        assert {**vars(again), "rows": 0, "digest": 0} == {**vars(made), "rows": 0, "digest": 0}
        pd.testing.assert_frame_equal(again.rows, made.rows)
        assert again.digest == made.digest == read_metadata(tmp_path / name)["digest"]


def test_columns_are_the_contracts(tmp_path):
    write_mixture(tmp_path / "m", build("cg-low"), {"emoji": INDEX})
    rows = read_table(tmp_path / "m")
    assert list(rows.columns) == ["source", "row", "caption", "weight"]
    assert (rows["row"].dtype, rows["weight"].dtype) == (np.int64, np.float32)
    assert (rows["weight"] == 1).all()
    metadata = read_metadata(tmp_path / "m")
    assert {"name", "alias", "parameters", "digest"} <= metadata.keys()
    assert metadata["alias"] == "lso-rs-nosketchclasses"


def test_natural_only_is_the_same_file_for_all_test_domains(tmp_path):
    for domain in ("sketch", "clipart"):
        split = make_split(CELLS, test_domain=domain, natural_domain="real", test_classes=["pizza"])
        made = build_mixture(parse_mixture("natural-only", split), CELLS, split, source="emoji")
        write_mixture(tmp_path / domain, made, {"emoji": INDEX})
    assert (tmp_path / "sketch").read_bytes() == (tmp_path / "clipart").read_bytes()


def test_base_sources_are_contained_whole_with_captions_of_their_own():
    base = {"web": base_rows("web", BASE)}
    made = build("cg-high+aligned", base=base)
    alone = build("cg-high+aligned")
    assert made.samples == {"web": 6, **alone.samples}
    assert made.rows.loc[made.rows["source"] == "web", "caption"].eq("standard").all()
    assert made.rows.loc[made.rows["source"] == "emoji", "caption"].eq("aligned").all()
    ours = made.rows[made.rows["source"] == "emoji"].reset_index(drop=True)
    assert ours["row"].equals(alone.rows["row"])
    assert made.digest != alone.digest


def test_base_samples_of_held_out_cells_are_refused(tmp_path):
    base = BASE.assign(**{"domain": "sketch", "class": "lion"})
    made = build("cg-high", base={"web": base.loc[base["split"] == "train", "row"].to_numpy()})
    with pytest.raises(DataError, match=r"must not show 'lion' in domain 'sketch'.*6 samples.*'web'"):
        write_mixture(tmp_path / "m", made, {"emoji": INDEX, "web": base})
    assert not list(tmp_path.iterdir())


def test_digests_hang_on_samples_and_captions_not_on_names():
    assert build("cg-high").digest == build("lso-cprs-nosketchclasses").digest
    assert len({build(name).digest for name in ("cg-high", "cg-high+aligned", "cg-high-all", "cg-low")}) == 4


@pytest.mark.parametrize("name", ["cg-low", "cg-high", "leave-out-domain"])
def test_a_leaked_sample_is_found_on_writing_and_when_opened(name, tmp_path):
    made = build(name)
    leaked = INDEX[(INDEX["domain"] == "sketch") & (INDEX["class"] == "axe") & (INDEX["split"] == "train")]
    rows = made.rows.copy()
    rows.loc[0, "row"] = leaked["row"].iloc[0]
    bad = replace(made, rows=rows)
    with pytest.raises(DataError, match="sketch"):
        write_mixture(tmp_path / "m", bad, {"emoji": INDEX})
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="sketch"):
        assert_held_out(describe_rows(bad.rows, {"emoji": INDEX}), bad)


def test_upper_bounds_show_the_held_out_cells_and_may():
    made = build("cg-high-all")
    rows = describe_rows(made.rows, {"emoji": INDEX})
    assert ((rows["domain"] == "sketch") & (rows["class"] == "lion")).any()
    assert_held_out(rows, made)


def test_rows_are_described_in_their_order():
    made = build("cg-high")
    shuffled = made.rows.sample(frac=1, random_state=0)
    described = describe_rows(shuffled, {"emoji": INDEX.sample(frac=1, random_state=1)})
    assert described.index.equals(shuffled.index)
    expected = INDEX.set_index("row").loc[shuffled["row"]]
    assert described["class"].tolist() == expected["class"].tolist()
    assert described["domain"].tolist() == expected["domain"].tolist()


def test_rows_that_the_index_lacks_are_named():
    made = build("cg-high")
    with pytest.raises(DataError, match="source 'emoji' has no row"):
        describe_rows(made.rows, {"emoji": INDEX.iloc[:3]})
    with pytest.raises(DataError, match="'emoji', which is not among web"):
        describe_rows(made.rows, {"web": INDEX})


def test_a_changed_row_breaks_the_digest(tmp_path):
    write_mixture(tmp_path / "m", build("cg-high"), {"emoji": INDEX})
    rows, metadata = read_table(tmp_path / "m"), read_metadata(tmp_path / "m")
    rows.loc[0, "row"] += 1
    write_table(tmp_path / "m", rows, metadata)
    with pytest.raises(DataError, match="damaged"):
        read_mixture(tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"row,source\n1,emoji\n"])
def test_a_file_that_is_no_mixture_is_refused(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_mixture(tmp_path / "m")


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="is missing"):
        read_mixture(tmp_path / "m")
    INDEX.to_parquet(tmp_path / "m")
    with pytest.raises(DataError, match="holds no 'domix' metadata"):
        read_mixture(tmp_path / "m")
    write_table(tmp_path / "m", build("cg-low").rows, {"name": "cg-low"})
    with pytest.raises(DataError, match="another version"):
        read_mixture(tmp_path / "m")


def test_the_summary_says_what_every_mixture_holds(tmp_path):
    mixtures = [build(name) for name in ("natural-only", "cg-low", "cg-high")]
    write_summary(tmp_path, [compose(mixture, CELLS) for mixture in mixtures], CELLS, SPLIT)
    summary, cells = read_json(tmp_path / "summary.json"), read_table(tmp_path / "cells.parquet")
    assert summary["domains"] == ["clipart", "painting", "real", "sketch"]
    assert (summary["test_domain"], summary["natural_domain"]) == ("sketch", "real")
    assert (summary["classes"], summary["test_classes"]) == (CLASSES, ["axe", "lion"])
    natural, low, high = summary["mixtures"]
    assert natural["domains"] == {"clipart": 0, "painting": 0, "real": 22, "sketch": 0}
    assert low["domains"] == {"clipart": 0, "painting": 0, "real": 22, "sketch": 13}
    assert sum(high["domains"].values()) == high["samples"] == low["samples"] == 35
    assert [m["digest"] for m in summary["mixtures"]] == [m.digest for m in mixtures]
    assert len(cells) == 3 * 4 * 4
    table = cells.set_index(["mixture", "domain", "class"])["samples"]
    assert table["cg-low", "sketch", "lion"] == 0 and table["cg-low", "sketch", "pizza"] == 6
    assert table["cg-high"].sum() == 35


def test_the_table_tells_what_every_mixture_holds():
    mixtures = [build("natural-only"), build("leave-out-domain", {"web": base_rows("web", BASE)}), build("cg-high-all")]
    heading, natural, out, high = format_table([compose(mixture, CELLS) for mixture in mixtures], CELLS).splitlines()
    assert heading.split() == [
        *("mixture", "alias", "samples", "emoji", "web", "clipart", "painting", "real", "sketch", "held_out")
    ]
    assert natural.split() == ["natural-only", "lso-real-only", "22", "22", "0", "0", "0", "22", "0", "-"]
    assert out.split()[:5] == ["leave-out-domain", "lso-cpr-nosketchclasses", "41", "35", "6"]
    assert out.endswith("sketch: the domain") and high.endswith("-")
    assert len({line.index(word) for line, word in ((heading, "held_out"), (out, "sketch: the"))}) == 1


def test_dropped_samples_are_gone_and_counted(tmp_path):
    made = build("cg-high", {"web": base_rows("web", BASE)})
    gone = {"web": np.array([1, 4]), "emoji": made.rows.loc[made.rows["source"] == "emoji", "row"].to_numpy()[[0, 7]]}
    left = drop_rows(made, gone | {"elsewhere": np.array([0])})
    assert left.samples == {"web": made.samples["web"] - 2, "emoji": made.samples["emoji"] - 2}
    assert (left.dropped, made.dropped, len(left.rows)) == (4, 0, len(made.rows) - 4)
    assert left.digest != made.digest
    for source, rows in gone.items():
        assert not left.rows.loc[left.rows["source"] == source, "row"].isin(rows).any()
    write_mixture(tmp_path / "m", left, {"emoji": INDEX, "web": BASE})
    assert read_mixture(tmp_path / "m").dropped == read_metadata(tmp_path / "m")["dropped"] == 4


def test_dropping_what_a_mixture_does_not_hold_changes_nothing():
    made = build("natural-only")
    others = INDEX.loc[INDEX["domain"] == "sketch", "row"].to_numpy()
    assert drop_rows(made, {"emoji": others}).digest == drop_rows(made, {}).digest == made.digest


def test_weights_count_in_the_digest_where_one_is_not_1():
    made = build("cg-high")
    heavy = replace(made, rows=made.rows.assign(weight=np.float32(2)))
    assert len({made.digest, heavy.digest}) == 2
    assert replace(made, rows=made.rows.drop(columns="weight")).digest == made.digest


def test_the_digest_does_not_hang_on_how_words_are_stored_but_on_the_order_of_rows():
    made = build("cg-high", {"web": base_rows("web", BASE)})
    assert replace(made, rows=made.rows.astype({"source": "str", "caption": "str"})).digest == made.digest
    turned = made.rows.iloc[::-1]
    assert replace(made, rows=turned).digest != made.digest
    mixed = made.rows.iloc[np.r_[0, 6, 1:6, 7 : len(made.rows)]]  # rows of the two sources between each other
    assert replace(made, rows=mixed).digest == made.digest  # order counts within a source alone


def test_a_base_source_without_training_samples_is_refused():
    with pytest.raises(DataError, match="base source 'web' has no training samples"):
        base_rows("web", BASE[BASE["split"] == "test"])
    assert base_rows("web", BASE.iloc[::-1]).tolist() == sorted(BASE.loc[BASE["split"] == "train", "row"])


def test_counting_is_exact_for_numbers_beyond_64_bits():
    """3 * 10^6 samples a cell and a share of many digits: the products pass 2^63."""
    train, first = np.full((2, 3), 3_000_000), np.arange(6).reshape(2, 3)
    big = replace(CELLS, domains=("real", "sketch"), classes=("a", "b", "c"), train=train, first=first)
    split = replace(SPLIT, domains=big.domains, classes=big.classes, test_classes=("a",))
    kept = quotas(parse_mixture("cg-low+0.1234567890123456789", split), big, split)
    assert kept.sum() == 15_000_000
    assert kept[1, 0] == -(-1234567890123456789 * 15 * 3_000_000 // (18 * 10**19))


def test_domains_too_small_for_the_common_size_are_refused():
    two = make_index({"real": [3, 3], "sketch": [3, 3]})
    cells = count_cells(two)
    split = make_split(cells, test_domain="sketch", natural_domain="real", test_classes=["class_0"])
    with pytest.raises(DataError, match=r"'leave-out-domain' cannot be made as large as cg-low \(9 samples\).*hold 6"):
        quotas(parse_mixture("leave-out-domain", split), cells, split)


def test_an_empty_mixture_is_refused():
    cells = count_cells(make_index({"real": [0, 0], "sketch": [3, 3]}))
    split = make_split(cells, test_domain="sketch", natural_domain="real", test_classes=["class_0"])
    with pytest.raises(DataError, match="'natural-only' is empty"):
        quotas(parse_mixture("natural-only", split), cells, split)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_domain": "sketsch"}, "test_domain 'sketsch' is not in the data: did you mean 'sketch'"),
        ({"natural_domain": "photo"}, "natural_domain 'photo' is not in the data: known are clipart"),
        ({"natural_domain": "sketch"}, "are both 'sketch'"),
        ({"test_classes": ["axe", "liom"]}, "'liom' is not a class of the data: did you mean 'lion'"),
        ({"test_classes": ["axe", "axe"]}, "names 'axe' twice"),
        ({"test_classes": []}, "is empty"),
        ({"test_classes": CLASSES}, "leaves no class to show in domain 'sketch'"),
    ],
)
def test_a_split_that_does_not_fit_the_data_is_refused(changes, message):
    wanted = {"test_domain": "sketch", "natural_domain": "real", "test_classes": ["axe"]} | changes
    with pytest.raises(ParameterError, match=message) as caught:
        make_split(CELLS, **wanted)
    assert "\n" not in str(caught.value)


def test_a_class_without_a_test_image_in_the_test_domain_is_refused():
    index = make_index({"real": [2, 2], "sketch": [2, 2]}, {"real": [1, 1], "sketch": [0, 1]})
    with pytest.raises(ParameterError, match="'class_0' has no test image in domain 'sketch'"):
        make_split(count_cells(index), test_domain="sketch", natural_domain="real", test_classes=["class_0"])


def test_indices_that_do_not_pair_labels_and_classes_are_refused():
    with pytest.raises(DataError, match="does not pair"):
        count_cells(INDEX.assign(label=INDEX["label"] + 1))
    with pytest.raises(DataError, match="does not pair"):
        count_cells(INDEX.assign(**{"class": "axe"}))
    with pytest.raises(DataError, match="without class"):
        count_cells(INDEX.assign(domain=None))
    with pytest.raises(DataError, match="no samples"):
        count_cells(INDEX.iloc[:0])
