"""What analyses have in common with other parts of the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domix.analyses.contract import Shared

if TYPE_CHECKING:
    from domix.settings.params import Params


def shared_of(params: Params) -> Shared:
    """Return what the parameters say that an analysis and other parts must agree on."""
    return Shared(params.evaluate.confidence, params.mixing.near_bits, params.mixing.drop, params.embed.batch)
