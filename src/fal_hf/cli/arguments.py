"""What sub-commands share: types of arguments, options of the model, and what wrong usage becomes."""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """What is wrong with the command, in one line."""


@contextmanager
def as_usage_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds into a [`UsageError`]."""
    try:
        yield
    except kinds as error:
        from ..bulk.inputs import describe_error

        # What is missing is named with what to do about it.
        raise UsageError(str(error) if isinstance(error, ImportError) else describe_error(error)) from error


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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model runs, where and how."""
    parser.add_argument(
        "--model", metavar="FOLDER_OR_HUB_ID", help="FAL or TimeSformer checkpoint (default: camera motion, built in)"
    )
    parser.add_argument("--top-k", type=positive_int, default=5, metavar="K", help="labels a video (default: 5)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="precision of the model (default: the checkpoint's)",
    )


__all__ = [
    "UsageError",
    "add_model_options",
    "as_usage_error",
    "non_negative_int",
    "positive_int",
    "positive_number",
    "scales",
]
