"""What sub-commands share: types of arguments, options of the model, and what wrong usage becomes."""

import argparse
import math
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


def adaptive_patches(text: str) -> "AdaptivePatches":
    """A share of patches, for argparse."""
    from ..model.patch_layout import AdaptivePatches

    value = float(text)
    try:
        return AdaptivePatches(share=value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model runs, where and how, and what it labels with."""
    parser.add_argument(
        "--model",
        type=filled,
        metavar="FOLDER_OR_HUB_ID",
        help="FAL or TimeSformer checkpoint (default: camera motion, built in)",
    )
    parser.add_argument("--top-k", type=positive_int, default=5, metavar="K", help="labels a video (default: 5)")
    parser.add_argument("--device", type=filled, help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="precision of the model (default: the checkpoint's)",
    )
    parser.add_argument(
        "--adaptive-patches",
        type=adaptive_patches,
        metavar="SHARE",
        help="fewer tokens: four patches in which little happens become one, until this share of a frame's patches is "
        "left, 0.25 to 1 (default: the checkpoint's own layout)",
    )
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
    "add_model_options",
    "as_usage_error",
    "describe_error",
    "filled",
    "given_labels",
    "non_negative_int",
    "positive_int",
    "positive_number",
    "print_line",
    "scales",
]
