# SPDX-License-Identifier: MIT

"""
The names of transformers' TimeSformer, which the published checkpoints have, and FAL's: with the mapping registered,
`from_pretrained` reads both. Saved is always under FAL's own names.
"""

from functools import cache
from typing import Any

from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

from .attention_schemes import MAIN_STEP


class FlattenKernel(ConversionOps):
    """A convolution's kernel `(D, channels, P, P)` as the weight `(D, channels·P·P)` of a Linear on flat patches."""

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs
    ) -> dict[str, Any]:
        """The kernel, or the list of one kernel, under any name, to its weight under the first target's."""
        (tensors,) = input_dict.values()
        kernel = tensors[0] if isinstance(tensors, list) else tensors
        return {target_patterns[0]: kernel.flatten(1)}


TIMESFORMER_MAPPING = [
    WeightRenaming(r"^timesformer\.", "fal."),
    WeightRenaming(r"encoder\.layer\.", "layers."),
    WeightRenaming(r"\.temporal_attention\.output\.dense", ".steps.temporal.attention.o_proj"),
    WeightRenaming(r"\.temporal_layernorm", ".steps.temporal.layernorm"),
    WeightRenaming(r"\.temporal_dense", ".steps.temporal.dense"),
    WeightRenaming(r"\.attention\.output\.dense", f".steps.{MAIN_STEP}.attention.o_proj"),
    WeightRenaming(r"\.layernorm_before", f".steps.{MAIN_STEP}.layernorm"),
    WeightRenaming(r"\.layernorm_after", ".mlp.layernorm"),
    WeightRenaming(r"\.intermediate\.dense", ".mlp.fc1"),
    WeightRenaming(r"\.output\.dense", ".mlp.fc2"),
    WeightRenaming(r"\.temporal_attention\.attention\.qkv", ".steps.temporal.attention.qkv"),
    WeightRenaming(r"\.attention\.attention\.qkv", f".steps.{MAIN_STEP}.attention.qkv"),
    WeightConverter(
        "patch_embeddings.projection.weight", "patch_embeddings.projection.weight", operations=[FlattenKernel()]
    ),
]


@cache
def register_timesformer_names(model_type: str) -> None:
    """
    Lets models of a type read TimeSformer's names; again as well, as a second copy of this code does it. The first
    time takes transformers a tenth of a second, which importing FAL should not.
    """
    register_checkpoint_conversion_mapping(model_type, TIMESFORMER_MAPPING, overwrite=True)


__all__ = ["TIMESFORMER_MAPPING", "register_timesformer_names"]
