"""`fal explain`: where the model looked in a video for a label."""

import argparse
import os
import sys

from ..labeling.options import EXPLANATION_METHODS
from .arguments import UsageError, add_checkpoint_options, add_given_labels, as_usage_error, filled, given_labels
from .loading import load_labeler


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal explain`."""
    parser = commands.add_parser(
        "explain",
        help="show where the model looked in a video for a label",
        description="Show where the model looked in a video for a label: each frame beside a map of heat, and a curve "
        "over time. Of the clips that `fal label` scores.",
        epilog="Exit status: 0, 1 if the video cannot be read, 2 for wrong usage or an output that cannot be written.",
    )
    parser.add_argument("video", type=filled, metavar="VIDEO", help="file or URL (http; s3, gs, hf, ... by fsspec)")
    parser.add_argument(
        "-o",
        "--output",
        type=filled,
        required=True,
        metavar="FILE",
        help=".mp4, .gif, .png or .jpg (a sheet of frames), or .npz (the numbers)",
    )
    parser.add_argument("--label", type=filled, help="one of the model's labels (default: the best one)")
    parser.add_argument(
        "--method",
        choices=EXPLANATION_METHODS,
        default=EXPLANATION_METHODS[0],
        help="gradient: what speaks for the label; rollout: where the clip's embedding is from, whatever the label "
        f"(default: {EXPLANATION_METHODS[0]})",
    )
    add_checkpoint_options(parser)
    add_given_labels(parser)
    parser.set_defaults(run=explain, compile=False, runtime="auto", verbose=False)


def explain(arguments: argparse.Namespace) -> int:
    """Runs `fal explain`; returns the exit status."""
    from ..bulk.inputs import find_videos, opened_input, reason_of
    from ..labeling.label_files import OutputError
    from ..model.video_source import VideoError

    labels = given_labels(arguments)
    with as_usage_error(ValueError, OSError, ImportError):
        videos = find_videos([arguments.video])
    if len(videos) > 1:
        raise UsageError(f"{arguments.video}: expected one video, got {len(videos)}")
    (video,) = videos
    if os.path.realpath(arguments.output) == video.source:
        raise UsageError(f"{arguments.output}: expected another file than the video")

    from ..reports.heat_pictures import check_picture, write_explanation

    with as_usage_error(OutputError):
        check_picture(arguments.output)
    labeler = load_labeler(arguments, **labels)
    with as_usage_error(ValueError):
        labeler.check_explainable(arguments.label, arguments.method)
    try:
        with opened_input(video.source) as source:
            explanation = labeler.explain(source, arguments.label, method=arguments.method)
    except VideoError as error:
        print(f"fal: {reason_of(error, video.name)}", file=sys.stderr)
        return 1
    write_explanation(arguments.output, explanation)
    hottest = explanation.seconds[explanation.by_frame.argmax()]
    about = f"{explanation.label} {explanation.score:.1%}, hottest at {hottest:.2f} s"
    print(f"fal: {arguments.output}: {about}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
