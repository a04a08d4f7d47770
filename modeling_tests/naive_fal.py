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
    tokens = torch.stack([cls_token.expand_as(tokens[0]), *tokens], dim=1)
    return norm(embeddings.layernorm, tokens) if config.norm_layout == "clip" else tokens


def encode(model, tokens, grid, config):
    for layer in model.layers:
        tokens = block(layer, tokens, grid, config)
    return tokens


def norm(module, tokens):
    return F.layer_norm(tokens, module.normalized_shape, module.weight, module.bias, module.eps)


# ---- labels as tokens ----


def label_names(config) -> list[str]:
    """The model's labels, then those above them in the order in which the hierarchy names them once it is sorted."""
    names = [config.id2label[number] for number in range(config.num_labels)]
    for _, parent in sorted((config.label_hierarchy or {}).items()):
        names += [parent] * (parent not in names)
    return names


def level_of(name: str, hierarchy: dict[str, str]) -> int:
    return 1 + level_of(hierarchy[name], hierarchy) if name in hierarchy else 0


def label_mask(step: str, names: list[str], hierarchy: dict[str, str]) -> torch.Tensor:
    """`(N, N)` booleans: whether the row's label sees the column's among the labels."""
    sees = {
        "level": lambda a, b: level_of(a, hierarchy) == level_of(b, hierarchy),
        "family": lambda a, b: a == b or hierarchy.get(a) == b or hierarchy.get(b) == a,
    }[step]
    return torch.tensor([[sees(a, b) for b in names] for a in names])


def crossing(module, queries, keys, clip, mask):
    """What queries get from keys, by a module with `q_proj`, `kv_proj`, `o_proj` and perhaps a gate."""
    query = F.linear(queries, module.q_proj.weight, module.q_proj.bias)
    key, value = F.linear(keys, module.kv_proj.weight, module.kv_proj.bias).chunk(2, dim=-1)
    attended = masked_attention(query, key, value, mask, module.num_heads)
    if module.gate is not None:
        share = torch.sigmoid(F.linear(clip, module.gate.share.weight, module.gate.share.bias))
        gate = (torch.tanh(module.gate.scale) * share).repeat_interleave(
            attended.shape[-1] // module.num_heads, dim=-1
        )
        attended = attended * gate[:, None]
    return F.linear(attended, module.o_proj.weight, module.o_proj.bias)


def label_layer(layer, features, labels, num_cls: int, config):
    names, hierarchy = label_names(config), config.label_hierarchy or {}
    clip = features[:, :num_cls].mean(1)
    seen_features = norm(layer.layernorms["features_in"], features)
    everything = torch.ones(max(len(names), features.shape[1]), max(len(names), features.shape[1]), dtype=torch.bool)
    for step in ("level", "family") if hierarchy else ("level",):
        normed = norm(layer.layernorms[step], labels)
        labels = labels + crossing(layer.steps[step], normed, normed, clip, label_mask(step, names, hierarchy))
    normed, mask = norm(layer.layernorms["features"], labels), everything[: len(names), : features.shape[1]]
    labels = labels + crossing(layer.steps["features"], normed, seen_features, clip, mask)
    if config.label_attention == "divided":
        normed, mask = norm(layer.layernorms["labels"], labels), everything[: features.shape[1], : len(names)]
        features = features + crossing(layer.steps["labels"], seen_features, normed, clip, mask)
    hidden = norm(layer.layernorms["mlp"], labels)
    hidden = F.gelu(F.linear(hidden, layer.mlp.fc1.weight, layer.mlp.fc1.bias))
    return features, labels + F.linear(hidden, layer.mlp.fc2.weight, layer.mlp.fc2.bias)


def unified_block(layer, features, labels, config):
    """One attention and one MLP over all tokens, whatever their order."""
    tokens = torch.cat([labels, features], dim=1)
    step = layer.steps["main"]
    query, key, value = F.linear(
        norm(step.layernorm, tokens), step.attention.qkv.weight, step.attention.qkv.bias
    ).chunk(3, dim=-1)
    mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    attended = masked_attention(query, key, value, mask, step.attention.num_heads)
    tokens = tokens + F.linear(attended, step.attention.o_proj.weight, step.attention.o_proj.bias)
    tokens = tokens + mlp(layer.mlp, tokens)
    return tokens[:, labels.shape[1] :], tokens[:, : labels.shape[1]]


def frames_apart(tokens, grid):
    """`(B, 1 + T·H·W, D)` tokens as clips of one frame, `(T·B, 1 + H·W, D)`, each with a CLS token."""
    patches = tokens[:, 1:].unflatten(1, (grid[0], -1))
    return torch.cat([torch.cat([tokens[:, :1], patches[:, t]], dim=1) for t in range(grid[0])])


def frames_together(frames, grid):
    """The inverse, with a CLS token for each frame: `(B, T + T·H·W, D)`."""
    by_frame = frames.unflatten(0, (grid[0], -1)).transpose(0, 1)
    return torch.cat([by_frame[:, :, 0], by_frame[:, :, 1:].flatten(1, 2)], dim=1)


def feature_block(layer, features, grid, config):
    """A block of the scheme, on tokens that have a CLS token for each frame where frames do not see one another."""
    if config.attention_type != "space_only":
        return block(layer, features, grid, config)
    cls_tokens, patches = features[:, : grid[0]], features[:, grid[0] :].unflatten(1, (grid[0], -1))
    frames = torch.cat([torch.cat([cls_tokens[:, t, None], patches[:, t]], dim=1) for t in range(grid[0])])
    return frames_together(block(layer, frames, (1, *grid[1:]), config), grid)


def naive_similarity(head, pooled: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Scores `(B, N)` of a similarity head for clips `(B, D)` and labels `(N, size)`."""
    clips = pooled @ head.projection.weight.T
    cosines = [[F.cosine_similarity(clip, label, dim=0) for label in embeddings] for clip in clips]
    return torch.stack([torch.stack(row) for row in cosines]) * head.logit_scale.exp() + head.logit_bias


def naive_label_scores(classifier, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores `(B, N)` of all labels and the label tokens' share `(B, 1)`, of a linear or similarity head."""
    model, config = classifier.fal, classifier.config
    grid, first = config.grid_size, config.label_integration_layer
    features = embed(model.embeddings, pixel_values, config)
    num_cls = 1
    if config.attention_type == "space_only":
        num_cls, features = grid[0], frames_together(frames_apart(features, grid), grid)
    for layer in model.layers[:first]:
        features = feature_block(layer, features, grid, config)
    tokens = model.label_embeddings
    labels = F.linear(tokens.embeddings.weight, tokens.projection.weight, tokens.projection.bias)
    labels = labels.expand(len(features), -1, -1)
    for index in range(config.num_hidden_layers - first):
        if config.label_attention == "unified":
            features, labels = unified_block(model.layers[first + index], features, labels, config)
            continue
        features, labels = label_layer(model.label_layers[index], features, labels, num_cls, config)
        if config.label_attention == "divided":
            features = feature_block(model.layers[first + index], features, grid, config)
    pooled = norm(model.layernorm, features[:, :num_cls].mean(1))
    head = classifier.label_head
    share = torch.sigmoid(F.linear(pooled, head.balance.weight, head.balance.bias))
    own = F.linear(norm(model.layernorm, labels), head.scorer.weight, head.scorer.bias).squeeze(-1)
    if config.classifier_type == "similarity":
        logits = naive_similarity(classifier.classifier, pooled, tokens.embeddings.weight[: config.num_labels])
    else:
        logits = F.linear(pooled, classifier.classifier.weight, classifier.classifier.bias)
    names, hierarchy = label_names(config), config.label_hierarchy or {}
    from_features = highest_below(names, hierarchy, dict(zip(names, logits.unbind(1), strict=False)))
    mixed = {
        name: share[:, 0] * own[:, number] + (1 - share[:, 0]) * from_features[name]
        for number, name in enumerate(names)
    }
    highest = highest_below(names, hierarchy, mixed)
    return torch.stack([highest[name] for name in names], dim=1) / config.temperature, share


def highest_below(names, hierarchy, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of each name the highest score among its own, if it has one, and those of all below it."""

    def is_below(name, ancestor):
        return name == ancestor or (name in hierarchy and is_below(hierarchy[name], ancestor))

    return {
        above: torch.stack([score for name, score in scores.items() if is_below(name, above)]).amax(0)
        for above in names
    }


def naive_logits(classifier, pixel_values: torch.Tensor) -> torch.Tensor:
    """Logits `(B, num_labels)` of a classifier with a linear head, for clips of the configured size."""
    model, config = classifier.fal, classifier.config
    tokens = embed(model.embeddings, pixel_values, config)
    frames, rows, columns = config.grid_size
    if config.attention_type == "space_only":  # an image transformer a frame; their outputs are averaged
        patches = tokens[:, 1:].unflatten(1, (frames, rows * columns))
        per_frame = [torch.cat([tokens[:, :1], patches[:, t]], dim=1) for t in range(frames)]
        cls_tokens = [encode(model, x, (1, rows, columns), config)[:, 0] for x in per_frame]
    else:
        cls_tokens = [encode(model, tokens, config.grid_size, config)[:, 0]]
    if config.norm_layout == "clip":  # each image's embedding, whatever comes of several
        pooled = torch.stack([norm(model.layernorm, cls_token) for cls_token in cls_tokens]).mean(0)
    else:
        pooled = norm(model.layernorm, torch.stack(cls_tokens).mean(0))
    return F.linear(pooled, classifier.classifier.weight, classifier.classifier.bias) / config.temperature
