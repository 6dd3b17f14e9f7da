"""All parameters of the pipeline: each part's settings, which lie beside their owner, and what holds between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from domix.analyses.registry import analyses, read_settings
from domix.data.captions.settings import Captions
from domix.data.fetch.settings import Fetch
from domix.data.mixtures.settings import Mixing, RecipeSpec
from domix.data.pack.settings import Pack
from domix.embed.settings import Embed, PublicModel
from domix.evaluate.settings import Evaluate
from domix.model.settings import Model
from domix.report.settings import Report
from domix.runtime.settings import Settings, require
from domix.runtime.tracking.settings import Tracking
from domix.train.settings import Supervised, Train, Trainer, Validation

_NAME = re.compile(r"(?!\.)[^/@\x00-\x1f\x7f-\x9f\ud800-\udfff]+")  # DVC takes what follows an @ for an item's name
_LONGEST = 200  # bytes: a file's name may have 255


def _name_analyses(schema: dict[str, Any]) -> None:
    """Put the analyses' own schemas in the place of one for any."""
    blocks = {name: analysis.Settings.model_json_schema() for name, analysis in analyses().items()}
    schema.update(properties=blocks, additionalProperties=False)


def _nfc(tree: object) -> object:
    """Return texts, and mappings and lists of texts, in Unicode's form NFC, as sources name domains and classes."""
    if isinstance(tree, Mapping):
        return {_nfc(key): _nfc(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_nfc(value) for value in tree]
    return unicodedata.normalize("NFC", tree) if isinstance(tree, str) else tree


class Params(Settings):
    """Everything that params.yaml says."""

    test_domain: str = Field(description="domain whose cells are held out and tested")
    natural_domain: str = Field(description="domain of natural images, part of every mixture")
    test_classes: str | list[str] = Field(
        description="classes held out in the test domain: a shipped list (emoji, domainnet) or names"
    )
    sources: list[str] = Field(
        description="data sets: the multi-domain one first, then corpora that mixtures may contain"
    )
    base: list[str] = Field(
        description="those of the sources that every mixture contains whole, besides the multi-domain one"
    )
    mixtures: list[str] = Field(description="training mixtures, one model each")
    recipes: dict[str, RecipeSpec] = Field(
        description="mixtures of your own: name -> recipe; put the name among `mixtures`"
    )
    seeds: list[int] = Field(description="random seeds, one model each")
    fetch: Fetch = Field(description="where raw data lie")
    pack: Pack = Field(description="decoding and shards")
    captions: Captions = Field(description="captions")
    mixing: Mixing = Field(description="what holds for all mixtures")
    model: Model = Field(description="the model")
    train: Train = Field(description="the recipe of CLIP models")
    supervised: Supervised = Field(description="the recipe of supervised classifiers")
    trainer: Trainer = Field(description="where and how trainings compute")
    validation: Validation = Field(description="measurements while training")
    models: dict[str, PublicModel] = Field(
        description="models that were not trained here, evaluated beside the study's: name -> model"
    )
    embed: Embed = Field(description="embeddings")
    evaluate: Evaluate = Field(description="accuracy and statistics")
    analyses: dict[str, SerializeAsAny[Settings]] = Field(
        description="analyses to run: name -> its settings, each of which may be left out (docs/adding-an-analysis.md)",
        json_schema_extra=_name_analyses,
    )
    report: Report = Field(description="the report")
    tracking: Tracking = Field(description="MLflow")

    @field_validator("test_domain", "natural_domain", "recipes", mode="before")
    @classmethod
    def _compose(cls, value: object) -> object:
        return _nfc(value)

    @field_validator("analyses", mode="before")
    @classmethod
    def _read_analyses(cls, blocks: object) -> object:
        return read_settings(blocks) if isinstance(blocks, Mapping) else blocks

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.test_domain != self.natural_domain, f"test_domain and natural_domain are both {self.test_domain!r}"
        )
        for key, names in (("sources", self.sources), ("mixtures", self.mixtures), ("embed.sets", self.embed.sets)):
            for name in names:
                good = _NAME.fullmatch(name) is not None and len(name.encode()) <= _LONGEST
                require(
                    good,
                    f"{key} names {name!r}, by which files and DVC's stages are called: it must not begin with a dot,"
                    f" hold /, @ or control characters, or take more than {_LONGEST} bytes",
                )
        for name in ("sources", "mixtures", "seeds"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} is empty: name at least one")
            require(len(set(values)) == len(values), f"{name} names something twice: {values}")
        for name in self.base:
            require(name in self.sources[1:], f"base names {name!r}, which is not among the sources after the first")
        for name in self.supervised.mixtures:
            require(name in self.mixtures, f"supervised.mixtures names {name!r}, which is not among the mixtures")
        for name in self.embed.sets:
            require(name != self.sources[0], f"embed.sets names {name!r}, whose test images are embedded anyway")
        for name in self.models:
            good = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None
            require(good, f"models: a name holds letters, digits, - and _ alone, unlike {name!r}")
        self.train.check_split("train", self.trainer.processes)
        if self.supervised.mixtures:
            self.supervised.check_split("supervised", self.trainer.processes)
        return self
