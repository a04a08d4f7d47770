# SPDX-License-Identifier: MIT

"""
Inference in parts on the CPU: what tokens do not share is computed for some of them at a time, so that results in
between are small and stay in the processor's caches. Results differ by rounding alone. A clip that is larger than a
part shares none with the clips beside it.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import prod
from typing import cast

import torch

from .attention_schemes import Grid
from .fast_paths import is_inference

# Numbers in the widest result of a part, for each thread: 256 tokens of a base model's MLP.
PART_NUMBERS = 256 * 3072


def can_part(tokens: torch.Tensor) -> bool:
    """Whether a result may be made in parts: in plain inference on the CPU."""
    return tokens.device.type == "cpu" and is_inference(tokens)


def count_tokens(width: int) -> int:
    """How many tokens a part has at most, where the widest result has so many numbers a token."""
    return max(1, PART_NUMBERS * torch.get_num_threads() // width)


def split_clips(tokens: torch.Tensor, limit: int) -> Iterator[tuple[torch.Tensor, slice]]:
    """Clips `(B, L, D)` by as many as are no more than `limit` tokens, by one where one is more."""
    at_once = max(1, limit // tokens.shape[1])
    for start in range(0, tokens.shape[0], at_once):
        clips = slice(start, start + at_once)
        yield tokens[clips], clips


def apply_to_parts(function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, width: int) -> torch.Tensor:
    """`function(tokens)` of tokens `(B, L, D)` that do not meet in it; its widest result is `(B, L, width)`."""
    limit = count_tokens(width)
    if tokens[..., 0].numel() <= limit:
        return function(tokens)
    result = torch.empty_like(tokens)
    for clips, place in split_clips(tokens, limit):
        num_parts = -(-clips.shape[1] // limit)
        for part, target in zip(clips.chunk(num_parts, 1), result[place].chunk(num_parts, 1), strict=True):
            target.copy_(function(part))
    return result


def apply_to_cuts(
    function: Callable[[torch.Tensor, Grid], torch.Tensor],
    tokens: torch.Tensor,
    grid: Grid,
    axis: int,
    width: int,
    *,
    has_cls: bool,
    has_patches: bool,
) -> torch.Tensor:
    """
    `function(tokens, grid)` of clips `(B, C + T·H·W, D)` whose patches do not meet along an axis of the grid: cut
    along it, each part is a clip by itself.

    Args:
        function: Returns CLS tokens, patches or both of the clips that it gets.
        tokens: A single CLS token goes with all parts, and its results are averaged; a frame's own goes with that.
        grid: Of the clips.
        axis: Of the grid.
        width: Numbers a token of the widest result.
        has_cls: Whether the function returns CLS tokens.
        has_patches: Whether it returns patches.
    """
    limit, num_patches = count_tokens(width), prod(grid)
    if tokens[..., 0].numel() <= limit:
        return function(tokens, grid)
    num_cls = tokens.shape[1] - num_patches
    num_left = num_cls * has_cls
    result = tokens.new_zeros(tokens.shape[0], num_left + num_patches * has_patches, tokens.shape[2])
    for clips, place in split_clips(tokens, limit):
        for cut in cut_axis(grid, axis, limit):
            length = cut.stop - cut.start
            part_grid = cast(Grid, (*grid[:axis], length, *grid[axis + 1 :]))
            cls_place = cut if num_cls > 1 else slice(0, 1)
            patches = clips[:, num_cls:].unflatten(1, grid).narrow(1 + axis, cut.start, length)
            part = function(torch.cat([clips[:, cls_place], patches.flatten(1, 3)], dim=1), part_grid)
            if has_cls:
                share = 1.0 if num_cls > 1 else length / grid[axis]
                result[place, cls_place].add_(part[:, : cls_place.stop - cls_place.start], alpha=share)
            if has_patches:
                target = result[place, num_left:].unflatten(1, grid).narrow(1 + axis, cut.start, length)
                target.copy_(part[:, -prod(part_grid) :].unflatten(1, part_grid))
    return result


def cut_axis(grid: Grid, axis: int, limit: int) -> Iterator[slice]:
    """Cuts an axis of a grid into as few parts of nearly one length as have no more than `limit` patches."""
    length = max(1, limit * grid[axis] // prod(grid))
    num_cuts = -(-grid[axis] // length)
    borders = [number * grid[axis] // num_cuts for number in range(num_cuts + 1)]
    return (slice(*border) for border in pairwise(borders))


__all__ = ["apply_to_cuts", "apply_to_parts", "can_part"]
