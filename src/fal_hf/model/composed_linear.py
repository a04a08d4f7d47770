# SPDX-License-Identifier: MIT

"""Two Linears in a row, applied as their product where that takes fewer multiplications and skips nothing."""

from collections.abc import Callable

import torch
from torch import nn

from .fast_paths import is_plain_linear


def compose_linears(
    first: nn.Linear, second: nn.Linear | None, num_patches: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """
    What does as `second(first(tokens))` to tokens `(…, D)`, or as `first(tokens)` where there is no second one.

    Args:
        first: From D to D.
        second: From D to D.
        num_patches: Patches of a clip. The product of the weights takes D rows of a matrix product to make and saves
            those of a clip's patches.
    """
    if second is None:
        return first.__call__
    if num_patches > second.in_features and is_plain_linear(first) and is_plain_linear(second):
        weight, bias = compose_weights(first, second)
        return lambda tokens: nn.functional.linear(tokens, weight, bias)
    return lambda tokens: second(first(tokens))


def compose_weights(first: nn.Linear, second: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight and the bias of the Linear that does as `second(first(tokens))`."""
    weight = nn.functional.linear(second.weight, first.weight.T)
    return weight, nn.functional.linear(first.bias, second.weight, second.bias)


__all__ = ["compose_linears", "compose_weights"]
