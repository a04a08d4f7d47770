# SPDX-License-Identifier: MIT

"""
What labels and those above them share: scores, true labels, losses (paper, section 4.2).

Shapes: B clips, K labels of the model, N of all labels (the model's, then those above them).
"""

from typing import Literal

import torch
from torch import nn

from .label_space import LabelSpace

# What changes nothing, for each way in which those above labels get their values.
NEUTRAL = {"amax": float("-inf"), "sum": 0.0}


class FALLabelTree(nn.Module):
    """
    Who stands above whom; it has no weights.

    Buffers, which the labels give: `parents`, `(N,)` numbers of labels, each its own where it has no parent; `levels`,
    `(N,)` how many stand above each; and for each level but the last one `families_0`, ..., `(P, C)`: the number of
    each label that is above others and theirs, filled up with N, and `places_0`, ..., `(N,)`: where each label's value
    is when those of the families stand behind those of all.
    """

    parents: torch.Tensor
    levels: torch.Tensor

    def __init__(self, space: LabelSpace):
        super().__init__()
        self.space = space
        for name, values in self.relations().items():
            self.register_buffer(name, torch.empty_like(values), persistent=False)
        self.reset_buffers()

    def relations(self) -> dict[str, torch.Tensor]:
        """The values of the buffers."""
        space, size = self.space, len(self.space.names)
        children: dict[int, list[int]] = {}
        for number, parent in enumerate(space.parents):
            children.setdefault(parent, []).append(number)
        parents = [number if parent < 0 else parent for number, parent in enumerate(space.parents)]
        relations = {"parents": torch.tensor(parents), "levels": torch.tensor(space.levels)}
        for level in range(space.num_levels - 1):
            families = [
                [number, *children[number]] for number in children if number >= 0 and space.levels[number] == level
            ]
            longest = max(map(len, families))
            rows = [[*family, *[size] * (longest - len(family))] for family in families]
            places = torch.arange(size)
            places[[family[0] for family in families]] = size + torch.arange(len(families))
            relations |= {f"families_{level}": torch.tensor(rows), f"places_{level}": places}
        return relations

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Sets the buffers to what the labels say."""
        for name, values in self.relations().items():
            self.get_buffer(name).copy_(values)

    def lift(self, values: torch.Tensor, how: Literal["amax", "sum"]) -> torch.Tensor:
        """
        Values of the model's labels, `(B, K)`, or of all, `(B, N)`, to those of all, `(B, N)`: what stands above
        others gets the largest of its own and theirs, or the sum.
        """
        missing = len(self.space.names) - values.shape[1]
        values = nn.functional.pad(values, (0, missing), value=NEUTRAL[how])
        for level in reversed(range(self.space.num_levels - 1)):
            names = (f"families_{level}", f"places_{level}")
            families, places = (self.get_buffer(name).to(values.device) for name in names)
            members = nn.functional.pad(values, (0, 1), value=NEUTRAL[how])[:, families]
            above = members.amax(dim=-1) if how == "amax" else members.sum(dim=-1)
            values = torch.cat([values, above], dim=1)[:, places]
        return values

    def level_loss(
        self, label_logits: torch.Tensor, targets: torch.Tensor, num_items: torch.Tensor | float | None = None
    ) -> torch.Tensor:
        """
        The mean over the levels of the cross-entropy among the labels of each.

        Args:
            label_logits: The scores of all labels, `(B, N)`.
            targets: Their shares, `(B, N)`; a clip whose shares on a level are 0 adds nothing there.
            num_items: What the sum over the clips is divided by; the clips that have any share unless given.
        """
        levels, by_level = self.levels.to(label_logits.device), []
        num_items = (targets > 0).any(dim=1).sum().clamp(min=1) if num_items is None else num_items
        for level in range(self.space.num_levels):
            is_elsewhere = levels != level
            scores = label_logits.float().masked_fill(is_elsewhere, float("-inf")).log_softmax(dim=1)
            shares = targets.masked_fill(is_elsewhere, 0.0)
            total = -(scores.masked_fill(is_elsewhere, 0.0) * shares).sum()
            by_level.append(total / num_items)
        return torch.stack(by_level).mean()


__all__ = ["FALLabelTree"]
