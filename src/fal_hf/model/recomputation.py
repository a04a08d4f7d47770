# SPDX-License-Identifier: MIT

"""Training that keeps less for the backward pass: what is cheap to compute is computed again."""

from collections.abc import Callable

import torch
from torch import nn

from .fast_paths import is_eager, is_plain


class Keep(torch.autograd.Function):
    """The identity. Its node keeps the input as autograd keeps all, so whoever decides how, as checkpointing, does."""

    @staticmethod
    def forward(ctx, inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inputs)
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def apply_recomputed(
    module: Callable[[torch.Tensor], torch.Tensor],
    function: nn.Module,
    inputs: torch.Tensor,
) -> torch.Tensor:
    """
    `module(function(inputs))`, of which in training what the function returns is not kept for the gradients of the
    module's weights, but computed again. These are the same to the last bit.

    Args:
        module: What keeps its input, such as a Linear.
        function: Cheap, returns a new tensor and, for the same input, always the same.
        inputs: A tensor that the function keeps for its own gradient.
    """
    if not (torch.is_grad_enabled() and inputs.requires_grad and is_eager(inputs) and is_plain(function)):
        return module(function(inputs))
    source = Keep.apply(inputs)
    node, made = source.grad_fn, function(source)
    if not made.is_contiguous():
        return module(made)
    place = made.untyped_storage().data_ptr()

    def pack(tensor: torch.Tensor):
        if tensor.untyped_storage().data_ptr() != place:
            return tensor
        return tensor.shape, tensor.stride(), tensor.storage_offset()

    def unpack(kept) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        with torch.no_grad():
            return function(*node.saved_tensors).contiguous().as_strided(*kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return module(made)


__all__ = ["apply_recomputed"]
