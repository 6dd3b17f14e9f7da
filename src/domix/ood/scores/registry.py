"""The scores by name. A new one is a function with this decorator.

The arguments of a score in front of the `*` say what it needs, by these names:
    logits      [N, C] of the images that are scored
    features    [N, D] of the images that are scored
    bank        [M, D] features of ID training images: an array, or a sequence of arrays (domix.ood.blocks)
    labels      [M] classes of the bank's images, true or pseudo-labels
    weight      [C, D] of the linear head: logits = features @ weight.T + bias
    bias        [C] of it
    prototypes  [C, D] a vector a class, such as text embeddings of their names
    negatives   [V, D] text embeddings of words that name none of the classes
Arguments behind the `*` are hyper-parameters, which have defaults.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domix.ood.blocks import Floats, Rows
from domix.runtime.errors import DataError, ParameterError

QUERIES = ("logits", "features")  # what belongs to the images that are scored; all else is fitted on ID images
INPUTS = (*QUERIES, "bank", "labels", "weight", "bias", "prototypes", "negatives")
Function = Callable[..., Floats]
SCORES: dict[str, Score] = {}


@dataclass(frozen=True)
class Score:
    """A score: the higher, the more in-distribution.

    Attributes:
        name: of it.
        function: takes the arrays of `needs`, returns float64 [N].
        needs: names out of INPUTS.
        options: hyper-parameters with their defaults.
        source: the paper.
    """

    name: str
    function: Function
    needs: tuple[str, ...]
    options: Mapping[str, Any]
    source: str


def score(name: str, *, source: str) -> Callable[[Function], Function]:
    """Register a function as the score `name` of a paper.

    Raises:
        ValueError: the name is taken, or an argument is called as no input is.
    """

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        needs = tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
        options = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        unknown = [need for need in needs if need not in INPUTS]
        if name in SCORES or unknown:
            raise ValueError(f"the score {name} is there twice, or needs what is no input: {unknown}")
        SCORES[name] = Score(name, function, needs, options, source)
        return function

    return register


def find_score(name: str) -> Score:
    """Return a score by its name.

    Raises:
        ParameterError: there is none of this name.
    """
    if name not in SCORES:
        near = difflib.get_close_matches(name, SCORES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(SCORES)}"
        raise ParameterError(f"there is no score {name!r}: {hint}", argument="name")
    return SCORES[name]


def compute_score(name: str, inputs: Mapping[str, Rows], **options: Any) -> Floats:
    """Compute a score from the arrays that there are, by name: float64 [N].

    Raises:
        ParameterError: there is no such score, or it has no such option.
        DataError: an array that it needs is not there, or does not fit the others.
    """
    found = find_score(name)
    missing = [need for need in found.needs if need not in inputs]
    if missing:
        raise DataError(f"the score {name} needs {missing[0]}, which is not given")
    unknown = [option for option in options if option not in found.options]
    if unknown:
        known = ", ".join(found.options) or "none"
        raise ParameterError(f"the score {name} has no option {unknown[0]!r}; its options: {known}", argument="name")
    return found.function(*(inputs[need] for need in found.needs), **options)
