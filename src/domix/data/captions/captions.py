"""A source's captions, standard and aligned: the samples' own, or sentences made of class and domain.

Standard captions draw the noun from generic ones and those of the image's domain, so that about half of them name
the domain; aligned ones name none (data/captions/patterns.py). A full stop ends half of all. Which random stream makes
the choices, and whether articles are right or the reference study's, are two separate switches: with both at
`reference`, the captions of DomainNet are those of the reference study to the byte.

Captions are made and written group by group: memory grows by what they are made of and a few bytes a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domix.data.captions.patterns import Articles, Templates, count_choices, make_sentence, templates
from domix.data.captions.streams import Draws, hash_keys, key_draws, reference_draws
from domix.data.classes.names import class_text
from domix.data.store.texts import CAPTIONS, TEXTS
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file

Stream = Literal["key", "reference"]

SCHEMA = CAPTIONS.arrow
GROUP = 1 << 17  # rows that are made and written at a time

NO_TEXT = "have no caption: give them one, or leave them out"
NOT_LISTED = "are not in the source's lists"


def make_captions(
    samples: pd.DataFrame,
    *,
    seed: int,
    stream: Stream = "key",
    articles: Articles = "right",
    keys: pd.Series | None = None,
) -> pd.DataFrame:
    """Make captions of class and domain, as `template_captions`, in one table `key`, `standard`, `aligned`."""
    tables = template_captions(samples, seed=seed, stream=stream, articles=articles, keys=keys)
    return pa.concat_tables([SCHEMA.empty_table(), *tables]).to_pandas()


def template_captions(
    samples: pd.DataFrame, *, seed: int, stream: Stream, articles: Articles, keys: pd.Series | None = None
) -> Iterator[pa.Table]:
    """Make captions of class and domain, group by group.

    Args:
        samples: columns `key`, `domain`, `class`; for the reference stream all lines of the split lists in order, those
            whose images were rejected included: every line takes its part of the stream.
        seed: of the stream.
        stream: key: a caption hangs on seed and key alone; reference: the reference study's, over `samples` in order.
        articles: right, or the reference study's (see `make_sentence`).
        keys: the samples whose captions are wanted, in the order wanted; all if not given.

    Yields:
        Tables of SCHEMA.

    Raises:
        DataError: a sample without a class or domain, a key that stands twice, or one that `samples` lacks.
    """
    _check_classes(samples)
    rows = None if keys is None else _find(keys, samples["key"], NOT_LISTED)
    domains, domain_names = pd.factorize(samples["domain"])
    classes, class_names = pd.factorize(samples["class"])
    domains, classes = domains.astype(np.int32), classes.astype(np.int32)
    names = [class_text(name) for name in class_names]
    passes = [[templates(name, aligned=aligned) for name in domain_names] for aligned in (False, True)]
    choices = [count_choices(each) for each in passes]
    draws = _draw(samples["key"], domains, choices, seed=seed, stream=stream)
    sentences = [_Sentences(each, names, articles) for each in passes]
    wanted = samples["key"] if keys is None else keys
    for start in range(0, len(wanted), GROUP):
        group = slice(start, start + GROUP)
        picked = group if rows is None else rows[group]
        texts = [
            sentence.fill(domains[picked], classes[picked], draw.take(picked))
            for sentence, draw in zip(sentences, draws, strict=True)
        ]
        yield _table(wanted.iloc[group], *texts)


def _draw(
    keys: pd.Series, domains: np.ndarray, choices: list[list[tuple[int, int]]], *, seed: int, stream: Stream
) -> list[Draws]:
    """Draw for the standard captions and for the aligned ones, given numbers of choices of each domain for both."""
    if stream == "reference":
        return [reference_draws(seed, domains, each) for each in choices]
    bits = hash_keys(keys, seed)
    _check_keys(keys, bits)
    standard, aligned = choices
    return [key_draws(bits, domains, standard, aligned=False), key_draws(bits, domains, aligned, aligned=True)]


def own_captions(keys: pd.Series, path: Path) -> Iterator[pa.Table]:
    """Take the captions that samples brought along, for standard and aligned alike, group by group.

    Args:
        keys: the samples, in the order wanted.
        path: parquet file with columns `key` and `text`, in any order; fastest in that of `keys`.

    Yields:
        Tables of SCHEMA.

    Raises:
        DataError: samples without a text, or one with two; the file is missing or damaged.
    """
    rows = _find(keys, TEXTS.read(path, ["key"])["key"], NO_TEXT)
    texts = TEXTS.read(path, ["text"])["text"]
    _require_all(keys, ~texts.isna().to_numpy()[rows], NO_TEXT)
    column = _strings(texts)
    for start in range(0, len(keys), GROUP):
        group = rows[start : start + GROUP]
        # Only the window that the group lies in, for Arrow joins whatever it takes from into one piece first
        first, last = int(group.min()), int(group.max())
        text = column.slice(first, last + 1 - first).take(pa.array(group - first))
        yield _table(keys.iloc[start : start + GROUP], text, text)


def _table(keys: pd.Series, standard: pa.ChunkedArray, aligned: pa.ChunkedArray) -> pa.Table:
    columns = [_strings(keys), standard, aligned]
    return pa.table([column.cast(pa.string()) for column in columns], schema=SCHEMA).combine_chunks()


def write_captions(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write captions to a parquet file, table by table: equal ones give equal bytes.

    Raises:
        DataError: what making the tables raises.
        DomixError: the file cannot be written.
    """
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)


class _Sentences:
    """Fills patterns with nouns and classes, each combination once, however many samples share it."""

    def __init__(self, domains: Sequence[Templates], classes: Sequence[str], articles: Articles) -> None:
        self._domains, self._classes, self._articles = domains, classes, articles
        patterns = max((len(each.patterns) for each in domains), default=1)
        nouns = max((len(each.nouns) for each in domains), default=1)
        self._shape = (len(domains), len(classes), patterns, max(nouns, 1), 2)
        self._made: dict[int, str] = {}

    def fill(self, domains: np.ndarray, classes: np.ndarray, draws: Draws) -> pa.ChunkedArray:
        """Turn the codes [N] of domain and class, and the draws, into N sentences."""
        flat = np.ravel_multi_index((domains, classes, draws.pattern, draws.noun, draws.stop), self._shape)
        places, codes = pd.factorize(flat)
        new = [code for code in codes.tolist() if code not in self._made]
        which = np.unravel_index(np.array(new, dtype=np.int64), self._shape)
        self._made.update(zip(new, map(self._make, *(axis.tolist() for axis in which)), strict=True))
        texts = pa.array([self._made[code] for code in codes.tolist()], pa.string())
        return pa.chunked_array([texts.take(pa.array(places))])

    def _make(self, domain: int, class_: int, pattern: int, noun: int, stop: int) -> str:
        of = self._domains[domain]
        word = of.nouns[noun] if of.nouns else ""
        return make_sentence(
            of.patterns[pattern], word, self._classes[class_], stop=bool(stop), articles=self._articles
        )


def _find(keys: pd.Series, known: pd.Series, lacking: str) -> np.ndarray:
    """Return where in `known` each of `keys` stands, int64 [N].

    Raises:
        DataError: some do not, or two of `known` are equal.
    """
    having = _strings(known)
    places = pc.call_function("index_in", [_strings(keys)], pc.SetLookupOptions(having))
    _require_all(keys, places.is_valid().to_numpy(), lacking)
    if len(known) > len(keys) and (distinct := len(having.unique())) < len(known):
        raise DataError(f"{len(known) - distinct} keys stand twice or more: keys must be unique within a source")
    return places.to_numpy().astype(np.int64)


def _require_all(keys: pd.Series, good: np.ndarray, lacking: str) -> None:
    if not good.all():
        first = keys.iloc[int(good.argmin())]
        raise DataError(f"{int((~good).sum())} of {len(keys)} samples, {first!r} the first, {lacking}", argument="keys")


def _strings(column: pd.Series) -> pa.ChunkedArray:
    return pa.Table.from_pandas(column.to_frame("text"), pa.schema([("text", pa.large_string())]))["text"]


def _check_classes(samples: pd.DataFrame) -> None:
    for what in ("class", "domain"):
        bare = samples[what].isna().to_numpy()
        if bare.any():
            key = samples["key"].iloc[int(bare.argmax())]
            raise DataError(
                f"sample {key!r} has no {what} to make a caption from: give it one, or bring captions of its own"
            )


def _check_keys(keys: pd.Series, bits: np.ndarray) -> None:
    """Refuse two equal keys; the keys are only compared if two of their hashes are equal."""
    ordered = np.sort(bits)
    if (ordered[1:] == ordered[:-1]).any():
        twice = keys.duplicated().to_numpy()
        if twice.any():
            key = keys.iloc[int(twice.argmax())]
            raise DataError(f"key {key!r} stands twice in the index: keys must be unique within a source")
