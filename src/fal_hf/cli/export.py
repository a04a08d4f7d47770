"""`fal export`: models for ONNX Runtime, OpenVINO and torch, quantized and checked."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..export.options import LEAST_EQUAL, MOST_DIFFERENCE, ExportOptions
from ..runtimes.formats import FORMATS, PRECISIONS
from .arguments import UsageError, as_usage_error, describe_error, filled, print_line
from .loading import notice

if TYPE_CHECKING:
    from ..export.candidates import Candidate
    from ..export.exporter import Attempt

DESCRIPTION = f"""\
Export a classifier to a folder that `fal label`, `fal watch` and `fal evaluate` run like any other --model.

    fal export my-model --to onnx openvino --precision int8 --calibrate clips/ --output my-model-int8
    fal label videos/ --model my-model-int8 -v

Each runtime is compared with the float32 model on videos, label by label. It is kept if at least {LEAST_EQUAL:.0%} of
them get the same labels and no probability is more than {MOST_DIFFERENCE} off; of several ways to make it, the first
that is. A folder holds several runtimes: labeling takes the fastest on the machine at hand.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal export`."""
    parser = commands.add_parser(
        "export",
        help="export a model to ONNX Runtime, OpenVINO or int8",
        description=DESCRIPTION,
        epilog="Exit status: 0, 1 if a runtime is not close enough (the others are kept), 2 for wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=filled, metavar="MODEL", help="folder or Hub id of a classifier")
    parser.add_argument("--to", nargs="+", choices=FORMATS, required=True, help="what is to run it")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["float32"],
        help="of its products; each --to comes in each (default: float32)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        type=filled,
        default=[],
        metavar="VIDEOS",
        help="files, folders or patterns; OpenVINO's int8 is made for numbers as they are on these videos, and "
        "runtimes are compared on them",
    )
    parser.add_argument(
        "--check", nargs="+", type=filled, default=[], metavar="VIDEOS", help="videos to compare on instead"
    )
    parser.add_argument(
        "--output",
        type=filled,
        required=True,
        metavar="FOLDER",
        help="a new folder, or an export of the same model, which gets more runtimes",
    )
    parser.add_argument("--force", action="store_true", help="keep the nearest where none is close enough")
    parser.add_argument(
        "--license", type=filled, default="unknown", metavar="ID", help="of the card (default: unknown)"
    )
    parser.set_defaults(run=export)


def export(arguments: argparse.Namespace) -> int:
    """Runs `fal export`; returns the exit status."""
    with as_usage_error(ValueError, OSError, ImportError):
        options = ExportOptions(
            formats=tuple(arguments.to),
            precisions=tuple(arguments.precision),
            calibrate=find_paths(arguments.calibrate),
            check=find_paths(arguments.check),
            force=arguments.force,
            license=arguments.license,
        )
    with notice("fal: loading torch ..."):
        from transformers.utils import logging

        from ..export.exporter import ExportError, NotCloseEnough, export_model

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        with closing(ProgressBar(len(options.runtimes))) as bar:
            result = export_model(
                arguments.model, arguments.output, options, on_start=bar.start, on_attempt=bar.finish
            )
    except NotCloseEnough as error:
        print(f"fal: {error}", file=sys.stderr)
        return 1
    except (ExportError, ImportError) as error:
        raise UsageError(describe_error(error)) from error
    except Exception as error:  # a foreign or damaged checkpoint may fail in any way
        raise UsageError(f"cannot export {arguments.model}: {describe_error(error)}") from error
    for line in result.unreadable:
        print(f"fal: {line}", file=sys.stderr)
    names = ", ".join(record.name for record in result.folder.records)
    print(f"{result.folder.path}: {names}; the float32 model takes {result.float_seconds:.3f} s a clip here")
    return 0


def find_paths(videos: Sequence[str]) -> tuple[str, ...]:
    """The videos that a command names, as paths or URLs."""
    from ..bulk.inputs import find_videos

    return tuple(video.source for video in find_videos(videos)) if videos else ()


class ProgressBar:
    """What is being made, on standard error where that is a terminal, below what is done."""

    def __init__(self, num_runtimes: int):
        from tqdm import tqdm

        form = "{n}/{total} {desc} {elapsed}"
        self.bar = tqdm(total=num_runtimes, file=sys.stderr, disable=None, leave=False, bar_format=form)

    def start(self, candidate: "Candidate") -> None:
        """Shows which way to make a runtime is tried."""
        self.bar.set_description_str(str(candidate))

    def finish(self, attempt: "Attempt") -> None:
        """Prints what it has come to."""
        with self.bar.external_write_mode(file=sys.stdout):
            print_line(str(attempt))
        self.bar.update(attempt.agreement.is_enough)

    def close(self) -> None:
        self.bar.close()


__all__ = ["add_command"]
