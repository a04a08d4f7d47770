"""`fal watch`: cameras, streams and files in real time."""

import argparse
import json

from .arguments import (
    add_label_options,
    add_model_options,
    add_reuse_options,
    as_usage_error,
    filled,
    given_labels,
    print_line,
    print_reuse,
    reuse_levels,
)
from .loading import load_labeler


def add_command(commands: argparse._SubParsersAction) -> None:
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
        type=filled,
        metavar="SOURCE",
        help="up to 8: /dev/video0 or camera:NAME, a URL (rtsp, rtmp, srt, udp, tcp, http), or a file, which is "
        "played at its own speed",
    )
    add_model_options(parser)
    add_label_options(parser)
    parser.add_argument("--window", type=float, metavar="SECONDS", help="length (default: a clip's own, else 10)")
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="distance of windows (default: half a window)")
    parser.add_argument(
        "--reconnect", type=float, metavar="SECONDS", help="open a source again so long after it ended or failed"
    )
    add_reuse_options(parser)
    parser.set_defaults(run=watch)


def watch(arguments: argparse.Namespace) -> int:
    """Runs `fal watch`; returns the exit status."""
    from ..bulk.watch_checks import check_watch

    options = {
        "window_seconds": arguments.window,
        "hop_seconds": arguments.hop,
        "reconnect_seconds": arguments.reconnect,
        "reuse_static": reuse_levels(arguments),
    }
    with as_usage_error(ValueError):
        check_watch(arguments.sources, **options)
    labeler = load_labeler(arguments, **given_labels(arguments))

    from ..bulk.watching import EndOfStream
    from ..bulk.watching import watch as watch_streams

    num_failed = num_windows = num_reused = 0
    try:
        for event in watch_streams(labeler, arguments.sources, top_k=arguments.top_k, **options):
            print_line(json.dumps(event.to_dict()))
            if isinstance(event, EndOfStream):
                num_failed += event.error is not None
            else:
                num_windows += 1
                num_reused += event.is_reused
    finally:  # Ctrl-C is how a watch of cameras ends
        if arguments.reuse_static:
            print_reuse(num_reused, num_windows)
    return 1 if num_failed else 0


__all__ = ["add_command"]
