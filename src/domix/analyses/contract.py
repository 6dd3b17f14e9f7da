"""What an analysis is: a folder that declares itself, computes tables, and turns them into a section of the report.

<name>/__init__.py      ANALYSIS = Analysis(...): its name, its settings, what it needs, the tables and plots it makes
<name>/settings.py      its block of the parameters, `analyses.<name>`
<name>/computation.py   run(inputs, settings) -> tables of one run; or run_jointly(inputs, settings) -> Findings
<name>/section.py       section(results, study) -> Section: text, figures, plots and metrics

Computation and section are imported when they are called, so that listing the analyses costs nothing. A run's tables
hang on the embeddings, the settings and the code of computation.py with all that it imports: an edit of the section
computes nothing again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from domix.runs import CLIP, SUPERVISED
from domix.runtime.errors import DataError
from domix.runtime.settings import Settings
from domix.runtime.tables import Column, TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from domix.embed.embeddings import Embeddings, Scored
    from domix.embed.readout import Readout
    from domix.embed.run_model import RunModel
    from domix.figures.figure import Figure
    from domix.study import Run, Study

Needs = Literal["embeddings", "activations", "encoder"]
Chapter = Literal["model", "data"]
KIND = Column("kind", "str", "group of models: clip (zero-shot) or supervised (a classifier)")
RUN_COLUMNS = ("mixture", "seed")  # which lead the tables of all runs together
SCORE = TableSchema(
    "score",
    (
        Column("mixture", "str", "training mixture of the run"),
        Column("seed", "int64", "its seed"),
        Column("class", "str", "class"),
        Column("score", "float64", "how much the model shares between the test domain and the others in this class"),
    ),
    "what an analysis says of each class, for the report to compare with accuracy",
)
MODEL_SCORE = TableSchema(
    "model_score",
    (
        Column("mixture", "str", "training mixture of the run"),
        Column("seed", "int64", "its seed"),
        Column("score", "float64", "how much the model shares between the test domain and the others"),
    ),
    "what an analysis says of each model as a whole, for the study view to compare with accuracy",
)


@dataclass(frozen=True)
class Shared:
    """What the parameters say beside an analysis' own block, and several parts must agree on."""

    confidence: float  # of intervals
    near_bits: int  # bits, of 64, by which perceptual hashes of near duplicates differ at most
    drop: str  # which duplicates mixtures leave out: none, exact, near
    batch: int  # images that an encoder reads at a time


@dataclass(frozen=True)
class RunInputs:
    """What the analysis of one run may read. `study` knows of this run alone: others must not change its tables.

    `sources` are the packed sources, the multi-domain one first; `cache` is where what outlives stages is kept.
    """

    study: Study
    run: Run
    sources: tuple[str, ...]
    artifacts: Path
    cache: Path
    shared: Shared

    @property
    def embeddings_folder(self) -> Path:
        """Where the embeddings of the run's evaluation images lie."""
        return self.artifacts / "embeddings" / self.run.kind / self.run.name

    @property
    def model_folder(self) -> Path:
        """Where the run's weights lie."""
        return self.artifacts / "models" / self.run.kind / self.run.name

    @cached_property
    def embeddings(self) -> Embeddings:
        """The embeddings of the run's evaluation images.

        Raises:
            DataError: they are missing or damaged, or of other classes or domains than the study.
        """
        from domix.embed.embeddings import load_embeddings

        found = load_embeddings(self.embeddings_folder)
        self.study.require_same(found.domains, found.classes, found.folder)
        return found

    @property
    def readout(self) -> Readout:
        """What the run's linear head reads of the evaluation images, and the head: of a CLIP model, embeddings and
        prototypes; of a classifier, features and its last layer.

        Raises:
            DataError: they are missing or damaged, or of other classes or domains than the study.
        """
        from domix.embed.readout import Readout

        if self.run.kind == SUPERVISED:
            return self._classifier_readout
        e = self.embeddings
        return Readout(e.rows, e.domains, e.classes, e.image_embeddings, e.text)

    @cached_property
    def _classifier_readout(self) -> Readout:
        from domix.embed.readout import load_classifier_readout

        found = load_classifier_readout(self.embeddings_folder)
        self.study.require_same(found.domains, found.classes, self.embeddings_folder)
        return found

    @property
    def ood_sets(self) -> list[str]:
        """The out-of-distribution sets whose images were embedded with the run's model (embed.ood), by name."""
        from domix.embed.embeddings import ood_sets_of

        return ood_sets_of(self.embeddings_folder)

    def set_embeddings(self, name: str) -> Scored:
        """Return the embeddings of a further set's images; the rows of an out-of-distribution one have a `group`, too.

        An analysis that reads them declares `reads_sets`.

        Raises:
            DataError: they are missing or damaged, or an out-of-distribution set was scored by other classes than the
                study's.
        """
        from domix.embed.embeddings import load_scored

        found = load_scored(self.embeddings_folder, self.run.kind, source=name)
        if "groups" in found.meta:
            self.study.require_same(self.study.domains, found.classes, found.folder)
        return found

    @cached_property
    def model(self) -> RunModel:
        """The run's model: its encoder, and its embeddings and activations of any packed images.

        Raises:
            DataError: a file of the model or of the sources is missing or damaged.
        """
        from domix.embed.passes import here
        from domix.embed.run_model import open_run_model

        shards = {name: self.artifacts / "shards" / name for name in self.sources}
        return open_run_model(self.model_folder, self.run.kind, shards, here(self.cache, self.shared.batch))

    def test_images(self) -> pd.DataFrame:
        """Return the rows of the evaluation images in the index of the multi-domain source, as embeddings have them.

        Raises:
            DataError: the index is missing or damaged, or holds no test image.
        """
        from domix.embed.evaluation_sets import study_set

        return study_set(self.artifacts / "shards" / self.sources[0]).rows

    def training_images(self) -> dict[str, pd.DataFrame]:
        """Return the rows of the images that the run was trained on, by source, in the order of the index.

        Raises:
            DataError: the mixture or an index is missing or damaged.
        """
        from domix.embed.run_model import training_images

        mixture = self.artifacts / "mixtures" / f"{self.run.mixture}.parquet"
        return training_images(mixture, self.artifacts / "shards")


@dataclass(frozen=True)
class StudyInputs:
    """What an analysis of all runs together may read; see RunInputs."""

    study: Study
    sources: tuple[str, ...]
    artifacts: Path
    cache: Path
    shared: Shared

    def of_run(self, run: Run) -> RunInputs:
        """Return what the analysis of one of the runs may read."""
        names = {run.mixture: self.study.standard_names[run.mixture]}
        study = replace(self.study, runs=(run,), standard_names=names)
        return RunInputs(study, run, self.sources, self.artifacts, self.cache, self.shared)


@dataclass(frozen=True)
class Findings:
    """Tables by name, and `facts`: JSON values that belong to no row, such as how a search was done."""

    tables: Mapping[str, pd.DataFrame]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """The study's images, for a section to show."""

    uri: Callable[[str, int], str]  # (source, row of its index) -> the image as a data URI
    class_of: Callable[[int], str]  # row of a test image of the multi-domain source -> its class


@dataclass(frozen=True)
class AnalysisResults:
    """What an analysis found in all runs asked for, and what else its section may need."""

    tables: Mapping[str, pd.DataFrame]  # led by mixture and seed, in the order of the study's runs
    facts: Mapping[str, Any]
    settings: Any  # the analysis' own
    shared: Shared
    images: Images
    source: str = ""  # the multi-domain one
    kind: str = CLIP  # the group of models that is spoken of: see domix.analyses.groups
    every_group: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # the tables of all groups, led by kind
    unlike: str = ""  # one sentence, where the models of several groups do not read images alike


@dataclass(frozen=True)
class Subsection:
    """A piece of a section: a heading, text, figures side by side, and further figures that are folded away.

    `text` is shown as it is if it is Markup; plain text is escaped, an empty line begins a paragraph. `figures` go by
    what stands above each; `folded` by the line that unfolds them.
    """

    title: str
    text: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    folded: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """What the report says of an analysis.

    `chapter` is where: `model` among what lies inside the model, `data` as a section of its own on the training data,
    whose link in the page's head is `link`. `plots` are the tables behind `dvc plots`, by the names declared. `metrics`
    go into metrics/numbers.csv, each led by the analysis' name. `scores` and `model_scores` are of CLIP models;
    `other_scores` are the model scores of other groups, by kind. No `parts`: the page says nothing.
    """

    title: str
    parts: Sequence[Subsection]
    plots: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    metrics: Mapping[str, float | int | str] = field(default_factory=dict)
    scores: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    model_scores: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    other_scores: Mapping[str, Mapping[str, pd.DataFrame]] = field(default_factory=dict)
    chapter: Chapter = "model"
    link: str = ""


@dataclass(frozen=True)
class Analysis:
    """The declaration of an analysis, and its two functions.

    Args:
        name: as its folder and its block of the parameters are called.
        package: `__name__` of the folder.
        Settings: its settings, every field with a default and a description.
        needs: the dearest thing that its computation reads; one that needs embeddings alone never imports torch.
        tables: the tables of each run, by name, without the columns mixture and seed.
        optional: those of them that may hold no row of a run.
        joint_tables: the tables of all runs together.
        plots: the tables behind `dvc plots`.
        section_settings: those that the section alone reads: a change of them computes nothing.
        reads_sets: its computation reads the embeddings of further sets (RunInputs.set_embeddings), too.
        reads_checkpoints: its computation reads the embeddings of checkpoints, too.
        one_thread: a run's computation takes one thread, so that several go side by side, a process a core.
        kinds: groups of models that it compares; of several, `kind` leads the tables of runs.

    Settings with a field `mixtures` (names, or None for all) choose the runs: those of other mixtures have no rows, and
    mixtures that the study lacks are left out.
    """

    name: str
    package: str
    Settings: type[Settings]
    needs: Needs
    tables: Mapping[str, TableSchema] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    joint_tables: Mapping[str, TableSchema] = field(default_factory=dict)
    plots: Mapping[str, TableSchema] = field(default_factory=dict)
    section_settings: tuple[str, ...] = ()
    reads_sets: bool = False
    reads_checkpoints: bool = False
    one_thread: bool = False
    kinds: tuple[str, ...] = (CLIP,)

    @property
    def computation(self) -> str:
        """The module whose code, with all that it imports, decides the tables."""
        return f"{self.package}.computation"

    @property
    def chooses(self) -> bool:
        """Whether its settings choose among the study's mixtures."""
        return "mixtures" in self.Settings.model_fields

    def models(self, study: Study) -> Study:
        """Return the study with the runs of the groups that are compared."""
        return study.only([run for run in study.runs if run.kind in self.kinds])

    @property
    def run_columns(self) -> tuple[str, ...]:
        """The columns that lead the tables of runs, and name a run."""
        return RUN_COLUMNS if len(self.kinds) == 1 else (KIND.name, *RUN_COLUMNS)

    def chosen(self, settings: Any, runs: Sequence[Run]) -> list[Run]:
        """Return the runs to analyse, of those of the study: of its groups of models, and of the mixtures asked for."""
        wanted = settings.mixtures if self.chooses else None
        return [run for run in runs if run.kind in self.kinds and (wanted is None or run.mixture in wanted)]

    def written(self) -> list[TableSchema]:
        """Return the tables as they are written: those of runs led by `run_columns`."""
        head = (Column("mixture", "str", "training mixture of the run"), Column("seed", "int64", "its seed"))
        head = head if len(self.kinds) == 1 else (KIND, *head)
        schemas = {name: replace(s, columns=(*head, *s.columns)) for name, s in self.tables.items()}
        schemas |= self.joint_tables
        home, stage = f"artifacts/analysis/{self.name}", f"analyse@{self.name}"
        return [replace(s, path=f"{home}/{name}.parquet", written_by=stage) for name, s in schemas.items()]

    def run(self, inputs: RunInputs, settings: Any) -> dict[str, pd.DataFrame]:
        """Compute the tables of one run.

        Raises:
            DataError: an input is missing or damaged, or the tables are not those declared.
        """
        tables = self._module("computation").run(inputs, settings)
        _check_tables(f"the analysis {self.name}", self.tables, tables)
        return tables

    def joint_key(self, inputs: StudyInputs, settings: Any) -> Mapping[str, Any]:
        """Return what decides the tables of all runs together, beside settings and code, as JSON values."""
        return self._module("computation").joint_key(inputs, settings)

    def run_jointly(self, inputs: StudyInputs, settings: Any) -> Findings:
        """Compute the tables of all runs together.

        Raises:
            DataError: as `run`.
            ParameterError: the settings do not fit the study.
        """
        findings = self._module("computation").run_jointly(inputs, settings)
        _check_tables(f"the analysis {self.name}", self.joint_tables, findings.tables)
        return findings

    def section(self, results: AnalysisResults, study: Study) -> Section:
        """Say what was found.

        Raises:
            DataError: the section is none, or has other plots than those declared.
        """
        section = self._module("section").section(results, self.models(study))
        if not isinstance(section, Section):
            raise DataError(
                f"the section of the analysis {self.name} is {type(section).__name__}, no Section: mend {self.package}"
            )
        _check_tables(f"the section of the analysis {self.name}", self.plots, section.plots)
        others = [(MODEL_SCORE, scores) for scores in section.other_scores.values()]
        for schema, scores in ((SCORE, section.scores), (MODEL_SCORE, section.model_scores), *others):
            for name, frame in scores.items():
                schema.check(frame, f"the score {name} of the section of the analysis {self.name}")
        return section

    def _module(self, part: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.{part}")


def _check_tables(who: str, declared: Mapping[str, TableSchema], tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise DataError unless the tables are those declared."""
    if extra := sorted(set(tables) - set(declared)):
        raise DataError(f"{who} gives the table {extra[0]!r}, which it does not declare: add it to ANALYSIS")
    if missing := sorted(set(declared) - set(tables)):
        raise DataError(f"{who} declares the table {missing[0]!r}, but does not give it")
    for name, schema in declared.items():
        schema.check(tables[name], f"the table {name} of {who}")
