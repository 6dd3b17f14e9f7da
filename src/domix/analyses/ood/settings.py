"""The block `analyses.ood` of the parameters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runs import SUPERVISED
from domix.runtime import settings
from domix.runtime.errors import ParameterError
from domix.runtime.settings import require

GIVEN = ("features", "logits", "prototypes", "bank", "labels")  # what a study's embeddings have: domix.ood.scores
Value = float | int | str | bool
OF_CLASSIFIERS = ("features", "logits", "bank", "labels")  # no prompts, so no prototypes
HEAD_SCORES = ("msp", "max_logit")  # of a classifier's own logits, whatever else is asked for
SCORES: dict[str, dict[str, Value | list[Value]]] = {
    "mcm": {"temperature": 1.0},
    "max_cosine": {},
    "energy": {"temperature": 1.0},
    "knn": {"k": 1},
    "mahalanobis": {"weights": "size", "shrinkage": 0.1},
    "relative_mahalanobis": {"weights": "size", "shrinkage": 0.1},
}


class Settings(settings.Settings):
    """Which images a model takes for foreign: held-out classes, other objects, another style."""

    scores: dict[str, dict[str, Value | list[Value]]] = Field(
        SCORES,
        min_length=1,
        description=(
            "scores by name, each with its hyper-parameters (docs/ood.md): values, which are not fitted to any images"
            " that are tested, or lists of values, among which `validation` chooses"
        ),
    )
    validation: str | None = Field(
        None,
        description=(
            "foreign images that choose among lists in `scores`, and are not reported on: a set of `embed.ood` that is"
            " not among `sets`, or `<set>:near`, `<set>:far` or `<set>:half` (half of its classes) of one that is"
        ),
    )
    shown: str = Field("mcm", description="the one of them in the page's figures and the numbers")
    logit_scale: float = Field(
        100.0, gt=0, description="cosines times this are the logits of scores that need some; CLIP's own is at most 100"
    )
    sets: list[str] | None = Field(
        None, description="sets of foreign images, of those in `embed.ood`; null = all that are embedded"
    )
    folds: int = Field(
        5, ge=2, description="parts of the known images, each scored by what was fitted on the other parts"
    )
    convention: Literal["plp", "mcm", "openood"] = Field("plp", description="of the FPR at 95 % TPR (docs/ood.md)")
    resamples: int = Field(2000, ge=1, description="resamples of the bootstrap")
    seed: int = Field(0, description="seed of parts and resamples")

    def scores_of(self, kind: str) -> dict[str, dict[str, Value | list[Value]]]:
        """Return the scores of a group of models: of classifiers those that need no prompts, and HEAD_SCORES."""
        if kind != SUPERVISED:
            return self.scores
        from domix.ood.scores import registry

        needs = {name: registry.find_score(name).needs for name in self.scores}
        fitting = {name: options for name, options in self.scores.items() if set(needs[name]) <= set(OF_CLASSIFIERS)}
        return {name: {} for name in HEAD_SCORES} | fitting

    def shown_of(self, kind: str) -> str:
        """Return the score that is shown of a group of models: the one asked for, or what stands for it."""
        return self.shown if self.shown in self.scores_of(kind) else HEAD_SCORES[0]

    @model_validator(mode="after")
    def _scores_are_known(self) -> Self:
        from domix.ood.choice import several
        from domix.ood.scores import registry

        for name, options in self.scores.items():
            try:
                found = registry.find_score(name)
            except ParameterError as error:
                raise ParameterError(f"scores: {error}") from error
            lacking = [need for need in found.needs if need not in GIVEN]
            require(not lacking, f"scores: {name} needs {', '.join(lacking)}, which a study's embeddings do not have")
            own = [option for option in found.options if option != "exclude_self"]  # parts see to that
            unknown = [option for option in options if option not in own]
            known = ", ".join(own) or "none"
            require(not unknown, f"scores: {name} has no hyper-parameter {', '.join(unknown)}; its own: {known}")
            require(all(options[option] for option in several(options)), f"scores: {name} has an empty list of values")
        require(self.shown in self.scores, f"shown is {self.shown!r}, which is not among scores")
        listed = [name for name, options in self.scores.items() if several(options)]
        if self.validation is None:
            hint = "name one (validation: <set of embed.ood>), or give one value"
            require(not listed, f"scores: {', '.join(listed)} has values to choose from, but no set chooses: {hint}")
        else:
            require(bool(listed), f"validation is {self.validation}, but scores has no list of values to choose from")
            self._validation_is_no_test_set(self.validation)
        return self

    def _validation_is_no_test_set(self, validation: str) -> None:
        from domix.analyses.ood.choosing import set_of

        name, which = set_of(validation)
        if self.sets is not None and which is None:
            both = f"validation: {name} would both choose hyper-parameters and be reported on"
            require(name not in self.sets, f"{both}: take it out of sets, or a part of it ({name}:half)")
        if self.sets is not None and which is not None:
            require(name in self.sets, f"validation is a part of {name}, which is not among sets: add it there")
