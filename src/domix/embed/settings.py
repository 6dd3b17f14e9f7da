"""The blocks `embed` and `models` of the parameters: which models, on which images, with which prompts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runtime.settings import Settings, require


class PublicModel(Settings):
    """A model that was not trained here."""

    architecture: str | None = Field(
        description=(
            "an open_clip model name, a configuration shipped with Domix, or the path of a JSON file; null: the"
            " weights' folder says it"
        ),
    )
    weights: str = Field(
        description="an open_clip tag of pretrained weights, a file of weights, or a Hugging Face folder"
    )


TEMPLATE_SETS = ("clip", "openai", "domain-only", "domain-free")


class Embed(Settings):
    """How evaluation images and class prompts are embedded."""

    batch: int = Field(gt=0, description="images a step")
    templates: str | list[str] = Field(
        description=(
            "prompt templates: clip (OpenAI's 80 and six more), openai (the 80), domain-only (those of clip that name a"
            " domain), domain-free (the others), or sentences of your own with {} for the class"
        ),
    )
    checkpoints: bool = Field(description="embed the checkpoints that a training kept, too: learning curves")
    sets: list[str] = Field(
        description="further sources whose test images are embedded and classified: ImageNet and its variants"
    )

    ood: dict[str, Literal["near", "far"] | None] = Field(
        default={},
        description=(
            "those of the sets that hold no class of the study, to be told from its images: set -> near, far (to its"
            " classes), or null for what the set itself or OpenOOD's convention says"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = [self.templates] if isinstance(self.templates, str) else self.templates
        require(len(own) > 0, "templates is empty: name a set of templates, or sentences with {}")
        if self.templates not in TEMPLATE_SETS:
            bad = next((text for text in own if "{}" not in text), None)
            known = ", ".join(TEMPLATE_SETS)
            require(bad is None, f"templates must be one of {known}, or sentences that hold {{}}, not {bad!r}")
        require(len(set(self.sets)) == len(self.sets), f"sets names something twice: {self.sets}")
        for name in self.ood:
            known = name in self.sets
            require(known, f"ood names {name!r}, which is not among the sets: add it there, or remove it here")
        return self
