# SPDX-License-Identifier: MIT

"""When something may be computed in another way than its modules say, with nobody there who could tell."""

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

# Of transformers: they take outputs where those are asked for, and are left in place.
COLLECTING_HOOKS = "transformers.utils.output_capturing"


def is_eager(tensor: torch.Tensor) -> bool:
    """
    Whether operations on a tensor are done at once and as they stand: nothing compiles, exports, traces, transforms,
    casts or counts them.
    """
    if torch.compiler.is_compiling():
        return False
    device_type = tensor.device.type
    return type(tensor) is torch.Tensor and not (
        torch._C._get_tracing_state() is not None
        or (torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type))
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or is_in_torch_dispatch_mode()
    )


def is_inference(tensor: torch.Tensor) -> bool:
    """Whether nothing but results comes of operations on a tensor."""
    return not torch.is_grad_enabled() and is_eager(tensor)


def is_plain(module: nn.Module, *linears: nn.Module) -> bool:
    """
    Whether a call of a module applies it and does nothing else: it and those in it have no hook, and of its Linears,
    which are to be named, none has an adapter or a quantized or sharded weight.
    """
    return (
        not _has_any_global_hook()
        and not any(is_hooked(part) for part in module.modules())
        and all(is_plain_linear(linear) for linear in linears)
    )


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a call of the module does nothing but multiply by its weight and add its bias."""
    is_linear = type(module).forward is nn.Linear.forward and type(module.weight) is nn.Parameter
    return is_linear and not is_hooked(module)


def is_hooked(module: nn.Module) -> bool:
    """Whether something is done beside `forward`, or in its place."""
    if module._forward_pre_hooks or module._backward_pre_hooks or module._backward_hooks or "forward" in vars(module):
        return True
    return any(getattr(hook, "__module__", None) != COLLECTING_HOOKS for hook in module._forward_hooks.values())


__all__ = ["is_eager", "is_inference", "is_plain", "is_plain_linear"]
