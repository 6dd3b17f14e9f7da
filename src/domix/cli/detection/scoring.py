"""Which scores a model serves, and what they make of images.

Shapes: N images, d features, D joint space, C outputs of a head, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from domix.analyses.ood.choosing import choose_score
from domix.analyses.ood.images import Flags, deal_parts, score_in_parts
from domix.analyses.ood.settings import Settings
from domix.cli.detection.heads import Head
from domix.embed.feature_model import Vectors
from domix.ood.blocks import Floats, Ints
from domix.ood.choice import Choice, several
from domix.ood.scores import registry
from domix.runtime.errors import ParameterError
from domix.settings.params import Params

Options = Mapping[str, Any]
HEAD_SCORES = ("msp", "max_logit", "energy", "gen")  # beside those of the parameters where there is a head
TRAIN = "train one on its features (--train <set> --probe labels)"


@dataclass(frozen=True)
class Scored:
    """All images, known ones first, and what scores are computed of; of what a model lacks there is nothing.

    Attributes:
        model: its name.
        features: of the images [N, d].
        joint: their embeddings beside texts [N, D].
        head: whose logits are scored; without one logits are `scale` times cosines with the prototypes.
        fixed: what is the same for all images: prototypes, negatives, and bank, labels of training images.
        known: which images are known [N].
        labels: of all [N]; -1 of foreign ones.
        settings: of the analysis: scale, folds, seed.
    """

    model: str
    features: Vectors
    joint: Vectors | None
    head: Head | None
    fixed: Mapping[str, Any]
    known: Flags
    labels: Ints
    settings: Settings

    @property
    def part(self) -> Ints:
        """Part of each known image, in order."""
        labels = self.labels[self.known]
        return deal_parts(labels, min(self.settings.folds, len(labels)), seed=self.settings.seed)

    def logits(self) -> Vectors | None:
        """Return the logits [N, C] of the head, else of the prototypes."""
        if self.head is not None:
            weight, bias = self.head.weight.astype(np.float32), self.head.bias.astype(np.float32)
            return self.features @ weight.T + bias
        if self.joint is None:
            return None
        return np.float32(self.settings.logit_scale) * (self.joint @ self.fixed["prototypes"].T)

    def lacks(self, name: str) -> str | None:
        """Say in a sentence why the model does not serve a score; None where it does."""
        needs = registry.find_score(name).needs
        if "prototypes" in needs and self.joint is None:
            return f"{name} compares images with class names, and {self.model} has no text tower: name a CLIP model"
        if "weight" in needs and self.head is None:
            return f"{name} needs a linear head, which {self.model} does not have: {TRAIN}"
        if "logits" in needs and self.head is None and self.joint is None:
            return f"{name} needs logits, and {self.model} has neither a head nor a text tower: {TRAIN}"
        if "labels" in needs and "bank" in self.fixed and "labels" not in self.fixed:
            return f"{name} needs the classes of the training images: sort these into <class>/, or take --probe pseudo"
        if "labels" in needs and "weight" in needs and self.head is not None and not self.head.is_known:
            return f"{name} needs a head of the known classes, unlike that of {self.model}: {TRAIN}"
        return None

    def choose(self, asked: Sequence[str], *, validated: bool) -> dict[str, Options]:
        """Return the scores asked for with the hyper-parameters of the analysis; if none are, all that there are.

        Args:
            asked: their names.
            validated: a validation set chooses among lists of values.

        Raises:
            ParameterError: there is no such score, the model does not serve it, or nothing chooses among its values.
        """
        for name in asked:
            if (why := self.lacks(name)) is not None:
                raise ParameterError(why)
        served = [*self.settings.scores, *(HEAD_SCORES if self.head is not None else ())]
        names = asked or [name for name in dict.fromkeys(served) if self.lacks(name) is None]
        scores: dict[str, Options] = {name: self.settings.scores.get(name, {}) for name in names}
        if not validated and (listed := [name for name, options in scores.items() if several(options)]):
            raise ParameterError(
                f"{', '.join(listed)} has several values to choose from in analyses.ood.scores: name a foreign set that"
                " chooses with --validate"
            )
        return scores

    def score(self, name: str, options: Options, rows: Flags | None = None) -> Floats:
        """Score all images [N], or some that hold all known ones.

        Raises:
            DataError: the score cannot be computed of these images.
            ParameterError: a hyper-parameter is out of range.
        """
        rows = np.ones(len(self.known), np.bool_) if rows is None else rows
        needs, given = registry.find_score(name).needs, dict(self.fixed)
        features = self.joint if "prototypes" in needs else self.features
        assert features is not None, "a score that the model does not serve is refused before"
        given["features"] = features[rows]
        if "logits" in needs:
            given["logits"] = logits[rows] if (logits := self.logits()) is not None else None
        if self.head is not None:
            given |= {"weight": self.head.weight, "bias": self.head.bias}
        return score_in_parts(name, options, given, self.known[rows], self.labels[rows], self.part)

    def validated(
        self, name: str, options: Options, inside: Flags, outside: Flags, *, validation: str, tests: Sequence[str]
    ) -> Choice:
        """Choose a score's hyper-parameters on some known images and a foreign set that are not reported on.

        Raises:
            DataError: the set is reported on, or the score cannot be computed.
        """
        bank, part = self.fixed.get("bank"), self.part
        smallest = len(part) - int(np.bincount(part).max()) if bank is None else len(bank)
        score = partial(self.score, name)
        return choose_score(
            *(name, options, score, inside, outside),
            known=self.known,
            bank=smallest,
            validation=validation,
            tests=tests,
        )


def settings_of(params: Params) -> Settings:
    """Return how images are scored: as the analysis ood does."""
    asked = params.analyses.get("ood")
    return asked if isinstance(asked, Settings) else Settings()
