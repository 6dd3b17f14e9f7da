"""The parameters of the pipeline: params.yaml as frozen dataclasses.

`load(text)` turns the text of a params.yaml into a `Params`, strictly: an unknown, missing or mistyped key is an error
that names the key, and suggests the nearest known one. Every field carries its documentation as `metadata["doc"]`, from
which docs/parameters.md and the JSON Schema for editors are generated (`make docs`).

One section a stage, named as the stage; what several stages share stands at the top level. Scale is a parameter: the
files under presets/ are complete params.yaml files.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from domix.evaluation_params import Embed, Evaluate, PublicModel
from domix.runtime.errors import ParameterError
from domix.schema import build, doc, require
from domix.training_params import Supervised, Train, Trainer, Validation


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Where the files of each source lie, or how they are downloaded."""

    paths: dict[str, str] = doc(
        "source name -> folder that holds its files, relative to the repository or absolute; a source without one is"
        " downloaded into .cache/downloads"
    )
    mirrors: dict[str, str] = doc("source name -> URL prefix that is tried before those of the source's manifest")
    offline: bool = doc("never use the network: what is not on this disk is an error")
    jobs: int = doc("files downloaded at a time")

    def __post_init__(self) -> None:
        require(self.jobs >= 1, f"fetch.jobs must be at least 1, not {self.jobs}")


@dataclass(frozen=True, kw_only=True)
class Pack:
    """How pictures are decoded, resized and written to shards."""

    size: int = doc("short side of the packed pictures, in pixels; 0 = keep every file as it is")
    format: Literal["png", "jpeg"] = doc("encoding of resized pictures: png is lossless, jpeg (quality 95) is smaller")
    poses: int = doc("seeded poses of each training drawing (bundled set only; its test pictures are as drawn)")
    shard_samples: int = doc("samples a shard, at most; also the unit of parallel work")
    max_bad_share: float = doc("share of unreadable pictures above which the stage fails")
    workers: int = doc("processes that decode; 0 = one a core (of the whole cluster with ray)")
    driver: Literal["processes", "ray"] = doc("processes of this machine, or a Ray cluster (extra `ray`)")

    def __post_init__(self) -> None:
        require(self.size == 0 or self.size >= 8, f"pack.size must be 0 or at least 8 pixels, not {self.size}")
        require(self.poses >= 1, f"pack.poses must be at least 1, not {self.poses}")
        require(self.shard_samples >= 1, f"pack.shard_samples must be at least 1, not {self.shard_samples}")
        require(0 <= self.max_bad_share <= 1, f"pack.max_bad_share must lie in 0..1, not {self.max_bad_share}")
        require(self.workers >= 0, f"pack.workers must not be negative, but is {self.workers}")


@dataclass(frozen=True, kw_only=True)
class Captions:
    """How captions are made from classes and domains."""

    seed: int = doc("seed of the caption templates' random choices")
    stream: Literal["key", "reference"] = doc(
        "key: each sample's choices hang on its key alone; reference: the reference study's one stream over all lists"
    )
    articles: Literal["right", "reference"] = doc('right: "an axe"; reference: "a axe", as in the reference study')


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """What holds for all mixtures."""

    sketch_filter: Literal["id", "reference"] = doc(
        "ImageNet-Sketch classes that are added: id: those without a class of the multi-domain source; reference: the"
        " reference study's, which drops 36 more by comparing substrings"
    )
    drop: Literal["none", "exact", "near"] = doc(
        "training samples that are left out because they duplicate a withheld test picture: exact: equal files;"
        " near: also perceptual hashes within near_bits"
    )
    near_bits: int = doc("bits, of 64, by which the perceptual hashes of near duplicates differ at most")

    def __post_init__(self) -> None:
        require(0 <= self.near_bits <= 16, f"mixing.near_bits must lie in 0..16, not {self.near_bits}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The CLIP model."""

    name: str = doc("an open_clip model name, a configuration shipped with Domix (mini), or the path of a JSON file")


@dataclass(frozen=True, kw_only=True)
class Report:
    """The page that a reader opens."""

    title: str = doc("headline of the report page")


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """MLflow records of runs."""

    enabled: bool = doc("record each training in MLflow (a local sqlite file, or MLFLOW_TRACKING_URI)")
    experiment: str = doc("MLflow experiment that holds the runs")
    system_metrics: bool = doc("record the load of processors, memory and GPUs, too")
    register: bool = doc("keep each trained model in MLflow and register it there, under the experiment's name")
    tensorboard: bool = doc("write the same curves for TensorBoard, below .cache/tensorboard (extra `tensorboard`)")


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """A mixture of one's own: which samples of the multi-domain source it holds, always the first in list order."""

    domains: dict[str, float] = doc("domain -> share of each of its cells' training samples (1 = all)")
    classes: list[str] | None = doc("classes that are shown at all; null: every class", default=None)
    leave_out: dict[str, list[str]] = doc(
        "domain -> classes that are left out of it, besides the test classes in the test domain", default_factory=dict
    )
    show_test_classes: bool | float = doc(
        "false: no sample of the test classes in the test domain (checked); true: all; or the share that is shown",
        default=False,
    )
    caps: dict[str, int] = doc("domain, or '*' for all others -> most samples a cell", default_factory=dict)
    size: int | Literal["common"] | None = doc(
        "samples in all, every cell cut by the same share; common: as many as cg-low; null: all that the above leave",
        default=None,
    )
    weights: dict[str, float] = doc(
        "domain or base source -> how often its samples are drawn, relative to 1", default_factory=dict
    )
    caption: Literal["standard", "aligned"] = doc("captions; aligned ones do not name the domain", default="standard")
    base: bool = doc("whether the base sources are part of it", default=True)

    def check(self, path: str) -> None:
        """Check the ranges; `path` is the recipe's place in params.yaml, for the message.

        Raises:
            ParameterError: a value out of range.
        """
        require(len(self.domains) > 0, f"{path}.domains is empty: name at least one domain")
        for name, share in self.domains.items():
            require(0 < share <= 1, f"{path}.domains.{name} must be above 0 and at most 1, not {share}")
        require(self.classes is None or len(self.classes) > 0, f"{path}.classes is empty: null means all classes")
        require(
            0 <= self.show_test_classes <= 1,
            f"{path}.show_test_classes must be true, false or a share in 0..1, not {self.show_test_classes}",
        )
        for name, cap in self.caps.items():
            require(cap >= 1, f"{path}.caps.{name} must be at least 1, not {cap}")
        for name, weight in self.weights.items():
            good = 0 < weight < float("inf")
            require(good, f"{path}.weights.{name} must be a positive number, not {weight}")
        good = self.size is None or self.size == "common" or self.size >= 1
        require(good, f"{path}.size must be at least 1, common or null, not {self.size}")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Everything that params.yaml says."""

    test_domain: str = doc("domain whose cells are withheld and tested")
    natural_domain: str = doc("domain of natural pictures, part of every mixture")
    test_classes: str | list[str] = doc(
        "classes withheld in the test domain: a shipped list (emoji, domainnet) or names"
    )
    sources: list[str] = doc("data sets: the multi-domain one first, then corpora that mixtures may contain")
    base: list[str] = doc("those of the sources that every mixture contains whole, besides the multi-domain one")
    mixtures: list[str] = doc("training mixtures, one model each")
    recipes: dict[str, RecipeSpec] = doc("mixtures of your own: name -> recipe; put the name among `mixtures`")
    seeds: list[int] = doc("random seeds, one model each")
    fetch: Fetch = doc("where raw data lie")
    pack: Pack = doc("decoding and shards")
    captions: Captions = doc("captions")
    mixing: Mixing = doc("what holds for all mixtures")
    model: Model = doc("the model")
    train: Train = doc("the recipe of CLIP models")
    supervised: Supervised = doc("the recipe of supervised classifiers")
    trainer: Trainer = doc("where and how trainings compute")
    validation: Validation = doc("measurements while training")
    models: dict[str, PublicModel] = doc(
        "models that were not trained here, evaluated beside the study's: name -> model"
    )
    embed: Embed = doc("embeddings")
    evaluate: Evaluate = doc("accuracy and statistics")
    analyses: dict[str, Any] = doc(
        "analyses to run: name -> its settings, each of which may be left out (docs/adding-an-analysis.md)"
    )
    report: Report = doc("the report")
    tracking: Tracking = doc("MLflow")

    def __post_init__(self) -> None:
        require(
            self.test_domain != self.natural_domain, f"test_domain and natural_domain are both {self.test_domain!r}"
        )
        for name in ("sources", "mixtures", "seeds"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} is empty: name at least one")
            require(len(set(values)) == len(values), f"{name} names something twice: {values}")
        for name, recipe in self.recipes.items():
            recipe.check(f"recipes.{name}")
        for name in self.base:
            require(name in self.sources[1:], f"base names {name!r}, which is not among the sources after the first")
        for name in self.supervised.mixtures:
            require(name in self.mixtures, f"supervised.mixtures names {name!r}, which is not among the mixtures")
        for name in self.embed.sets:
            require(name != self.sources[0], f"embed.sets names {name!r}, whose test pictures are embedded anyway")
        for name in self.models:
            good = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None
            require(good, f"models: a name holds letters, digits, - and _ alone, unlike {name!r}")
        self.train.check_split("train", self.trainer.processes)
        if self.supervised.mixtures:
            self.supervised.check_split("supervised", self.trainer.processes)


def load(text: str) -> Params:
    """Parse the text of a params.yaml.

    Raises:
        ParameterError: text that is not YAML, or a key that is unknown, missing, mistyped or out of range.
    """
    from domix.analyses.registry import read_settings  # their settings lie with them

    try:
        tree = YAML(typ="safe", pure=True).load(text)  # YAML 1.2, as DVC reads and writes it: 1e-3 is a number
    except YAMLError as error:
        raise ParameterError(f"not valid YAML: {' '.join(str(error).split())}") from error
    params = build(Params, tree)
    return replace(params, analyses=read_settings(params.analyses))


def as_tree(params: Params) -> dict[str, Any]:
    """Return parameters as they stand in a file: mappings, lists and plain values."""
    analyses = {name: settings.model_dump() for name, settings in params.analyses.items()}
    return asdict(replace(params, analyses={})) | {"analyses": analyses}
