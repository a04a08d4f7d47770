# SPDX-License-Identifier: MIT

"""Two Linears in a row, applied as their product where that takes fewer multiplications and skips nothing."""

import torch
from torch import nn


def apply_linears(
    hidden_states: torch.Tensor, first: nn.Linear, second: nn.Linear | None, num_patches: int
) -> torch.Tensor:
    """
    `second(first(hidden_states))`, or `first(hidden_states)` where there is no second one.

    Args:
        hidden_states: Tokens, `(B, length, D)`.
        first: From D to D.
        second: From D to D.
        num_patches: Patches of a clip. The product of the weights takes D rows of a matrix product to make and saves
            those of a clip's patches.
    """
    if second is None:
        return first(hidden_states)
    if num_patches > second.in_features and is_plain_linear(first) and is_plain_linear(second):
        return nn.functional.linear(hidden_states, *compose(first, second))
    return second(first(hidden_states))


def compose(first: nn.Linear, second: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight and the bias of the Linear that is `second` of `first`."""
    return second.weight @ first.weight, nn.functional.linear(first.bias, second.weight, second.bias)


def is_plain_linear(module: nn.Linear) -> bool:
    """
    Whether a call of the module does nothing but apply its weight and bias: no adapter, quantized or sharded weight,
    and no hook.
    """
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    is_unwrapped = type(module).forward is nn.Linear.forward and "forward" not in vars(module)
    return is_unwrapped and type(module.weight) is nn.Parameter and not any(hooks)


__all__ = ["apply_linears", "compose"]
