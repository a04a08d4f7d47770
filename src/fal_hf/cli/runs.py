"""What commands that go through many videos share: inputs, views, options of a run, its file and its progress."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from .arguments import (
    UsageError,
    as_usage_error,
    describe_error,
    filled,
    non_negative_int,
    positive_int,
    positive_number,
    print_line,
    print_reuse,
    scales,
)

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..bulk.inputs import VideoInput
    from ..bulk.labeling_run import LabelingResult, Progress
    from ..labeling.labeler import VideoLabeler

    Load = Callable[[], VideoLabeler]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Adds what names the videos."""
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


def add_view_options(parser: argparse.ArgumentParser, *, windows: str = "--timeline") -> None:
    """Adds the options of views, and how many go through the model at once; `windows` is the option that has some."""
    parser.add_argument(
        "--batch-size", type=positive_int, default=8, metavar="N", help="clips in the model at once (default: 8)"
    )
    views = parser.add_argument_group("what is scored")
    views.add_argument(
        "--num-clips",
        type=positive_int,
        metavar="N",
        help=f"clips to average over a video (default: the checkpoint's) or, with {windows}, a window (default: 1)",
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


def add_window_options(group: argparse._ActionsContainer) -> None:
    """Adds the options that say where windows are."""
    group.add_argument("--window", type=float, metavar="SECONDS", help="length (default: a clip's own, else 10)")
    group.add_argument("--hop", type=float, metavar="SECONDS", help="distance of windows (default: their length)")


def add_run_options(output: argparse._ActionsContainer) -> None:
    """Adds the options of large collections."""
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


def make_run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the videos are read, as functions of `labeling_run` take it."""
    from ..bulk.limits import MOST_BYTES, DecodeLimits

    max_memory_bytes = int(min(arguments.max_memory * 2**30, MOST_BYTES))
    with as_usage_error(ValueError):
        limits = DecodeLimits(timeout_seconds=arguments.timeout, max_memory_bytes=max_memory_bytes)
    workers = {} if arguments.workers is None else {"num_workers": arguments.workers}
    return {"engine": arguments.engine, "limits": limits, **workers}


def check_output_path(arguments: argparse.Namespace, *options: str) -> None:
    """Refuses an output that would take the place of a file that one of some options names."""
    for option in options:
        path = getattr(arguments, option)
        if path is not None and os.path.realpath(path) == os.path.realpath(arguments.output):
            raise UsageError(f"{arguments.output}: expected another file than that of --{option}")


def find_inputs(arguments: argparse.Namespace) -> "list[VideoInput]":
    """The videos that the command names."""
    from ..bulk.inputs import find_videos

    if not arguments.videos and arguments.manifest is None:
        raise UsageError(f"expected videos to {arguments.command}, or --manifest FILE")
    with as_usage_error(ValueError, OSError, ImportError):
        return find_videos(arguments.videos, manifest=arguments.manifest)


def write_file(
    run: "Callable[..., LabelingResult]",
    load: "Load",
    videos: "list[VideoInput]",
    how: dict[str, Any],
    bar: "ProgressBar",
    *,
    output: str,
    done: str,
) -> int:
    """Does what an earlier run has not, `label_to_file` or its like, and writes the output when all is done."""
    from ..bulk.journal import JournalError, journal_path
    from ..labeling.label_files import OutputError

    try:
        with closing(bar), as_usage_error(OutputError, JournalError, ImportError):
            result = run(load, videos, output, on_progress=bar.update, **how)
    except OSError as error:
        journal = journal_path(output)
        is_mendable = error.errno is not None and journal.exists()
        advice = f"; mend that, and the same command goes on where {journal} ends" if is_mendable else ""
        raise UsageError(f"{describe_error(error)}{advice}") from error
    if result.files:
        what = str(result.files[0]) if len(result.files) == 1 else f"{len(result.files)} files"
        print(f"fal: {what}: {result.num_labeled} videos {done}, {result.num_failed} failed", file=sys.stderr)
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


def format_name(video: str, start_seconds: float | None, end_seconds: float | None) -> str:
    """A video by its name, and of a part of one where it begins and ends."""
    if start_seconds is None:
        return video
    return f"{video}  {clock(start_seconds)} - {'' if end_seconds is None else clock(end_seconds)}"


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


__all__ = [
    "ProgressBar",
    "add_inputs",
    "add_run_options",
    "add_view_options",
    "add_window_options",
    "check_output_path",
    "clock",
    "find_inputs",
    "format_name",
    "make_run_options",
    "write_file",
]
