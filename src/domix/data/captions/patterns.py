"""The sentences that captions are made of: patterns, the nouns that call a picture a picture, articles.

Pictures of most domains have six patterns and four nouns, two generic ones and two of the domain:

    an image of a lion.        a lion sketch        a drawing depicting a lion
    a lion depicted in art.    a doodle showing a lion        a lion is visible in a photo.

ImageNet-Sketch, which the study adds to mixtures as it is, has 21 patterns of its own: "tench", "a tench", "the tench",
and six each that call it a drawing, a sketch or an image.

Aligned sentences name no domain. They draw the noun from the generic ones alone; those of ImageNet-Sketch, for which
the reference study has none, are its standard ones with "image" instead of "drawing" and "sketch". Either way the rest
of the sentence is the same, so that aligned and standard captions differ in the domain's words and nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from domix.data.classes.names import class_text

Articles = Literal["right", "reference"]

GENERIC_NOUNS = ("image", "picture")
DOMAIN_NOUNS = {
    "clipart": ("clipart", "illustration"),
    "infograph": ("infograph", "informational chart"),
    "painting": ("painting", "art"),
    "quickdraw": ("quickdraw", "doodle"),
    "real": ("photo", "snapshot"),
    "sketch": ("sketch", "drawing"),
    "imagenet": ("photo", "snapshot"),
}
NO_ARTICLE = {"art"}

# {class} and {noun} are bare; {a_class}, {the_class} and {a_noun} come with their articles
PATTERNS = (
    "{a_noun} of {a_class}",
    "{a_class} {noun}",
    "{a_noun} depicting {a_class}",
    "{a_class} depicted in {a_noun}",
    "{a_noun} showing {a_class}",
    "{a_class} is visible in {a_noun}",
)
SKETCHES = "imagenet-sketch"  # the domain with patterns of its own

# How a name sounds, where its first letter misleads: "an hourglass", "an 8 ball", "a unicorn", "a one piece swimsuit".
_SOUNDS_VOWEL = re.compile(r"[aeiou]|hour|heir|honest|honou?r|8|11\b|18\b|x-?ray\b")
_SOUNDS_CONSONANT = re.compile(r"eu|uni(?![nm])|ubi|uk|us[aeu]|usb|ute|uti|ur[aeiou]|ufo\b|ewe\b|one\b|once\b")


@dataclass(frozen=True)
class Templates:
    """What a caption is drawn from.

    Attributes:
        patterns: sentences without their full stop.
        nouns: what to call the picture; empty if the patterns hold no noun to fill in.
    """

    patterns: tuple[str, ...]
    nouns: tuple[str, ...]


def nouns(domain: str) -> tuple[str, ...]:
    """Return the nouns for a picture of `domain`: generic ones first, then its own; a new domain's own is its name."""
    return (*GENERIC_NOUNS, *DOMAIN_NOUNS.get(domain, (class_text(domain),)))


def templates(domain: str, *, aligned: bool) -> Templates:
    """Return the templates for pictures of `domain`; its aligned ones have as many patterns, in the same order."""
    if domain == SKETCHES:
        return Templates(_sketch_patterns(*(["image"] * 3 if aligned else ["drawing", "sketch", "image"])), ())
    return Templates(PATTERNS, GENERIC_NOUNS if aligned else nouns(domain))


def _sketch_patterns(*names: str) -> tuple[str, ...]:
    patterns = ["{class}", "{a_class}", "{the_class}"]
    for name in names:
        a_name = with_article(name)
        patterns += [f"{{class}} {name}", f"{name} of {{a_class}}", f"{name} of {{the_class}}"]
        patterns += [f"{{a_class}} {name}", f"{a_name} of {{a_class}}", f"{a_name} of {{the_class}}"]
    return tuple(patterns)


@functools.lru_cache(1 << 14)
def with_article(noun: str) -> str:
    """Put "a" or "an" before `noun`, by its sound; nothing before "art" and before names that begin with "the".

    Plurals and substances keep the article ("a scissors", "a grass"), as in the reference: a class name does not say
    which it is.
    """
    if noun in NO_ARTICLE or _is_definite(noun):
        return noun
    sound = noun.lower()
    vowel = _SOUNDS_VOWEL.match(sound) and not _SOUNDS_CONSONANT.match(sound)
    return f"{'an' if vowel else 'a'} {noun}"


def _is_definite(noun: str) -> bool:
    return noun.lower().startswith("the ")


def make_sentence(pattern: str, noun: str, name: str, *, stop: bool, articles: Articles) -> str:
    """Fill a pattern.

    Args:
        pattern: one of Templates.patterns.
        noun: one of Templates.nouns; any if there are none.
        name: the class in words, with blanks.
        stop: whether a full stop ends the sentence.
        articles: right: "an axe", "The Eiffel Tower"; reference: "a" or "the" before whatever class, as in the
            reference study ("a axe", "a The Eiffel Tower"). Nouns have their right ones in both.
    """
    right = articles == "right"
    sentence = pattern.format(
        noun=noun,
        a_noun=with_article(noun),
        a_class=with_article(name) if right else f"a {name}",
        the_class=name if right and _is_definite(name) else f"the {name}",
        **{"class": name},
    )
    return sentence + "." if stop else sentence


def count_choices(of: Sequence[Templates]) -> list[tuple[int, int]]:
    """Count patterns and nouns of each."""
    return [(len(one.patterns), len(one.nouns)) for one in of]
