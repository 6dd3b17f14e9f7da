"""CSV files with any names in them: what is written is read back, by pandas and by Domix."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.runtime.tables import MISSING, as_csv, numbers, read_csv

AWKWARD = ['"', "\t", "\n", "\r", ",", "'", " ", "\u2028", "\ufeff", "é", "🦁", "a", *sorted(MISSING)]
NAMES = st.one_of(
    st.lists(st.sampled_from(AWKWARD), max_size=4).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
VALUES = st.floats(allow_nan=True, allow_infinity=False)


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6))
@settings(deadline=None)
def test_pandas_reads_back_names_and_numbers(rows: list[tuple[str, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["model", "accuracy"])
    read = pd.read_csv(
        io.StringIO(as_csv(frame)), keep_default_na=False, dtype={"model": str}, na_values={"accuracy": [""]},
        float_precision="round_trip",
    )  # fmt: skip
    pd.testing.assert_frame_equal(read, frame)


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6), st.booleans())
@settings(deadline=None)
def test_domix_reads_back_names_and_numbers(rows: list[tuple[str, float]], windows: bool) -> None:
    """Blanks at the ends of a name are nobody's; so are the byte order mark and the line ends of another system."""
    frame = pd.DataFrame([(name.strip(), value) for name, value in rows], columns=["model", "accuracy"])
    text = as_csv(frame)
    if windows and not frame["model"].str.contains(r"[\r\n]").any():
        text = "\ufeff" + text.replace("\n", "\r\n") + "\r\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(text.encode())
        read = read_csv(path, mend="x")
    assert read["model"].tolist() == frame["model"].tolist()
    pd.testing.assert_series_equal(numbers(read[["accuracy"]])["accuracy"], frame["accuracy"])
