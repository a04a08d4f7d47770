# SPDX-License-Identifier: MIT

"""
Faster matrix products where torch's own are slow.

torch multiplies float32 matrices with MKL, and has oneDNN beside it. Which one is faster is a matter of the processor:
on an AMD EPYC with AVX-512 products take half of the time with oneDNN, and as long as with MKL where the same
processor is held to AVX2. So a process tries both, once for each size of model, which takes tens of milliseconds.
torch's own products stay where oneDNN is not clearly faster, and where the clock of a thread is too coarse to tell, as
on Windows. The results differ by rounding alone. `benchmarks/labeling.py` prints both times of a model.
"""

import functools
import math
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from time import thread_time

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .configuration_fal import FALConfig
from .fast_paths import is_eager

# Of the environment: the library that is taken where a process would try; with it processes agree to the last bit.
CHOICE = "FAL_LINEARS"
# Multiplications of a model's largest Linear for one clip; below, intercepting calls costs more than it saves.
MIN_MULTIPLICATIONS = 2**26
# Of a trial: enough to keep a core's units busy, little enough to be done in milliseconds and to stay in its caches.
TRIAL_TOKENS, TRIAL_MULTIPLICATIONS = 256, 2**27
TRIAL_REPETITIONS = 7
# How much longer torch's own has to take: on busy machines trials of equal libraries came to 1.27, and what is gained
# below this is little, as Linears are not all of a model.
CLEAR_MARGIN = 1.3


class OneDnnLinears(TorchFunctionMode):
    """Within it, Linears in float32 on the CPU run on oneDNN, and so do their gradients."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nn.functional.linear and not kwargs:
            inputs, weight, *_ = args
            is_plain = type(inputs) is torch.Tensor and type(weight) in (torch.Tensor, nn.Parameter)
            if (
                is_plain
                and inputs.numel()
                and inputs.dtype is weight.dtype is torch.float32
                and inputs.device.type == "cpu"
            ):
                return multiply(*args)
        return func(*args, **(kwargs or {}))


def multiply(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`nn.functional.linear` on oneDNN."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (inputs, weight, bias)):
        return OneDnnLinear.apply(inputs, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class OneDnnLinear(torch.autograd.Function):
    """A Linear whose gradients are oneDNN's products as well."""

    @staticmethod
    def forward(ctx, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(inputs if weight.requires_grad else None, weight if inputs.requires_grad else None)
        return multiply(inputs, weight, bias)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        inputs, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            multiply(gradient, weight.T) if ctx.needs_input_grad[0] else None,
            multiply(rows.T, inputs.reshape(-1, inputs.shape[-1]).T) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


LIBRARIES = {"torch": nullcontext, "onednn": OneDnnLinears}


def on_fast_linears(forward: Callable) -> Callable:
    """Has the Linears of a module's `forward`, whose first argument is tokens, run on oneDNN where that is faster."""

    @functools.wraps(forward)
    def wrapper(self, tokens: torch.Tensor, *args, **kwargs):
        if not is_eager(tokens):
            return forward(self, tokens, *args, **kwargs)
        with LIBRARIES[choose_library(self.config, tokens.device, tokens.dtype)]():
            return forward(self, tokens, *args, **kwargs)

    return wrapper


def choose_library(config: FALConfig, device: torch.device, dtype: torch.dtype) -> str:
    """`"onednn"` or `"torch"` for the Linears of a FAL model: `FAL_LINEARS` where that is set, else the faster one."""
    chosen = requested_library()
    sizes = math.prod(config.grid_size), config.hidden_size, config.intermediate_size
    is_slow = math.prod(sizes) >= MIN_MULTIPLICATIONS and device.type == "cpu" and dtype is torch.float32
    if not (is_slow and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return "torch"
    return chosen or find_faster(*sizes)


def requested_library() -> str | None:
    """
    What the environment's `FAL_LINEARS` says, if anything.

    Raises:
        ValueError: it is neither `torch` nor `onednn`.
    """
    chosen = os.environ.get(CHOICE)
    if chosen not in (None, *LIBRARIES):
        raise ValueError(f"{CHOICE}: expected {' or '.join(LIBRARIES)} in the environment, got {chosen!r}")
    return chosen


_one_at_a_time = threading.Lock()


def find_faster(num_patches: int, width: int, hidden_width: int) -> str:
    """The library that a trial finds faster; a process keeps to the first answer."""
    with _one_at_a_time:
        return _try_both(num_patches, width, hidden_width)


@functools.cache
def _try_both(num_patches: int, width: int, hidden_width: int) -> str:
    if not torch.backends.mkl.is_available():  # torch's own are of a library that is made for the processor
        return "torch"
    num_tokens = min(num_patches, TRIAL_TOKENS, max(1, TRIAL_MULTIPLICATIONS // (width * hidden_width)))
    seconds = time_linears(num_tokens, width, hidden_width)
    return "onednn" if seconds["onednn"] * CLEAR_MARGIN < seconds["torch"] else "torch"


@torch.inference_mode()
def time_linears(num_tokens: int, width: int, hidden_width: int) -> dict[str, float]:
    """
    Seconds that a Linear from `width` to `hidden_width` takes each library, the least of several trials in turn.

    They are seconds that one thread computes: how long threads wait, for a core or for one another, is a matter of
    what else the machine does.
    """
    inputs = torch.ones(num_tokens, width, dtype=torch.float32, device="cpu")
    weight = torch.ones(hidden_width, width, dtype=torch.float32, device="cpu")
    bias = torch.ones(hidden_width, dtype=torch.float32, device="cpu")
    seconds = dict.fromkeys(LIBRARIES, math.inf)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for repetition in range(1 + TRIAL_REPETITIONS):
            for name, context in LIBRARIES.items():
                began = thread_time()
                with context():
                    nn.functional.linear(inputs, weight, bias)
                if repetition > 0:  # the first one prepares
                    seconds[name] = min(seconds[name], thread_time() - began)
    finally:
        torch.set_num_threads(num_threads)
    return seconds


__all__ = ["OneDnnLinears", "choose_library", "on_fast_linears"]
