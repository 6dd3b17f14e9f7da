"""The blocks `mixing` and `recipes` of the parameters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runtime.settings import Settings, require


class Mixing(Settings):
    """What holds for all mixtures."""

    sketch_filter: Literal["id", "reference"] = Field(
        description=(
            "ImageNet-Sketch classes that are added: id: those without a class of the multi-domain source; reference:"
            " the reference study's, which drops 36 more by comparing substrings"
        ),
    )
    drop: Literal["none", "exact", "near"] = Field(
        description=(
            "training samples that are left out because they duplicate a held-out test image: exact: equal files;"
            " near: also perceptual hashes within near_bits"
        ),
    )
    near_bits: int = Field(
        ge=0, le=16, description="bits, of 64, by which the perceptual hashes of near duplicates differ at most"
    )


class RecipeSpec(Settings):
    """A mixture of one's own: which samples of the multi-domain source it holds, always the first in list order."""

    domains: dict[str, float] = Field(description="domain -> share of each of its cells' training samples (1 = all)")
    classes: list[str] | None = Field(description="classes that are shown at all; null: every class", default=None)
    leave_out: dict[str, list[str]] = Field(
        description="domain -> classes that are left out of it, besides the test classes in the test domain",
        default_factory=dict,
    )
    show_test_classes: bool | float = Field(
        description=(
            "false: no sample of the test classes in the test domain (checked); true: all; or the share that is shown"
        ),
        default=False,
    )
    caps: dict[str, int] = Field(
        description="domain, or '*' for all others -> most samples a cell", default_factory=dict
    )
    size: int | Literal["common"] | None = Field(
        description=(
            "samples in all, every cell cut by the same share; common: as many as cg-low; null: all that the above"
            " leave"
        ),
        default=None,
    )
    weights: dict[str, float] = Field(
        description="domain or base source -> how often its samples are drawn, relative to 1", default_factory=dict
    )
    caption: Literal["standard", "aligned"] = Field(
        description="captions; aligned ones do not name the domain", default="standard"
    )
    base: bool = Field(description="whether the base sources are part of it", default=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(len(self.domains) > 0, "domains is empty: name at least one domain")
        for name, share in self.domains.items():
            require(0 < share <= 1, f"domains.{name} must be above 0 and at most 1, not {share}")
        require(self.classes is None or len(self.classes) > 0, "classes is empty: null means all classes")
        require(
            0 <= self.show_test_classes <= 1,
            f"show_test_classes must be true, false or a share in 0..1, not {self.show_test_classes}",
        )
        for name, cap in self.caps.items():
            require(cap >= 1, f"caps.{name} must be at least 1, not {cap}")
        for name, weight in self.weights.items():
            good = 0 < weight < float("inf")
            require(good, f"weights.{name} must be a positive number, not {weight}")
        good = self.size is None or self.size == "common" or self.size >= 1
        require(good, f"size must be at least 1, common or null, not {self.size}")
        return self
