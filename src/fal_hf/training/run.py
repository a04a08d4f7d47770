"""A run: the clips, the model and the recipe of a training, whatever trains it.

[`ClipTrainer`] trains it with transformers' Trainer; a loop of one's own can do so as well and ends up the same.
"""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import PartialState
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import default_collate
from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..labeling.labeler import DEFAULT_CHECKPOINT
from ..model.configuration_fal import FALConfig
from ..model.label_tree import FALLabelTree
from ..model.video_info import VideoInfo
from ..model.video_processing_fal import FALVideoProcessor
from .arguments import Arguments
from .clips import (
    IGNORED,
    ClipAugmentation,
    ClipCollator,
    ClipSampler,
    EvaluationClips,
    TrainingClips,
    UnreadableClips,
)
from .data import (
    LabeledClip,
    balanced_weights,
    check_labels,
    find_problem_type,
    label_indices,
    list_labels,
    load_clips,
    write_manifest,
)
from .features import EvaluationFeatures, FeatureClassifier, FeatureStore, TrainingFeatures
from .metrics import summarize, summarize_levels, video_scores
from .recipe import ClassificationLoss, predict_views, rarity_weights
from .start import build_model, build_processor, choose_trained_parameters, find_source, loading

logger = get_logger(__name__)

# The clips of a run and their splits, in its output folder; the evaluation reads it.
MANIFEST_NAME = "clips.jsonl"
UNREADABLE_NAME = "unreadable.jsonl"
LABELS_NAME = "labels.json"
FEATURES_FOLDER = "features"
# The files that Trainer and the loop on Accelerate write last: without either, a checkpoint is not whole.
CHECKPOINT_STATES = ("trainer_state.json", "loop_state.json")


@dataclass
class Run:
    """What is trained, with what."""

    arguments: Arguments
    model: nn.Module
    labels: list[str]
    processor: FALVideoProcessor
    training_clips: TrainingClips | TrainingFeatures
    evaluation_clips: Mapping[str, EvaluationClips | EvaluationFeatures]
    sampler: ClipSampler
    unreadable: UnreadableClips
    problem_type: str
    loss: ClassificationLoss
    pushes: bool

    @property
    def output_dir(self) -> Path:
        return self.arguments.output_dir

    @property
    def collator(self) -> Callable[[list], dict[str, torch.Tensor]]:
        if self.arguments.model.freezes_features:
            return default_collate
        return ClipCollator(len(self.labels), self.arguments.augmentation)

    @property
    def input_name(self) -> str:
        """What of a batch the model takes, beside the labels."""
        return "features" if self.arguments.model.freezes_features else "pixel_values"

    @property
    def checkpoint(self) -> str | None:
        return find_checkpoint(self.arguments)

    def predict(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The mean loss of the model's labels over all views of a batch of videos, and the views' logits
        (B, views, num_labels).
        """
        logits = predict_views(model, batch[self.input_name], batch_size=self.arguments.training.eval_batch_size)
        labels = batch["labels"].repeat_interleave(logits.shape[1], dim=0)
        return ClassificationLoss(self.problem_type).of_logits(logits.flatten(0, 1), labels), logits

    def figures(self, view_logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """`summarize` of the videos that could be read, by level with a hierarchy; and how many could not be read."""
        is_read = (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED
        if not is_read.any():
            raise RuntimeError("expected videos to evaluate, none could be read")
        logits, labels = view_logits[is_read], labels[is_read]
        figures = summarize(logits, labels, self.problem_type)
        config = cast(FALConfig, self.model.config)
        if config.label_hierarchy is not None:
            scores = video_scores(logits, self.problem_type)
            for row in summarize_levels(scores, labels, config.label_space, self.problem_type):
                figures |= {f"{name}_level_{row['level']}": row[name] for name in ("accuracy", "f1_macro")}
        return {**figures, "unreadable": int((~is_read).sum())}


def prepare_run(arguments: Arguments) -> Run:
    """
    Reads the clips, leaves out the unreadable ones, and builds model and recipe.

    Raises:
        ValueError: arguments, clips or their labels do not fit one another; the message says what was expected.
        RuntimeError: too many clips cannot be read.
    """
    training, output_dir = arguments.training, arguments.output_dir
    set_seed(training.seed)
    if not PartialState().is_main_process:
        logging.set_verbosity_error()  # one process tells what there is to tell
    splits = load_clips(arguments.data, seed=training.seed)
    if "train" not in splits:
        raise ValueError("expected clips to train on, got none; check --train_dir, --train_file or --dataset_name")
    clips = [clip for part in splits.values() for clip in part]
    problem_type = arguments.model.problem_type or find_problem_type(clips)
    check_validation(training, splits)
    with loading(arguments.model.config_name or arguments.model.model_name_or_path or DEFAULT_CHECKPOINT):
        source = find_source(arguments.model, output_dir)
        model = build_model(arguments.model, source, labels=list_labels(clips), problem_type=problem_type)
        processor = build_processor(arguments.model, source, model.config)
    label2id = label_indices(model.config)
    check_labels(clips, label2id, problem_type)
    labels = [label for _, label in sorted((model.config.id2label or {}).items())]
    ClipAugmentation(processor, arguments.augmentation, label2id)  # what it refuses is known before clips are read
    trained = choose_trained_parameters(model, arguments.model)
    write_label_order(arguments, labels)
    unreadable = UnreadableClips(
        output_dir / UNREADABLE_NAME, num_clips=len(clips), max_share=arguments.data.max_unreadable_share
    )
    readable = leave_out_unreadable(splits, unreadable)
    check_validation(training, readable)
    common = {"processor": processor, "label2id": label2id, "problem_type": problem_type, "unreadable": unreadable}
    views = {"num_clips": arguments.model.eval_num_clips, "num_crops": arguments.model.eval_num_crops}
    evaluation_clips = {name: EvaluationClips(*part, **views, **common) for name, part in readable.items()}
    clips_as_evaluated = evaluation_clips.pop("train")
    if arguments.model.freezes_features:
        store = FeatureStore(output_dir / FEATURES_FOLDER, model, processor, training, **views)
        trained = FeatureClassifier(model, store.grid)
        training_clips = TrainingFeatures(clips_as_evaluated, store, seed=training.seed)
        evaluation_clips = {name: EvaluationFeatures(part, store) for name, part in evaluation_clips.items()}
    else:
        training_clips = TrainingClips(
            *readable["train"], augmentation=arguments.augmentation, seed=training.seed, **common
        )
    weights = balanced_weights(training_clips.labels, len(label2id)) if arguments.recipe.balanced_sampling else None
    pushes, training.push_to_hub = training.push_to_hub, False  # once, at the end, with a card of ours
    return Run(
        arguments=arguments,
        model=trained,
        labels=labels,
        processor=processor,
        training_clips=training_clips,
        evaluation_clips=evaluation_clips,
        sampler=ClipSampler(len(training_clips), seed=training.seed, weights=weights),
        unreadable=unreadable,
        problem_type=problem_type,
        loss=make_loss(arguments, model.config, training_clips.labels, problem_type),
        pushes=pushes,
    )


def make_loss(arguments: Arguments, config: FALConfig, labels: torch.Tensor, problem_type: str) -> ClassificationLoss:
    """The loss of a run whose training clips have these labels, as `encode_labels` has them."""
    has_levels = config.label_attention != "none" and config.label_hierarchy is not None
    space = config.label_space if has_levels else None
    weights = None
    if arguments.recipe.class_weights:
        if space is not None and labels.ndim == 2:  # those above several labels are true with them
            labels = FALLabelTree(space).lift(labels, "amax")
        weights = rarity_weights(labels, len(config.id2label or {}))
    return ClassificationLoss(
        problem_type,
        label_smoothing=arguments.training.label_smoothing_factor,
        class_weights=weights,
        label_space=space,
    )


def check_validation(training: TrainingArguments, splits: Container[str]) -> None:
    """Raises a ValueError where validation clips are asked for, and there are none in these splits."""
    if training.eval_strategy != "no" and "validation" not in splits:
        raise ValueError(
            "--eval_strategy: expected validation clips that can be read, got none; see --train_val_split"
        )


def find_checkpoint(arguments: Arguments) -> str | None:
    """
    The checkpoint to go on from; --resume_from_checkpoint last takes the latest whole one of the output folder, None
    where it has none.
    """
    if arguments.training.resume_from_checkpoint != "last":
        return arguments.training.resume_from_checkpoint
    folders = arguments.output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    whole = [folder for folder in folders if any((folder / name).exists() for name in CHECKPOINT_STATES)]
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None


def write_label_order(arguments: Arguments, labels: Sequence[str]) -> None:
    """
    Writes down the order of the labels, which the weights depend on.

    Raises:
        ValueError: the run that is to go on had other labels, or another order.
    """
    checkpoint = find_checkpoint(arguments)
    earlier = Path(checkpoint).parent / LABELS_NAME if checkpoint else None
    if earlier is not None and earlier.exists() and (names := json.loads(earlier.read_text())) != list(labels):
        raise ValueError(f"{checkpoint}: expected its labels, {', '.join(names)}; the clips have {', '.join(labels)}")
    if PartialState().is_main_process:
        path = arguments.output_dir / LABELS_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(labels) + "\n", encoding="utf-8")


def leave_out_unreadable(
    splits: dict[str, list[LabeledClip]], unreadable: UnreadableClips
) -> dict[str, tuple[list[LabeledClip], list[VideoInfo]]]:
    """The readable clips of each split and what `probe` says of them; the others are written down, and counted."""
    clips = [clip for part in splits.values() for clip in part]
    probed = unreadable.probe(clips) if PartialState().is_main_process else []
    infos = broadcast_object_list([probed])[0]
    found = {id(clip): info for clip, info in zip(clips, infos, strict=True) if isinstance(info, VideoInfo)}
    kept = {name: [clip for clip in part if id(clip) in found] for name, part in splits.items()}
    if not kept["train"]:
        raise RuntimeError(f"expected clips to train on, none can be read: see {unreadable.path}")
    if PartialState().is_main_process:
        write_manifest(unreadable.path.with_name(MANIFEST_NAME), kept)
    logger.warning(f"clips: {', '.join(f'{len(part)} {name}' for name, part in kept.items())}; {unreadable}")
    return {name: (part, [found[id(clip)] for clip in part]) for name, part in kept.items() if part}
