"""A zero-shot classifier as a model of its own: CLIP's image tower under a linear layer of class prototypes.

    logits = W f(x) / |f(x)| + b,   W = s T at the start, b = 0

with T the prototypes of the classes at length 1 and s the factor by which CLIP multiplies cosines, exp(logit_scale). So
WiSE-FT (Wortsman et al. 2022) begins: the first logits are those of the zero-shot model.

Shapes: B batch, D embedding, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domix.model.classifier import Classifier
from domix.runtime.errors import DataError

KIND = "zero_shot"  # in `encoder` of a folder's config.json: open_clip's configuration of the whole model


class ZeroShotClassifier(Classifier):
    """A tower, embeddings at length 1, a linear layer."""

    def __init__(self, tower: nn.Module, head: nn.Linear) -> None:
        """Put `head` on `tower`."""
        super().__init__()
        self.visual, self.head = tower, head

    def features(self, images: Tensor) -> Tensor:
        """Return the embeddings at length 1."""
        return F.normalize(self.visual(images), dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.features(images))


def zero_shot_head(prototypes: Tensor, logit_scale: float) -> nn.Linear:
    """Return the layer whose logits are `logit_scale` times the cosine with each class's prototype; its bias is 0.

    Args:
        prototypes: of the classes [K, D], of any length but 0.
        logit_scale: the factor itself, CLIP's exp(logit_scale): 100 of OpenAI's models.

    Raises:
        DataError: a prototype is zero or not finite, or the factor is not positive.
    """
    lengths = prototypes.double().norm(dim=-1)
    if prototypes.ndim != 2 or not bool(lengths.isfinite().all()) or not bool(lengths.all()):
        raise DataError("the classes' prototypes must be a matrix of finite rows, none of them zero")
    if not 0 < logit_scale < float("inf"):
        raise DataError(f"the factor of the zero-shot logits must be positive, not {logit_scale}")
    classes, width = prototypes.shape
    head = nn.Linear(width, classes, device="meta").to_empty(device="cpu")  # draws no random number
    with torch.no_grad():
        head.weight.copy_(logit_scale * F.normalize(prototypes.double(), dim=-1))
        head.bias.zero_()
    return head


def zero_shot_classifier(tower: nn.Module, head: nn.Linear, *, size: int) -> ZeroShotClassifier:
    """Put a head on the image tower of a CLIP model that reads images of `size` pixels square; both are used as is.

    Raises:
        DataError: the head is of another width than the tower's embeddings.
    """
    was, where = tower.training, next(tower.parameters()).device
    with torch.inference_mode():
        width = tower.eval()(torch.zeros(1, 3, size, size, device=where)).shape[-1]
    tower.train(was)
    if width != head.in_features:
        raise DataError(
            f"the head is {head.in_features} wide, but the tower's embeddings {width}: take prototypes of this model"
        )
    return ZeroShotClassifier(tower, head.to(where))
