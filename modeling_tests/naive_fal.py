"""
FAL as its definition says it, token by token: which keys a query sees is a question put to each pair of patches, and
attention is masked attention over the whole sequence. Slow, and shares nothing with fal_hf but the parameters.
"""

from itertools import product

import torch
from torch.nn import functional as F


def half(index: int, length: int) -> int:
    """Which of the two windows along an axis; of an odd length the first has one more."""
    return int(2 * index >= length + length % 2)


# Whether two patches (t, h, w) of a grid (T, H, W) are neighbors.
ARE_NEIGHBORS = {
    "frame": lambda a, b, grid: a[0] == b[0],
    "clip": lambda a, b, grid: True,
    "time": lambda a, b, grid: a[1:] == b[1:],
    "row": lambda a, b, grid: a[:2] == b[:2],
    "column": lambda a, b, grid: (a[0], a[2]) == (b[0], b[2]),
    "local": lambda a, b, grid: all(half(a[i], grid[i]) == half(b[i], grid[i]) for i in (1, 2)),
    "strided": lambda a, b, grid: all((a[i] - b[i]) % 2 == 0 for i in range(3)),
}

SCHEMES = {
    "space_only": [("main", "frame")],
    "joint_space_time": [("main", "clip")],
    "divided_space_time": [("temporal", "time"), ("main", "frame")],
    "sparse_local_global": [("local", "local"), ("main", "strided")],
    "axial": [("temporal", "time"), ("row", "row"), ("main", "column")],
}


def neighbor_mask(kind: str, grid: tuple[int, int, int]) -> torch.Tensor:
    """`(T·H·W, T·H·W)` booleans: whether the row's patch sees the column's."""
    places = list(product(*(range(side) for side in grid)))
    return torch.tensor([[ARE_NEIGHBORS[kind](a, b, grid) for b in places] for a in places])


def masked_attention(query, key, value, mask, num_heads):
    """`(B, queries, D)`, `(B, keys, D)` twice and a mask `(queries, keys)` to `(B, queries, D)`."""
    outputs = []
    for head in range(num_heads):
        part = slice(head * query.shape[-1] // num_heads, (head + 1) * query.shape[-1] // num_heads)
        q, k, v = query[..., part], key[..., part], value[..., part]
        scores = q @ k.mT / q.shape[-1] ** 0.5
        outputs.append(scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v)
    return torch.cat(outputs, dim=-1)


def attention(module, tokens, kind: str, grid, cls_is_key: bool):
    """
    Self-attention of `(B, 1 + T·H·W, D)` tokens. The CLS token asks once in every group of neighbors and its answers
    are averaged; in time it does not ask, and None stands for its answer.
    """
    query, key, value = F.linear(tokens, module.qkv.weight, module.qkv.bias).chunk(3, dim=-1)
    neighbors = neighbor_mask(kind, grid)
    sees_cls = torch.full((len(neighbors), 1), cls_is_key)
    mask = torch.cat([sees_cls, neighbors], dim=1)
    patches = masked_attention(query[:, 1:], key, value, mask, module.num_heads)
    patches = F.linear(patches, module.o_proj.weight, module.o_proj.bias)
    if kind == "time":
        return None, patches
    answers = []
    for group in sorted({tuple(row) for row in neighbors.tolist()}):
        cls_mask = torch.tensor([[True, *group]])
        answers.append(masked_attention(query[:, :1], key, value, cls_mask, module.num_heads))
    cls_token = torch.stack(answers).mean(0)
    return F.linear(cls_token, module.o_proj.weight, module.o_proj.bias), patches


def step(module, tokens, kind: str, grid, cls_is_key: bool):
    """The residual `(B, 1 + T·H·W, D)` of one attention step."""
    norm = module.layernorm
    normed = F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    cls_token, patches = attention(module.attention, normed, kind, grid, cls_is_key)
    if module.dense is not None:
        patches = F.linear(patches, module.dense.weight, module.dense.bias)
        cls_token = None if cls_token is None else F.linear(cls_token, module.dense.weight, module.dense.bias)
    if cls_token is None:
        cls_token = torch.zeros_like(tokens[:, :1])
    return torch.cat([cls_token, patches], dim=1)


def mlp(module, tokens):
    norm = module.layernorm
    hidden = F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    hidden = F.gelu(F.linear(hidden, module.fc1.weight, module.fc1.bias))
    return F.linear(hidden, module.fc2.weight, module.fc2.bias)


def block(layer, tokens, grid, config):
    steps = SCHEMES[config.attention_type]
    if config.attention_order == "space_time":
        steps = steps[::-1]
    block_input = tokens
    for name, kind in steps:
        step_input = block_input if config.attention_order == "parallel" else tokens
        cls_is_key = config.cls_in_temporal_attention or kind != "time"
        tokens = tokens + step(layer.steps[name], step_input, kind, grid, cls_is_key)
    return tokens + mlp(layer.mlp, tokens)


def embed(embeddings, pixel_values, config):
    """Tokens `(B, 1 + T·H·W, D)` of clips that have the configured size."""
    size, tokens = config.patch_size, []
    weight, bias = embeddings.patch_embeddings.projection.weight, embeddings.patch_embeddings.projection.bias
    frames, rows, columns = config.grid_size
    for t, h, w in product(range(frames), range(rows), range(columns)):
        pixels = pixel_values[:, t, :, h * size : (h + 1) * size, w * size : (w + 1) * size]
        token = pixels.reshape(len(pixels), -1) @ weight.T + bias
        if embeddings.position_embeddings is not None:
            token = token + embeddings.position_embeddings[0, 1 + h * columns + w]
        if embeddings.time_embeddings is not None:
            token = token + embeddings.time_embeddings[0, t]
        tokens.append(token)
    cls_token = embeddings.cls_token[0, 0]
    if embeddings.position_embeddings is not None:
        cls_token = cls_token + embeddings.position_embeddings[0, 0]
    return torch.stack([cls_token.expand_as(tokens[0]), *tokens], dim=1)


def encode(model, tokens, grid, config):
    for layer in model.layers:
        tokens = block(layer, tokens, grid, config)
    return tokens


def naive_logits(classifier, pixel_values: torch.Tensor) -> torch.Tensor:
    """Logits `(B, num_labels)` of a classifier with a linear head, for clips of the configured size."""
    model, config = classifier.fal, classifier.config
    tokens = embed(model.embeddings, pixel_values, config)
    frames, rows, columns = config.grid_size
    if config.attention_type == "space_only":  # an image transformer a frame; their outputs are averaged
        patches = tokens[:, 1:].unflatten(1, (frames, rows * columns))
        per_frame = [torch.cat([tokens[:, :1], patches[:, t]], dim=1) for t in range(frames)]
        cls_token = torch.stack([encode(model, x, (1, rows, columns), config)[:, 0] for x in per_frame]).mean(0)
    else:
        cls_token = encode(model, tokens, config.grid_size, config)[:, 0]
    norm = model.layernorm
    pooled = F.layer_norm(cls_token, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return F.linear(pooled, classifier.classifier.weight, classifier.classifier.bias)
