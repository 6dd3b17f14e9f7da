"""`domix mixtures`: what mixtures hold, without making them."""

from __future__ import annotations

from domix.data.mixtures import additions
from domix.data.mixtures.composition import compose, format_table
from domix.data.mixtures.names import reference_names
from domix.project.mixtures import build, load, parse
from domix.settings.params import Params


def main(params: Params, *, of_reference: bool) -> None:
    """Print a table of the mixtures of the parameters, or of the reference study's for this test domain."""
    study = load(params)
    names = params.mixtures
    if of_reference:
        with_sketches = additions.SOURCE in params.sources
        names = reference_names(study.split, base=params.base, sketches=with_sketches)
    mixtures = build(params, study, parse(params, study.split, names))
    print(format_table([compose(mixture, study.cells) for mixture in mixtures], study.cells))
