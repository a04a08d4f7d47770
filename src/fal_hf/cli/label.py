"""`fal label`: labels for files, folders, URLs and collections."""

import argparse
import json
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from .arguments import (
    UsageError,
    add_label_options,
    add_model_options,
    add_reuse_options,
    as_usage_error,
    filled,
    given_labels,
    reuse_levels,
)
from .loading import load_labeler
from .runs import (
    ProgressBar,
    add_inputs,
    add_run_options,
    add_view_options,
    add_window_options,
    check_output_path,
    clock,
    find_inputs,
    format_name,
    make_run_options,
    write_file,
)

if TYPE_CHECKING:
    from ..bulk.inputs import VideoInput
    from ..labeling.records import Record
    from .runs import Load


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal label`."""
    parser = commands.add_parser(
        "label",
        help="label videos",
        description="Label videos. Without --model the labels say how the camera moves.",
        epilog="Exit status: 0, or 1 if a video failed (the others are labeled all the same), 2 for wrong usage or an "
        "output that cannot be written.",
    )
    add_inputs(parser)
    add_model_options(parser)
    add_label_options(parser)
    add_view_options(parser)
    add_timeline_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=label)


def add_timeline_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of timelines."""
    timeline = parser.add_argument_group("timeline")
    timeline.add_argument("--timeline", action="store_true", help="score windows all over each video, find segments")
    add_window_options(timeline)
    timeline.add_argument(
        "--threshold", type=float, metavar="SCORE", help="score at which a segment begins (default: 0.5)"
    )
    timeline.add_argument(
        "--hysteresis", type=float, metavar="SCORE", help="how far below that it goes on (default: 0.1)"
    )
    timeline.add_argument("--min-length", type=float, metavar="SECONDS", help="shorter segments are left out")
    add_reuse_options(timeline)
    timeline.add_argument(
        "--hierarchy",
        type=filled,
        metavar="FILE",
        help="JSON of label and parent; adds the parents' scores (default: the checkpoint's, where it has one)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of output and of large collections."""
    output = parser.add_argument_group("output and large collections")
    output.add_argument("--json", action="store_true", help="print one JSON object a line and a video")
    output.add_argument(
        "--output",
        type=filled,
        metavar="FILE",
        help=".jsonl, .csv, .parquet, .json (Label Studio) or .vtt ({name} in it becomes the video's); the same "
        "command goes on where an earlier one was stopped, by FILE.journal",
    )
    output.add_argument("--retry-failed", action="store_true", help="label those again that failed in an earlier run")
    add_run_options(output)


def label(arguments: argparse.Namespace) -> int:
    """Runs `fal label`; returns the exit status."""
    check_output_options(arguments)
    options = make_labeler_options(arguments)
    how = {"top_k": arguments.top_k, **make_run_options(arguments)}
    videos = find_inputs(arguments)
    load = partial(load_labeler, arguments, **options)
    bar = ProgressBar(tells_reuse=arguments.reuse_static)
    if arguments.output is None:
        return print_labels(load, videos, how, bar, as_json=arguments.json)
    from ..bulk.labeling_run import label_to_file

    how["retry_failed"] = arguments.retry_failed
    return write_file(label_to_file, load, videos, how, bar, output=arguments.output, done="labeled")


def check_output_options(arguments: argparse.Namespace) -> None:
    """Refuses options of output that contradict others."""
    if arguments.output is None:
        if arguments.retry_failed:
            raise UsageError("expected --output with --retry-failed: nothing else remembers what has failed")
        return
    if arguments.json:
        raise UsageError("expected --json, which prints, or --output, got both; .jsonl files hold the same")
    check_output_path(arguments, "manifest", "labels", "hierarchy")


def make_labeler_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a labeler takes beside its model, checked."""
    from ..labeling.options import Timeline, Views, read_parents

    given = {"threshold": arguments.threshold, "hysteresis": arguments.hysteresis, "min_seconds": arguments.min_length}
    given = {name: value for name, value in given.items() if value is not None}
    reuse_static = reuse_levels(arguments)
    if not arguments.timeline and (given or (arguments.window, arguments.hop, reuse_static) != (None, None, None)):
        options = "--window, --hop, --threshold, --hysteresis, --min-length and --reuse-static"
        raise UsageError(f"expected --timeline with {options}")
    with as_usage_error(ValueError):
        views = Views(
            num_clips=arguments.num_clips,
            num_crops=arguments.crops,
            scales=arguments.scales,
            windows=arguments.timeline,
            window_seconds=arguments.window,
            hop_seconds=arguments.hop,
            reuse_static=reuse_static,
        )
        timeline = Timeline(**given) if arguments.timeline else None
    labels = given_labels(arguments)
    if arguments.hierarchy is not None:
        with as_usage_error(ValueError, OSError):
            read_parents(arguments.hierarchy, labels.get("labels"))
    return {
        **labels,
        "views": views,
        "timeline": timeline,
        "hierarchy": arguments.hierarchy,
        "batch_size": arguments.batch_size,
    }


def print_labels(
    load: "Load", videos: "list[VideoInput]", how: dict[str, Any], bar: ProgressBar, *, as_json: bool
) -> int:
    """Prints the labels of each video in the order of the command."""
    from ..bulk.labeling_run import label_in_order
    from ..bulk.processes import Processes

    if Processes.launched().count > 1:
        raise UsageError("expected --output where several processes share the videos")
    show = json.dumps if as_json else format_table
    num_failed = 0
    with closing(bar), as_usage_error(ImportError):
        for record in label_in_order(load, videos, on_progress=bar.update, **how):
            num_failed += "error" in record
            bar.print(show(record))
    return 1 if num_failed else 0


def format_table(record: "Record") -> str:
    """The labels of one video as lines of text, then its parents' and its segments."""
    name = format_name(record["video"], record.get("start_seconds"), record.get("end_seconds"))
    if "error" in record:
        return f"{name}\n  failed: {record['error']}"
    scored = [*record["labels"], *record.get("parents", ())]
    segments = record.get("segments", ())
    names = {label["label"]: " ".join(label["label"].split()) for label in [*scored, *segments]}
    width = max(map(len, names.values()))
    lines = [f"  {names[label['label']]:<{width}}  {label['score']:6.1%}" for label in scored]
    for segment in segments:
        times = f"{clock(segment['start_seconds'])} - {clock(segment['end_seconds'])}"
        lines.append(f"  {times}  {names[segment['label']]:<{width}}  {segment['score']:6.1%}")
    return "\n".join([name, *lines])


__all__ = ["add_command"]
