"""The parameters of evaluation: which models, on which pictures, with which prompts, and how sure the results are.

Part of params.yaml; see domix.config.
"""

from __future__ import annotations

from dataclasses import dataclass

from domix.schema import doc, require


@dataclass(frozen=True, kw_only=True)
class PublicModel:
    """A model that was not trained here."""

    architecture: str | None = doc(
        "an open_clip model name, a configuration shipped with Domix, or the path of a JSON file; null: the weights'"
        " folder says it"
    )
    weights: str = doc("an open_clip tag of pretrained weights, a file of weights, or a Hugging Face folder")


TEMPLATE_SETS = ("clip", "openai", "domain-only", "domain-free")


@dataclass(frozen=True, kw_only=True)
class Embed:
    """How evaluation pictures and class prompts are embedded."""

    batch: int = doc("pictures a step")
    templates: str | list[str] = doc(
        "prompt templates: clip (OpenAI's 80 and six more), openai (the 80), domain-only (those of clip that name a"
        " domain), domain-free (the others), or sentences of your own with {} for the class"
    )
    checkpoints: bool = doc("embed the checkpoints that a training kept, too: learning curves")
    sets: list[str] = doc("further sources whose test pictures are embedded and classified: ImageNet and its variants")

    def __post_init__(self) -> None:
        require(self.batch > 0, f"embed.batch must be positive, not {self.batch}")
        own = [self.templates] if isinstance(self.templates, str) else self.templates
        require(len(own) > 0, "embed.templates is empty: name a set of templates, or sentences with {}")
        if self.templates not in TEMPLATE_SETS:
            bad = next((text for text in own if "{}" not in text), None)
            known = ", ".join(TEMPLATE_SETS)
            require(bad is None, f"embed.templates must be one of {known}, or sentences that hold {{}}, not {bad!r}")
        require(len(set(self.sets)) == len(self.sets), f"embed.sets names something twice: {self.sets}")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Accuracy and its uncertainty."""

    bootstrap: int = doc("bootstrap samples for confidence intervals")
    confidence: float = doc("coverage of the intervals")
    seed: int = doc("seed of the resampling")
    top_k: int = doc("k of the top-k accuracy")
    last: int = doc("consecutive checkpoints, up to the last, whose results are averaged; 1: the last alone")

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, f"evaluate.bootstrap must be at least 100, not {self.bootstrap}")
        require(0.5 < self.confidence < 1, f"evaluate.confidence must lie in 0.5..1, not {self.confidence}")
        require(self.top_k >= 1, f"evaluate.top_k must be at least 1, not {self.top_k}")
        require(self.last >= 1, f"evaluate.last must be at least 1, not {self.last}")
