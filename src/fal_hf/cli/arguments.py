"""What sub-commands share: types of arguments, options of the model, and what wrong usage becomes."""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model.patch_layout import AdaptivePatches


class UsageError(Exception):
    """What is wrong with the command, in one line."""


@contextmanager
def as_usage_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds into a [`UsageError`]."""
    try:
        yield
    except BrokenPipeError:  # an OSError that is no usage
        raise
    except kinds as error:
        raise UsageError(describe_error(error)) from error


def describe_error(error: Exception) -> str:
    """One line on an error; what is missing is named with what to do about it."""
    from ..bulk.inputs import describe_error

    return " ".join(str(error).split()) if isinstance(error, ImportError) else describe_error(error)


def print_line(text: str) -> None:
    """Prints to standard output, at once; an OSError says that it was there."""
    from ..labeling.label_files import named

    with named("standard output"):
        print(text, flush=True)


def filled(text: str) -> str:
    """A text that is not empty, as that of a variable which nobody has set is, for argparse."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, got an empty one")
    return text


def positive_int(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def non_negative_int(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text}")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0, for argparse."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def scales(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, or `paper`, for argparse."""
    from ..labeling.options import PAPER_SCALES

    return PAPER_SCALES if text == "paper" else tuple(float(part) for part in text.split(","))


def adaptive_patches(text: str, option: str = "share") -> "AdaptivePatches":
    """Patches that adapt by one option, for argparse."""
    from ..model.patch_layout import AdaptivePatches

    value = float(text)
    try:
        return AdaptivePatches(**{option: value})
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def static_patches(text: str) -> "AdaptivePatches":
    """A threshold of patches that do not change, for argparse."""
    return adaptive_patches(text, "static_threshold")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model runs, where and how."""
    add_checkpoint_options(parser)
    parser.add_argument(
        "--runtime",
        type=filled,
        default="auto",
        metavar="NAME",
        help="of an exported --model, onnx-int8 for instance (default: auto, the fastest on this machine, which a "
        "trial of some seconds finds once)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say which runtime is taken, and why")


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a model that runs in torch."""
    parser.add_argument(
        "--model",
        type=filled,
        metavar="FOLDER_OR_HUB_ID",
        help="FAL or TimeSformer checkpoint, or what `fal export` has written (default: camera motion, built in)",
    )
    parser.add_argument("--device", type=filled, help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="precision of the model (default: the checkpoint's)",
    )
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument(
        "--adaptive-patches",
        type=adaptive_patches,
        metavar="SHARE",
        help="fewer tokens: four patches in which little happens become one, until this share of a frame's patches is "
        "left, 0.25 to 1 (default: the checkpoint's own layout)",
    )
    tokens.add_argument(
        "--static-patches",
        dest="adaptive_patches",
        type=static_patches,
        metavar="CHANGE",
        help="fewer tokens, in joint attention: patches of later frames that change by less than this, in normalized "
        "values, are left out, 0.1 for example",
    )


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what the model labels with, and how many labels are told."""
    parser.add_argument("--top-k", type=positive_int, default=5, metavar="K", help="labels a video (default: 5)")
    parser.add_argument(
        "--compile", action="store_true", help="have torch compile the model: it starts later, then runs faster"
    )
    add_given_labels(parser)


def add_given_labels(parser: argparse.ArgumentParser) -> None:
    """Adds the options of labels in one's own words."""
    given = parser.add_argument_group(
        "labels in your own words", "for a --model with a text tower, such as a CLIP that `fal convert` has converted"
    )
    given.add_argument(
        "--labels",
        type=filled,
        metavar="LABELS",
        help='labels with commas between them, "a dog runs, a car turns", or a .txt (one a line), .csv or .json file',
    )
    given.add_argument(
        "--prompt",
        type=filled,
        metavar="TEXT",
        help='what stands for a label, with {} in its place, "a video of {}" (default: the checkpoint\'s)',
    )
    given.add_argument(
        "--multi-label",
        action="store_true",
        help="several labels may hold: scores that are independent of one another and do not add up to one",
    )


def add_reuse_options(parser: argparse._ActionsContainer) -> None:
    """Adds the options of windows in which nothing changes."""
    parser.add_argument(
        "--reuse-static",
        action="store_true",
        help="windows that look like the last one that went through the model take over its scores",
    )
    parser.add_argument(
        "--static-levels",
        type=float,
        metavar="LEVELS",
        help="by how much a patch of those may differ, of 255: more for a noisy camera, less for what is small and "
        "moves (default: 6)",
    )


def reuse_levels(arguments: argparse.Namespace) -> float | None:
    """What `Views` and `watch` take for windows in which nothing changes."""
    from ..labeling.options import STATIC_LEVELS, check_levels

    if not arguments.reuse_static:
        if arguments.static_levels is not None:
            raise UsageError("expected --reuse-static with --static-levels")
        return None
    levels = STATIC_LEVELS if arguments.static_levels is None else arguments.static_levels
    with as_usage_error(ValueError):
        check_levels(levels)
    return levels


def print_reuse(num_reused: int, num_windows: int) -> None:
    """Tells on standard error how many windows, if there are any, took over scores."""
    if num_windows:
        share = num_reused / num_windows
        text = f"fal: {num_reused} of {num_windows} windows ({share:.0%}) took over the scores of an earlier one"
        print(text, file=sys.stderr)


def given_labels(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a labeler takes of the labels that a command gives, checked."""
    from ..model.label_names import find_labels
    from ..model.label_space import check_prompt

    if arguments.labels is None:
        if arguments.prompt is not None or arguments.multi_label:
            raise UsageError("expected --labels with --prompt and --multi-label")
        return {}
    if arguments.model is None:
        raise UsageError("expected --model with --labels: the built-in model knows its own labels only")
    with as_usage_error(ValueError):
        labels = find_labels(arguments.labels)
        if arguments.prompt is not None:
            check_prompt(arguments.prompt)
    return {"labels": labels, "prompt": arguments.prompt, "multi_label": arguments.multi_label}


__all__ = [
    "UsageError",
    "add_checkpoint_options",
    "add_given_labels",
    "add_label_options",
    "add_model_options",
    "add_reuse_options",
    "as_usage_error",
    "describe_error",
    "filled",
    "given_labels",
    "non_negative_int",
    "positive_int",
    "positive_number",
    "print_line",
    "print_reuse",
    "reuse_levels",
    "scales",
]
