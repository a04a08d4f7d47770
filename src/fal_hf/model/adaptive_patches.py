# SPDX-License-Identifier: MIT

"""
Patches that adapt to the clip (paper, section 4): a picture is tiled by cells of 2 x 2 patches. A complex cell stays
split in its patches, each a token; any other is a token by itself. Border patches of odd sides are in no cell. Or
patches that do not change are left out, and there are no cells.

What of a clip decides on its tokens, its choice, are either the cells that stay split or the patches that are kept.

Shapes: B clips, T frames, H rows and W columns of patches, R = H // 2 rows and K = W // 2 columns of cells, N places:
the patches and the merged cells of a picture, which are the same for all frames, in the order of the patch in their
upper left corner.
"""

from collections.abc import Mapping
from typing import Any

import torch

from .patch_layout import AdaptivePatches, count_places


def choose_tokens(patches: AdaptivePatches, pixel_values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """
    The choice of clips, booleans, of pixels `(B, T, channels, height, width)`: which cells stay split, `(B, R, K)`, or
    which patches are kept, `(B, T, H, W)`.

    Raises:
        ValueError: if a model is exported whose number of tokens depends on the clip.
    """
    if patches.share is None and torch.compiler.is_exporting():
        raise ValueError(
            "adaptive patches: expected a share where a model is exported, got a threshold, with which the number of "
            "tokens depends on the clip; call adapt_patches(AdaptivePatches(share=...)) first"
        )
    if patches.static_threshold is not None:
        return find_changes(pixel_values, patch_size, patches.static_threshold)
    return split_cells(patches, pixel_values, patch_size)


def find_changes(pixel_values: torch.Tensor, patch_size: int, threshold: float) -> torch.Tensor:
    """
    Which patches are kept, `(B, T, H, W)` booleans: those of the first frame, and those whose mean absolute difference
    to the same patch where it was last kept is not below the threshold.
    """
    frames = patches_of_pixels(pixel_values.detach().float(), patch_size).unbind(1)  # (B, H, W, channels·P·P) each
    last_kept, kept = frames[0], [torch.ones_like(frames[0][..., 0], dtype=torch.bool)]
    for frame in frames[1:]:
        is_kept = (frame - last_kept).abs_().mean(dim=-1) >= threshold
        last_kept = torch.where(is_kept[..., None], frame, last_kept)
        kept.append(is_kept)
    return torch.stack(kept, dim=1)


def split_cells(patches: AdaptivePatches, pixel_values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Which cells stay split, `(B, R, K)` booleans, of pixels `(B, T, channels, height, width)`."""
    complexity = measure_complexity(pixel_values, 2 * patch_size)
    if patches.threshold is not None:
        return complexity > patches.threshold
    height, width = pixel_values.shape[-2:]
    ranked = complexity.flatten(1).topk(patches.count_split(height // patch_size, width // patch_size)).indices
    return torch.zeros_like(complexity.flatten(1), dtype=torch.bool).scatter(1, ranked, True).view_as(complexity)


def measure_complexity(pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """
    How much happens in each cell of `side` x `side` pixels, `(B, R, K)` float32: the root of the sum of the mean
    squares of the differences between neighbors within the cell, down, across and in time.
    """
    rows, columns = (length // side for length in pixel_values.shape[-2:])
    whole = pixel_values.detach()[..., : rows * side, : columns * side].float()
    frames, channels = whole.shape[1:3]
    down = whole.unflatten(-2, (rows, side)).diff(dim=-2).square_().sum(dim=(1, 2, 4))  # (B, R, width)
    across = whole.unflatten(-1, (columns, side)).diff(dim=-1).square_().sum(dim=(1, 2, 5))  # (B, height, K)
    energy = down.unflatten(-1, (columns, side)).sum(dim=-1) + across.unflatten(1, (rows, side)).sum(dim=2)
    energy = energy / (frames * channels * side * (side - 1))
    if frames > 1:
        change = whole.diff(dim=1).square_().mean(dim=(1, 2))  # (B, height, width)
        energy = energy + change.unflatten(-1, (columns, side)).unflatten(-3, (rows, side)).mean(dim=(2, 4))
    return energy.sqrt()


def patches_of_pixels(pixel_values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """`(B, T, channels, height, width)` pixels to those of each patch, `(B, T, H, W, channels·P·P)`."""
    patches = pixel_values.unflatten(-1, (-1, patch_size)).unflatten(-3, (-1, patch_size))
    return patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(-3)


def patches_of_cells(patches: torch.Tensor) -> torch.Tensor:
    """`(..., H, W, D)` patches, or what stands at their places, to those of each cell, `(..., R, K, 4, D)`."""
    rows, columns = patches.shape[-3] // 2, patches.shape[-2] // 2
    whole = patches[..., : 2 * rows, : 2 * columns, :]
    cells = whole.unflatten(-2, (columns, 2)).unflatten(-4, (rows, 2))  # (..., R, 2, K, 2, D)
    return cells.transpose(-4, -3).flatten(-3, -2)


def shrink(pixel_values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Whole cells of pixels `(B, T, channels, height, width)` at half the size, the means of 2 x 2: each a patch."""
    rows, columns = (length // (2 * patch_size) * patch_size for length in pixel_values.shape[-2:])
    whole = pixel_values[..., : 2 * rows, : 2 * columns]
    return torch.nn.functional.avg_pool2d(whole.flatten(0, 1), 2).unflatten(0, whole.shape[:2])


def locate_tokens(patches: AdaptivePatches, choice: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Where the tokens of clips are, `(B, N, 3)`, as `find_places` or, of patches that are kept, `find_kept` says."""
    if not patches.merges_cells:
        return find_kept(choice)
    num_split = count_chosen(choice) if patches.share is None else patches.count_split(rows, columns)
    return find_places(choice, rows, columns, count_places(rows, columns, num_split))


def find_places(is_split: torch.Tensor, rows: int, columns: int, num_places: int) -> torch.Tensor:
    """
    The places of clips, `(B, N, 3)` whole numbers: row and column of a place's upper left patch, and its side in
    patches, 1 or 2.

    Args:
        is_split: Which cells stay split, `(B, R, K)` booleans.
        rows: H.
        columns: W.
        num_places: N, which is that of all clips.
    """
    row = torch.arange(rows, device=is_split.device)[:, None].expand(rows, columns)
    column = torch.arange(columns, device=is_split.device)[None].expand(rows, columns)
    merged = (~is_split).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # (B, 2·R, 2·K)
    merged = torch.nn.functional.pad(merged, (0, columns % 2, 0, rows % 2))  # (B, H, W)
    is_place = ~merged | ((row % 2 == 0) & (column % 2 == 0))
    # Of each clip as many are above zero as it has places, in falling order.
    order = is_place.flatten(1) * torch.arange(rows * columns, 0, -1, device=is_split.device)
    patch = order.topk(num_places).indices  # (B, N)
    side = 1 + merged.flatten(1).gather(1, patch).long()
    return torch.stack([patch // columns, patch % columns, side], dim=-1)


def take_places(patches: torch.Tensor, cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The tokens `(B, T, 1, N, D)` at places `(B, N, 3)`, of patches `(B, T, H, W, D)` and cells `(B, T, R, K, D)`."""
    rows, columns, width = patches.shape[2:]
    row, column, side = places.unbind(-1)
    of_cell = rows * columns + (row // 2) * (columns // 2) + column // 2
    index = torch.where(side == 2, of_cell, row * columns + column)  # (B, N)
    tokens = torch.cat([patches.flatten(2, 3), cells.flatten(2, 3)], dim=2)
    frames = torch.arange(tokens.shape[0] * tokens.shape[1], device=index.device).view(*tokens.shape[:2], 1)
    rows_of_frames = frames * tokens.shape[2] + index[:, None]  # (B, T, N)
    return tokens.flatten(0, 2).index_select(0, rows_of_frames.flatten()).view(*rows_of_frames.shape[:2], 1, -1, width)


def find_kept(is_kept: torch.Tensor) -> torch.Tensor:
    """Frame, row and column of the patches that are kept, `(B, N, 3)` whole numbers, as many of every clip."""
    return is_kept.nonzero()[:, 1:].view(len(is_kept), count_chosen(is_kept), 3)


def take_kept(patches: torch.Tensor, is_kept: torch.Tensor) -> torch.Tensor:
    """The tokens `(B, 1, 1, N, D)` of patches `(B, T, H, W, D)` that are kept, as many of every clip."""
    return patches[is_kept].view(len(patches), 1, 1, count_chosen(is_kept), -1)


def count_chosen(choice: torch.Tensor) -> int:
    """How many cells of every clip stay split, or patches are kept; a ValueError where clips differ in that."""
    counts = choice.flatten(1).sum(dim=1)
    if (counts != counts[0]).any():
        raise ValueError(
            "adaptive patches: expected clips with as many split cells or kept patches as one another, got "
            f"{counts.tolist()}; give them one by one, or a share instead of the threshold"
        )
    return int(counts[0])


def group_clips(choice: torch.Tensor) -> list[torch.Tensor]:
    """The numbers of the clips that have as many split cells or kept patches as one another, a group each."""
    counts = choice.flatten(1).sum(dim=1)
    return [(counts == count).nonzero()[:, 0] for count in counts.unique()]


def require_one_group(groups: list[torch.Tensor]) -> None:
    """Refuses, by a ValueError, to record what every block returns of clips that differ."""
    if len(groups) > 1:
        raise ValueError(
            "output_hidden_states and output_attentions: expected clips with as many tokens as one another, got "
            f"{len(groups)} numbers of them; give the clips one by one, or a share instead of the threshold"
        )


def join_outputs(
    groups: list[torch.Tensor], outputs: list[Mapping[str, torch.Tensor]], num_frames: int
) -> dict[str, Any]:
    """What the model returned group by group, in the order of the clips."""
    parts = {name: [one[name] for one in outputs] for name in outputs[0]}
    tokens = join_tokens(groups, parts.pop("last_hidden_state"), num_frames)
    return {"last_hidden_state": tokens, **{name: join_clips(groups, part) for name, part in parts.items()}}


def join_clips(groups: list[torch.Tensor], parts: list[torch.Tensor]) -> torch.Tensor:
    """What was computed group by group, in the order of the clips."""
    return torch.cat(parts)[torch.cat(groups).argsort()]


def join_tokens(groups: list[torch.Tensor], parts: list[torch.Tensor], num_frames: int) -> torch.Tensor:
    """
    Tokens `(clips, 1 + T·N, D)` of groups whose N differ, in the order of the clips. Behind a frame's places stand
    zeros, as many as it has fewer than the clip with the most. The patches that are kept of a clip are one frame's.
    """
    frames = [part[:, 1:].unflatten(1, (num_frames, -1)) for part in parts]
    most = max(part.shape[2] for part in frames)
    padded = [torch.nn.functional.pad(part, (0, 0, 0, most - part.shape[2])).flatten(1, 2) for part in frames]
    return join_clips(groups, [torch.cat([part[:, :1], rest], 1) for part, rest in zip(parts, padded, strict=True)])


__all__ = [
    "choose_tokens",
    "find_changes",
    "find_places",
    "group_clips",
    "join_outputs",
    "locate_tokens",
    "measure_complexity",
    "patches_of_cells",
    "patches_of_pixels",
    "require_one_group",
    "shrink",
    "split_cells",
    "take_kept",
    "take_places",
]
