"""`fal embed`: embeddings for files, folders, URLs and collections."""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from .arguments import UsageError, add_model_options, as_usage_error, filled
from .loading import load_labeler
from .runs import (
    ProgressBar,
    add_inputs,
    add_run_options,
    add_view_options,
    add_window_options,
    check_output_path,
    find_inputs,
    make_run_options,
    write_file,
)

if TYPE_CHECKING:
    from ..labeling.labeler import VideoLabeler


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal embed`."""
    parser = commands.add_parser(
        "embed",
        help="embed videos, to find those that are alike",
        description="Write what the model knows of each video, its embedding: `fal similar` finds videos by it.",
        epilog="Exit status: 0, or 1 if a video failed (the others are embedded all the same), 2 for wrong usage or "
        "an output that cannot be written.",
    )
    add_inputs(parser)
    add_model_options(parser)
    add_view_options(parser, windows="--windows")
    windows = parser.add_argument_group("windows")
    windows.add_argument(
        "--windows", action="store_true", help="embed windows all over each video instead of the whole"
    )
    add_window_options(windows)
    output = parser.add_argument_group("output and large collections")
    output.add_argument(
        "--output",
        required=True,
        type=filled,
        metavar="FILE",
        help=".parquet, .safetensors or .npy (names in FILE.csv); the same command goes on where an earlier one was "
        "stopped, by FILE.journal",
    )
    output.add_argument("--retry-failed", action="store_true", help="embed those again that failed in an earlier run")
    add_run_options(output)
    parser.set_defaults(run=embed, compile=False)


def embed(arguments: argparse.Namespace) -> int:
    """Runs `fal embed`; returns the exit status."""
    from ..bulk.labeling_run import embed_to_file

    check_output_path(arguments, "manifest")
    options = make_embedding_options(arguments)
    how = {**make_run_options(arguments), "retry_failed": arguments.retry_failed}
    videos = find_inputs(arguments)
    load = partial(load_embedder, arguments, **options)
    return write_file(embed_to_file, load, videos, how, ProgressBar(), output=arguments.output, done="embedded")


def make_embedding_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a labeler that embeds takes beside its model, checked."""
    from ..labeling.options import Views

    if not arguments.windows and (arguments.window, arguments.hop) != (None, None):
        raise UsageError("expected --windows with --window and --hop")
    with as_usage_error(ValueError):
        views = Views(
            num_clips=arguments.num_clips,
            num_crops=arguments.crops,
            scales=arguments.scales,
            windows=arguments.windows,
            window_seconds=arguments.window,
            hop_seconds=arguments.hop,
        )
    return {"views": views, "batch_size": arguments.batch_size}


def load_embedder(arguments: argparse.Namespace, **options) -> "VideoLabeler":
    """A labeler of the model that the command names, which can embed."""
    labeler = load_labeler(arguments, **options)
    with as_usage_error(ValueError):
        labeler.check_embeddings()
    return labeler


__all__ = ["add_command", "load_embedder"]
