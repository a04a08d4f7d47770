# SPDX-License-Identifier: MIT

"""Attention of many heads through transformers' attention interface, in groups and on any device."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)
from transformers.utils.generic import TransformersKwargs

from .configuration_fal import FALConfig

# CUDA's fused attention kernels put the rows of a batch on a launch axis of this length.
MAX_CUDA_ATTENTION_ROWS = 65_535
# Those that take any mask; the others know padding and causal masks only.
MASKED_IMPLEMENTATIONS = ("eager", "sdpa", None)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention as the paper writes it: `(…, heads, length, D/heads)` to `(…, length, heads, D/heads)`."""
    weights = torch.matmul(query, key.transpose(-2, -1)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(-3, -2).contiguous(), weights


class FALMultiHeadAttention(nn.Module):
    """What every attention of FAL has: heads of one size, and the way to the attention interface."""

    def __init__(self, config: FALConfig, head_size: int):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = head_size**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = False

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Attention within groups: `(B, groups, length, D)` each, to the query's shape and the weights or None. A mask,
        `(queries, keys)`, is added to the scores.
        """
        groups = query.shape[:2]
        implementation = "eager" if kwargs.get("output_attentions") else self.config._attn_implementation
        if mask is not None and implementation not in MASKED_IMPLEMENTATIONS:
            implementation = "sdpa"
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            implementation,  # pyright: ignore[reportArgumentType]  # None is taken as well, which the hint leaves out
            eager_attention_forward,
        )
        dropout = self.attention_dropout if self.training else 0.0
        if attention_interface is eager_attention_forward:  # the weights as returned are those that gradients pass
            query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(2, 3) for x in (query, key, value))
            output, weights = eager_attention_forward(
                self, query, key, value, mask, scaling=self.scaling, dropout=dropout, **kwargs
            )
            return output.flatten(-2), weights
        query, key, value = (
            x.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value)
        )
        max_rows = MAX_CUDA_ATTENTION_ROWS if query.is_cuda else None
        options = {**kwargs, "dropout": dropout, "scaling": self.scaling, "max_rows": max_rows}
        output, weights = attend_in_chunks(attention_interface, self, query, key, value, mask, **options)
        output = output.flatten(-2).unflatten(0, groups)
        return output, None if weights is None else weights.unflatten(0, groups)

    def gather(self, weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Values `(B, groups, keys, D)` by weights `(B, groups, heads, queries, keys)`: `(B, groups, queries, D)`."""
        value = value.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)
        return torch.matmul(weights, value).transpose(2, 3).flatten(-2)


def attend_in_chunks(
    attention_interface: Callable,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    max_rows: int | None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Calls an attention interface on at most `max_rows` rows (the first axis) at a time; None sets no limit."""
    if max_rows is None or query.shape[0] <= max_rows:
        return attention_interface(module, query, key, value, mask, **kwargs)
    chunks = zip(query.split(max_rows), key.split(max_rows), value.split(max_rows), strict=True)
    outputs, weights = zip(*(attention_interface(module, *chunk, mask, **kwargs) for chunk in chunks), strict=True)
    return torch.cat(outputs), None if weights[0] is None else torch.cat(weights)


__all__ = ["FALMultiHeadAttention", "attend_in_chunks", "eager_attention_forward"]
