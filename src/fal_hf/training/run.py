"""What the two fine-tuning scripts share: arguments, model, data, recipe.

`run_video_classification.py` trains with transformers' Trainer, `run_video_classification_no_trainer.py` with a loop
of its own on Accelerate. Both take the same arguments and do the same.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import PartialState
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from huggingface_hub import EvalResult
from torch import nn
from transformers import HfArgumentParser, PreTrainedConfig, TrainingArguments, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .. import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoError
from ..conversion.converter import convert
from ..hub.model_card import LICENSES, Evaluation, write_model_card
from ..hub.publish import push_folder
from ..labeling.aggregation import MULTI_LABEL
from ..labeling.labeler import DEFAULT_CHECKPOINT
from ..model.configuration_fal import PRESETS
from .clips import (
    IGNORED,
    AugmentationArguments,
    ClipCollator,
    ClipSampler,
    EvaluationClips,
    TrainingClips,
    UnreadableClips,
    probe_clips,
)
from .data import (
    SINGLE_LABEL,
    DataArguments,
    LabeledClip,
    balanced_weights,
    check_labels,
    find_problem_type,
    list_labels,
    load_clips,
    write_manifest,
)
from .metrics import summarize
from .recipe import ClassificationLoss, RecipeArguments, predict_views, rarity_weights

logger = get_logger(__name__)

LORA_TARGETS = ("qkv", "o_proj")
# The clips of a run and their splits, in its output folder; the evaluation reads it.
MANIFEST_NAME = "clips.jsonl"
UNREADABLE_NAME = "unreadable.jsonl"
LABELS_NAME = "labels.json"
START_FOLDER = "start"
# The files that Trainer and the loop on Accelerate write last: without either, a checkpoint is not whole.
CHECKPOINT_STATES = ("trainer_state.json", "loop_state.json")
# The trained model with its processors and card, in the output folder.
RESULT_FOLDER = "model"


@dataclass
class ModelArguments:
    """Which model is trained, from which weights."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of FAL, TimeSformer or image ViT weights; the package's camera-motion "
            "checkpoint unless this or --config_name is given."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub id."})
    config_name: str | None = field(
        default=None,
        metadata={"help": f"Train from nothing: a preset ({', '.join(PRESETS)}) or a folder with a config.json."},
    )
    config_overrides: str | None = field(
        default=None, metadata={"help": "Changes of it: hidden_size=128,attention_type=axial"}
    )
    num_frames: int | None = field(default=None, metadata={"help": "Frames of a clip; unset: the checkpoint's."})
    image_size: int | None = field(default=None, metadata={"help": "Side of a frame; unset: the checkpoint's."})
    frame_interval_seconds: float | None = field(default=None, metadata={"help": "Distance of a clip's frames."})
    frame_stride: int | None = field(default=None, metadata={"help": "The same in frames."})
    spread_frames: bool = field(default=False, metadata={"help": "Spread a clip's frames over the whole video."})
    problem_type: str | None = field(
        default=None, metadata={"help": f"{SINGLE_LABEL} or {MULTI_LABEL}; unset: what the clips' labels say."}
    )
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth of the last block."})
    freeze_backbone: bool = field(default=False, metadata={"help": "Train the classification head alone."})
    freeze_layers: int = field(default=0, metadata={"help": "Keep the embeddings and this many first blocks."})
    lora_rank: int = field(default=0, metadata={"help": "Rank of LoRA adapters (needs peft); 0: none."})
    lora_alpha: int = field(default=16, metadata={"help": "Their scale is alpha / rank."})
    eval_num_clips: int = field(default=1, metadata={"help": "Clips of a video whose probabilities are averaged."})
    eval_num_crops: int = field(default=1, metadata={"help": "Crops of a clip: 1, or 3 along the longer side."})
    license: str = field(default="unknown", metadata={"help": "The card's license, an identifier of the Hub."})

    def __post_init__(self):
        if self.model_name_or_path and self.config_name:
            raise ValueError("expected --model_name_or_path (weights) or --config_name (from nothing), got both")
        if self.config_overrides and not self.config_name:
            raise ValueError("--config_overrides: expected --config_name with it; weights have their own sizes")
        if sum(map(bool, (self.frame_interval_seconds, self.frame_stride, self.spread_frames))) > 1:
            raise ValueError("expected one of --frame_interval_seconds, --frame_stride and --spread_frames")
        if self.problem_type not in (None, SINGLE_LABEL, MULTI_LABEL):
            raise ValueError(f"--problem_type: expected {SINGLE_LABEL} or {MULTI_LABEL}, got {self.problem_type!r}")
        if self.lora_rank and (self.freeze_backbone or self.freeze_layers):
            raise ValueError("--lora_rank: expected it without --freeze_backbone and --freeze_layers")
        if min(self.lora_rank, self.freeze_layers) < 0:
            raise ValueError("--lora_rank, --freeze_layers: expected at least 0")
        if self.eval_num_crops not in (1, 3):
            raise ValueError(f"--eval_num_crops: expected 1 or 3, got {self.eval_num_crops}")
        if self.eval_num_clips < 1:
            raise ValueError(f"--eval_num_clips: expected at least 1, got {self.eval_num_clips}")
        if self.license not in LICENSES:
            raise ValueError(f"--license: expected an identifier of the Hub, mit for instance, got {self.license!r}")


class Arguments(NamedTuple):
    """All arguments of a run."""

    model: ModelArguments
    data: DataArguments
    augmentation: AugmentationArguments
    recipe: RecipeArguments
    training: TrainingArguments


def parse_arguments(argv: Sequence[str] | None = None) -> Arguments:
    """
    Reads the command line. A JSON file as its first word gives arguments that the others overrule.

    Raises:
        ValueError: the file names unknown arguments, or arguments contradict one another.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    kinds = tuple(Arguments.__annotations__.values())
    parser = HfArgumentParser(kinds)
    if argv and argv[0].endswith(".json"):
        recipe = json.loads(Path(argv.pop(0)).read_text(encoding="utf-8"))
        unknown = sorted(recipe.keys() - {name for kind in kinds for name in kind.__dataclass_fields__})
        if unknown:
            raise ValueError(f"the argument file: expected names of arguments, got {', '.join(unknown)}")
        parser.set_defaults(**recipe)
    arguments = Arguments(*parser.parse_args_into_dataclasses(argv, look_for_args_file=False))
    _check_together(arguments)
    arguments.training.remove_unused_columns = False  # the collator needs more than the model's own arguments
    return arguments


def _check_together(arguments: Arguments) -> None:
    training, recipe = arguments.training, arguments.recipe
    if training.output_dir is None:
        raise ValueError("--output_dir: expected a folder for the results")
    if recipe.lr_drop_epochs and (training.warmup_steps or training.lr_scheduler_type != "linear"):
        raise ValueError("expected --lr_drop_epochs or a schedule (--lr_scheduler_type, --warmup_steps), got both")
    if recipe.class_weights and recipe.balanced_sampling:
        raise ValueError("expected --class_weights or --balanced_sampling, got both: each makes up for the imbalance")
    if recipe.early_stopping_patience and not training.load_best_model_at_end:
        raise ValueError("--early_stopping_patience: expected --load_best_model_at_end with it")
    if training.mixed_precision == "fp16" and training.device.type == "cpu":
        raise ValueError("--fp16: expected a GPU; the CPU would train in float32 instead, and can do --bf16")
    if (recipe.ema_decay or arguments.model.lora_rank) and uses_fsdp(training):
        raise ValueError("--ema_decay, --lora_rank: expected FSDP without them: no process has the weights as a whole")


def uses_fsdp(training: TrainingArguments) -> bool:
    """Whether the weights are spread over processes, by an argument or by `accelerate launch`."""
    return bool(training.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP")


# ---- model ----


def build_processor(arguments: ModelArguments, source: str | Path, config: FALConfig) -> FALVideoProcessor:
    """The checkpoint's processor, or for a preset a new one, with the clip's sizes as the arguments change them."""
    changes = _size_of_clips(arguments.num_frames, arguments.image_size)
    if arguments.frame_interval_seconds or arguments.frame_stride or arguments.spread_frames:
        changes["frame_interval_seconds"] = arguments.frame_interval_seconds
        changes["frame_stride"] = arguments.frame_stride
    if arguments.config_name in PRESETS:
        return FALVideoProcessor(**{**_size_of_clips(config.num_frames, config.image_size), **changes})
    return FALVideoProcessor.from_pretrained(source, revision=arguments.model_revision, **changes)


def _size_of_clips(num_frames: int | None, image_size: int | None) -> dict:
    size = {"size": {"shortest_edge": image_size}, "crop_size": {"height": image_size, "width": image_size}}
    return ({"num_frames": num_frames} if num_frames else {}) | (size if image_size else {})


def build_model(
    arguments: ModelArguments, source: str | Path, *, labels: Sequence[str], problem_type: str
) -> FALVideoClassifierForVideoClassification:
    """
    The classifier for these labels. A checkpoint of the same labels keeps its head and their order; another head is
    drawn anew.

    Raises:
        ValueError: weights other than the head's are missing or of another shape.
    """
    fields = {"problem_type": problem_type}
    if arguments.drop_path_rate is not None:
        fields["drop_path_rate"] = arguments.drop_path_rate
    if arguments.config_name:
        return FALVideoClassifierForVideoClassification(_new_config(arguments, labels, **fields))
    config = FALConfig.from_pretrained(source, revision=arguments.model_revision)
    if sorted(config.label2id) != sorted(labels):
        fields |= _label_fields(labels)
    model, report = FALVideoClassifierForVideoClassification.from_pretrained(
        source,
        revision=arguments.model_revision,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **fields,
    )
    unfit = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    unfit = sorted(name for name in unfit if not name.startswith("classifier."))
    if unfit:
        raise ValueError(f"{source}: expected the weights of its configuration, {unfit[0]} is missing or differs")
    return model


def _new_config(arguments: ModelArguments, labels: Sequence[str], **fields) -> FALConfig:
    name = arguments.config_name
    fields |= {key: value for key in ("num_frames", "image_size") if (value := getattr(arguments, key))}
    config = FALConfig.from_preset(name) if name in PRESETS else FALConfig.from_pretrained(name)
    if arguments.config_overrides:
        config.update_from_string(arguments.config_overrides)
    return FALConfig(**{**config.to_dict(), **fields, **_label_fields(labels)})


def _label_fields(labels: Sequence[str]) -> dict[str, dict]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def find_source(arguments: ModelArguments, output_dir: Path) -> str | Path:
    """
    The weights to start from, or the configuration of a model from nothing. Weights of another layout (an image ViT,
    say) or of another size are converted first, into the output folder.
    """
    if arguments.config_name:
        return arguments.config_name
    source = arguments.model_name_or_path or DEFAULT_CHECKPOINT
    if is_read_as_it_is(source, arguments):
        return source
    converted = output_dir / START_FOLDER
    if PartialState().is_main_process:
        convert(
            source,
            converted,
            revision=arguments.model_revision,
            num_frames=arguments.num_frames,
            image_size=arguments.image_size,
            # A time table of zeros would hide the order of frames at first, and training can stay there.
            time_table="normal",
            overwrite=converted.exists(),
        )
    PartialState().wait_for_everyone()
    return converted


def is_read_as_it_is(source: str | Path, arguments: ModelArguments) -> bool:
    """Whether `from_pretrained` reads the weights, and their tables have the size that is asked for."""
    if arguments.num_frames or arguments.image_size or Path(source).is_file():
        return False
    config, _ = PreTrainedConfig.get_config_dict(source, revision=arguments.model_revision)
    return config.get("model_type") in ("fal", "timesformer")


def choose_trained_parameters(model: nn.Module, arguments: ModelArguments) -> nn.Module:
    """Freezes what the arguments say; with LoRA, returns the model with adapters, of which only they are trained."""
    if arguments.lora_rank:
        return add_lora(model, arguments)
    if arguments.freeze_backbone:
        model.fal.requires_grad_(False)
    if arguments.freeze_layers:
        model.fal.embeddings.requires_grad_(False)
        model.fal.layers[: arguments.freeze_layers].requires_grad_(False)
    return model


def add_lora(model: nn.Module, arguments: ModelArguments) -> nn.Module:
    """LoRA adapters in every attention step; the head is trained as a whole."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("--lora_rank needs peft, which is not installed: pip install peft") from error
    lora = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        target_modules=list(LORA_TARGETS),
        modules_to_save=["classifier"],
    )
    return get_peft_model(model, lora)


def without_adapters(model: nn.Module) -> FALVideoClassifierForVideoClassification:
    """The plain classifier, into which LoRA adapters are merged."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


# ---- all of it ----


def evaluation_figures(view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str) -> dict[str, float]:
    """`summarize` of the videos that could be read, and how many could not."""
    is_read = (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED
    if not is_read.any():
        raise RuntimeError("expected videos to evaluate, none could be read")
    figures = summarize(view_logits[is_read], labels[is_read], problem_type)
    return {**figures, "unreadable": int((~is_read).sum())}


@dataclass
class Run:
    """What both scripts train, with what."""

    arguments: Arguments
    model: nn.Module
    processor: FALVideoProcessor
    training_clips: TrainingClips
    evaluation_clips: dict[str, EvaluationClips]
    sampler: ClipSampler
    unreadable: UnreadableClips
    problem_type: str
    loss: ClassificationLoss
    pushes: bool

    @property
    def labels(self) -> list[str]:
        return [name for _, name in sorted(self.model.config.id2label.items())]

    @property
    def collator(self) -> ClipCollator:
        return ClipCollator(len(self.labels), self.arguments.augmentation)

    def predict(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean loss over all views of a batch of videos, and the views' logits (B, views, num_labels)."""
        logits = predict_views(model, batch["pixel_values"], batch_size=self.arguments.training.eval_batch_size)
        labels = batch["labels"].repeat_interleave(logits.shape[1], dim=0)
        return ClassificationLoss(self.problem_type).of_logits(logits.flatten(0, 1), labels), logits

    @property
    def checkpoint(self) -> str | None:
        return find_checkpoint(self.arguments.training)


def prepare_run(arguments: Arguments) -> Run:
    """Reads the clips, leaves out the unreadable ones, and builds model and recipe."""
    training, output_dir = arguments.training, Path(arguments.training.output_dir)
    set_seed(training.seed)
    if not PartialState().is_main_process:
        logging.set_verbosity_error()  # one process tells what there is to tell
    splits = load_clips(arguments.data, seed=training.seed)
    clips = [clip for part in splits.values() for clip in part]
    if "train" not in splits:
        raise ValueError("expected clips to train on, got none; check --train_dir, --train_file or --dataset_name")
    problem_type = arguments.model.problem_type or find_problem_type(clips)
    source = find_source(arguments.model, output_dir)
    model = build_model(arguments.model, source, labels=list_labels(clips), problem_type=problem_type)
    processor = build_processor(arguments.model, source, model.config)
    label2id = model.config.label2id
    check_labels(clips, label2id, problem_type)
    write_label_order(training, sorted(label2id, key=label2id.get))
    unreadable = UnreadableClips(
        output_dir / UNREADABLE_NAME, num_clips=len(clips), max_share=arguments.data.max_unreadable_share
    )
    readable = leave_out_unreadable(splits, unreadable)
    if training.eval_strategy != "no" and "validation" not in readable:
        raise ValueError(
            "--eval_strategy: expected validation clips that can be read, got none; see --train_val_split"
        )
    common = {"label2id": label2id, "problem_type": problem_type, "unreadable": unreadable}
    training_clips = TrainingClips(
        *readable.pop("train"), processor, augmentation=arguments.augmentation, seed=training.seed, **common
    )
    views = {"num_clips": arguments.model.eval_num_clips, "num_crops": arguments.model.eval_num_crops}
    weights = balanced_weights(training_clips.labels, len(label2id)) if arguments.recipe.balanced_sampling else None
    rarity = rarity_weights(training_clips.labels, len(label2id)) if arguments.recipe.class_weights else None
    pushes, training.push_to_hub = training.push_to_hub, False  # once, at the end, with a card of ours
    return Run(
        arguments=arguments,
        model=choose_trained_parameters(model, arguments.model),
        processor=processor,
        training_clips=training_clips,
        evaluation_clips={
            name: EvaluationClips(*part, processor, **views, **common) for name, part in readable.items()
        },
        sampler=ClipSampler(len(training_clips), seed=training.seed, weights=weights),
        unreadable=unreadable,
        problem_type=problem_type,
        loss=ClassificationLoss(problem_type, label_smoothing=training.label_smoothing_factor, class_weights=rarity),
        pushes=pushes,
    )


def find_checkpoint(training: TrainingArguments) -> str | None:
    """
    The checkpoint to go on from; --resume_from_checkpoint last takes the latest whole one of the output folder, None
    where it has none.
    """
    if training.resume_from_checkpoint != "last":
        return training.resume_from_checkpoint
    folders = Path(training.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    whole = [folder for folder in folders if any((folder / name).exists() for name in CHECKPOINT_STATES)]
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None


def write_label_order(training: TrainingArguments, labels: Sequence[str]) -> None:
    """
    Writes down the order of the labels, which the weights depend on.

    Raises:
        ValueError: the run that is to go on had other labels, or another order.
    """
    checkpoint = find_checkpoint(training)
    earlier = Path(checkpoint).parent / LABELS_NAME if checkpoint else None
    if earlier is not None and earlier.exists() and (names := json.loads(earlier.read_text())) != list(labels):
        raise ValueError(f"{checkpoint}: expected its labels, {', '.join(names)}; the clips have {', '.join(labels)}")
    if PartialState().is_main_process:
        path = Path(training.output_dir) / LABELS_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(labels, ensure_ascii=False) + "\n", encoding="utf-8")


def leave_out_unreadable(
    splits: dict[str, list[LabeledClip]], unreadable: UnreadableClips
) -> dict[str, tuple[list[LabeledClip], list]]:
    """The readable clips of each split and what `probe` says of them; the others are written down, and counted."""
    clips = [clip for part in splits.values() for clip in part]
    infos = [None]
    if PartialState().is_main_process:
        infos = [probe_clips(clips)]
        unreadable.path.unlink(missing_ok=True)
        write_manifest(unreadable.path.with_name(MANIFEST_NAME), splits)
        for clip, info in zip(clips, infos[0], strict=True):
            if isinstance(info, VideoError):
                unreadable.record(clip, info)
    infos = broadcast_object_list(infos)[0]
    found = dict(zip(map(id, clips), infos, strict=True))
    readable = {
        name: [(clip, found[id(clip)]) for clip in part if not isinstance(found[id(clip)], VideoError)]
        for name, part in splits.items()
    }
    if not readable["train"]:
        raise RuntimeError(f"expected clips to train on, none can be read: see {unreadable.path}")
    counts = ", ".join(f"{len(part)} {name}" for name, part in readable.items())
    logger.warning(f"clips: {counts}; {unreadable}")
    return {name: tuple(map(list, zip(*part, strict=True))) for name, part in readable.items() if part}


# ---- the result ----


def save_result(
    run: Run, model: nn.Module, figures: dict[str, dict[str, float]], *, state_dict: dict | None = None
) -> None:
    """
    Writes model, processors and card to the output folder's `model`, and pushes that to the Hub where asked to.

    Args:
        run: The run.
        model: The trained model, unwrapped.
        figures: For each split that was evaluated: `evaluation_figures`.
        state_dict: Its weights, where the model itself does not hold all of them.
    """
    training = run.arguments.training
    folder = Path(training.output_dir) / RESULT_FOLDER
    without_adapters(model).save_pretrained(folder, state_dict=state_dict)
    run.processor.save_pretrained(folder)
    repo_id = training.hub_model_id or Path(training.output_dir).resolve().name
    write_model_card(
        folder,
        license=run.arguments.model.license,
        repo_id=repo_id,
        base_model=_hub_id(run.arguments.model.model_name_or_path),
        datasets=[name] if (name := _hub_id(run.arguments.data.dataset_name)) else [],
        origin=describe_origin(run),
        evaluations=[describe_evaluation(run, split, each) for split, each in figures.items()],
    )
    if run.pushes:
        push_folder(folder, repo_id, private=training.hub_private_repo, token=training.hub_token)


def _hub_id(name: str | None) -> str | None:
    return name if name and not Path(name).exists() else None


def describe_origin(run: Run) -> str:
    """How the model came about, for its card."""
    arguments = run.arguments
    start, config_name = arguments.model.model_name_or_path, arguments.model.config_name
    start = f"`{_hub_id(start) or Path(start).name}`" if start else "the camera-motion checkpoint of `fal-hf`"
    start = f"nothing (`{Path(config_name).name}`)" if config_name else start
    training = arguments.training
    batch = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
    length = f"{training.max_steps} steps" if training.max_steps > 0 else f"{training.num_train_epochs:g} epochs"
    length = f"up to {length}" if arguments.recipe.early_stopping_patience else length
    return (
        f"Trained from {start} on {len(run.training_clips)} clips ({run.unreadable}), "
        f"{length} in batches of {batch}, learning rate {training.learning_rate:g}, "
        f"{training.optim.value}."
    )


def describe_evaluation(run: Run, split: str, figures: dict[str, float]) -> Evaluation:
    """The headline figure of a split, how to print it again, and the others."""
    data = run.arguments.data
    name = _hub_id(data.dataset_name) or Path(data.dataset_name or data.train_dir or data.train_file).stem
    metric = "mean_average_precision" if run.problem_type == MULTI_LABEL else "accuracy"
    result = EvalResult(
        task_type="video-classification",
        dataset_type=_hub_id(data.dataset_name) or "local",
        dataset_name=name,
        dataset_split=split,
        metric_type=metric,
        metric_name=f"{metric.replace('_', ' ')} ({split}, video level)",
        metric_value=round(figures[metric], 4),
    )
    command = (
        f"fal evaluate --model_name_or_path {RESULT_FOLDER} "
        f"{_source_of_clips(run)} --split {split} --num_clips {run.arguments.model.eval_num_clips} "
        f"--num_crops {run.arguments.model.eval_num_crops}"
    )
    others = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if name != metric)
    return Evaluation(result=result, command=command, details=f"{len(run.evaluation_clips[split])} videos; {others}.")


def _source_of_clips(run: Run) -> str:
    """The arguments that name the clips of a run and their splits to the evaluation."""
    data = run.arguments.data
    if not data.dataset_name:
        return f"--train_file {MANIFEST_NAME}"
    changed = {one.name: getattr(data, one.name) for one in fields(data) if getattr(data, one.name) != one.default}
    changed["dataset_name"] = _hub_id(data.dataset_name) or Path(data.dataset_name).name
    words = [word for name, value in changed.items() for word in (f"--{name}", str(value))]
    return shlex.join([*words, "--seed", str(run.arguments.training.seed)])
