"""The `fal` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version


def build_parser() -> argparse.ArgumentParser:
    """The parser of `fal` and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="fal",
        description="FAL, Framework for Automated Labeling: labels for videos from a space-time transformer.",
    )
    parser.add_argument("--version", action="version", version=f"fal {version('fal-hf')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_label_command(commands)
    return parser


def add_label_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal label`."""
    parser = commands.add_parser(
        "label",
        help="label videos",
        description="Label videos. Without --model the labels say how the camera moves.",
        epilog="Exit status: 0, or 1 if a video failed (the others are labelled all the same), 2 for wrong usage.",
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="path or URL of a video")
    parser.add_argument(
        "--model", metavar="FOLDER_OR_HUB_ID", help="FAL or TimeSformer checkpoint (default: camera motion, built in)"
    )
    parser.add_argument("--top-k", type=positive_int, default=5, metavar="K", help="labels a video (default: 5)")
    parser.add_argument(
        "--num-clips", type=positive_int, metavar="N", help="clips to average over a video (default: the checkpoint's)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="precision of the model (default: the checkpoint's)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line and a video")
    parser.set_defaults(run=label)


def positive_int(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def label(arguments: argparse.Namespace) -> int:
    """Runs `fal label`; returns the exit status."""
    from tqdm import tqdm
    from transformers.utils import logging

    from .labeling import DEFAULT_CHECKPOINT, VideoLabeler

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        labeler = VideoLabeler.from_pretrained(
            arguments.model or DEFAULT_CHECKPOINT,
            num_clips=arguments.num_clips,
            device=arguments.device,
            dtype=arguments.dtype,
        )
    except Exception as error:  # a foreign or damaged checkpoint may fail in any way
        print(f"fal: cannot load the model: {describe(error)}", file=sys.stderr)
        return 2

    num_failed = 0
    show = json.dumps if arguments.json else format_table
    with tqdm(arguments.videos, unit="video", file=sys.stderr, disable=None) as progress:
        for video in progress:
            try:
                record = labeler(video, top_k=arguments.top_k).to_dict()
            except Exception as error:  # whatever one file does, the others are labelled
                record = {"video": video, "error": describe(error)}
                num_failed += 1
            with progress.external_write_mode(file=sys.stdout):
                print(show(record), flush=True)
    return 1 if num_failed else 0


def describe(error: Exception) -> str:
    """One line on an error; its type is left out where the message is meant for users."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) and message else f"{type(error).__name__}: {message}"


def format_table(record: dict) -> str:
    """The labels of one video as lines of text."""
    if "error" in record:
        return f"{record['video']}\n  failed: {record['error']}"
    width = max(len(label["label"]) for label in record["labels"])
    lines = [f"  {label['label']:<{width}}  {label['score']:6.1%}" for label in record["labels"]]
    return "\n".join([record["video"], *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `fal` command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("fal: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
