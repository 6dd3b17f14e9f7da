"""Encoders: a model as one function from images to its output, with the activations on the way.

One class wraps all image models: CLIP's image tower, trained here or published, classifiers, timm's models. What is
read on the way, replaced or differentiated is named by sites (domix.encoders.sites).

Shapes: B batch, H x W the images that the model reads, D width of the output, C channels of a site.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from domix.encoders.clip_resnet import ResNetSegments
from domix.encoders.preprocess import Preprocess
from domix.encoders.segments import Segments
from domix.encoders.sites import (
    Site,
    channels_last,
    find_sites,
    first_of,
    pool_positions,
    position_rows,
    require_site,
    site_modules,
)
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from domix.model.clip import Clip

DIVERGED = "its weights are damaged, or its training diverged: then lower the learning rate and train again"

Edit = Callable[[Tensor], Tensor]
"""What takes the place of a site's activation: a function of it, of the same shape."""


@dataclass(frozen=True)
class Activations:
    """What a model computes of a batch."""

    output: Tensor  # [B, D], float32: embeddings not yet of length one, or logits
    sites: Mapping[str, Tensor]  # of each asked for, [B, ...]; pooled: [B, C]; flat: [B, P, C]


class Encoder(Protocol):
    """What analyses ask of a model."""

    preprocess: Preprocess

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the model can be read, in order of depth."""
        ...

    def forward(
        self,
        images: Tensor,
        sites: Iterable[str] = (),
        *,
        edits: Mapping[str, Edit] | None = None,
        grad: bool = False,
        pooled: bool = False,
        flat: bool = False,
    ) -> Activations:
        """Return the model's output for images, and the activations of some sites."""
        ...


class ImageEncoder:
    """A model that is there as a module.

    Attributes:
        preprocess: of its images.
        device: of its weights.
        what: its output is, in the plural, for messages.
        nhwc: its feature maps have the shape [B, H, W, C].
    """

    def __init__(
        self, module: nn.Module, tower: nn.Module, preprocess: Preprocess, *, output: str, device: str = "cpu"
    ) -> None:
        """Put the model on its device, ready to evaluate.

        Args:
            module: called with normalised images [B, 3, H, W], it gives [B, D].
            tower: the part of it whose blocks are the sites.
            preprocess: of its images.
            output: what its output is, in the plural, for messages: "image embeddings".
            device: of its weights.
        """
        self.preprocess, self.device, self.what = preprocess, device, output
        self._module, self._tower = module.to(memory_format=torch.channels_last).to(device).eval(), tower
        self.nhwc = channels_last(tower)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Where the model can be read, in order of depth; what this configuration never computes is left out."""
        return find_sites(self._module, self._tower, self.preprocess.size)

    def forward(
        self,
        images: Tensor,
        sites: Iterable[str] = (),
        *,
        edits: Mapping[str, Edit] | None = None,
        grad: bool = False,
        pooled: bool = False,
        flat: bool = False,
    ) -> Activations:
        """Return the model's output for images, and the activations of some sites.

        Args:
            images: uint8 [B, 3, H, W] as `preprocess.cut` gives them, or float [B, 3, H, W] already normalised.
            sites: names; of one that is not computed for these images there is no activation.
            edits: functions that change the activation of a site, before it is read and before the model goes on.
            grad: keep what gradients need; images (float), sites and weights then have theirs.
            pooled: give activations as [B, C], averaged over positions, so that maps need no memory.
            flat: give them as [B, P, C], a vector a position.

        Raises:
            DataError: the model has no such site, or an edit changes an activation's shape.
        """
        edits, wanted = edits or {}, dict.fromkeys(sites)
        found: dict[str, Tensor] = {}
        with torch.set_grad_enabled(grad) if grad else torch.inference_mode():
            inputs = images.to(self.device)
            if not inputs.is_floating_point():
                inputs = self.preprocess.normalise(inputs)
            with self._hooks(wanted, edits, found, self._form(pooled, flat)):
                output = self._module(inputs).float()
        return Activations(output, {name: found[name] for name in wanted if name in found})

    def segments(self) -> Segments:
        """Return the model cut at its sites, to run a part of it alone."""
        from open_clip.modified_resnet import ModifiedResNet

        if isinstance(self._module, _ImageSide) and isinstance(self._tower, ModifiedResNet):
            return ResNetSegments(self._module, self._tower)
        return Segments(self._module, site_modules(self._tower), nhwc=self.nhwc)

    def _form(self, pooled: bool, flat: bool) -> Callable[[Any], Tensor]:
        if pooled or flat:
            return partial(pool_positions if pooled else position_rows, nhwc=self.nhwc)
        return first_of

    @contextmanager
    def _hooks(
        self,
        wanted: Mapping[str, None],
        edits: Mapping[str, Edit],
        found: dict[str, Tensor],
        form: Callable[[Any], Tensor],
    ) -> Generator[None]:
        modules = site_modules(self._tower)
        handles = []
        try:
            for name in dict.fromkeys([*wanted, *edits]):
                require_site(name, modules)

                def hook(module: nn.Module, inputs: Any, output: Any, name: str = name) -> Any:
                    changed = _edited(output, edits[name], name) if name in edits else output
                    if name in wanted:
                        found[name] = form(changed)
                    return changed if name in edits else None

                handles.append(modules[name].register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _edited(output: Any, edit: Edit, name: str) -> Any:
    if isinstance(output, (tuple, list)):
        return type(output)([_edited(output[0], edit, name), *output[1:]])
    changed = edit(output)
    if changed.shape != output.shape:
        shapes = f"{tuple(changed.shape)} in place of {tuple(output.shape)}"
        raise DataError(f"the edit of site {name} gives {shapes}: an edit keeps the shape")
    return changed


class _ImageSide(nn.Module):
    """CLIP's image side as a module of its own: the tower and what stands behind it."""

    def __init__(self, model: Clip) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


def clip_encoder(model: Clip, preprocess: Preprocess, *, device: str = "cpu") -> ImageEncoder:
    """Return the image side of a CLIP model, trained here or published; its weights may be replaced in place."""
    return ImageEncoder(_ImageSide(model), model.visual, preprocess, output="image embeddings", device=device)


def classifier_encoder(model: nn.Module, preprocess: Preprocess, *, device: str = "cpu") -> ImageEncoder:
    """Return a classifier, trained here or one of timm's; its output are logits."""
    return ImageEncoder(model, model, preprocess, output="logits", device=device)
