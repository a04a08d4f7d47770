"""The arguments of a run, from Python, a recipe and the command line."""

import copy
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, get_type_hints

from accelerate.utils import parse_flag_from_env
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from ..labeling.label_files import check_folder
from .clips import AugmentationArguments
from .data import DataArguments, refuse_empty
from .recipe import RecipeArguments
from .start import ModelArguments

# JSON files with the values of some arguments, by their names.
RECIPES = Path(__file__).with_name("recipes")
# Numbers that make sense.
TRAINING_RANGES = {
    "per_device_train_batch_size": (1, math.inf),
    "per_device_eval_batch_size": (1, math.inf),
    "gradient_accumulation_steps": (1, math.inf),
    "dataloader_num_workers": (0, math.inf),
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "max_grad_norm": (0, math.inf),
    "num_train_epochs": (0, math.inf),
    "warmup_steps": (0, math.inf),
    "label_smoothing_factor": (0, 1),
}


@dataclass(kw_only=True)
class Arguments:
    """
    All arguments of a run.

    Raises:
        ValueError: some contradict others.
    """

    data: DataArguments
    model: ModelArguments = field(default_factory=ModelArguments)
    augmentation: AugmentationArguments = field(default_factory=AugmentationArguments)
    recipe: RecipeArguments = field(default_factory=RecipeArguments)
    training: TrainingArguments

    def __post_init__(self):
        self._check_together()
        self.training = copy.copy(self.training)
        self.training.remove_unused_columns = False  # the collator needs more than the model's own arguments
        if self.model.freezes_features:  # DataParallel would leave what is frozen on the first GPU; one is enough
            self.training._n_gpu = min(self.training.n_gpu, 1)

    @property
    def output_dir(self) -> Path:
        """The folder of the run."""
        return Path(self.training.output_dir)  # pyright: ignore[reportArgumentType]  # never None once it is made

    def _check_together(self) -> None:
        training, recipe = self.training, self.recipe
        self._check_training()
        if recipe.lr_drop_epochs and (training.warmup_steps or training.lr_scheduler_type != "linear"):
            raise ValueError("expected --lr_drop_epochs or a schedule (--lr_scheduler_type, --warmup_steps), got both")
        if recipe.class_weights and recipe.balanced_sampling:
            raise ValueError(
                "expected --class_weights or --balanced_sampling, got both: each makes up for the imbalance"
            )
        if recipe.early_stopping_patience and not training.load_best_model_at_end:
            raise ValueError("--early_stopping_patience: expected --load_best_model_at_end with it")
        if training.mixed_precision == "fp16" and training.device.type == "cpu":
            raise ValueError("--fp16: expected a GPU; the CPU would train in float32 instead, and can do --bf16")
        if (recipe.ema_decay or self.model.lora_rank or self.model.freezes_features) and uses_fsdp(training):
            raise ValueError(
                "--ema_decay, --lora_rank, --freeze features: expected FSDP without them: no process has the weights "
                "as a whole"
            )
        if self.model.freezes_features:
            self._refuse_changes_of_features()

    def _refuse_changes_of_features(self) -> None:
        """What would change clips at random, or the frozen part of the model, which has seen each of them once."""
        augmentation = self.augmentation
        names = [one.name for one in fields(augmentation) if getattr(augmentation, one.name) != one.default]
        names += ["drop_path_rate"] if self.model.drop_path_rate is not None else []
        names += ["gradient_checkpointing"] if self.training.gradient_checkpointing else []
        if names:
            raise ValueError(
                f"{', '.join('--' + name for name in names)}: expected none with --freeze features, for which clips "
                "go through the model once; --freeze backbone trains the same with them, and the recipe few_shots "
                "has none"
            )

    def _check_training(self) -> None:
        """What TrainingArguments take, and only a run that has begun would fail on."""
        refuse_empty(self.training, ("output_dir", "resume_from_checkpoint"))
        check_folder(self.output_dir)
        for name, (least, most) in TRAINING_RANGES.items():
            value = getattr(self.training, name)
            if not (least <= value <= most and math.isfinite(value)):
                upper = "" if most == math.inf else f" and at most {most}"
                raise ValueError(f"--{name}: expected at least {least}{upper}, got {value}")
        checkpoint = self.training.resume_from_checkpoint
        if checkpoint not in (None, "last") and not Path(checkpoint).is_dir():
            raise ValueError(
                f"--resume_from_checkpoint: expected last or the folder of a checkpoint, got {checkpoint}"
            )
        get_reporting_integration_callbacks(self.training.report_to)  # refuses others than there are


KINDS = get_type_hints(Arguments)


def uses_fsdp(training: TrainingArguments) -> bool:
    """Whether the weights are spread over processes, by an argument or by `accelerate launch`."""
    return bool(training.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP")


def parse_arguments(argv: Sequence[str] | None = None, *, program: str | None = None) -> Arguments:
    """
    Reads a command line. A recipe as its first word gives arguments that the others overrule.

    Args:
        argv: The words after the program's name; those of this process unless given.
        program: The name in the help; the script's unless given.

    Raises:
        ValueError: there is no such recipe, it names unknown arguments, or arguments contradict one another.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(
        KINDS.values(),
        prog=program,
        usage="%(prog)s [RECIPE] --train_dir FOLDER --output_dir FOLDER [options]",
        description="Fine-tune a video classifier on labeled clips. A recipe gives options that the others overrule: "
        f"one of the package's ({', '.join(recipe_names())}) or a JSON file of options and their values. Where no "
        "group is named, options are those of transformers' TrainingArguments.",
    )
    if argv and not argv[0].startswith("-"):
        parser.set_defaults(**_read_values(argv.pop(0)))
    parsed = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    return Arguments(**dict(zip(KINDS, parsed, strict=True)))


def read_recipe(name: str | PathLike, **changes: Any) -> dict[str, Any]:
    """
    The arguments of [`train`] as a recipe has them, for
    `train(**read_recipe("small_set", train_dir="clips", output_dir="runs/mine"))`.

    Args:
        name: One of the package's recipes, see `recipe_names`, or a JSON file of arguments and their values.
        changes: Arguments by their names, which overrule the recipe's or add to them.

    Returns:
        `data`, `model`, `augmentation`, `recipe` and `training`, each as [`train`] takes it.

    Raises:
        ValueError: there is no such recipe, or it names unknown arguments.
    """
    values = {**_read_values(name), **changes}
    _refuse_unknown("the changes of the recipe", changes)
    return dict(zip(KINDS, HfArgumentParser(KINDS.values()).parse_dict(values), strict=True))


def recipe_names() -> list[str]:
    """The package's recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.json"))


def _read_values(name: str | PathLike) -> dict[str, Any]:
    path = RECIPES / f"{name}.json" if name in recipe_names() else Path(name)
    if path.suffix != ".json" or not path.is_file():
        raise ValueError(f"expected a recipe, {', '.join(recipe_names())} or a JSON file that exists, got {name}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object of arguments and their values, got a {type(values).__name__}")
    _refuse_unknown(str(path), values)
    return values


def _refuse_unknown(source: str, values: Mapping[str, Any]) -> None:
    unknown = sorted(values.keys() - {one.name for kind in KINDS.values() for one in fields(kind)})
    if unknown:
        raise ValueError(f"{source}: expected names of arguments, got {', '.join(unknown)}")
