"""Segments: the part of a model between two of its sites, run alone.

A clean pass keeps what the modules gave. To run from a site on, every module that had finished before the site gives
that again, and the site gives what it is told; a pass ends where a later site has its activation. So nothing is
computed before the one site or after the other, whatever the modules between them are, and a path that leads around
the site carries clean activations, as if the whole model ran. Models whose modules are called in another order for
other images cannot be cut so.

A model of which more is known (domix.encoders.clip_resnet) is cut likewise, and does the same with fewer operations.

Shapes: B images of the clean pass, R repeats (values for R passes at once), P positions, C channels of a site, k
channels selected of the site before (k of u) or behind (k of v).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from domix.encoders.sites import first_of, require_site

INPUT = "input"  # the site of the images themselves

Entered = tuple[Tensor, ...]
"""What linear maps behind a site, without shifts, make of its activation: scaled as it is."""

Push = Callable[[Tensor, Tensor], Tensor]
"""Moves single channels [B, k of u] of an activation [B, C, H, W], each by itself, and returns how much each channel of
the site behind moves along, [B, k of u, P, k of v]."""


class Link(Protocol):
    """The way from a site to the next, for a model of which more is known: it can be differentiated forwards."""

    def enter(self, x: Tensor) -> Entered:
        """Return what the linear maps with which it begins make of the activation [B, C, H, W] of the site before."""
        ...

    def leave(self, entered: Sequence[Tensor]) -> Tensor:
        """Return the activation of the site behind."""
        ...

    def linearise(self, entered: Sequence[Tensor], of_v: Tensor) -> tuple[Tensor, Push]:
        """Return the channels `of_v` [B, k of v] of the site behind, [B, P, k of v], and how they move from there."""
        ...


@dataclass
class _Call:
    """A module's call in a pass, the `number`-th of that module, and the calls within it."""

    module: nn.Module
    number: int
    inner: list[_Call] = field(default_factory=list)


class _Reached(Exception):
    """The pass has come to where it ends."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class Segments:
    """A model in evaluation, cut at its sites."""

    def __init__(self, model: nn.Module, sites: Mapping[str, nn.Module], *, nhwc: bool = False) -> None:
        """Take a model and the modules whose outputs are its sites, by name; `input` needs none.

        `nhwc` says that its feature maps have the shape [B, H, W, C].
        """
        self.model, self.modules, self.nhwc = model, dict(sites), nhwc
        self._earlier: dict[str, list[_Call]] = {}
        self._kept: dict[tuple[nn.Module, int], Any] = {}  # by module and number of the call
        self._outputs: dict[str, Any] = {}  # of the sites, with what they give beside their activation
        self._images = torch.empty(0)

    def record(self, images: Tensor, sites: Iterable[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the clean pass of normalised images [B, 3, H, W], at least one.

        Returns:
            The model's output and the sites' activations, which have gradients where grad mode is on.

        Raises:
            DataError: the model has no such site.
        """
        wanted = list(sites)
        for name in wanted:
            require_site(name, [INPUT, *self.modules])
        self._images, self._kept = images.detach(), {}
        if missing := [name for name in wanted if name != INPUT and name not in self._earlier]:
            self._trace(missing)
        kept = {(call.module, call.number) for name in wanted for call in self._earlier.get(name, [])}
        given = images.detach().requires_grad_(torch.is_grad_enabled())
        found = {INPUT: given} if INPUT in wanted else {}
        named = {self.modules[name]: name for name in wanted if name != INPUT}
        counts: dict[nn.Module, int] = {}

        def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
            number = counts[module] = counts.get(module, -1) + 1
            if (module, number) in kept:
                self._kept[module, number] = tree_map(_detached, output)
            if module not in named:
                return None
            found[named[module]] = first_of(output)
            self._outputs[named[module]] = tree_map(_detached, output) if isinstance(output, (tuple, list)) else None
            return _with_first(output, first_of(output).clone())  # what follows may change it in place

        with _hooks(dict.fromkeys([*{module for module, _ in kept}, *named], keep)):
            output = self.model(given)
        return output, {name: found[name] for name in wanted}

    def run(self, start: str, value: Tensor, end: str | None = None) -> Tensor:
        """Run the model from the activation `value` [R B, ...] of a recorded site to another, or to its output.

        The B images of the clean pass come R times in the same order.
        """
        repeats = len(value) // len(self._images)
        images = value if start == INPUT else self._repeat(self._images, repeats)
        with ExitStack() as stack:
            if start != INPUT:
                queues: dict[nn.Module, list[Callable[[], Any]]] = {}
                for call in self._earlier[start]:
                    clean = self._kept[call.module, call.number]
                    queues.setdefault(call.module, []).append(partial(self._repeat, clean, repeats))
                given = _with_first(self._repeat(self._outputs[start], repeats), value.clone())
                queues.setdefault(self.modules[start], []).append(lambda: given)
                stack.enter_context(_replaced(queues))
            if end is not None:
                stack.enter_context(_hooks({self.modules[end]: _stop}))
            try:
                return first_of(self.model(images))
            except _Reached as reached:
                return first_of(reached.output)

    def enter(self, start: str, value: Tensor) -> Entered:
        """Return what linear maps behind a site make of its activation: nothing is known of any, so that it stays."""
        return (value,)

    def run_entered(self, start: str, entered: Sequence[Tensor], end: str | None = None) -> Tensor:
        """Run on from what `enter` gave to another site, or to the output."""
        return self.run(start, entered[0], end)

    def linear_to(self, site: str) -> str | None:
        """Return the next site, where the way to it is linear altogether: its activation is all that `enter` gives."""
        return None

    def link(self, u: str, v: str) -> Link | None:
        """Return the way between two sites, where it can be differentiated forwards."""
        return None

    def by_channel(self, activation: Tensor) -> Tensor:
        """Return an activation [B, ...] as [B, P, C]; a vector has one position."""
        if activation.ndim == 4 and not self.nhwc:
            activation = activation.movedim(1, -1)
        return activation.reshape(len(activation), -1, activation.shape[-1])

    def _repeat(self, clean: Any, repeats: int) -> Any:
        count = len(self._images)

        def repeat(x: Any) -> Any:
            batched = isinstance(x, Tensor) and x.ndim and len(x) == count
            return x.repeat(repeats, *[1] * (x.ndim - 1)) if batched else x

        return tree_map(repeat, clean)

    def _trace(self, names: list[str]) -> None:
        """Find the outermost calls that finish before each site is computed, by a pass of one image."""
        root, counts = _Call(self.model, 0), dict[nn.Module, int]()
        open_calls = [root]

        def enter(module: nn.Module, inputs: Any) -> None:
            number = counts[module] = counts.get(module, -1) + 1
            call = _Call(module, number)
            open_calls[-1].inner.append(call)
            open_calls.append(call)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            open_calls.pop()

        handles = [module.register_forward_pre_hook(enter) for module in self.model.modules()]
        handles += [module.register_forward_hook(leave) for module in self.model.modules()]
        try:
            with torch.no_grad():
                self.model(self._images[:1])
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            earlier: list[_Call] = []
            _earlier(root.inner, self.modules[name], earlier)
            self._earlier[name] = earlier


def _earlier(calls: list[_Call], site: nn.Module, found: list[_Call]) -> bool:
    """Gather the outermost calls before the first one of a site; tell whether the site is among them or within."""
    for call in calls:
        if call.module is site:
            return True
        before = len(found)
        if _earlier(call.inner, site, found):
            return True
        found[before:] = [call]
    return False


def chosen(values: Tensor, channels: Tensor) -> Tensor:
    """Return each image's own channels [B, k] of an activation [B, P, C]: [B, P, k]."""
    return values.gather(2, channels[:, None, :].expand(-1, values.shape[1], -1))


@contextmanager
def _replaced(queues: Mapping[nn.Module, list[Callable[[], Any]]]) -> Generator[None]:
    """Let the first calls of modules give what the queues hold in the place of what they would compute."""
    before = {module: module.__dict__.get("forward") for module in queues}

    def replace(module: nn.Module, queue: list[Callable[[], Any]]) -> None:
        own, left = module.forward, iter(queue)

        def forward(*inputs: Any, **further: Any) -> Any:
            given = next(left, None)
            return own(*inputs, **further) if given is None else given()

        module.forward = forward

    try:
        for module, queue in queues.items():
            replace(module, queue)
        yield
    finally:
        for module, own in before.items():
            module.__dict__.pop("forward", None)
            if own is not None:
                module.forward = own


@contextmanager
def _hooks(hooks: Mapping[nn.Module, Callable[[nn.Module, Any, Any], Any]]) -> Generator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stop(module: nn.Module, inputs: Any, output: Any) -> None:
    raise _Reached(output)


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _with_first(output: Any, value: Tensor) -> Any:
    """Put a value in the place of a module's first output, if there are several."""
    if isinstance(output, (tuple, list)):
        return type(output)([_with_first(output[0], value), *output[1:]])
    return value
