"""What mixtures read of an index, and the image of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from domix.data.mixtures.cells import count_cells, make_split, read_samples
from domix.data.mixtures.cells_figure import bin_means, class_order, write_figure
from domix.data.mixtures.composition import compose
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.names import parse_mixture
from domix.runtime.errors import DataError
from domix.runtime.tables import write_table
from tests.fakes import make_index

INDEX = make_index({d: [4, 5, 6, 7] for d in ("clipart", "real", "sketch")}, classes=["axe", "lion", "pizza", "yo_yo"])


def test_words_are_read_as_categories(tmp_path):
    write_table(tmp_path / "index", INDEX.assign(**{"class": None}).astype({"class": "str"}))
    read = read_samples(tmp_path / "index")
    assert read["row"].tolist() == INDEX["row"].tolist()
    for name in ("domain", "class", "split"):
        assert isinstance(read[name].dtype, pd.CategoricalDtype)
    assert read["domain"].tolist() == INDEX["domain"].tolist() and read["class"].isna().all()
    assert list(read_samples(tmp_path / "index", ["row", "split"])) == ["row", "split"]


def test_rows_in_any_order_are_read_as_they_are(tmp_path):
    shuffled = INDEX.sample(frac=1, random_state=0)
    write_table(tmp_path / "index", shuffled)
    read = read_samples(tmp_path / "index")
    assert read["row"].tolist() == shuffled["row"].tolist()
    one, two = count_cells(read), count_cells(INDEX)
    for name in ("train", "test", "first", "row", "code", "rank"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert (one.domains, one.classes) == (two.domains, two.classes)


def test_a_file_that_is_no_index_is_refused(tmp_path):
    with pytest.raises(DataError, match="is missing"):
        read_samples(tmp_path / "index")
    write_table(tmp_path / "index", INDEX.drop(columns="label"))
    with pytest.raises(DataError, match="has no column 'label' as an index must have it"):
        read_samples(tmp_path / "index")
    (tmp_path / "index").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_samples(tmp_path / "index")


def test_classes_stand_from_the_most_to_the_fewest_samples():
    cells = count_cells(INDEX)
    split = make_split(cells, test_domain="sketch", natural_domain="real", test_classes=["axe", "pizza"])
    assert class_order(cells, split) == ([2, 0], [3, 1])


def test_many_classes_are_averaged_so_that_what_there_is_shows():
    counts = np.array([[8, 6, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]])
    assert bin_means(counts, 3).tolist() == [[7, 0, 1], [0, 0, 0]]
    assert bin_means(counts, 9).tolist() == counts.tolist()


def test_the_image_has_the_same_bytes_each_time(tmp_path):
    cells = count_cells(INDEX)
    split = make_split(cells, test_domain="sketch", natural_domain="real", test_classes=["axe"])
    names = ["natural-only", "cg-low", "cg-high"]
    made = [compose(build_mixture(parse_mixture(n, split), cells, split, source="emoji"), cells) for n in names]
    for name in ("one", "two"):
        write_figure(tmp_path / name, made, cells, split)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
