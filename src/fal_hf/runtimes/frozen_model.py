"""Models that are run and no longer trained: what products of weights there are is multiplied once, and Linears may
compute in int8."""

import re
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from ..model.composed_linear import compose_weights
from ..model.modeling_fal import FALAttentionStep, FALVideoClassifierForVideoClassification


@torch.no_grad()
def compose_steps(model: FALVideoClassifierForVideoClassification) -> None:
    """
    Makes one Linear of the two that end each extra attention step. The scores change by rounding alone; the model can
    no longer be saved or trained.
    """
    for step in model.modules():
        if isinstance(step, FALAttentionStep) and step.dense is not None:
            first = step.attention.o_proj
            weight, bias = compose_weights(first, step.dense)
            first.weight, first.bias = nn.Parameter(weight), nn.Parameter(bias)
            step.dense = None


def list_linears(model: nn.Module) -> list[str]:
    """The names of all Linears."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def match_linears(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the Linears in which one of some regular expressions is found."""
    return [name for name in list_linears(model) if any(re.search(pattern, name) for pattern in patterns)]


def quantize_linears(model: nn.Module, float_linears: Sequence[str]) -> nn.Module:
    """
    Has Linears multiply in int8: weights with a scale a row, and inputs with one of their own each time.

    Args:
        model: It is changed.
        float_linears: The names of those that stay as they are.
    """
    from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig
    from torch.ao.quantization.quantize import quantize_dynamic

    quantized = {name: per_channel_dynamic_qconfig for name in list_linears(model) if name not in float_linears}
    with warnings.catch_warnings():  # of a later torch, which will want another package for it
        warnings.simplefilter("ignore")
        return quantize_dynamic(model, quantized, dtype=torch.qint8, inplace=True)


__all__ = ["compose_steps", "list_linears", "match_linears", "quantize_linears"]
