"""Models of tensors, and position tables for clips of another size."""

from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ..model.attention_schemes import Grid
from ..model.modeling_fal import resize_positions
from .tensor_names import Tensors

Model = TypeVar("Model", bound=PreTrainedModel)

KEPT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def kept_dtype(tensors: Tensors) -> torch.dtype:
    """The precision of tensors; that of most numbers, as norms may be kept in a higher one."""
    largest = max(tensors.values(), key=torch.Tensor.numel)
    return largest.dtype if largest.dtype in KEPT_DTYPES else torch.float32


def load_model(
    model_class: type[Model], config: PreTrainedConfig, state: Tensors, dtype: torch.dtype, **options: Any
) -> tuple[Model, dict[str, Any]]:
    """A model of tensors, and which of them were missing or left over."""
    return model_class.from_pretrained(  # pyright: ignore[reportReturnType]  # the hint leaves out the second part
        None, config=config, state_dict=state, dtype=dtype, output_loading_info=True, **options
    )


def resize_position_table(table: torch.Tensor, old_grid: Grid, size: tuple[int, int]) -> torch.Tensor:
    """A position table `(1, 1 + H·W, D)` for `(rows, columns)` patches, as a model makes it for another clip."""
    patches = resize_positions(table[:, 1:].unflatten(1, old_grid[1:]), size)
    return torch.cat([table[:, :1], patches.flatten(1, 2)], dim=1)


__all__ = ["kept_dtype", "load_model", "resize_position_table"]
