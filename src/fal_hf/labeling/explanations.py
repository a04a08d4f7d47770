"""
Where a model looked: from a label's score back through every attention step to the patches of the clip.

Two methods, of which each follows one row of the product of all steps, as vector times matrix. The matrices are never
made: what a step does to its tokens is linear given its weights, so its product with a row is a vector-Jacobian
product through the model's own grouping of tokens, which holds for every attention scheme.

* Gradient (Chefer et al. 2021, arXiv:2103.15679): the weights of each head by the label's gradient, what lowers the
  label's score left out. It says what speaks for one label.
* Rollout (Abnar and Zuidema 2020, arXiv:2005.00928): each token is half itself and half what it attends to, the mean
  of the heads. It says where the clip's embedding is from, whatever the label; labels as tokens have each their own.

Shapes: B clips, T frames, H rows and W columns of patches, C CLS tokens, F = C + P features (P = T·H·W but for patches
that adapt), N label tokens. Relevance is (B, F + N, 1), in the order CLS, patches, labels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import cast

import numpy as np
import torch
from torch import nn

from ..model.attention_schemes import STEP_ATTENTIONS, Grid
from ..model.label_attention import FALLabelAttention
from ..model.label_space import LABEL_MAPS
from ..model.modeling_fal import (
    FALEmbeddings,
    FALLayer,
    FALVideoClassifierForVideoClassification,
    FALVideoClassifierOutput,
    Neighborhood,
)
from .options import EXPLANATION_METHODS

Mix = Callable[[torch.Tensor], torch.Tensor]
# The weights of each step of a kind, in the order of the blocks.
Maps = dict[str, list[torch.Tensor]]

# Who asks whom in a step of the labels.
LABEL_CROSSINGS = {
    "level": ("labels", "labels"),
    "family": ("labels", "labels"),
    "features": ("labels", "features"),
    "labels": ("features", "labels"),
}


@dataclass(frozen=True, eq=False)
class Explanation:
    """
    Where a model looked in a video for a label.

    Args:
        video: Path or URL as it was given; a description where bytes or a file object were given.
        label: The label.
        score: What the labeler says of it for this video, in [0, 1].
        method: `"gradient"` or `"rollout"`.
        heat: `(T, H, W)` float32, at least 0: the share of each patch of each frame. It sums to 1, or is 0 all over
            where nothing speaks for the label. The T frames are those of all clips, each once; one that stands in
            several places has the mean of its heat there.
        seconds: `(T,)` float64, when each frame is on display, after the video's first frame, rising.
        frames: `(T, height, width, 3)` uint8 RGB: what the model saw of each frame, its crop, in more of the video's
            own pixels. The heat covers all of it.
    """

    video: str
    label: str
    score: float
    method: str
    heat: np.ndarray
    seconds: np.ndarray
    frames: np.ndarray

    @property
    def by_frame(self) -> np.ndarray:
        """The share of each frame, `(T,)` float32, which sum to 1 as `heat` does."""
        return self.heat.sum(axis=(1, 2))


def check_method(method: str) -> None:
    """Refuses, by a ValueError, what is no method."""
    if method not in EXPLANATION_METHODS:
        raise ValueError(f"method: expected one of {', '.join(EXPLANATION_METHODS)}, got {method!r}")


def check_attention(model: nn.Module) -> None:
    """Refuses, by a ValueError, a model that does not show what it attends to, such as an exported one."""
    if not isinstance(getattr(model, "fal", None), nn.Module):
        raise ValueError(
            f"expected a FAL checkpoint in torch, whose attention can be followed, got {type(model).__name__}; of an "
            "export take the checkpoint that it was made from"
        )


def explain_clips(
    model: FALVideoClassifierForVideoClassification, pixel_values: torch.Tensor, label: int, method: str = "gradient"
) -> torch.Tensor:
    """
    The relevance of each patch of some clips for a label.

    Args:
        model: A classifier in evaluation mode.
        pixel_values: `(B, T, channels, height, width)`. With a threshold of adaptive patches, clips of as many tokens
            as one another.
        label: The label's number.
        method: `"gradient"` or `"rollout"`.

    Returns:
        `(B, T, H, W)` float32 of at least 0: with rollout shares that sum to 1 with what stays in the CLS and label
        tokens, else of any scale.

    Raises:
        ValueError: there is no such method, or the model does not show what it attends to.
    """
    check_method(method)
    check_attention(model)
    is_gradient, embeddings = method == "gradient", model.fal.embeddings
    with torch.no_grad():
        tokens, grid = embeddings(pixel_values)
    with torch.set_grad_enabled(is_gradient), recorded_gates(model) as gates:
        # `forward` itself: a compiled model would be compiled again for what it is to return here.
        inputs = pixel_values.detach().requires_grad_(is_gradient)  # weights of a frozen model have gradients, too
        outputs = model.forward(inputs, output_attentions=True, return_dict=True)
        names = (*STEP_ATTENTIONS.values(), *LABEL_MAPS.values())
        weights = {name: list(outputs[name]) for name in names if outputs.get(name) is not None}
        logits = cast(torch.Tensor, outputs.logits)
        maps = weigh_heads(weights, logits[:, label].sum()) if is_gradient else average_heads(weights, gates)
    with torch.no_grad():
        num_cls = embeddings.count_cls(grid)
        relevance = start_relevance(model, outputs, label, num_cls, tokens.shape[1])
        for mixes in reversed(list_stages(model, maps, num_cls, grid)):
            relevance = pull_back(relevance, mixes, normalizes=not is_gradient)
        patches = relevance[:, num_cls : tokens.shape[1], 0]
        return spread_tokens(embeddings, pixel_values, patches, grid)


@contextmanager
def recorded_gates(model: FALVideoClassifierForVideoClassification) -> Iterator[Maps]:
    """What the gates of a model's label layers let through while it runs, `(B, heads)` each."""
    gates: Maps = {}

    def record(module: nn.Module, inputs: tuple, passed: torch.Tensor, *, name: str) -> None:
        gates.setdefault(name, []).append(passed.detach())

    steps = [
        (LABEL_MAPS[name], cast(FALLabelAttention, step))
        for layer in model.fal.label_layers
        for name, step in cast(nn.ModuleDict, layer.steps).items()
    ]
    hooks = [
        step.gate.register_forward_hook(partial(record, name=name)) for name, step in steps if step.gate is not None
    ]
    try:
        yield gates
    finally:
        for hook in hooks:
            hook.remove()


# ---- heads ----


def average_heads(weights: Maps, gates: Maps) -> Maps:
    """The mean of the heads, `(..., heads, queries, keys)` to `(..., queries, keys)`; a gate scales each head."""

    def average(name: str, number: int, weight: torch.Tensor) -> torch.Tensor:
        if name in gates:
            weight = weight * gates[name][number].abs()[..., None, None]
        return weight.float().mean(dim=-3)

    return {
        name: [average(name, number, weight) for number, weight in enumerate(of_blocks)]
        for name, of_blocks in weights.items()
    }


def weigh_heads(weights: Maps, logit: torch.Tensor) -> Maps:
    """The mean of the heads, each times the gradient of a score, of which what lowers the score is left out."""
    known = [weight for of_blocks in weights.values() for weight in of_blocks if weight.requires_grad]
    gradients = iter(torch.autograd.grad(logit, known, allow_unused=True, materialize_grads=True))

    def weigh(weight: torch.Tensor) -> torch.Tensor:
        gradient = next(gradients) if weight.requires_grad else torch.zeros_like(weight)
        return (weight.detach() * gradient).float().clamp(min=0).mean(dim=-3)

    return {name: [weigh(weight) for weight in of_blocks] for name, of_blocks in weights.items()}


# ---- backward through the steps ----


def start_relevance(
    model: FALVideoClassifierForVideoClassification,
    outputs: FALVideoClassifierOutput,
    label: int,
    num_cls: int,
    num_features: int,
) -> torch.Tensor:
    """What a score is read from, `(B, F + N, 1)`: the CLS tokens and, by its share, the label's own token."""
    logits = cast(torch.Tensor, outputs.logits)
    features = logits.new_zeros(len(logits), num_features, dtype=torch.float32)
    features[:, :num_cls] = 1 / num_cls
    if outputs.label_logits is None or outputs.label_share is None:
        return features[..., None]
    label_logits, share = outputs.label_logits.detach().float(), outputs.label_share.detach().float()[:, None]
    parents = model.label_tree.space.parents
    sources = [[find_source(scores, label, parents)] for scores in label_logits.tolist()]
    index = torch.tensor(sources, device=share.device)
    labels = torch.zeros_like(label_logits).scatter(1, index, share)
    return torch.cat([(1 - share) * features, labels], dim=1)[..., None]


def find_source(scores: list[float], label: int, parents: tuple[int, ...]) -> int:
    """Whose score a label has: its own, or that of one below it where that is as large."""
    children = [number for number, parent in enumerate(parents) if parent == label]
    best = max(children, key=scores.__getitem__, default=label)
    return label if best == label or scores[best] < scores[label] else find_source(scores, best, parents)


def list_stages(
    model: FALVideoClassifierForVideoClassification, maps: Maps, num_cls: int, grid: Grid
) -> list[list[Mix]]:
    """What a model does to its tokens, `(B, F + N, 1)`: in the order of the clip steps, or several side by side."""
    config, left = model.config, {name: iter(of_blocks) for name, of_blocks in maps.items()}
    num_features, first = num_cls + prod(grid), config.label_integration_layer
    num_labels = 0 if config.label_attention == "none" else len(config.label_space.names)
    places = {"features": slice(0, num_features), "labels": slice(num_features, num_features + num_labels)}
    # With unified attention the labels stand behind the CLS tokens.
    unified = [*range(num_cls), *range(num_cls + num_labels, num_features + num_labels)]
    unified += range(num_cls, num_cls + num_labels)
    stages: list[list[Mix]] = []
    for index in range(config.num_hidden_layers):
        for label_layer in model.fal.label_layers[index - first : index - first + 1] if index >= first else ():
            for name in cast(nn.ModuleDict, label_layer.steps):
                queries, keys = (places[side] for side in LABEL_CROSSINGS[name])
                stages.append([partial(mix_across, weights=next(left[LABEL_MAPS[name]]), queries=queries, keys=keys)])
        for layer in cast(list[FALLayer], model.fal.layers[index : index + 1]):
            is_unified = config.label_attention == "unified" and index >= first
            steps: list[Mix] = []
            for name in layer.order:
                weights = next(left[STEP_ATTENTIONS[name]])
                if is_unified:
                    weights = weights[..., unified, :][..., unified]
                neighborhood = cast(Neighborhood, layer.get_submodule(f"steps.{name}.attention").neighborhood)
                among = num_features + num_labels if is_unified else num_features
                about = {"neighborhood": neighborhood, "num_tokens": among, "num_cls": num_cls, "grid": grid}
                steps.append(partial(mix_neighbors, weights=weights, **about))
            stages += [steps] if layer.is_parallel else [[step] for step in steps]
    return stages


def pull_back(relevance: torch.Tensor, mixes: list[Mix], *, normalizes: bool) -> torch.Tensor:
    """
    Relevance `(B, F + N, 1)` after some steps side by side to that before them: r·(I + ΣA), with `normalizes` of rows
    that sum to 1.
    """
    passes = [torch.func.vjp(mix, torch.ones_like(relevance)) for mix in mixes]  # of ones: the sums of the rows
    if normalizes:
        relevance = relevance / (1 + sum(row_sums for row_sums, *_ in passes))
    return relevance + sum(pull(relevance)[0] for _, pull, *_ in passes)


def mix_neighbors(
    tokens: torch.Tensor,
    *,
    weights: torch.Tensor,
    neighborhood: Neighborhood,
    num_tokens: int,
    num_cls: int,
    grid: Grid,
) -> torch.Tensor:
    """
    What a step of the features brings to each token, `(B, F + N, 1)` to the same; those that do not ask get nothing.

    Args:
        tokens: `(B, F + N, 1)`.
        weights: `(B, groups, queries, keys)`, smaller groups filled up with zeros.
        neighborhood: Who attends to whom.
        num_tokens: How many of the tokens take part, from the first one on.
        num_cls: C.
        grid: Of the patches.
    """
    mixed, start = [], 0
    for group in neighborhood.group(tokens[:, :num_tokens], num_cls, grid):  # (B, groups of a length, length, 1)
        stop, length = start + group.shape[1], group.shape[2]
        num_queries = length - (neighborhood.keys_cls and not neighborhood.queries_cls)
        mixed.append(weights[:, start:stop, :num_queries, :length] @ group)
        start = stop
    asking = neighborhood.ungroup(mixed, num_cls, grid)
    before = num_tokens - asking.shape[1]
    return nn.functional.pad(asking, (0, 0, before, tokens.shape[1] - num_tokens))


def mix_across(tokens: torch.Tensor, *, weights: torch.Tensor, queries: slice, keys: slice) -> torch.Tensor:
    """What a step of the labels brings to each token, `(B, F + N, 1)` to the same; `weights` (B, queries, keys)."""
    return nn.functional.pad(weights @ tokens[:, keys], (0, 0, queries.start, tokens.shape[1] - queries.stop))


# ---- tokens to patches ----


def spread_tokens(
    embeddings: FALEmbeddings, pixel_values: torch.Tensor, tokens: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Values of the patch tokens, `(B, P)`, in equal parts to the patches that they stand for, `(B, T, H, W)`."""
    adaptive, (frames, height, width) = embeddings.adaptive_patches, (pixel_values.shape[axis] for axis in (1, 3, 4))
    size = embeddings.patch_embeddings.patch_size
    full_grid = (frames, height // size, width // size)
    if adaptive is None or (adaptive.merges_cells and not embeddings.merges_cells(full_grid)):
        return tokens.unflatten(1, grid)
    places = embeddings.find_places(pixel_values)
    if adaptive.merges_cells:
        return spread_cells(tokens.unflatten(1, (frames, -1)), places, full_grid)
    return spread_kept(tokens, places, full_grid)


def spread_cells(values: torch.Tensor, places: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Values of the places of each frame, `(B, T, N)`, to their patches; `places` `(B, N, 3)` as found."""
    row, column, side = places.unbind(-1)
    patches = values.new_zeros(*values.shape[:2], grid[1] * grid[2])
    for down, across in product(range(2), repeat=2):
        is_covered = (down < side) & (across < side)
        index = torch.where(is_covered, (row + down) * grid[2] + column + across, 0)[:, None].expand_as(values)
        patches.scatter_add_(2, index, values * (is_covered / side**2)[:, None])
    return patches.unflatten(2, grid[1:])


def spread_kept(values: torch.Tensor, places: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Values of the patches that are kept, `(B, N)`, to them and those of later frames that they stand for."""
    frame, row, column = places.unbind(-1)
    numbers = torch.arange(values.shape[1], device=values.device).expand_as(values)
    first_holder = torch.zeros(len(values), prod(grid), dtype=torch.long, device=values.device)
    first_holder.scatter_(1, (frame * grid[1] + row) * grid[2] + column, numbers)
    # Numbers rise from frame to frame, and all patches of the first frame are kept.
    holder = first_holder.unflatten(1, grid).cummax(dim=1).values.flatten(1)
    count = torch.zeros_like(values).scatter_add_(1, holder, torch.ones_like(holder, dtype=values.dtype))
    return (values / count).gather(1, holder).unflatten(1, grid)


__all__ = ["Explanation", "check_attention", "check_method", "explain_clips"]
