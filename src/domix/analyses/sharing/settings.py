"""The block `analyses.sharing` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.analyses.sae.settings import Autoencoder


class Settings(Autoencoder):
    """How many features of a sparse autoencoder the domains share; with the keys of `sae` alike, it is that one."""

    parity: bool = Field(
        False,
        description="as the reference's code: units without votes fill a top K, every score is the last domain's",
    )
    draws: int = Field(50, ge=1, description="draws of a class's images, of which resamples take one each")
    resamples: int = Field(1000, ge=1, description="draws of classes for the intervals")
    permutations: int = Field(200, ge=1, description="times that a class's images change domains")
