"""Faster matrix products on AMD processors.

torch multiplies float32 matrices with MKL, whose products take twice as long on AMD processors as those of oneDNN,
which comes with torch as well. The results differ by rounding alone. `benchmarks/labeling.py` prints both times.
"""

import functools
import math
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

# Multiplications of a model's largest Linear for one clip; below, intercepting calls costs more than it saves.
MIN_MULTIPLICATIONS = 2**26
CPU_DESCRIPTION = Path("/proc/cpuinfo")  # of Linux; elsewhere `platform` knows


class OneDnnLinears(TorchFunctionMode):
    """Within it, Linears in float32 on the CPU run on oneDNN. For inference alone."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.linear and not kwargs:
            inputs, weight, *bias = args
            if inputs.dtype is weight.dtype is torch.float32 and inputs.device.type == "cpu":
                return func(inputs.to_mkldnn(), weight, *bias).to_dense()
        return func(*args, **(kwargs or {}))


def fast_linears(model: PreTrainedModel) -> AbstractContextManager:
    """A context in which a FAL model's Linears run on oneDNN where that is faster; elsewhere it does nothing."""
    config = model.config
    multiplications = math.prod(config.grid_size) * config.hidden_size * config.intermediate_size
    is_slow = multiplications >= MIN_MULTIPLICATIONS and model.device.type == "cpu" and model.dtype is torch.float32
    return OneDnnLinears() if is_slow and prefers_onednn() else nullcontext()


@functools.cache
def prefers_onednn() -> bool:
    """Whether this is an AMD processor, and torch has both libraries."""
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and is_amd_processor()


def is_amd_processor() -> bool:
    """Whether the system names AMD as the processor's maker."""
    description = CPU_DESCRIPTION.read_text("utf-8") if CPU_DESCRIPTION.exists() else platform.processor()
    return "AuthenticAMD" in description
