"""
Tiny checkpoints in the layouts of other libraries, and what they compute, written down in plain torch from the
original definitions: no class of transformers reads the names of the TimeSformer reference, timm, DeiT and DINO.
"""

from pathlib import Path

import torch
from tiny_fal import randomise
from torch.nn import functional as F
from transformers import TimesformerConfig, ViTConfig, ViTForImageClassification

Tensors = dict[str, torch.Tensor]

WIDTH, HEADS, DEPTH, HIDDEN, PATCH, SIDE, FRAMES, CLASSES = 32, 4, 2, 48, 8, 32, 4, 6
EPS = 1e-6


def random_tensors(shapes: dict[str, tuple[int, ...]], *, seed: int = 0, std: float = 0.2) -> Tensors:
    """Large random numbers, so that no tensor is hidden by small ones; norms are about one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: ("norm" in name and name.endswith("weight")) + std * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def vit_shapes(*, classes: int | None = CLASSES, side: int = SIDE) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an image model as timm, DeiT and DINO have them; without `classes`, without a head."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + (side // PATCH) ** 2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for i in range(DEPTH):
        shapes |= norm(f"blocks.{i}.norm1") | linear(f"blocks.{i}.attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= linear(f"blocks.{i}.attn.proj", WIDTH, WIDTH) | norm(f"blocks.{i}.norm2")
        shapes |= linear(f"blocks.{i}.mlp.fc1", HIDDEN, WIDTH) | linear(f"blocks.{i}.mlp.fc2", WIDTH, HIDDEN)
    shapes |= norm("norm")
    return shapes if classes is None else shapes | linear("head", classes, WIDTH)


def reference_shapes(attention_type: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the TimeSformer reference, behind the prefix of its wrapper."""
    shapes = vit_shapes()
    if attention_type != "space_only":
        shapes["time_embed"] = (1, FRAMES, WIDTH)
    if attention_type == "divided_space_time":
        for i in range(DEPTH):
            shapes |= norm(f"blocks.{i}.temporal_norm1")
            shapes |= linear(f"blocks.{i}.temporal_attn.qkv", 3 * WIDTH, WIDTH)
            shapes |= linear(f"blocks.{i}.temporal_attn.proj", WIDTH, WIDTH)
            shapes |= linear(f"blocks.{i}.temporal_fc", WIDTH, WIDTH)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def reference_checkpoint(attention_type: str = "divided_space_time", **tensors: torch.Tensor) -> dict:
    """What the reference's training saves: weights, and what the conversion has no use for."""
    cfg = f"""\
DATA:
  MEAN: [0.45, 0.45, 0.45]
  NUM_FRAMES: {FRAMES}
  STD: [0.225, 0.225, 0.225]
  TRAIN_CROP_SIZE: {SIDE}
MODEL:
  NUM_CLASSES: {CLASSES}
TIMESFORMER:
  ATTENTION_TYPE: {attention_type}
"""
    state = random_tensors(reference_shapes(attention_type)) | tensors
    return {
        "epoch": 15,
        "model_state": state,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "cfg": cfg,
    }


def attention(state: Tensors, name: str, tokens: torch.Tensor) -> torch.Tensor:
    """Multi-head self-attention over the second axis of `(B, length, D)`, head by head."""
    query, key, value = F.linear(tokens, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"]).chunk(3, dim=-1)
    size = WIDTH // HEADS
    heads = []
    for head in range(HEADS):
        q, k, v = (x[..., head * size : (head + 1) * size] for x in (query, key, value))
        heads.append((q @ k.mT / size**0.5).softmax(-1) @ v)
    return F.linear(torch.cat(heads, dim=-1), state[f"{name}.proj.weight"], state[f"{name}.proj.bias"])


def layer_norm(state: Tensors, name: str, tokens: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(tokens, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], EPS)


def mlp(state: Tensors, block: str, tokens: torch.Tensor) -> torch.Tensor:
    hidden = layer_norm(state, f"{block}.norm2", tokens)
    hidden = F.gelu(F.linear(hidden, state[f"{block}.mlp.fc1.weight"], state[f"{block}.mlp.fc1.bias"]))
    return F.linear(hidden, state[f"{block}.mlp.fc2.weight"], state[f"{block}.mlp.fc2.bias"])


def embed_frame(state: Tensors, frame: torch.Tensor) -> torch.Tensor:
    """`(B, 3, height, width)` to `(B, H·W, D)` patches without positions."""
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    return F.conv2d(frame, kernel, bias, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)


def finish(state: Tensors, cls_token: torch.Tensor) -> torch.Tensor:
    """Last norm and, where there is one, the head."""
    embedding = layer_norm(state, "norm", cls_token)
    return F.linear(embedding, state["head.weight"], state["head.bias"]) if "head.weight" in state else embedding


def image_cls(state: Tensors, frame: torch.Tensor) -> torch.Tensor:
    """The CLS token of an image transformer before the last norm, `(B, D)`."""
    patches = embed_frame(state, frame)
    tokens = torch.cat([state["cls_token"].expand(len(frame), -1, -1), patches], dim=1) + state["pos_embed"]
    for i in range(DEPTH):
        block = f"blocks.{i}"
        tokens = tokens + attention(state, f"{block}.attn", layer_norm(state, f"{block}.norm1", tokens))
        tokens = tokens + mlp(state, block, tokens)
    return tokens[:, 0]


def image_logits(state: Tensors, frame: torch.Tensor) -> torch.Tensor:
    """Logits of an image transformer, or its CLS embedding where it has no head."""
    return finish(state, image_cls(state, frame))


def reference_logits(state: Tensors, clip: torch.Tensor, attention_type: str) -> torch.Tensor:
    """Logits of the TimeSformer reference for `(B, T, 3, height, width)`: nothing is fused, frames are looped over."""
    state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    frames = clip.unbind(1)
    if attention_type == "space_only":
        return finish(state, torch.stack([image_cls(state, frame) for frame in frames]).mean(0))
    cls_token = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(clip), -1, -1)
    times = state["time_embed"].unbind(1)
    patches = [
        embed_frame(state, frame) + state["pos_embed"][:, 1:] + time for frame, time in zip(frames, times, strict=True)
    ]
    step = {"divided_space_time": divided_block, "joint_space_time": joint_block}[attention_type]
    for i in range(DEPTH):
        cls_token, patches = step(state, f"blocks.{i}", cls_token, patches)
    return finish(state, cls_token[:, 0])


def joint_block(state: Tensors, block: str, cls_token: torch.Tensor, patches: list[torch.Tensor]):
    tokens = torch.cat([cls_token, *patches], dim=1)
    tokens = tokens + attention(state, f"{block}.attn", layer_norm(state, f"{block}.norm1", tokens))
    tokens = tokens + mlp(state, block, tokens)
    cls_token, patches = tokens[:, :1], tokens[:, 1:]
    return cls_token, list(patches.unflatten(1, (FRAMES, -1)).unbind(1))


def divided_block(state: Tensors, block: str, cls_token: torch.Tensor, patches: list[torch.Tensor]):
    """Each place over time, without CLS; then each frame with a copy of CLS, whose copies are averaged."""
    grid = torch.stack(patches, dim=1)  # (B, T, H·W, D)
    places = []
    for place in grid.unbind(2):
        seen = attention(state, f"{block}.temporal_attn", layer_norm(state, f"{block}.temporal_norm1", place))
        fc = state[f"{block}.temporal_fc.weight"], state[f"{block}.temporal_fc.bias"]
        places.append(place + F.linear(seen, *fc))
    grid = torch.stack(places, dim=2)
    copies, frames = [], []
    for frame in grid.unbind(1):
        tokens = torch.cat([cls_token, frame], dim=1)
        seen = attention(state, f"{block}.attn", layer_norm(state, f"{block}.norm1", tokens))
        copies.append(seen[:, :1])
        frames.append(frame + seen[:, 1:])
    tokens = torch.cat([cls_token + torch.stack(copies).mean(0), *frames], dim=1)
    tokens = tokens + mlp(state, block, tokens)
    return tokens[:, :1], list(tokens[:, 1:].unflatten(1, (FRAMES, -1)).unbind(1))


# ---- classes of transformers ----

SIZES = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_hidden_layers": DEPTH,
    "intermediate_size": HIDDEN,
    "patch_size": PATCH,
    "image_size": SIDE,
}


def tiny_vit(model_class=ViTForImageClassification, **fields):
    model = model_class(ViTConfig(**{**SIZES, "num_labels": CLASSES, **fields}))
    randomise(model)
    return model.eval()


def tiny_timesformer(model_class, attention_type: str = "divided_space_time", **fields):
    settings = {**SIZES, "num_frames": FRAMES, "num_labels": CLASSES, "attention_type": attention_type, **fields}
    model = model_class(TimesformerConfig(**settings))
    randomise(model)
    return model.eval()


def moving_clip(*, frames: int = FRAMES, height: int = SIDE, width: int = SIDE, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(3))


def still_clip(*, frames: int = FRAMES, height: int = SIDE, width: int = SIDE, batch: int = 2) -> torch.Tensor:
    return moving_clip(frames=1, height=height, width=width, batch=batch).repeat(1, frames, 1, 1, 1)


def image_state(**options) -> dict[str, torch.Tensor]:
    """Random weights of an image model under timm's names."""
    return random_tensors(vit_shapes(**options))


def change_image_state(**changes) -> dict[str, torch.Tensor]:
    """An image model with tensors replaced, or left out where the value is None."""
    state = image_state() | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def save_pickle(path: Path, content) -> Path:
    """`content` as `torch.save` writes it; returns the path."""
    torch.save(content, path)
    return path
