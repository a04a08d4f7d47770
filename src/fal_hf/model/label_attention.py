# SPDX-License-Identifier: MIT

"""
Labels as tokens: their embeddings, the layer in which they attend to one another and to the features, and their scores
(paper, sections 4.1 and 4.2).

Shapes: B clips, N label tokens (the model's labels, then those above them), F feature tokens (CLS and patches),
D = hidden_size. Attention and MLP of the label layer are a quarter as wide as those of the features.
"""

from typing import cast

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_fal import FALConfig
from .label_space import LABEL_STEPS, LabelSpace
from .label_tree import FALLabelTree
from .multi_head_attention import FALMultiHeadAttention
from .onednn import on_fast_linears

# How many times narrower than a step of the features a step of the labels is.
NARROWING = 4
CROSSINGS = ("features", "labels")


class FALGivenEmbeddings(nn.Module):
    """Embeddings of labels that are given and not trained, so that those of other labels mean the same."""

    weight: torch.Tensor

    def __init__(self, num_labels: int, size: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_labels, size))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers of labels `(N,)` to their embeddings `(N, size)`."""
        return nn.functional.embedding(numbers, self.weight)


class FALLabelEmbeddings(nn.Module):
    """The embeddings of labels, the tokens that they become, and in `tree` who stands above whom."""

    def __init__(self, config: FALConfig):
        super().__init__()
        self.config = config
        # CODEPATH: published checkpoints have a head for their own labels, but CLIP, whose labels are given
        kind = FALGivenEmbeddings if config.classifier_type == "similarity" else nn.Embedding
        self.embeddings = kind(len(config.label_space.names), config.label_embedding_size)
        # CODEPATH: label embeddings that are only compared with are no tokens (section 4.2)
        has_tokens = config.label_attention != "none"
        self.projection = nn.Linear(config.label_embedding_size, config.hidden_size) if has_tokens else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.tree = FALLabelTree(config.label_space)

    def forward(self, batch: int) -> torch.Tensor:
        """Label tokens, `(B, N, D)`."""
        numbers = torch.arange(len(self.tree.parents), device=self.tree.parents.device)
        tokens = self.dropout(cast(nn.Linear, self.projection)(self.embeddings(numbers)))
        return tokens[None].expand(batch, -1, -1)

    def set_labels(self, space: LabelSpace, embeddings: torch.Tensor) -> None:
        """Other labels, with their given embeddings `(N, size)`."""
        self.embeddings.weight = embeddings.detach().to(self.embeddings.weight, copy=True)
        self.tree = FALLabelTree(space).to(self.embeddings.weight.device)

    def masks(self) -> dict[str, torch.Tensor | None]:
        """What labels see of one another in each step among themselves, `(N, N)` to add to the scores; None: all."""
        if self.config.label_hierarchy is None:
            return {"level": None, "family": None}
        parents, levels = self.tree.parents, self.tree.levels
        numbers = torch.arange(len(parents), device=parents.device)
        is_parent = parents[:, None] == numbers
        sees = {"level": levels[:, None] == levels, "family": is_parent | is_parent.T}
        itself = numbers[:, None] == numbers
        dtype = self.embeddings.weight.dtype
        return {
            name: torch.zeros_like(seen, dtype=dtype).masked_fill(~(seen | itself), float("-inf"))
            for name, seen in sees.items()
        }


class FALGate(nn.Module):
    """
    How much of a crossing between features and labels passes, a number for each head in (-1, 1): a learned scale,
    which starts at zero and so leaves the crossing out, times a share that depends on the clip.
    """

    def __init__(self, config: FALConfig):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(config.num_attention_heads))
        self.share = nn.Linear(config.hidden_size, config.num_attention_heads)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """A clip's summary `(B, D)` to `(B, heads)`."""
        return self.scale.tanh() * self.share(clip).sigmoid()


class FALLabelAttention(FALMultiHeadAttention):
    """Attention of some tokens to others, or to one another; perhaps gated where it crosses between the spaces."""

    def __init__(self, config: FALConfig, is_gated: bool):
        head_size = max(1, config.hidden_size // config.num_attention_heads // NARROWING)
        super().__init__(config, head_size)
        width = head_size * config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.kv_proj = nn.Linear(config.hidden_size, 2 * width, bias=config.qkv_bias)
        # Without a bias: what a closed gate lets through is nothing.
        self.o_proj = nn.Linear(width, config.hidden_size, bias=not is_gated)
        self.gate = FALGate(config) if is_gated else None

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        clip: torch.Tensor,
        mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        `(B, queries, D)` and `(B, keys, D)` to what the queries get, `(B, queries, D)`, and the weights
        `(B, heads, queries, keys)`, None where the attention implementation keeps them to itself.
        """
        key, value = self.kv_proj(keys).chunk(2, dim=-1)
        query, key, value = (tokens[:, None] for tokens in (self.q_proj(queries), key, value))
        attended, weights = self.attend(query, key, value, mask, **kwargs)
        attended = attended[:, 0]
        if self.gate is not None:
            heads = attended.unflatten(-1, (self.num_heads, -1))
            attended = (heads * self.gate(clip)[:, None, :, None]).flatten(-2)
        return self.o_proj(attended), None if weights is None else weights[:, 0]


class FALLabelMLP(nn.Module):
    """The MLP of one hidden layer that ends a label layer."""

    def __init__(self, config: FALConfig):
        super().__init__()
        width = max(1, config.hidden_size // NARROWING)
        self.fc1 = nn.Linear(config.hidden_size, width)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(width, config.hidden_size)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(labels)))


class FALLabelLayer(GradientCheckpointingLayer):
    """
    The labels' part of a block, before that of the features: labels attend to those of their level, to their parents
    and children, and to the features; with divided attention the features then attend to them; an MLP ends it. Each
    step has its layer norm and residual.
    """

    def __init__(self, config: FALConfig):
        super().__init__()
        self.config = config
        names = [name for name in LABEL_STEPS[config.label_attention] if name != "family" or config.label_hierarchy]
        gated = CROSSINGS if config.label_gates else ()
        self.steps = nn.ModuleDict({name: FALLabelAttention(config, is_gated=name in gated) for name in names})
        norms = (*names, "mlp", "features_in")
        self.layernorms = nn.ModuleDict(
            {name: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for name in norms}
        )
        self.mlp = FALLabelMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    @on_fast_linears
    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        num_cls: int,
        masks: dict[str, torch.Tensor | None],
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, F, D)` features, of which the first `num_cls` are CLS tokens, and `(B, N, D)` labels to the same."""
        clip = features[:, :num_cls].mean(dim=1)
        normed_features = self.layernorms["features_in"](features)
        for name, step in self.steps.items():
            normed = self.layernorms[name](labels)
            if name == "labels":
                features = features + self.dropout(step(normed_features, normed, clip, **kwargs)[0])
            else:
                keys = normed_features if name == "features" else normed
                labels = labels + self.dropout(step(normed, keys, clip, masks.get(name), **kwargs)[0])
        return features, labels + self.dropout(self.mlp(self.layernorms["mlp"](labels)))


class FALLabelHead(nn.Module):
    """
    The scores of all label tokens: one scorer that they share, balanced with the feature head's scores by a share that
    depends on the clip, and a parent's score never below its children's (paper, section 4.2).
    """

    def __init__(self, config: FALConfig):
        super().__init__()
        self.scorer = nn.Linear(config.hidden_size, 1)
        self.balance = nn.Linear(config.hidden_size, 1)

    def forward(
        self, labels: torch.Tensor, pooled: torch.Tensor, logits: torch.Tensor, tree: FALLabelTree
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            labels: Label tokens after the last layer norm, `(B, N, D)`.
            pooled: The clip's embedding, `(B, D)`.
            logits: What the feature head says of the model's labels, `(B, num_labels)`.
            tree: Who stands above whom.

        Returns:
            The scores of all labels, `(B, N)`, and the share of the label tokens in them, `(B,)` in [0, 1].
        """
        share = self.balance(pooled).sigmoid()
        scores = share * self.scorer(labels).squeeze(-1) + (1 - share) * tree.lift(logits, "amax")
        return tree.lift(scores, "amax"), share.squeeze(-1)


__all__ = [
    "FALGate",
    "FALGivenEmbeddings",
    "FALLabelAttention",
    "FALLabelEmbeddings",
    "FALLabelHead",
    "FALLabelLayer",
    "FALLabelMLP",
]
