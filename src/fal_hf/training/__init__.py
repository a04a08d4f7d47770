"""
Fine-tuning and evaluation on labeled clips.

    from fal_hf.training import read_recipe, train

    result = train(**read_recipe("small_set", train_dir="clips", output_dir="runs/mine"))

`fal train` and `fal evaluate` do the same on the command line.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from ..model.video_writing import write_video
    from .arguments import read_recipe, recipe_names
    from .calibration import Calibration, Fit
    from .clips import AugmentationArguments
    from .data import DataArguments, LabeledClip
    from .evaluation import EvaluationArguments, evaluate
    from .recipe import RecipeArguments
    from .report import EvaluationReport, Prediction
    from .result import TrainingResult
    from .start import ModelArguments
    from .trainer import train

# What the extra installs and the modules here cannot do without.
_NEEDED = ("accelerate", "evaluate", "scipy", "sklearn")
# Where each public name is; it is imported when it is asked for.
_MODULES = {
    "arguments": ("read_recipe", "recipe_names"),
    "calibration": ("Calibration", "Fit"),
    "clips": ("AugmentationArguments",),
    "data": ("DataArguments", "LabeledClip"),
    "evaluation": ("EvaluationArguments", "evaluate"),
    "recipe": ("RecipeArguments",),
    "report": ("EvaluationReport", "Prediction"),
    "result": ("TrainingResult",),
    "start": ("ModelArguments",),
    "trainer": ("train",),
    ".model.video_writing": ("write_video",),
}

__all__ = [
    "AugmentationArguments",
    "Calibration",
    "DataArguments",
    "EvaluationArguments",
    "EvaluationReport",
    "Fit",
    "LabeledClip",
    "ModelArguments",
    "Prediction",
    "RecipeArguments",
    "TrainingResult",
    "evaluate",
    "read_recipe",
    "recipe_names",
    "train",
    "write_video",
]

_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise ImportError(
        f"fal_hf.training: expected {', '.join(_missing)} to be installed, run `pip install fal-hf[training]`"
    )

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
