"""The random choices behind captions: which pattern, which noun, whether a full stop.

key        every choice hangs on the seed and the sample's key alone: neither the order of the samples nor the others
           matter
reference  the reference study's: one stream of Python's `random.Random(seed)` over all samples in their order. Each
           takes, in this order, `choice` of the patterns, `random() < 0.5` for the full stop, `choice` of the nouns

`random.Random` is a Mersenne Twister of 32-bit words. `choice` of n reads words until the upper bits of one, as many as
n has, make a number below n; `random` reads two, and is below 0.5 where the first one's highest bit is 0. So how many
words a sample takes is itself random. The reference stream is read by computing, for every word at once, where a
sample that began there would end, and then following these ends from sample to sample.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

BLOCK = 1 << 18  # words that are read, and keys that are hashed, at a time
_PER_UNIFORM = 2  # words that random() takes
_SOME_WORDS = 8  # words that one sample hardly ever needs more of


@dataclass(frozen=True)
class Draws:
    """The choices of N samples.

    Attributes:
        pattern, noun: number of the pattern and of the noun, uint8 [N]; 0 where there is none to choose from.
        stop: whether a full stop ends the sentence, bool [N].
    """

    pattern: np.ndarray
    noun: np.ndarray
    stop: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Draws:
        """Select rows."""
        return Draws(self.pattern[rows], self.noun[rows], self.stop[rows])


def hash_keys(keys: pd.Series, seed: int) -> np.ndarray:
    """Hash every key to 64 bits, uint64 [N]; the seed is the hash's key, so that each seed gives another stream."""
    secret = hashlib.sha256(f"captions\x1f{seed}".encode()).digest()
    blake = hashlib.blake2b
    bits = np.empty(len(keys), np.uint64)
    for start in range(0, len(keys), BLOCK):
        block = keys.iloc[start : start + BLOCK].tolist()
        digests = b"".join([blake(key.encode(), digest_size=8, key=secret).digest() for key in block])
        bits[start : start + BLOCK] = np.frombuffer(digests, dtype="<u8")
    return bits


def key_draws(bits: np.ndarray, kinds: np.ndarray, choices: Sequence[tuple[int, int]], *, aligned: bool) -> Draws:
    """Draw from the keys' hashes.

    Args:
        bits: `hash_keys`, [N].
        kinds: which of `choices` a sample has, [N].
        choices: numbers of patterns and nouns of each kind.
        aligned: draw the noun of the aligned caption; pattern and full stop are the standard one's.
    """
    patterns, nouns = np.array(choices, dtype=np.uint64).reshape(-1, 2).T
    # Non-overlapping fields of one 64-bit hash; scaling 20 bits to a few choices is even to one part in 10^4.
    return Draws(
        pattern=_scale(bits, 0, patterns[kinds]),
        noun=_scale(bits, 40 if aligned else 20, nouns[kinds]),
        stop=(bits >> np.uint64(63)).astype(bool),
    )


def _scale(bits: np.ndarray, shift: int, counts: np.ndarray) -> np.ndarray:
    """Map the 20 bits from `shift` upwards to 0 .. count - 1, uint8 [N]."""
    field = (bits >> np.uint64(shift)) & np.uint64(0xFFFFF)
    return ((field * counts) >> np.uint64(20)).astype(np.uint8)


def reference_draws(seed: int, kinds: np.ndarray, choices: Sequence[tuple[int, int]]) -> Draws:
    """Draw as `random.Random(seed)` does, sample by sample, in memory that does not grow with them.

    Args:
        seed: of the stream; a pass that begins anew begins with it again.
        kinds: which of `choices` a sample has, [N].
        choices: numbers of patterns and nouns of each kind; without nouns, none is drawn.
    """
    twister = _twister(seed)
    draws = Draws(np.zeros(len(kinds), np.uint8), np.zeros(len(kinds), np.uint8), np.zeros(len(kinds), bool))
    words, done = np.empty(0, np.uint32), 0
    while done < len(kinds):
        more = min(BLOCK, _SOME_WORDS * (len(kinds) - done))
        words = np.concatenate([words, twister.random_raw(more).astype(np.uint32)])
        waiting = kinds[done : done + len(words) // (1 + _PER_UNIFORM)]
        tables = {int(kind): _Table(words, *choices[kind]) for kind in np.unique(waiting)}
        starts, end = _follow({kind: table.ends.tolist() for kind, table in tables.items()}, waiting, len(words))
        for kind, table in tables.items():
            here = np.flatnonzero(waiting[: len(starts)] == kind)
            for name, values in table.read(starts[here]).items():
                getattr(draws, name)[done + here] = values
        words, done = words[end:], done + len(starts)
    return draws


def _twister(seed: int) -> np.random.MT19937:
    """Return NumPy's Mersenne Twister in the state of `random.Random(seed)`: the same words, many at a time."""
    *key, position = random.Random(seed).getstate()[1]
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": np.array(key, np.uint32), "pos": position}}
    return twister


class _Table:
    """All places of a block of words [L] at which a sample of one kind could begin.

    Attributes:
        ends: where such a sample would end, which is where the next one begins, int64 [L + 1]; greater than L where the
            block ends before it.
    """

    def __init__(self, words: np.ndarray, patterns: int, nouns: int) -> None:
        self._words, self._patterns, self._nouns = words, patterns, nouns
        self._pattern_at = _choice_at(words, patterns)[: len(words) + 1]
        after = self._pattern_at + 1 + _PER_UNIFORM
        self.ends = _choice_at(words, nouns)[after] + 1 if nouns else after

    def read(self, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fields of Draws of the samples that begin at `starts` and end in the block."""
        at = self._pattern_at[starts]
        fields = {"pattern": _upper_bits(self._words[at], self._patterns), "stop": self._words[at + 1] < 1 << 31}
        if self._nouns:
            fields["noun"] = _upper_bits(self._words[self.ends[starts] - 1], self._nouns)
        return fields


def _upper_bits(words: np.ndarray, count: int) -> np.ndarray:
    """Return what `choice` of `count` makes of words; those that are not below `count` it passes over."""
    return words >> np.uint32(32 - count.bit_length())


def _choice_at(words: np.ndarray, count: int) -> np.ndarray:
    """Return, for every place in L words and some beyond, the first place from there that `choice` accepts, or L."""
    length = len(words)
    places = np.full(length + 2 + _PER_UNIFORM, length)
    places[:length] = np.where(_upper_bits(words, count) < count, np.arange(length), length)
    return np.minimum.accumulate(places[::-1])[::-1]


def _follow(ends: dict[int, list[int]], kinds: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Go from sample to sample as far as `length` words reach; return where each begins and where the last one ends."""
    starts, place = [], 0
    for kind in kinds.tolist():
        end = ends[kind][place]
        if end > length:
            break
        starts.append(place)
        place = end
    return np.array(starts, dtype=np.int64), place
