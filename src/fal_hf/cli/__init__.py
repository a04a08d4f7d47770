"""The `fal` command."""

import argparse
import ctypes
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

from ..bulk.inputs import describe_error
from . import evaluate, train

# glibc's numbers for two parameters of its allocator, and what they are set to: the largest block that is kept when
# it is freed (32 MiB is as far as glibc goes), and how much is.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, KEPT_BLOCK_BYTES = 2**29, 2**25


def build_parser() -> argparse.ArgumentParser:
    """The parser of `fal` and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="fal",
        description="FAL, Framework for Automated Labeling: labels for videos from a space-time transformer.",
    )
    parser.add_argument("--version", action="version", version=f"fal {version('fal-hf')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_label_command(commands)
    add_watch_command(commands)
    train.add_command(commands)
    evaluate.add_command(commands)
    return parser


def add_label_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal label`."""
    parser = commands.add_parser(
        "label",
        help="label videos",
        description="Label videos. Without --model the labels say how the camera moves.",
        epilog="Exit status: 0, or 1 if a video failed (the others are labelled all the same), 2 for wrong usage.",
    )
    parser.add_argument(
        "videos",
        nargs="*",
        metavar="VIDEO",
        help="file, folder, pattern or URL (http, and s3, gs, hf, ... by fsspec); - reads them from standard input",
    )
    parser.add_argument("--manifest", metavar="FILE", help="text (a video a line), .csv or .jsonl that names videos")
    add_model_options(parser)
    parser.add_argument(
        "--batch-size", type=positive_int, default=8, metavar="N", help="clips in the model at once (default: 8)"
    )
    add_view_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=label)


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
    timeline.add_argument("--hierarchy", metavar="FILE", help="JSON of label and parent; adds the parents' scores")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of output and of large collections."""
    output = parser.add_argument_group("output and large collections")
    output.add_argument("--json", action="store_true", help="print one JSON object a line and a video")
    output.add_argument(
        "--output",
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


def add_watch_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal watch`."""
    parser = commands.add_parser(
        "watch",
        help="label cameras and streams as they come",
        description="Label cameras, network streams and files in real time: one JSON object a line and a window, with "
        "its latency and the share of frames that were dropped because the machine is too slow.",
        epilog="Ends with the last stream unless --reconnect is given, or with Ctrl-C. Exit status: 0, or 1 if a "
        "stream failed.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="up to 8: /dev/video0 or camera:NAME, a URL (rtsp, rtmp, srt, udp, tcp, http), or a file, which is "
        "played at its own speed",
    )
    add_model_options(parser)
    parser.add_argument("--window", type=float, metavar="SECONDS", help="length (default: a clip's own, else 10)")
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="distance of windows (default: half a window)")
    parser.add_argument(
        "--reconnect", type=float, metavar="SECONDS", help="open a source again so long after it ended or failed"
    )
    parser.set_defaults(run=watch)


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
    from ..labeling.views import PAPER_SCALES

    return PAPER_SCALES if text == "paper" else tuple(float(part) for part in text.split(","))


class UsageError(Exception):
    """What is wrong with the command, in one line."""


def label(arguments: argparse.Namespace) -> int:
    """Runs `fal label`; returns the exit status."""
    videos = find_inputs(arguments)
    processes = Processes()
    labeler = load_labeler(arguments, processes)
    if arguments.output is None:
        return print_labels(labeler, videos, arguments, processes)
    return write_label_file(labeler, videos, arguments, processes)


def watch(arguments: argparse.Namespace) -> int:
    """Runs `fal watch`; returns the exit status."""
    from ..bulk.watching import EndOfStream
    from ..bulk.watching import watch as watch_streams

    labeler = load_model(arguments, device=arguments.device)
    options = {
        "window_seconds": arguments.window,
        "hop_seconds": arguments.hop,
        "reconnect_seconds": arguments.reconnect,
        "top_k": arguments.top_k,
    }
    num_failed = 0
    try:
        for event in watch_streams(labeler, arguments.sources, **options):
            print(json.dumps(event.to_dict()), flush=True)
            num_failed += isinstance(event, EndOfStream) and event.error is not None
    except ValueError as error:
        raise UsageError(describe_error(error)) from error
    return 1 if num_failed else 0


def find_inputs(arguments: argparse.Namespace) -> list:
    """The videos that the command names; also refuses an output that cannot hold them."""
    from ..bulk.inputs import find_videos
    from ..labeling.label_files import NAME, checked_suffix

    if not arguments.videos and arguments.manifest is None:
        raise UsageError("expected videos to label, or --manifest FILE")
    if arguments.engine == "ray" and find_spec("ray") is None:
        raise UsageError("--engine ray: expected Ray to be installed, run `pip install fal-hf[ray]`")
    try:
        videos = find_videos(arguments.videos, manifest=arguments.manifest)
        suffix = arguments.output and checked_suffix(arguments.output)
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(describe_error(error)) from error
    if suffix == ".vtt" and len(videos) > 1 and NAME not in arguments.output:
        raise UsageError(f"{arguments.output}: expected {NAME} in it, one file for each of {len(videos)} videos")
    return videos


class Processes:
    """The processes of `accelerate launch` or `torchrun` that share a collection; otherwise this one alone."""

    def __init__(self):
        self.index = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1:
            from datetime import timedelta

            import torch.distributed

            # The first to be done waits for the last one, however long that takes; nothing else passes between them.
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=365))

    @property
    def device(self) -> str | None:
        """The GPU of this process where there are several; None leaves the choice."""
        import torch

        if self.count == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"

    def wait(self) -> None:
        """Returns when all have come here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


def load_labeler(arguments: argparse.Namespace, processes: Processes):
    """The model with the views that the command asks for."""
    from ..labeling.aggregation import Timeline
    from ..labeling.views import Views

    given = {"threshold": arguments.threshold, "hysteresis": arguments.hysteresis, "min_seconds": arguments.min_length}
    given = {name: value for name, value in given.items() if value is not None}
    if not arguments.timeline and (given or (arguments.window, arguments.hop) != (None, None)):
        raise UsageError("expected --timeline with --window, --hop, --threshold, --hysteresis and --min-length")
    try:
        views = Views(
            num_clips=arguments.num_clips,
            num_crops=arguments.crops,
            scales=arguments.scales,
            windows=arguments.timeline,
            window_seconds=arguments.window,
            hop_seconds=arguments.hop,
        )
        timeline = Timeline(**given) if arguments.timeline else None
    except ValueError as error:
        raise UsageError(describe_error(error)) from error
    options = {"views": views, "timeline": timeline, "hierarchy": arguments.hierarchy}
    device = arguments.device or processes.device
    return load_model(arguments, device=device, batch_size=arguments.batch_size, **options)


def load_model(arguments: argparse.Namespace, **options):
    """A labeler of the model that the command names."""
    from ..labeling.labeler import DEFAULT_CHECKPOINT, VideoLabeler

    keep_freed_memory()
    model = arguments.model or DEFAULT_CHECKPOINT
    try:
        return VideoLabeler.from_pretrained(model, dtype=arguments.dtype, **options)
    except Exception as error:  # a foreign or damaged checkpoint may fail in any way
        raise UsageError(f"cannot load the model: {describe_error(error)}") from error


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next clip: each page that goes back to the system is cleared again later."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def print_labels(labeler, videos: list, arguments: argparse.Namespace, processes: Processes) -> int:
    """Prints the labels of each video in the order of the command."""
    from tqdm import tqdm

    if processes.count > 1:
        raise UsageError("expected --output where several processes share the videos")
    show = json.dumps if arguments.json else format_table
    done, next_up, num_failed = {}, 0, 0
    with tqdm(total=len(videos), unit="video", file=sys.stderr, disable=None) as progress:
        for video, record in run_collection(labeler, videos, arguments, processes):
            done[video.key] = record
            num_failed += "error" in record
            advance(progress, num_failed)
            while next_up < len(videos) and videos[next_up].key in done:
                with progress.external_write_mode(file=sys.stdout):
                    print(show(done.pop(videos[next_up].key)), flush=True)
                next_up += 1
    return 1 if num_failed else 0


def write_label_file(labeler, videos: list, arguments: argparse.Namespace, processes: Processes) -> int:
    """Labels what an earlier run has not, and writes the output when all is done."""
    from tqdm import tqdm

    from ..bulk.collection import describe_run
    from ..bulk.journal import Journal
    from ..labeling.label_files import write_labels

    made_by = describe_run(labeler, top_k=arguments.top_k)
    try:
        journal = Journal(f"{arguments.output}.journal", made_by, process=processes.index)
    except (ValueError, OSError) as error:
        raise UsageError(describe_error(error)) from error
    own = videos[processes.index :: processes.count]
    left = [video for video in own if video not in journal or (arguments.retry_failed and journal.has_failed(video))]
    num_failed = sum(journal.has_failed(video) for video in set(own).difference(left))
    progress = tqdm(total=len(own), initial=len(own) - len(left), unit="video", file=sys.stderr, disable=None)
    with progress:
        for video, record in run_collection(labeler, left, arguments, processes):
            journal.append(video, record)
            num_failed += "error" in record
            advance(progress, num_failed)
    processes.wait()
    if processes.index == 0:
        journal.refresh()
        files = write_labels(arguments.output, journal.records(videos))
        num_failed = sum(journal.has_failed(video) for video in videos)
        what = str(files[0]) if len(files) == 1 else f"{len(files)} files"
        print(f"fal: {what}: {len(videos) - num_failed} videos labelled, {num_failed} failed", file=sys.stderr)
    return 1 if num_failed else 0


def run_collection(labeler, videos: list, arguments: argparse.Namespace, processes: Processes):
    """Yields each video and its record as they are done."""
    from ..bulk.collection import label_collection
    from ..bulk.decoding import MOST_BYTES, DecodeLimits
    from ..model.video_source import available_cores

    max_memory_bytes = int(min(arguments.max_memory * 2**30, MOST_BYTES))
    limits = DecodeLimits(timeout_seconds=arguments.timeout, max_memory_bytes=max_memory_bytes)
    options = {"top_k": arguments.top_k, "limits": limits}
    if arguments.engine == "ray":
        from ..bulk.ray_engine import label_on_ray

        return label_on_ray(labeler, videos, num_workers=arguments.workers, **options)
    num_workers = arguments.workers
    if num_workers is None:
        num_workers = min(max(1, available_cores() // processes.count), len(videos)) if arguments.output else 0
    return label_collection(labeler, videos, num_workers=num_workers, **options)


def advance(progress, num_failed: int) -> None:
    """One video more; failures show beside speed and time left."""
    if num_failed:
        progress.set_postfix(failed=num_failed, refresh=False)
    progress.update()


def format_table(record: dict) -> str:
    """The labels of one video as lines of text, then its parents' and its segments."""
    if "error" in record:
        return f"{record['video']}\n  failed: {record['error']}"
    scored = [*record["labels"], *record.get("parents", ())]
    width = max(len(label["label"]) for label in [*scored, *record.get("segments", ())])
    lines = [f"  {label['label']:<{width}}  {label['score']:6.1%}" for label in scored]
    for segment in record.get("segments", ()):
        times = f"{clock(segment['start_seconds'])} - {clock(segment['end_seconds'])}"
        lines.append(f"  {times}  {segment['label']:<{width}}  {segment['score']:6.1%}")
    return "\n".join([record["video"], *lines])


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `fal` command; returns the exit status."""
    from transformers.utils import logging

    arguments = build_parser().parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"fal: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fal: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
