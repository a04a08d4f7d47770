"""`fal label`: labels for files, folders, URLs and collections."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from .arguments import (
    UsageError,
    add_model_options,
    add_reuse_options,
    as_usage_error,
    describe_error,
    filled,
    given_labels,
    non_negative_int,
    positive_int,
    positive_number,
    print_line,
    print_reuse,
    reuse_levels,
    scales,
)
from .loading import load_labeler

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..bulk.inputs import VideoInput
    from ..bulk.labeling_run import Progress
    from ..labeling.labeler import VideoLabeler
    from ..labeling.records import Record

    Load = Callable[[], VideoLabeler]


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal label`."""
    parser = commands.add_parser(
        "label",
        help="label videos",
        description="Label videos. Without --model the labels say how the camera moves.",
        epilog="Exit status: 0, or 1 if a video failed (the others are labeled all the same), 2 for wrong usage or an "
        "output that cannot be written.",
    )
    parser.add_argument(
        "videos",
        nargs="*",
        type=filled,
        metavar="VIDEO",
        help="file, folder, pattern or URL (http, and s3, gs, hf, ... by fsspec); - reads them from standard input",
    )
    parser.add_argument(
        "--manifest", type=filled, metavar="FILE", help="text (a video a line), .csv or .jsonl that names videos"
    )
    add_model_options(parser)
    parser.add_argument(
        "--batch-size", type=positive_int, default=8, metavar="N", help="clips in the model at once (default: 8)"
    )
    add_view_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=label)


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of views and timelines."""
    views = parser.add_argument_group("what is scored")
    views.add_argument(
        "--num-clips",
        type=positive_int,
        metavar="N",
        help="clips to average over a video (default: the checkpoint's) or, with --timeline, a window (default: 1)",
    )
    views.add_argument(
        "--crops", type=int, choices=[1, 3], default=1, help="the middle, or three along the longer side (default: 1)"
    )
    views.add_argument(
        "--scales",
        type=scales,
        default=(1.0,),
        metavar="S,S,...",
        help="resolutions as shares of the checkpoint's, averaged; 'paper' is 0.6,0.8,1.0,1.2,1.4 (default: 1)",
    )
    timeline = parser.add_argument_group("timeline")
    timeline.add_argument("--timeline", action="store_true", help="score windows all over each video, find segments")
    timeline.add_argument("--window", type=float, metavar="SECONDS", help="length (default: a clip's own, else 10)")
    timeline.add_argument("--hop", type=float, metavar="SECONDS", help="distance of windows (default: their length)")
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
    output.add_argument(
        "--workers",
        type=non_negative_int,
        metavar="N",
        help="processes that decode; 0: none but this one (default: with --output one a core, else 0)",
    )
    output.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: on the cluster that RAY_ADDRESS names, else on one of this machine (default: local)",
    )
    output.add_argument(
        "--timeout",
        type=positive_number,
        default=300.0,
        metavar="SECONDS",
        help="of a worker, for a batch (default: 300)",
    )
    output.add_argument(
        "--max-memory", type=positive_number, default=4.0, metavar="GIB", help="of a worker, for a video (default: 4)"
    )


def label(arguments: argparse.Namespace) -> int:
    """Runs `fal label`; returns the exit status."""
    check_output_options(arguments)
    options, how = make_labeler_options(arguments), make_run_options(arguments)
    videos = find_inputs(arguments)
    load = partial(load_labeler, arguments, **options)
    bar = ProgressBar(tells_reuse=arguments.reuse_static)
    if arguments.output is None:
        return print_labels(load, videos, how, bar, as_json=arguments.json)
    how["retry_failed"] = arguments.retry_failed
    return write_label_file(load, videos, how, bar, output=arguments.output)


def check_output_options(arguments: argparse.Namespace) -> None:
    """Refuses options of output that contradict others."""
    if arguments.output is None:
        if arguments.retry_failed:
            raise UsageError("expected --output with --retry-failed: nothing else remembers what has failed")
        return
    if arguments.json:
        raise UsageError("expected --json, which prints, or --output, got both; .jsonl files hold the same")
    for option in ("manifest", "labels", "hierarchy"):
        path = getattr(arguments, option)
        if path is not None and os.path.realpath(path) == os.path.realpath(arguments.output):
            raise UsageError(f"{arguments.output}: expected another file than that of --{option}")


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


def make_run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the videos are labeled, as functions of `labeling_run` take it."""
    from ..bulk.limits import MOST_BYTES, DecodeLimits

    max_memory_bytes = int(min(arguments.max_memory * 2**30, MOST_BYTES))
    with as_usage_error(ValueError):
        limits = DecodeLimits(timeout_seconds=arguments.timeout, max_memory_bytes=max_memory_bytes)
    workers = {} if arguments.workers is None else {"num_workers": arguments.workers}
    return {"top_k": arguments.top_k, "engine": arguments.engine, "limits": limits, **workers}


def find_inputs(arguments: argparse.Namespace) -> "list[VideoInput]":
    """The videos that the command names."""
    from ..bulk.inputs import find_videos

    if not arguments.videos and arguments.manifest is None:
        raise UsageError("expected videos to label, or --manifest FILE")
    with as_usage_error(ValueError, OSError, ImportError):
        return find_videos(arguments.videos, manifest=arguments.manifest)


def print_labels(
    load: "Load", videos: "list[VideoInput]", how: dict[str, Any], bar: "ProgressBar", *, as_json: bool
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


def write_label_file(
    load: "Load", videos: "list[VideoInput]", how: dict[str, Any], bar: "ProgressBar", *, output: str
) -> int:
    """Labels what an earlier run has not, and writes the output when all is done."""
    from ..bulk.journal import JournalError, journal_path
    from ..bulk.labeling_run import label_to_file
    from ..labeling.label_files import OutputError

    try:
        with closing(bar), as_usage_error(OutputError, JournalError, ImportError):
            result = label_to_file(load, videos, output, on_progress=bar.update, **how)
    except OSError as error:
        journal = journal_path(output)
        is_mendable = error.errno is not None and journal.exists()
        advice = f"; mend that, and the same command goes on where {journal} ends" if is_mendable else ""
        raise UsageError(f"{describe_error(error)}{advice}") from error
    if result.files:
        what = str(result.files[0]) if len(result.files) == 1 else f"{len(result.files)} files"
        print(f"fal: {what}: {result.num_labeled} videos labeled, {result.num_failed} failed", file=sys.stderr)
    return 1 if result.num_failed else 0


class ProgressBar:
    """
    Videos done, on standard error where that is a terminal; failures show beside speed and time left. With
    `tells_reuse` a line in the end says how many windows took over scores.
    """

    def __init__(self, *, tells_reuse: bool = False):
        self.tells_reuse = tells_reuse
        self.bar: tqdm | None = None
        self.progress: Progress | None = None

    def update(self, progress: "Progress") -> None:
        """Shows how far the run is."""
        self.progress = progress
        if self.bar is None:
            self.bar = self._begin(progress)
        if progress.num_failed:
            self.bar.set_postfix(failed=progress.num_failed, refresh=False)
        self.bar.update(progress.num_done - self.bar.n)

    def _begin(self, progress: "Progress") -> "tqdm":
        from tqdm import tqdm

        total, initial = progress.num_videos, progress.num_done
        return tqdm(total=total, initial=initial, unit="video", file=sys.stderr, disable=None)

    def print(self, text: str) -> None:
        """Prints to standard output, above the bar."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stdout):
            print_line(text)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.tells_reuse and self.progress is not None:
            print_reuse(self.progress.num_reused_windows, self.progress.num_windows)


def format_table(record: "Record") -> str:
    """The labels of one video as lines of text, then its parents' and its segments."""
    name = record["video"]
    if "start_seconds" in record:
        end_seconds = record["end_seconds"]
        name += f"  {clock(record['start_seconds'])} - {'' if end_seconds is None else clock(end_seconds)}"
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


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


__all__ = ["add_command"]
