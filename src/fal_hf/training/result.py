"""What a run leaves behind: the model with its processors and its card, in a folder and on the Hub."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from huggingface_hub import CommitInfo, EvalResult
from transformers.training_args import OptimizerNames

from ..hub.model_card import Evaluation, write_model_card
from ..hub.publish import push_folder
from ..labeling.aggregation import MULTI_LABEL
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from .features import FeatureClassifier
from .run import MANIFEST_NAME, Run
from .start import without_adapters

# The trained model with its processors and card, in the output folder.
RESULT_FOLDER = "model"


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """
    What a training has made.

    Args:
        output_dir: The folder of the run: checkpoints, figures as JSON, the clips that were used and left out.
        figures: For each split that was evaluated, the figures of its videos: `accuracy`, `f1_macro`, `loss`, ...
        training: Time, speed and mean loss of the training, as Trainer names them.
        unreadable: Why clips were left out, by path and start in seconds.
        commit: Of the push to the Hub, where there was one.
    """

    output_dir: Path
    figures: dict[str, dict[str, float]]
    training: dict[str, float]
    unreadable: dict[tuple[str, float], str]
    commit: CommitInfo | None = None

    @property
    def model_dir(self) -> Path:
        """The model, its processors and its card, for `from_pretrained`."""
        return self.output_dir / RESULT_FOLDER

    @property
    def manifest(self) -> Path:
        """Which clip was in which split, for `--train_file` of an evaluation."""
        return self.output_dir / MANIFEST_NAME


def save_result(
    run: Run,
    model: FALVideoClassifierForVideoClassification | FeatureClassifier,
    figures: dict[str, dict[str, float]],
    *,
    state_dict: dict | None = None,
) -> CommitInfo | None:
    """
    Writes model, processors and card to the output folder's `model`, and pushes that to the Hub where asked to.

    Args:
        run: The run.
        model: The trained model, in no wrapper but PEFT's, or the part of it that was trained on features.
        figures: For each split that was evaluated: `Run.figures`.
        state_dict: Its weights, where the model itself does not hold all of them.

    Returns:
        The commit on the Hub; None where nothing was pushed.
    """
    training = run.arguments.training
    folder = run.output_dir / RESULT_FOLDER
    whole = model.whole if isinstance(model, FeatureClassifier) else without_adapters(model)
    whole.save_pretrained(folder, state_dict=state_dict)
    run.processor.save_pretrained(folder)
    repo_id = training.hub_model_id or run.output_dir.resolve().name
    write_model_card(
        folder,
        license=run.arguments.model.license,
        repo_id=repo_id,
        base_model=_hub_id(run.arguments.model.model_name_or_path),
        datasets=[name] if (name := _hub_id(run.arguments.data.dataset_name)) else [],
        origin=describe_origin(run),
        evaluations=[describe_evaluation(run, split, each) for split, each in figures.items()],
    )
    if not run.pushes:
        return None
    return push_folder(folder, repo_id, private=training.hub_private_repo, token=training.hub_token)


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
        f"{OptimizerNames(training.optim).value}."
    )


def describe_evaluation(run: Run, split: str, figures: dict[str, float]) -> Evaluation:
    """The headline figure of a split, how to print it again, and the others."""
    data = run.arguments.data
    sources = filter(None, (data.dataset_name, data.train_dir, data.train_file))
    name = _hub_id(data.dataset_name) or Path(next(sources)).stem
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
