"""Templated captions for pictures that come with a class and a domain instead of words.

The study's six sentence patterns, a noun for the picture, and a final full stop in half of all captions:

    an image of a lion.        a lion sketch        a drawing depicting a lion
    a lion depicted in art.    a doodle showing a lion        a lion is visible in a photo.

`standard` captions draw the noun from two generic ones and those of the picture's domain, so that about half of them
name the domain; `aligned` captions draw it from the generic ones alone, and share the rest of the sentence. Unlike the
reference's, articles are right: "an axe", not "a axe", and no second one before names that begin with "the".

Every choice hangs on the seed and the sample's key alone: neither the order of the rows nor other rows matter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from domix.data.names import class_text
from domix.runtime.errors import DataError

GENERIC_NOUNS = ("image", "picture")
DOMAIN_NOUNS = {
    "clipart": ("clipart", "illustration"),
    "infograph": ("infograph", "informational chart"),
    "painting": ("painting", "art"),
    "quickdraw": ("quickdraw", "doodle"),
    "real": ("photo", "snapshot"),
    "sketch": ("sketch", "drawing"),
}
NO_ARTICLE = {"art"}

# {noun} is bare; {a_noun} and {a_class} come with their articles
PATTERNS = (
    "{a_noun} of {a_class}",
    "{a_class} {noun}",
    "{a_noun} depicting {a_class}",
    "{a_class} depicted in {a_noun}",
    "{a_noun} showing {a_class}",
    "{a_class} is visible in {a_noun}",
)

# How a name sounds, where its first letter misleads: "an hourglass", "an 8 ball", "a unicorn", "a one piece swimsuit".
_SOUNDS_VOWEL = re.compile(r"[aeiou]|hour|heir|honest|honou?r|8|11\b|18\b|x-?ray\b")
_SOUNDS_CONSONANT = re.compile(r"eu|uni(?![nm])|ubi|uk|us[aeu]|usb|ute|uti|ur[aeiou]|ufo\b|ewe\b|one\b|once\b")


def with_article(noun: str) -> str:
    """Put "a" or "an" before `noun`, by its sound; nothing before "art" and before names that begin with "the".

    Plurals and substances keep the article ("a scissors", "a grass"), as in the reference: a class name does not say
    which it is.
    """
    sound = noun.lower()
    if noun in NO_ARTICLE or sound.startswith("the "):
        return noun
    vowel = _SOUNDS_VOWEL.match(sound) and not _SOUNDS_CONSONANT.match(sound)
    return f"{'an' if vowel else 'a'} {noun}"


def nouns(domain: str) -> tuple[str, ...]:
    """Return the nouns for a picture of `domain`: generic ones first, then its own; a new domain's own is its name."""
    return (*GENERIC_NOUNS, *DOMAIN_NOUNS.get(domain, (class_text(domain),)))


def make_captions(index: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Make the captions of all rows of an index (columns `key`, `domain`, `class`).

    Returns:
        `key`, `standard`, `aligned`, in the index's order.

    Raises:
        DataError: a row without a class, or a key that stands twice.
    """
    _check(index)
    bits = _hash(index["key"].tolist(), seed)
    # Non-overlapping fields of one 64-bit hash; scaling 20 bits to a few choices is even to one part in 10^5.
    pattern, stop = _scale(bits, 0, len(PATTERNS)), (bits >> np.uint64(63)).astype(int)
    domains, domain_names = pd.factorize(index["domain"])
    classes, class_names = pd.factorize(index["class"])
    choices = [nouns(name) for name in domain_names]
    counts = np.array([len(choice) for choice in choices], dtype=np.uint64)[domains]
    sentence = _Sentences(choices, [class_text(name) for name in class_names])
    return pd.DataFrame(
        {
            "key": index["key"].to_numpy(),
            "standard": sentence.fill(domains, classes, pattern, _scale(bits, 20, counts), stop),
            "aligned": sentence.fill(domains, classes, pattern, _scale(bits, 40, len(GENERIC_NOUNS)), stop),
        }
    )


class _Sentences:
    """Fills patterns with nouns and classes, each combination once, however many samples share it."""

    def __init__(self, choices: Sequence[tuple[str, ...]], classes: Sequence[str]) -> None:
        self.choices, self.classes = choices, classes

    def fill(self, *codes: np.ndarray) -> np.ndarray:
        """Turn the codes [N] of domain, class, pattern, noun and full stop into N sentences."""
        most = max((len(choice) for choice in self.choices), default=1)
        shape = (len(self.choices), len(self.classes), len(PATTERNS), most, 2)
        flat, inverse = np.unique(np.ravel_multi_index(codes, shape), return_inverse=True)
        texts = [self._sentence(*code) for code in zip(*np.unravel_index(flat, shape), strict=True)]
        return np.array(texts, dtype=object)[inverse]

    def _sentence(self, domain: int, class_: int, pattern: int, noun: int, stop: int) -> str:
        noun_text, text = self.choices[domain][noun], self.classes[class_]
        sentence = PATTERNS[pattern].format(noun=noun_text, a_noun=with_article(noun_text), a_class=with_article(text))
        return sentence + "." if stop else sentence


def _check(index: pd.DataFrame) -> None:
    bare = index["class"].isna().to_numpy()
    if bare.any():
        key = index["key"].iloc[int(bare.argmax())]
        raise DataError(
            f"sample {key!r} has no class to make a caption from: give it one, or bring captions of its own"
        )
    twice = index["key"].duplicated().to_numpy()
    if twice.any():
        key = index["key"].iloc[int(twice.argmax())]
        raise DataError(f"key {key!r} stands twice in the index: keys must be unique within a source")


def _hash(keys: list[str], seed: int) -> np.ndarray:
    """Hash every key to 64 bits, uint64 [N]; the seed is the hash's key, so that each seed gives another stream."""
    secret = hashlib.sha256(f"captions\x1f{seed}".encode()).digest()
    blake = hashlib.blake2b
    digests = b"".join([blake(key.encode(), digest_size=8, key=secret).digest() for key in keys])
    return np.frombuffer(digests, dtype="<u8")


def _scale(bits: np.ndarray, shift: int, count: int | np.ndarray) -> np.ndarray:
    """Map the 20 bits from `shift` upwards to 0 .. count - 1, int64 [N]."""
    field = (bits >> np.uint64(shift)) & np.uint64(0xFFFFF)
    return ((field * np.asarray(count, dtype=np.uint64)) >> np.uint64(20)).astype(np.int64)
