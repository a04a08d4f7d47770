# SPDX-License-Identifier: MIT

"""
FAL, a convolution-free space-time transformer for video classification, in the order that a clip flows through it:
patches, embeddings, neighborhoods, attention, blocks, model, classifier.

Shapes: B clips, T frames, H rows and W columns of patches, D = hidden_size. A clip is one sequence of tokens,
(B, C + T·H·W, D): C CLS tokens, then the patches in the order of time, row, column. C is 1, but for space-only
attention, where each frame keeps a CLS token of its own (C = T) until they are averaged at the end.

T, H and W are read from the input, never from the configuration.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from itertools import product
from typing import Any, cast

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)
from transformers.utils.auto_docstring import auto_docstring
from transformers.utils.generic import (
    ModelOutput,
    TransformersKwargs,
    can_return_tuple,
    merge_with_config_defaults,
)
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .adaptive_patches import (
    choose_tokens,
    group_clips,
    join_outputs,
    locate_tokens,
    patches_of_cells,
    patches_of_pixels,
    require_one_group,
    shrink,
    take_kept,
    take_places,
)
from .attention_schemes import ATTENTION_SCHEMES, MAIN_STEP, STEP_ATTENTIONS, Grid
from .composed_linear import compose_linears
from .configuration_fal import FALConfig
from .fast_paths import is_inference, is_plain
from .label_attention import (
    FALGate,
    FALGivenEmbeddings,
    FALLabelAttention,
    FALLabelEmbeddings,
    FALLabelHead,
    FALLabelLayer,
)
from .label_space import LABEL_MAPS, LABEL_STEPS, LabelSpace, check_labels, check_prompt
from .label_tree import FALLabelTree
from .multi_head_attention import FALMultiHeadAttention
from .onednn import on_fast_linears
from .parts import apply_to_cuts, apply_to_parts, can_part
from .patch_layout import AdaptivePatches, check_scheme
from .recomputation import apply_recomputed
from .text_encoder import HUB_ARGUMENTS, TextEncoder
from .timesformer_names import register_timesformer_names

Cell = tuple[slice, slice, slice]  # of time, rows and columns

# The logarithm of the scale with which CLIP's training starts, 1 / 0.07.
START_LOGIT_SCALE = 2.6592


@auto_docstring(custom_intro="What [`FALModel`] returns.")
@dataclass
class FALModelOutput(ModelOutput):
    r"""
    last_hidden_state (`torch.Tensor` of shape `(B, 1 + T·H·W, D)`):
        All tokens after the last layer norm, CLS first, then the patches in the order of time, row, column. With
        adaptive patches a frame has N places instead of its H·W patches, here and below; with static ones a clip has N
        patches instead of its T·H·W. `embeddings.find_places` says where they are. Of clips whose N differ it is the
        largest, and the other rows of a frame, or of the clip, are zeros.
    pooler_output (`torch.Tensor` of shape `(B, D)`):
        The clip's embedding y, the CLS token after the last layer norm (paper, equation 10).
    label_hidden_state (`torch.Tensor` of shape `(B, N, D)`, *optional*, returned with labels as tokens):
        The label tokens after the last layer norm: the model's labels, then those above them.
    hidden_states (`tuple(torch.Tensor)`, *optional*, returned with `output_hidden_states=True`):
        The tokens before the first block and after each one, of shape `(B, C + T·H·W, D)`.
    attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of each block's main step, one of shape `(B, groups, heads, queries, keys)` a block: over the frame
        (groups are the frames) for divided and space-only attention, over the clip for joint, over a column for axial,
        over the strided tokens for sparse local-global. The CLS token is the first query and the first key.
    temporal_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the temporal step of divided and axial attention, one of shape `(B, H·W, heads, T, keys)` a block.
        With `cls_in_temporal_attention` the first key is the CLS token.
    local_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the local step of sparse local-global attention.
    row_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the row step of axial attention.
    label_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at in the clip: weights of `(B, heads, N, C + T·H·W)` a label layer.
    level_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at among those of their level, `(B, heads, N, N)`.
    family_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at among their parents and children, `(B, heads, N, N)`.
    feature_label_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What features look at among the labels, `(B, heads, C + T·H·W, N)`.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    label_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    temporal_attentions: tuple[torch.Tensor, ...] | None = None
    local_attentions: tuple[torch.Tensor, ...] | None = None
    row_attentions: tuple[torch.Tensor, ...] | None = None
    label_attentions: tuple[torch.Tensor, ...] | None = None
    level_attentions: tuple[torch.Tensor, ...] | None = None
    family_attentions: tuple[torch.Tensor, ...] | None = None
    feature_label_attentions: tuple[torch.Tensor, ...] | None = None


@auto_docstring(custom_intro="What [`FALVideoClassifierForVideoClassification`] returns.")
@dataclass
class FALVideoClassifierOutput(ModelOutput):
    r"""
    loss (`torch.Tensor` of shape `()`, *optional*, returned with `labels`):
        The loss.
    logits (`torch.Tensor` of shape `(B, num_labels)`):
        The scores before softmax or sigmoid.
    label_logits (`torch.Tensor` of shape `(B, N)`, *optional*, returned with labels as tokens):
        The scores of all labels of `config.label_space`: `logits`, then those above the labels.
    label_share (`torch.Tensor` of shape `(B,)`, *optional*, returned with labels as tokens):
        The share of the label tokens in the scores, in [0, 1]; the rest is the feature head's.
    hidden_states (`tuple(torch.Tensor)`, *optional*, returned with `output_hidden_states=True`):
        As in [`FALModelOutput`], like all that follow.
    attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of each block's main step.
    temporal_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the temporal step of divided and axial attention.
    local_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the local step of sparse local-global attention.
    row_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        Weights of the row step of axial attention.
    label_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at in the clip: weights of `(B, heads, N, C + T·H·W)` a label layer.
    level_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at among those of their level, `(B, heads, N, N)`.
    family_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What labels look at among their parents and children, `(B, heads, N, N)`.
    feature_label_attentions (`tuple(torch.Tensor)`, *optional*, returned with `output_attentions=True`):
        What features look at among the labels, `(B, heads, C + T·H·W, N)`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    label_logits: torch.Tensor | None = None
    label_share: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    temporal_attentions: tuple[torch.Tensor, ...] | None = None
    local_attentions: tuple[torch.Tensor, ...] | None = None
    row_attentions: tuple[torch.Tensor, ...] | None = None
    label_attentions: tuple[torch.Tensor, ...] | None = None
    level_attentions: tuple[torch.Tensor, ...] | None = None
    family_attentions: tuple[torch.Tensor, ...] | None = None
    feature_label_attentions: tuple[torch.Tensor, ...] | None = None


class FALPatchEmbeddings(nn.Module):
    """Linear embedding E of flattened patches (paper, equation 1); its weight is (D, channels·P·P)."""

    def __init__(self, config: FALConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.num_channels = config.num_channels
        self.projection = nn.Linear(config.num_channels * config.patch_size**2, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(B, T, channels, height, width)` pixels to `(B, T, H, W, D)` patches."""
        self.check(pixel_values)
        patches = patches_of_pixels(pixel_values, self.patch_size)
        weight = self.projection.weight  # of a quantized Linear a method, which wants float32
        return self.projection(patches.to(weight.dtype if isinstance(weight, torch.Tensor) else torch.float32))

    def check(self, pixel_values: torch.Tensor) -> None:
        """Refuses what are no clips of whole patches."""
        expected = f"expected pixel_values of shape (batch, frames, {self.num_channels}, height, width)"
        if not isinstance(pixel_values, torch.Tensor):
            raise TypeError(
                f"{expected} as a torch.Tensor, got {type(pixel_values).__name__}; FALVideoProcessor makes one"
            )
        shape = tuple(pixel_values.shape)
        if pixel_values.ndim != 5:
            hint = "; add the batch axis with pixel_values[None]" if pixel_values.ndim == 4 else ""
            raise ValueError(f"{expected}, got {shape}{hint}")
        if shape[2] != self.num_channels:
            last = shape[-1] == self.num_channels
            hint = "; channels come last here: use pixel_values.movedim(-1, 2)" if last else ""
            raise ValueError(f"{expected}, got {shape}{hint}")
        if shape[3] % self.patch_size or shape[4] % self.patch_size or 0 in shape[1:]:
            raise ValueError(
                f"{expected} with at least one frame, height and width multiples of the patch size "
                f"{self.patch_size}, got {shape}; let FALVideoProcessor resize the frames"
            )


class FALEmbeddings(nn.Module):
    """Tokens of a clip: patches plus position and time tables, with the CLS token in front (section 3.3)."""

    def __init__(self, config: FALConfig):
        super().__init__()
        frames, rows, columns = config.grid_size
        self.cls_per_frame = ATTENTION_SCHEMES[config.attention_type].frames_apart
        has_positions = config.position_embedding_type != "none"
        has_times = config.position_embedding_type == "space_time" and not self.cls_per_frame
        self.table_grid = (frames, rows, columns)
        self.patch_embeddings = FALPatchEmbeddings(config)
        self.adaptive_patches = config.adaptive_patches
        # CODEPATH: published checkpoints have patches of one size (section 4)
        if config.patch_layout == "adaptive":
            self.cell_projection = FALZeroLinear(4 * config.hidden_size, config.hidden_size)
        else:
            self.cell_projection = None
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embeddings = (
            nn.Parameter(torch.empty(1, 1 + rows * columns, config.hidden_size)) if has_positions else None
        )
        self.time_embeddings = nn.Parameter(torch.empty(1, frames, config.hidden_size)) if has_times else None
        # CODEPATH: CLIP has a norm before its first block; Vision Transformers have none
        if config.norm_layout == "clip":
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        else:
            self.layernorm = nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = True,
        choice: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Grid]:
        """
        `(B, T, channels, height, width)` pixels to `(B, C + T·H·W, D)` tokens and the grid (T, H, W). With adaptive
        patches a picture is a single row of N places, (T, 1, N), with static ones the clip is, (1, 1, N); the choice
        is that of `choose_tokens` unless given.
        """
        patches = self.patch_embeddings(pixel_values)
        batch, frames, rows, columns, width = patches.shape
        grid = (frames, rows, columns)
        if not interpolate_pos_encoding and grid != self.table_grid:
            raise ValueError(
                f"expected a grid of (frames, rows, columns) = {self.table_grid} patches, got {grid}; "
                "interpolate_pos_encoding=True fits the tables to other sizes"
            )
        cells = self.embed_cells(pixel_values, patches) if self.merges_cells(grid) else None
        cls_token = self.cls_token
        if self.position_embeddings is not None:
            cls_token = cls_token + self.position_embeddings[:, :1]
            table = self.position_embeddings[:, 1:].unflatten(1, self.table_grid[1:])  # (1, H, W, D)
            positions = resize_positions(table, grid[1:])[:, None]
            patches = patches + positions
            if cells is not None:
                cells = cells + patches_of_cells(positions).mean(dim=-2)
        if cells is not None:
            patches = take_places(patches, cells, self.find_places(pixel_values, choice))  # (B, T, 1, N, D)
            grid = (frames, 1, patches.shape[3])
        if self.time_embeddings is not None:
            patches = patches + resize_times(self.time_embeddings, grid[0])[:, :, None, None]
        if self.adaptive_patches is not None and not self.adaptive_patches.merges_cells:
            patches = take_kept(patches, self.choose_tokens(pixel_values) if choice is None else choice)
            grid = (1, 1, patches.shape[3])
        tokens = torch.cat([cls_token.expand(batch, self.count_cls(grid), width), patches.flatten(1, 3)], dim=1)
        return self.dropout(self.layernorm(tokens)), grid

    def merges_cells(self, grid: Grid) -> bool:
        """Whether patches adapt by cells of 2 x 2, and there is one."""
        return self.adaptive_patches is not None and self.adaptive_patches.merges_cells and min(grid[1:]) > 1

    def embed_cells(self, pixel_values: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Cells `(B, T, H // 2, W // 2, D)`: their pixels at half the size as a patch, and what that leaves out."""
        cells = self.patch_embeddings(shrink(pixel_values, self.patch_embeddings.patch_size))
        if self.cell_projection is None:
            return cells
        return cells + self.cell_projection(patches_of_cells(patches).flatten(-2))

    def choose_tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Which cells of clips stay split, `(B, H // 2, W // 2)` booleans, or with static patches which patches are kept,
        `(B, T, H, W)`.
        """
        self.patch_embeddings.check(pixel_values)
        patches = cast(AdaptivePatches, self.adaptive_patches)
        return choose_tokens(patches, pixel_values, self.patch_embeddings.patch_size)

    def find_places(self, pixel_values: torch.Tensor, choice: torch.Tensor | None = None) -> torch.Tensor:
        """
        Where the tokens of a frame are, `(B, N, 3)`: row and column of a place's upper left patch, and its side in
        patches, 1 or 2; with static patches frame, row and column of the clip's tokens. With a threshold, clips have
        to have as many as one another.
        """
        choice = self.choose_tokens(pixel_values) if choice is None else choice
        rows, columns = (side // self.patch_embeddings.patch_size for side in pixel_values.shape[-2:])
        return locate_tokens(cast(AdaptivePatches, self.adaptive_patches), choice, rows, columns)

    def count_cls(self, grid: Grid) -> int:
        """How many CLS tokens there are."""
        return grid[0] if self.cls_per_frame else 1


def resize_positions(table: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A position table `(1, H, W, D)` for `(rows, columns)` patches, `(1, rows, columns, D)`; bicubic."""
    if tuple(table.shape[1:3]) == size:
        return table
    channels_first = table.permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(channels_first, size=size, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype)


def resize_times(table: torch.Tensor, frames: int) -> torch.Tensor:
    """A time table `(1, T, D)` for a number of frames, `(1, frames, D)`; linear."""
    if table.shape[1] == frames:
        return table
    channels_first = table.transpose(1, 2)[:, :, None].float()  # as a picture of one row, which every exporter takes
    resized = nn.functional.interpolate(channels_first, size=(1, frames), mode="bilinear", align_corners=False)
    return resized[:, :, 0].transpose(1, 2).to(table.dtype)


class Neighborhood:
    """
    Which patches attend to one another in an attention step: disjoint groups, in each of which every patch is a
    query and a key. The CLS token is one more key of every group, in front, unless `keys_cls` is False, and one more
    query unless `queries_cls` is False; the results of its copies are averaged over the groups.

    Subclasses say how patches are grouped, by `partition` and its inverse `restore`. A partition is a list of
    tensors, each of groups of one length: a grid that divides evenly gives a single one.
    """

    queries_cls = True
    holds_all_cls = False  # whether a group's CLS tokens are all there are, and not one
    free_axis: int | None = None  # an axis of the grid along which patches do not meet

    def __init__(self, config: FALConfig):
        self.keys_cls = True

    def partition(self, patches: torch.Tensor) -> list[torch.Tensor]:
        """`(B, T, H, W, D)` patches to groups `(B, groups, length, D)`."""
        raise NotImplementedError

    def restore(self, groups: list[torch.Tensor], grid: Grid) -> torch.Tensor:
        """Groups `(B, groups, length, D)` to `(B, T, H, W, D)` patches."""
        raise NotImplementedError

    def group(self, tokens: torch.Tensor, num_cls: int, grid: Grid) -> list[torch.Tensor]:
        """`(B, C + T·H·W, D)` tokens to groups `(B, groups, length, D)`, with CLS in front where it is a key."""
        groups = self.partition(tokens[:, num_cls:].unflatten(1, grid))
        if not self.keys_cls:
            return groups
        cls_tokens = tokens[:, :num_cls, None]  # one that all groups share, or each group's own
        return [torch.cat([cls_tokens.expand(-1, group.shape[1], -1, -1), group], dim=2) for group in groups]

    def ungroup(self, groups: list[torch.Tensor], num_cls: int, grid: Grid) -> torch.Tensor:
        """Groups of queries `(B, groups, length, D)` to tokens: all, or the patches where CLS is no query."""
        if not self.queries_cls:
            return self.restore(groups, grid).flatten(1, 3)
        patches = self.restore([group[:, :, 1:] for group in groups], grid).flatten(1, 3)
        return torch.cat([average_cls([group[:, :, :1] for group in groups], num_cls), patches], dim=1)


def average_cls(copies: list[torch.Tensor], num_cls: int) -> torch.Tensor:
    """CLS tokens of the groups, `(B, groups, 1, D)` each, to `(B, C, D)`: copies of a single one are averaged."""
    cls_tokens = torch.cat(copies, dim=1).flatten(1, 2)
    return cls_tokens.mean(dim=1, keepdim=True) if num_cls == 1 else cls_tokens


class Clip(Neighborhood):
    """All tokens of the clip (paper, equation 5): one group, which is the sequence as it stands."""

    holds_all_cls = True

    def group(self, tokens, num_cls, grid):
        return [tokens[:, None]]

    def ungroup(self, groups, num_cls, grid):
        return groups[0][:, 0]


class Frame(Neighborhood):
    """The patches of one frame (paper, equation 6)."""

    free_axis = 0

    def partition(self, patches):
        return [patches.flatten(2, 3)]

    def restore(self, groups, grid):
        return groups[0].unflatten(2, grid[1:])


class Time(Neighborhood):
    """The patches of one place in all frames (paper, section 3.5). The CLS token has no place: it is a key only."""

    queries_cls = False
    free_axis = 1

    def __init__(self, config: FALConfig):
        self.keys_cls = config.cls_in_temporal_attention

    def partition(self, patches):
        return [patches.flatten(2, 3).transpose(1, 2)]

    def restore(self, groups, grid):
        return groups[0].transpose(1, 2).unflatten(2, grid[1:])


class Row(Neighborhood):
    """The patches of one row of one frame: axial attention over the width."""

    free_axis = 0

    def partition(self, patches):
        return [patches.flatten(1, 2)]

    def restore(self, groups, grid):
        return groups[0].unflatten(1, grid[:2])


class Column(Neighborhood):
    """The patches of one column of one frame: axial attention over the height."""

    free_axis = 0

    def partition(self, patches):
        return [patches.transpose(2, 3).flatten(1, 2)]

    def restore(self, groups, grid):
        frames, _, columns = grid
        return groups[0].unflatten(1, (frames, columns)).transpose(2, 3)


class CellNeighborhood(Neighborhood):
    """Groups that are cut out of the grid by slices. Cells of one size are attended to in one call."""

    def cells(self, grid: Grid) -> Iterator[Cell]:
        """The slices (time, rows, columns) of each group; none is empty."""
        raise NotImplementedError

    def cells_by_size(self, grid: Grid) -> list[list[Cell]]:
        by_size: dict[tuple[int, ...], list[Cell]] = {}
        for cell in self.cells(grid):
            size = tuple(len(range(length)[part]) for length, part in zip(grid, cell, strict=True))
            by_size.setdefault(size, []).append(cell)
        return list(by_size.values())

    def partition(self, patches):
        frames, rows, columns = patches.shape[1:4]
        return [
            torch.stack([patches[(slice(None), *cell)].flatten(1, 3) for cell in cells], dim=1)
            for cells in self.cells_by_size((frames, rows, columns))
        ]

    def restore(self, groups, grid):
        patches = groups[0].new_empty(groups[0].shape[0], *grid, groups[0].shape[-1])
        for cells, members in zip(self.cells_by_size(grid), groups, strict=True):
            for cell, member in zip(cells, members.unbind(1), strict=True):
                target = patches[(slice(None), *cell)]
                target.copy_(member.view(target.shape))
        return patches


class Local(CellNeighborhood):
    """
    One of the 2 x 2 windows of T x H/2 x W/2 patches that tile the clip (paper, section 3.5). Of an odd side the first
    window has one patch more.
    """

    def cells(self, grid):
        halves = [[slice(0, (side + 1) // 2), slice((side + 1) // 2, side)] for side in grid[1:]]
        for rows, columns in product(*halves):
            if rows.start < grid[1] and columns.start < grid[2]:
                yield slice(0, grid[0]), rows, columns


class Strided(CellNeighborhood):
    """
    The patches of the whole clip at a stride of 2 in time, height and width, counted from the query (paper,
    section 3.5): up to 8 groups, one for each parity of frame, row and column.
    """

    def cells(self, grid):
        for starts in product(range(2), repeat=3):
            if all(start < side for start, side in zip(starts, grid, strict=True)):
                times, rows, columns = (slice(start, side, 2) for start, side in zip(starts, grid, strict=True))
                yield times, rows, columns


NEIGHBORHOODS: dict[str, type[Neighborhood]] = {
    "clip": Clip,
    "frame": Frame,
    "time": Time,
    "row": Row,
    "column": Column,
    "local": Local,
    "strided": Strided,
}


def make_neighborhoods(config: FALConfig, attention_type: str | None = None) -> dict[str, Neighborhood]:
    """The neighborhood of each step of a scheme, by default of the configured one, in its order."""
    steps = ATTENTION_SCHEMES[attention_type or config.attention_type].steps
    return {step: NEIGHBORHOODS[name](config) for step, name in steps.items()}


class FALAttention(FALMultiHeadAttention):
    """Multi-head self-attention within the groups of one neighborhood (paper, equations 2 to 8)."""

    def __init__(self, config: FALConfig, neighborhood: Neighborhood):
        super().__init__(config, head_size=config.hidden_size // config.num_attention_heads)
        self.neighborhood = neighborhood
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        grid: Grid,
        enter: Callable[[torch.Tensor], torch.Tensor],
        leave: Callable[[torch.Tensor], torch.Tensor],
        cls_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        `(B, C + T·H·W, D)` tokens to the same shape, and the weights `(B, groups, heads, queries, keys)`, None where
        the attention implementation keeps them to itself. With `cls_only` the CLS tokens are the only queries and
        `(B, C, D)` comes back. A neighborhood in which CLS is no query returns the patches, `(B, T·H·W, D)`. The
        step says how tokens `(…, D)` become queries, keys and values, `(…, 3·D)`, in `enter`, and what the heads'
        results, side by side, are put through, in `leave`.
        """
        neighborhood, num_cls = self.neighborhood, hidden_states.shape[1] - grid[0] * grid[1] * grid[2]
        first_query = 1 if neighborhood.keys_cls and not neighborhood.queries_cls else 0
        num_asking = num_cls if neighborhood.holds_all_cls else 1
        if first_query:  # CLS is a key of every place in the frame: project it once, then copy
            groups = neighborhood.group(enter(hidden_states), num_cls, grid)
        else:  # few copies of CLS: regroup one tensor instead of three
            groups = neighborhood.group(hidden_states, num_cls, grid)
            groups = [enter(group.flatten(0, 1)).unflatten(0, group.shape[:2]) for group in groups]
        outputs, weights = [], []
        for group in groups:
            query, key, value = group.chunk(3, dim=-1)
            query = query[:, :, :num_asking] if cls_only else query[:, :, first_query:]
            output, weight = self.attend(query, key, value, **kwargs)
            outputs.append(leave(output))
            weights.append(weight)
        joined = join_weights(weights)
        if joined is not None and len(groups) > 1 and kwargs.get("output_attentions"):
            # Gradients are to pass what is returned.
            values = [group.chunk(3, dim=-1)[2] for group in groups]
            parts = split_weights(joined, weights)
            outputs = [leave(self.gather(part, value)) for part, value in zip(parts, values, strict=True)]
        attended = average_cls(outputs, num_cls) if cls_only else neighborhood.ungroup(outputs, num_cls, grid)
        return attended, joined


def join_weights(weights: list[torch.Tensor | None]) -> torch.Tensor | None:
    """
    The weights of all groups of a step, `(B, groups, heads, queries, keys)`. Where groups differ in length the smaller
    ones are padded with zeros.
    """
    known = [weight for weight in weights if weight is not None]
    if len(known) < 2:
        return weights[0]
    queries, keys = (max(weight.shape[axis] for weight in known) for axis in (-2, -1))
    padded = [
        nn.functional.pad(weight, (0, keys - weight.shape[-1], 0, queries - weight.shape[-2])) for weight in known
    ]
    return torch.cat(padded, dim=1)


def split_weights(joined: torch.Tensor, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """What `join_weights` has joined, as parts of what it returned."""
    parts = joined.split([weight.shape[1] for weight in weights], dim=1)
    return [part[..., : weight.shape[-2], : weight.shape[-1]] for part, weight in zip(parts, weights, strict=True)]


class FALZeroLinear(nn.Linear):
    """A Linear that starts at zero: the step that it ends is left out until training moves it."""


class FALAttentionStep(nn.Module):
    """Layer norm, attention and, for an extra step, the Linear that starts at zero and so leaves the step out."""

    def __init__(self, config: FALConfig, neighborhood: Neighborhood, is_extra: bool):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = FALAttention(config, neighborhood)
        self.dense = FALZeroLinear(config.hidden_size, config.hidden_size) if is_extra else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, grid: Grid, cls_only: bool = False, **kwargs) -> torch.Tensor:
        """The residual of the tokens that the step updates: all, the patches, or with `cls_only` the CLS tokens."""
        attention, neighborhood = self.attention, self.attention.neighborhood
        enter = partial(apply_recomputed, attention.qkv, self.layernorm)
        leave = compose_linears(attention.o_proj, self.dense, grid[0] * grid[1] * grid[2])

        def attend(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
            attended, _ = attention(tokens, grid, enter, leave, cls_only, **kwargs)
            return self.dropout(attended)

        if neighborhood.free_axis is None or kwargs.get("output_attentions") or not self._can_part(hidden_states):
            return attend(hidden_states, grid)
        updates = {"has_cls": neighborhood.queries_cls, "has_patches": not cls_only}
        return apply_to_cuts(
            attend, hidden_states, grid, neighborhood.free_axis, attention.qkv.out_features, **updates
        )

    def _can_part(self, hidden_states: torch.Tensor) -> bool:
        linears = [self.attention.qkv, self.attention.o_proj, *([] if self.dense is None else [self.dense])]
        return can_part(hidden_states) and not self.training and is_plain(self, *linears)


class FALMLP(nn.Module):
    """Layer norm and the MLP of one hidden layer that ends a block (paper, equation 9)."""

    def __init__(self, config: FALConfig):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training and can_part(hidden_states) and is_plain(self, self.fc1, self.fc2):
            return apply_to_parts(self._forward, hidden_states, self.fc1.out_features)
        return self._forward(hidden_states)

    def _forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = apply_recomputed(self.fc1, self.layernorm, hidden_states)
        if self.training and self.dropout.p > 0:
            return self.dropout(self.fc2(self.dropout(self.activation_fn(hidden_states))))
        return apply_recomputed(self.fc2, self.activation_fn, hidden_states)


class FALLayer(GradientCheckpointingLayer):
    """
    A block: the attention steps of the scheme, then the MLP, each with its residual (paper, figure 1). With unified
    attention to labels, theirs stand behind the CLS tokens, and what is said of these holds for both.
    """

    def __init__(self, config: FALConfig, layer_index: int):
        super().__init__()
        self.config = config
        is_unified = config.label_attention == "unified" and layer_index >= config.label_integration_layer
        neighborhoods = make_neighborhoods(config, "joint_space_time" if is_unified else None)
        self.steps = nn.ModuleDict(
            {
                name: FALAttentionStep(config, neighborhood, is_extra=name != MAIN_STEP)
                for name, neighborhood in neighborhoods.items()
            }
        )
        # CODEPATH: published checkpoints have time_space; the other orders are the paper's ablation (section 4.14)
        self.order = tuple(self.steps)[::-1] if config.attention_order == "space_time" else tuple(self.steps)
        self.is_parallel = config.attention_order == "parallel"
        self.mlp = FALMLP(config)
        rate = config.drop_path_rate * layer_index / max(config.num_hidden_layers - 1, 1)
        self.drop_path = StochasticDepth(rate, mode="row")

    @property
    def cls_order(self) -> tuple[str, ...]:
        """The steps that the CLS tokens depend on."""
        if self.is_parallel:
            return (MAIN_STEP,)
        return self.order[: self.order.index(MAIN_STEP) + 1]

    @on_fast_linears
    def forward(self, hidden_states: torch.Tensor, grid: Grid, cls_only: bool = False, **kwargs) -> torch.Tensor:
        """`(B, C + T·H·W, D)` tokens to the same shape; with `cls_only` to the CLS tokens alone, `(B, C, D)`."""
        num_cls = hidden_states.shape[1] - grid[0] * grid[1] * grid[2]
        block_input, in_place = hidden_states, is_inference(hidden_states) and is_plain(self)
        if in_place:  # nobody else holds the copy
            hidden_states = hidden_states.clone()
        for name in self.cls_order if cls_only else self.order:
            step_input = block_input if self.is_parallel else hidden_states
            ends_cls = cls_only and name == MAIN_STEP
            residual = self.drop_path(self.steps[name](step_input, grid, cls_only=ends_cls, **kwargs))
            if ends_cls:
                hidden_states = hidden_states[:, :num_cls]
            hidden_states = add_residual(hidden_states, residual, in_place)
            del residual  # its memory is the next one's
        return add_residual(hidden_states, self.drop_path(self.mlp(hidden_states)), in_place)


def add_residual(hidden_states: torch.Tensor, residual: torch.Tensor, in_place: bool) -> torch.Tensor:
    """Adds the residual of all tokens, or of the last ones only: of the patches, where CLS is left as it is."""
    num_left = hidden_states.shape[1] - residual.shape[1]
    if in_place:
        hidden_states[:, num_left:] += residual
        return hidden_states
    if num_left == 0:
        return hidden_states + residual
    return torch.cat([hidden_states[:, :num_left], hidden_states[:, num_left:] + residual], dim=1)


def output_attentions_of_every_step(forward: Callable) -> Callable:
    """Lets `output_attentions` ask for the weights of all steps that the scheme has, not of the main one only."""

    @wraps(forward)
    def wrapper(self, *args, **kwargs):
        if kwargs.get("output_attentions", self.config.output_attentions):
            kwargs["output_attentions"] = True
            steps = {STEP_ATTENTIONS[name] for layer in self.layers for name in layer.steps}
            steps |= {LABEL_MAPS[name] for layer in self.label_layers for name in layer.steps}
            kwargs |= {f"output_{output}": True for output in steps}
        return forward(self, *args, **kwargs)

    return wrapper


@auto_docstring
class FALPreTrainedModel(PreTrainedModel):
    config: FALConfig
    base_model_prefix = "fal"
    main_input_name = "pixel_values"
    input_modalities = ["video"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["FALEmbeddings", "FALLayer", "FALLabelEmbeddings", "FALLabelLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": FALLayer,
        **{
            output: OutputRecorder(FALAttention, index=1, layer_name=f"steps.{step}")
            for step, output in STEP_ATTENTIONS.items()
        },
        **{
            output: OutputRecorder(FALLabelAttention, index=1, layer_name=f"steps.{step}")
            for step, output in LABEL_MAPS.items()
        },
    }
    _input_embed_layer = "patch_embeddings"

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # transformers looks for the attention interface in this module, and it is in another

    def __init__(self, config: FALConfig, *args, **kwargs):
        register_timesformer_names(config.model_type)  # weights are read into a model that is there already
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normal weights and tables, never zero: zero tables hide the order of patches and frames."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, FALZeroLinear):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.trunc_normal_(module.weight, std=std)
        elif isinstance(module, FALGate):
            init.zeros_(module.scale)
        elif isinstance(module, FALGivenEmbeddings):
            init.zeros_(module.weight)
        elif isinstance(module, FALSimilarityHead):
            init.normal_(module.projection.weight, std=self.config.hidden_size**-0.5)
            init.constant_(module.logit_scale, START_LOGIT_SCALE)
            init.zeros_(module.logit_bias)
        elif isinstance(module, FALLabelTree):
            module.reset_buffers()
        elif isinstance(module, FALEmbeddings):
            for table in (module.cls_token, module.position_embeddings, module.time_embeddings):
                if table is not None:
                    init.trunc_normal_(table, std=std)

    def adapt_patches(self, patches: AdaptivePatches | None) -> None:
        """
        Has the model take patches that adapt to the clip, or with None uniform ones, from now on. `save_pretrained`
        keeps the layout of the configuration.

        Raises:
            ValueError: the attention scheme needs a grid of equal patches, or static patches are no joint attention's.
        """
        if patches is not None:
            check_scheme(patches, self.config.attention_type)
        cast(FALModel, self.base_model).embeddings.adaptive_patches = patches

    def save_pretrained(self, save_directory, *args, save_original_format: bool = False, **kwargs):
        """As `PreTrainedModel.save_pretrained`, under FAL's own names whatever layout the weights came from."""
        return super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)


@auto_docstring
class FALModel(FALPreTrainedModel):
    def __init__(self, config: FALConfig):
        super().__init__(config)
        self.embeddings = FALEmbeddings(config)
        first, steps = config.label_integration_layer, LABEL_STEPS[config.label_attention]
        num_label_layers = config.num_hidden_layers - first if steps else 0
        # CODEPATH: published checkpoints have blocks for the features all the way (section 4.1)
        num_layers = first if config.label_attention == "label" else config.num_hidden_layers
        self.layers = nn.ModuleList([FALLayer(config, index) for index in range(num_layers)])
        self.label_layers = nn.ModuleList([FALLabelLayer(config) for _ in range(num_label_layers)])
        # CODEPATH: published checkpoints have no label tokens (section 4.2), and a head for their own labels
        has_label_embeddings = config.label_attention != "none" or config.classifier_type == "similarity"
        self.label_embeddings = FALLabelEmbeddings(config) if has_label_embeddings else None
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @output_attentions_of_every_step
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = True,
        cls_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FALModelOutput:
        r"""
        pixel_values (`torch.Tensor` of shape `(B, frames, channels, height, width)`):
            Clips, normalized as `FALVideoProcessor` does it. Any number of frames and any height and width that the
            patch size divides.
        interpolate_pos_encoding (`bool`, defaults to `True`):
            Fit the position and time tables to the clip's size (bicubic and linear). `False` rejects other sizes.
        cls_only (`bool`, defaults to `False`):
            Leave out of the last block what the CLS token does not depend on. `pooler_output` is the same;
            `last_hidden_state` then holds the CLS token only, `(B, 1, D)`.
        """
        adaptive = self.embeddings.adaptive_patches
        if adaptive is not None and adaptive.share is None:
            return self.forward_groups(pixel_values, interpolate_pos_encoding, cls_only, **kwargs)
        hidden_states, grid = self.forward_features(pixel_values, interpolate_pos_encoding, cls_only, **kwargs)
        return self.forward_labels(hidden_states, grid, cls_only, **kwargs)

    def forward_groups(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool, cls_only: bool, **kwargs
    ) -> FALModelOutput:
        """`forward` of clips whose numbers of tokens may differ: those of one number go through the model together."""
        choice = self.embeddings.choose_tokens(pixel_values)
        groups = group_clips(choice)
        recorded = [f"output_{name}" for name in cast(dict, self._can_record_outputs)]
        if any(kwargs.get(name, getattr(self.config, name, False)) for name in recorded):
            require_one_group(groups)
        outputs = []
        for clips in groups:
            hidden_states, grid = self.forward_features(
                pixel_values[clips], interpolate_pos_encoding, cls_only, choice=choice[clips], **kwargs
            )
            outputs.append(self.forward_labels(hidden_states, grid, cls_only, **kwargs))
        if len(groups) == 1:
            return outputs[0]
        adaptive = cast(AdaptivePatches, self.embeddings.adaptive_patches)
        num_frames = pixel_values.shape[1] if adaptive.merges_cells and not cls_only else 1
        return FALModelOutput(**join_outputs(groups, outputs, num_frames))

    def forward_features(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = True,
        cls_only: bool = False,
        choice: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, Grid]:
        """
        The part of `forward` that does not depend on labels: the tokens after all blocks, `(B, C + T·H·W, D)` or with
        `cls_only` `(B, C, D)`, with labels as tokens those that meet them, `(B, C + T·H·W, D)`; and the grid.
        """
        hidden_states, grid = self.embeddings(pixel_values, interpolate_pos_encoding, choice)
        layers = list(self.layers)
        # CODEPATH: published checkpoints have no label tokens (section 4.2)
        if self.config.label_attention == "none":
            return run_layers(layers, hidden_states, grid, cls_only=cls_only, **kwargs), grid
        return run_layers(layers[: self.config.label_integration_layer], hidden_states, grid, **kwargs), grid

    def forward_labels(
        self, hidden_states: torch.Tensor, grid: Grid, cls_only: bool = False, **kwargs
    ) -> FALModelOutput:
        """The rest of `forward`, of what `forward_features` returns."""
        num_cls, labels = self.embeddings.count_cls(grid), None
        # CODEPATH: published checkpoints have no label tokens (section 4.2)
        if self.config.label_attention != "none":
            hidden_states, labels = self.integrate_labels(hidden_states, num_cls, grid, cls_only=cls_only, **kwargs)
            labels = self.layernorm(labels)
        last_hidden_state = self.join_frames(hidden_states, num_cls)
        return FALModelOutput(
            last_hidden_state=last_hidden_state, pooler_output=last_hidden_state[:, 0], label_hidden_state=labels
        )

    def join_frames(self, hidden_states: torch.Tensor, num_cls: int) -> torch.Tensor:
        """The last layer norm, and the frames' CLS tokens averaged: `(B, C + T·H·W, D)` to `(B, 1 + T·H·W, D)`."""
        # CODEPATH: CLIP's embedding of an image ends with the norm; TimeSformer averages before it
        if self.config.norm_layout == "clip":
            return average_frames(self.layernorm(hidden_states), num_cls)
        return self.layernorm(average_frames(hidden_states, num_cls))

    def integrate_labels(
        self, hidden_states: torch.Tensor, num_cls: int, grid: Grid, *, cls_only: bool, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, C + T·H·W, D)` tokens to those of the features and of the labels, `(B, N, D)`, after all blocks."""
        layers, first = list(self.layers), self.config.label_integration_layer
        label_embeddings = cast(FALLabelEmbeddings, self.label_embeddings)
        labels = label_embeddings(hidden_states.shape[0])
        # CODEPATH: the paper recommends divided attention; unified attention is what it compares (section 4.2)
        if self.config.label_attention == "unified":
            ends = num_cls, num_cls + labels.shape[1]
            hidden_states = torch.cat([hidden_states[:, :num_cls], labels, hidden_states[:, num_cls:]], dim=1)
            hidden_states = run_layers(layers[first:], hidden_states, grid, cls_only=cls_only, **kwargs)
            features = torch.cat([hidden_states[:, : ends[0]], hidden_states[:, ends[1] :]], dim=1)
            return features, hidden_states[:, ends[0] : ends[1]]
        masks = label_embeddings.masks()
        for index, label_layer in enumerate(self.label_layers, start=first):
            hidden_states, labels = label_layer(hidden_states, labels, num_cls, masks, **kwargs)
            block = layers[index : index + 1]  # none with label attention, where features are done
            is_last = index == self.config.num_hidden_layers - 1
            hidden_states = run_layers(block, hidden_states, grid, cls_only=cls_only and is_last, **kwargs)
        return hidden_states[:, :num_cls] if cls_only else hidden_states, labels


def average_frames(hidden_states: torch.Tensor, num_cls: int) -> torch.Tensor:
    """The CLS tokens of the frames, which come first, averaged: `(B, C + T·H·W, D)` to `(B, 1 + T·H·W, D)`."""
    if num_cls == 1:
        return hidden_states
    cls_token = hidden_states[:, :num_cls].mean(dim=1, keepdim=True)
    return torch.cat([cls_token, hidden_states[:, num_cls:]], dim=1)


def run_layers(
    layers: list[nn.Module], hidden_states: torch.Tensor, grid: Grid, *, cls_only: bool = False, **kwargs
) -> torch.Tensor:
    """Puts tokens through blocks; with `cls_only` the last of them returns the CLS tokens alone."""
    for index, layer in enumerate(layers, start=1):
        hidden_states = layer(hidden_states, grid, cls_only=cls_only and index == len(layers), **kwargs)
    return hidden_states


class FALClassificationHead(nn.Module):
    """The paper's head of one hidden layer: Linear, activation, Linear (section 3.5)."""

    def __init__(self, config: FALConfig, width: int, num_labels: int):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, width)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.out_proj = nn.Linear(width, num_labels)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.activation_fn(self.dense(pooled)))


class FALSimilarityHead(nn.Module):
    """
    Scores by likeness, as CLIP's: the cosine of a clip's projected embedding and each label's embedding, times a
    scale, plus a bias. The bias, which softmax does not see, is for scores that are independent of one another.
    """

    def __init__(self, config: FALConfig):
        super().__init__()
        self.projection = nn.Linear(config.hidden_size, config.label_embedding_size, bias=False)
        self.logit_scale = nn.Parameter(torch.empty(()))  # its logarithm
        self.logit_bias = nn.Parameter(torch.empty(()))

    def forward(self, pooled: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """A clip's embedding `(B, D)` and those of labels `(N, size)` to scores `(B, N)`, float32."""
        clip = nn.functional.normalize(self.projection(pooled).float(), dim=-1)
        labels = nn.functional.normalize(embeddings.float(), dim=-1)
        return clip @ labels.T * self.logit_scale.float().exp() + self.logit_bias.float()

    def check_bias(self) -> None:
        """Warns where scores that are independent of one another were never trained."""
        if self.logit_bias == 0:
            warnings.warn(
                "multi_label: this model has never been trained for scores that are independent of one another, they "
                "will all be near one; fine-tune it with --problem_type multi_label_classification",
                stacklevel=3,
            )


@auto_docstring(
    custom_intro="""
    FAL with a classification head on the clip's embedding: a Linear, with `config.classifier_hidden_size` an MLP, or
    with `config.classifier_type="similarity"` the likeness to the labels' embeddings, which `set_labels` changes.
    """
)
class FALVideoClassifierForVideoClassification(FALPreTrainedModel):
    # All three losses are divided by `num_items_in_batch`, so Trainer's accumulated steps equal the large batch.
    accepts_loss_kwargs = True

    def __init__(self, config: FALConfig):
        super().__init__(config)
        self.fal = FALModel(config)
        # CODEPATH: published checkpoints have a linear head, but CLIP, whose labels are given
        if config.classifier_type == "similarity":
            self.classifier = FALSimilarityHead(config)
        # CODEPATH: published checkpoints have a linear head; the paper's is an MLP of one hidden layer (section 3.5)
        elif config.classifier_hidden_size is None:
            self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        else:
            self.classifier = FALClassificationHead(config, config.classifier_hidden_size, self.num_labels)
        # CODEPATH: published checkpoints have no label tokens (section 4.2)
        self.label_head = FALLabelHead(config) if config.label_attention != "none" else None
        self._text_source: Callable[[], TextEncoder | None] | None = None
        self._text_encoder: TextEncoder | None = None
        self.post_init()

    @property
    def num_labels(self) -> int:
        return self.config.num_labels  # pyright: ignore[reportReturnType]  # never None here

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`; a text tower beside the model is read when it is asked for."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if pretrained_model_name_or_path is not None:
            model = loaded[0] if isinstance(loaded, tuple) else loaded
            where = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            model._text_source = partial(TextEncoder.from_pretrained, pretrained_model_name_or_path, **where)
        return loaded

    def save_pretrained(self, save_directory, *args, is_main_process: bool = True, **kwargs):
        """As `PreTrainedModel.save_pretrained`, with the text tower beside the model where it has one."""
        text_encoder = self.text_encoder if is_main_process else None
        if text_encoder is not None:
            text_encoder.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, *args, is_main_process=is_main_process, **kwargs)

    @property
    def text_encoder(self) -> TextEncoder | None:
        """What embeds the texts of labels; None where the model has no label embeddings or came without one."""
        is_open = self.config.classifier_type == "similarity"
        if self._text_encoder is None and self._text_source is not None and is_open:
            self._text_encoder = self._text_source()
        return self._text_encoder

    @text_encoder.setter
    def text_encoder(self, text_encoder: TextEncoder | None):
        self._text_encoder, self._text_source = text_encoder, None  # None is none, wherever the model came from

    @torch.no_grad()
    def set_labels(
        self,
        names: Sequence[str],
        embeddings: torch.Tensor | None = None,
        prompt: str | None = None,
        hierarchy: Mapping[str, str] | None = None,
    ) -> None:
        r"""
        Gives a model with label embeddings other labels; nothing is trained.

        Args:
            names (`list[str]`):
                The labels, in the order of the scores.
            embeddings (`torch.Tensor` of shape `(N, config.label_embedding_size)`, *optional*):
                The embeddings of the labels, then of those above them in the order of `config.label_space`; the text
                encoder's of the prompts unless given.
            prompt (`str`, *optional*, defaults to `config.label_prompt`):
                The text that stands for a label, with `{}` in its place.
            hierarchy (`dict[str, str]`, *optional*):
                Label to its parent. Labels as tokens have one if and only if they were trained with one.

        Raises:
            ValueError: the model has no label embeddings, or no text encoder where embeddings are not given; names are
                missing or there twice; embeddings, prompt or hierarchy are of no use. The model is left as it is.
        """
        space, prompt = self._check_labels(names, prompt, hierarchy)
        if embeddings is None:
            embeddings = self._embed_texts([prompt.replace("{}", name) for name in space.names])
        embeddings = torch.as_tensor(embeddings)
        shape = (len(space.names), self.config.label_embedding_size)
        if tuple(embeddings.shape) != shape:
            raise ValueError(f"expected label embeddings of the shape {shape}, got {tuple(embeddings.shape)}")
        if not torch.isfinite(embeddings).all():
            raise ValueError("expected finite numbers as label embeddings, got others")
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: number for number, name in enumerate(names)}
        self.config.label_hierarchy = None if hierarchy is None else dict(hierarchy)
        self.config.label_prompt = prompt
        cast(FALLabelEmbeddings, self.fal.label_embeddings).set_labels(space, embeddings)

    def require_label_embeddings(self) -> None:
        """Refuses, by a ValueError, a model that cannot be given labels."""
        if self.config.classifier_type != "similarity":
            raise ValueError(
                "expected a model with label embeddings, got one with a head that is trained for "
                f"{self.num_labels} labels; convert a CLIP with `fal convert openai/clip-vit-base-patch16 --labels "
                "my.txt --output DIR`, or train with classifier_type='similarity'"
            )

    def _check_labels(
        self, names: Sequence[str], prompt: str | None, hierarchy: Mapping[str, str] | None
    ) -> tuple[LabelSpace, str]:
        """The space of labels that the model can be given, and the prompt."""
        self.require_label_embeddings()
        check_labels(names)
        prompt = self.config.label_prompt if prompt is None else prompt
        check_prompt(prompt)
        space, has_hierarchy = LabelSpace.of(names, hierarchy), self.config.label_hierarchy is not None
        # CODEPATH: published checkpoints have no label tokens (section 4.2)
        if self.config.label_attention == "none":
            return space, prompt
        space.check_tokens()
        if has_hierarchy != (hierarchy is not None):
            expected, got = ("a hierarchy", "none") if has_hierarchy else ("no hierarchy", "one")
            raise ValueError(f"hierarchy: expected {expected}, as the labels as tokens were trained with, got {got}")
        return space, prompt

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        if self.text_encoder is None:
            raise ValueError(
                "expected a model that came with a text tower, or the embeddings of the labels: a CLIP that "
                "`fal convert` has converted has one, in the folder `text`"
            )
        return self.text_encoder(texts, self.device)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FALVideoClassifierOutput:
        r"""
        pixel_values (`torch.Tensor` of shape `(B, frames, channels, height, width)`):
            Clips, normalized as `FALVideoProcessor` does it.
        labels (`torch.Tensor`, *optional*):
            Class indices `(B,)` for one label a clip (cross-entropy); 0/1 values `(B, num_labels)` for several
            (binary cross-entropy); numbers for `num_labels=1` (mean squared error). `config.problem_type` says which;
            unset, it follows from `num_labels` and the labels' dtype. With a hierarchy of label tokens also a label a
            level, `(B, levels)` numbers in `config.label_space`, -100 where one is not known.
        interpolate_pos_encoding (`bool`, defaults to `True`):
            Fit the position and time tables to the clip's size. `False` rejects other sizes.

        Example:

        ```python
        >>> from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor

        >>> processor = FALVideoProcessor.from_pretrained("SVECTOR-CORPORATION/FAL")
        >>> model = FALVideoClassifierForVideoClassification.from_pretrained("SVECTOR-CORPORATION/FAL")
        >>> logits = model(**processor("video.mp4", return_tensors="pt")).logits
        ```"""
        outputs = self.fal(
            pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            cls_only=self.wants_logits_only(kwargs),
            return_dict=True,
            **kwargs,
        )
        logits, label_logits, label_share = self.score(outputs)
        loss = None if labels is None else self.compute_loss(labels, logits, label_logits, **kwargs)
        own = ("last_hidden_state", "pooler_output", "label_hidden_state")
        captured = {key: value for key, value in outputs.items() if key not in own}
        return FALVideoClassifierOutput(
            loss=loss, logits=logits, label_logits=label_logits, label_share=label_share, **captured
        )

    def score(self, outputs: FALModelOutput) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """
        The scores of the labels, `(B, num_labels)`; with labels as tokens those of all, and the tokens' share. All are
        divided by the temperature.
        """
        logits, temperature = self.score_features(cast(torch.Tensor, outputs.pooler_output)), self.config.temperature
        if self.label_head is None:
            return logits / temperature, None, None
        label_logits, label_share = self.score_labels(outputs, logits)
        label_logits = label_logits / temperature
        return label_logits[:, : self.num_labels], label_logits, label_share

    def score_features(self, pooled: torch.Tensor) -> torch.Tensor:
        """What the feature head says of the model's labels, `(B, num_labels)`, from the clip's embedding `(B, D)`."""
        # CODEPATH: published checkpoints have a head for their own labels, but CLIP
        if self.config.classifier_type == "similarity":
            table = cast(FALLabelEmbeddings, self.fal.label_embeddings).embeddings.weight
            return self.classifier(pooled, table[: self.num_labels])
        return self.classifier(pooled)

    def score_labels(self, outputs: FALModelOutput, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores of all labels, `(B, N)`, and the share `(B,)` of the label tokens in them."""
        head = cast(FALLabelHead, self.label_head)
        return head(outputs.label_hidden_state, outputs.pooler_output, logits, self.label_tree)

    @property
    def label_tree(self) -> FALLabelTree:
        """Who stands above whom among the labels; with labels as tokens."""
        return cast(FALLabelEmbeddings, self.fal.label_embeddings).tree

    def wants_logits_only(self, kwargs: Mapping[str, Any]) -> bool:
        """
        Whether the last block may be cut short: not when its other outputs are asked for, nor in training where that
        would leave parameters without a gradient, which DistributedDataParallel does not allow.
        """
        last_layer = [cast(FALLayer, layer) for layer in self.fal.layers][-1:]  # none where labels begin at once
        if self.training and any(set(layer.cls_order) != set(layer.order) for layer in last_layer):
            return False
        wanted = (kwargs.get(key, getattr(self.config, key)) for key in ("output_hidden_states", "output_attentions"))
        return not any(value not in (None, False) for value in wanted)

    def compute_loss(
        self, labels: torch.Tensor, logits: torch.Tensor, label_logits: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """The loss of `config.problem_type`, divided by `num_items_in_batch` where it is given."""
        # CODEPATH: published checkpoints have no hierarchy of labels (section 4.2)
        if label_logits is not None and self.config.label_hierarchy is not None:
            return self.compute_hierarchy_loss(labels, logits, label_logits, **kwargs)
        return self.compute_flat_loss(labels, logits, **kwargs)

    def compute_flat_loss(self, labels: torch.Tensor, logits: torch.Tensor, **kwargs) -> torch.Tensor:
        """The loss of labels that nothing stands above."""
        loss = self.loss_function(labels, logits, self.config, **kwargs)
        num_items = kwargs.get("num_items_in_batch")
        if num_items is not None and self.config.problem_type != "single_label_classification":
            loss = loss * labels.numel() / num_items
        return loss

    def compute_hierarchy_loss(
        self, labels: torch.Tensor, logits: torch.Tensor, label_logits: torch.Tensor, **kwargs
    ) -> torch.Tensor:
        """
        The loss with labels above: several labels make those above them true as well; to the loss of one label comes
        the mean of the levels' losses, each among the labels of one level; with a label a level it is that alone.
        """
        tree, num_items = self.label_tree, kwargs.get("num_items_in_batch")
        if labels.is_floating_point():
            targets = tree.lift(labels, "amax")
            if num_items is not None:  # of the labels alone
                kwargs["num_items_in_batch"] = num_items * targets.shape[1] / labels.shape[1]
            return self.compute_flat_loss(targets, label_logits, **kwargs)
        numbers = labels if labels.ndim == 2 else labels[:, None]
        targets = torch.zeros_like(label_logits, dtype=torch.float32)
        targets = targets.scatter_add(1, numbers.clamp(min=0), (numbers >= 0).float())
        if labels.ndim == 2:  # an item is a label of a level
            num_known = (labels >= 0).sum().clamp(min=1) if num_items is None else num_items
            return tree.level_loss(label_logits, targets, num_known / labels.shape[1])
        level_loss = tree.level_loss(label_logits, tree.lift(targets, "sum"), num_items)
        return level_loss + self.compute_flat_loss(labels, logits, **kwargs)


__all__ = [
    "FALModel",
    "FALModelOutput",
    "FALPreTrainedModel",
    "FALVideoClassifierForVideoClassification",
    "FALVideoClassifierOutput",
]
