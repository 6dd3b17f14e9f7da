"""How far apart two trainings of the same mathematics may end, their operations being done in another order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]


def assert_close(found: Tensors, wanted: Tensors, untrained: Tensors, *, names: Iterable[str] | None = None) -> None:
    """Check that each weight and buffer has gone where it should, up to a small part of its way.

    Args:
        untrained: where both have started.
        names: of those that are checked; all, if not given.
    """
    assert found.keys() == wanted.keys()
    for name in found if names is None else names:
        tensors = (found[name], wanted[name], untrained[name])
        mine, their, before = (_without_noise(name, tensor).double() for tensor in tensors)
        assert (mine - their).norm() <= 2e-2 * (their - before).norm(), name


def _without_noise(name: str, tensor: Tensor) -> Tensor:
    """Set what the loss does not depend on to 0: its gradient is rounding alone, which Adam makes whole steps of.

    A softmax does not change with a constant, so neither do attention with its keys' bias, nor the loss with that of
    the logits.
    """
    tensor = tensor.clone()
    if name.endswith("in_proj_bias"):
        tensor[len(tensor) // 3 : 2 * len(tensor) // 3] = 0  # queries, keys, values
    elif name.endswith("k_proj.bias") or name == "logit_bias":
        tensor.zero_()
    return tensor
