"""The recipe of a fine-tuning: learning rates by depth, schedule, loss, moving average of the weights."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn
from transformers import Trainer, TrainingArguments, get_scheduler

from ..labeling.aggregation import MULTI_LABEL
from ..model.configuration_fal import FALConfig
from ..model.label_space import LabelSpace
from ..model.label_tree import FALLabelTree
from .clips import IGNORED
from .data import label_counts

# Tables of tokens, or that are added to them: like biases and norms they are not decayed.
TABLES = ("cls_token", "position_embeddings", "time_embeddings", "label_embeddings.embeddings.weight")


@dataclass
class RecipeArguments:
    """What is done in training beyond what TrainingArguments have."""

    _argument_group_name = "recipe"

    layer_decay: float = field(
        default=1.0, metadata={"help": "Learning rate of each block as a share of the next one's."}
    )
    lr_drop_epochs: list[float] | None = field(
        default=None, metadata={"help": "Divide the learning rate by 10 after these epochs, instead of a schedule."}
    )
    class_weights: bool = field(default=False, metadata={"help": "Weigh the loss by the rarity of a clip's label."})
    balanced_sampling: bool = field(default=False, metadata={"help": "Draw clips so that labels come equally often."})
    ema_decay: float = field(default=0.0, metadata={"help": "Evaluate and keep a moving average of the weights."})
    early_stopping_patience: int = field(
        default=0, metadata={"help": "Stop after so many evaluations without a better one; 0: never."}
    )

    def __post_init__(self):
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"--layer_decay: expected a share in (0, 1], got {self.layer_decay}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"--ema_decay: expected a share in [0, 1), got {self.ema_decay}")
        if not all(0 < epoch < math.inf for epoch in self.lr_drop_epochs or ()):
            raise ValueError(f"--lr_drop_epochs: expected numbers above 0, got {self.lr_drop_epochs}")


def parameter_depth(name: str, num_layers: int) -> int:
    """0 for the embeddings, 1 to L for the blocks, L + 1 for what comes after them and for labels as tokens."""
    if block := re.search(r"\blayers\.(\d+)\.", name):
        return int(block[1]) + 1
    return 0 if re.search(r"\bembeddings\.", name) and "label_embeddings." not in name else num_layers + 1


def parameter_groups(
    model: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """
    The trained parameters by learning rate and weight decay.

    Biases, norms and tables are not decayed. The learning rate of a block is `layer_decay` times that of the next one.

    Args:
        model: FAL, or a wrapper that hands on its `config`, whose `num_hidden_layers` is the number L of blocks.
        learning_rate: Of the head; of all where `layer_decay` is 1.
        weight_decay: Of what is decayed.
        layer_decay: In (0, 1].
    """
    config: FALConfig = model.config  # pyright: ignore[reportAssignmentType]  # torch expects modules and tensors
    num_layers = config.num_hidden_layers
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = parameter_depth(name, num_layers)
            decays = parameter.ndim > 1 and not name.endswith(TABLES)
            rate = learning_rate * layer_decay ** (num_layers + 1 - depth)
            group = {"params": [], "lr": rate, "weight_decay": weight_decay if decays else 0.0}
            groups.setdefault((depth, decays), group)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(model: nn.Module, training: TrainingArguments, recipe: RecipeArguments) -> torch.optim.Optimizer:
    """The optimizer that --optim names, over `parameter_groups`."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(training)
    groups = parameter_groups(
        model,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        layer_decay=recipe.layer_decay,
    )
    return kind(groups, **options)


def count_epoch_steps(num_clips: int, training: TrainingArguments) -> int:
    """Optimizer steps of an epoch, over all processes."""
    num_batches = math.ceil(num_clips / (training.train_batch_size * training.world_size))
    return math.ceil(num_batches / training.gradient_accumulation_steps)


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    training: TrainingArguments,
    recipe: RecipeArguments,
    *,
    num_steps: int,
    epoch_steps: int,
) -> LRScheduler:
    """The schedule that --lr_scheduler_type names, or drops by 10 after some epochs."""
    if recipe.lr_drop_epochs:
        milestones = [round(epoch * epoch_steps) for epoch in recipe.lr_drop_epochs]
        return MultiStepLR(optimizer, milestones, gamma=0.1)
    return get_scheduler(
        training.lr_scheduler_type,
        optimizer,
        num_warmup_steps=training.get_warmup_steps(num_steps),
        num_training_steps=num_steps,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs,  # pyright: ignore[reportArgumentType]  # parsed by now
    )


class ClassificationLoss:
    """
    Cross-entropy, or binary cross-entropy for several labels, over the clips that could be read; with labels above the
    model's, that of all levels, as the model's own loss has it.

    Args:
        problem_type: Which of the two.
        label_smoothing: Share of the target that is spread over all labels.
        class_weights: (num_labels,); of several labels the weight of those that are there, (N,) of a label space.
        label_space: The model's labels and those above them, where it has a score for each.
    """

    def __init__(
        self,
        problem_type: str,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
        label_space: LabelSpace | None = None,
    ):
        self.is_multi_label = problem_type == MULTI_LABEL
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.tree = None if label_space is None else FALLabelTree(label_space)

    def __call__(
        self, outputs, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """
        The sum of the losses, divided by the number of label entries of the whole batch, over accumulated steps and
        processes, that are not `IGNORED`; or of this batch where that is not given.

        Args:
            outputs: With `logits` (B, num_labels), and with a label space `label_logits` (B, N).
            labels: (B,) class indices, or (B, num_labels): shares of the classes, or 0 to 1 for each label.
            num_items_in_batch: As Trainer counts it.
        """
        label_logits = None if self.tree is None else outputs.label_logits
        return self.of_logits(outputs.logits, labels, num_items_in_batch, label_logits=label_logits)

    def of_logits(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        *,
        label_logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As a call, for logits (B, num_labels)."""
        is_read = (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED
        labels = labels[is_read]
        num_items = labels.numel() if num_items_in_batch is None else num_items_in_batch
        num_clips = max(num_items, 1) / (1 if labels.ndim == 1 else labels.shape[1])
        logits = logits[is_read].float()
        label_logits = None if label_logits is None else label_logits[is_read].float()
        of_problem = self._of_several_labels if self.is_multi_label else self._of_one_label
        return of_problem(logits, labels, num_clips, label_logits)

    def _of_one_label(self, logits, labels, num_clips, label_logits) -> torch.Tensor:
        num_labels = logits.shape[1]
        shares = F.one_hot(labels, num_labels).float() if labels.ndim == 1 else labels
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / num_labels
        if self.class_weights is not None:
            shares = shares * self.class_weights.to(logits.device)
        loss = F.cross_entropy(logits, shares, reduction="sum") / num_clips
        if self.tree is None:
            return loss
        tree = self.tree.to(logits.device)
        return loss + tree.level_loss(label_logits, tree.lift(shares, "sum"), num_clips)

    def _of_several_labels(self, logits, labels, num_clips, label_logits) -> torch.Tensor:
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.tree is not None:
            logits, targets = label_logits, self.tree.to(logits.device).lift(targets, "amax")
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
        return losses.mean(dim=1).sum() / num_clips


def rarity_weights(labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """
    Weights of the labels for the loss, (num_labels,).

    For one label a clip: inversely proportional to its frequency, 1 on average over the clips. For several: the clips
    without a label for each clip with it.
    """
    if labels.ndim == 2:
        present = label_counts(labels, num_labels).clamp(min=1)
        return (len(labels) - present).clamp(min=1) / present
    weights = torch.ones(num_labels)
    classes = labels.unique()
    balanced = compute_class_weight("balanced", classes=classes.numpy(), y=labels.numpy())
    weights[classes] = torch.from_numpy(balanced).float()
    return weights


def average_weights(model: nn.Module, decay: float, *, warms_up: bool = False) -> AveragedModel | None:
    """
    A moving average of the model's weights, to be updated after each step; None without a decay.

    Args:
        model: The model as it starts.
        decay: What an update keeps of the average, in [0, 1).
        warms_up: The n-th update keeps min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten. Without
            it the first update takes the weights as they are.
    """
    if not decay:
        return None
    average = AveragedModel(model, multi_avg_fn=_warm_up(decay) if warms_up else get_ema_multi_avg_fn(decay)).eval()
    average.n_averaged.fill_(int(warms_up))  # AveragedModel's first update, at 0, copies
    return average


def _warm_up(decay: float) -> Callable[[PARAM_LIST, PARAM_LIST, torch.Tensor | int], None]:
    def update(averages: PARAM_LIST, weights: PARAM_LIST, num_updates: torch.Tensor | int) -> None:
        count = int(num_updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, weights, num_updates)

    return update


@torch.no_grad()
def predict_views(model: nn.Module, views: torch.Tensor, *, batch_size: int) -> torch.Tensor:
    """Logits (B, views, num_labels) float32 of the views (B, views, ...), `batch_size` of them at a time."""
    return map_views(lambda chunk: model(chunk).logits.float(), views, batch_size=batch_size)


def map_views(
    function: Callable[[torch.Tensor], torch.Tensor], views: torch.Tensor, *, batch_size: int
) -> torch.Tensor:
    """What a function of some views (N, ...) makes of all (B, views, ...), `batch_size` of them at a time."""
    chunks = views.flatten(0, 1).split(batch_size)
    return torch.cat([function(chunk) for chunk in chunks]).unflatten(0, views.shape[:2])
