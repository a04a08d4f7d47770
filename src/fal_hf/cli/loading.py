"""Loads the model that a command names, and says so where that takes long."""

import argparse
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from .arguments import UsageError

if TYPE_CHECKING:
    from ..labeling.labeler import VideoLabeler

PATIENCE_SECONDS = 2.0


def load_labeler(arguments: argparse.Namespace, **options) -> "VideoLabeler":
    """A labeler of the model that the command names, on its device; what it warns of is a line each."""
    with warnings.catch_warnings(record=True) as caught:
        labeler = _load_labeler(arguments, options)
    for warning in caught:
        print(f"fal: {' '.join(str(warning.message).split())}", file=sys.stderr)
    return labeler


def _load_labeler(arguments: argparse.Namespace, options: dict[str, Any]) -> "VideoLabeler":
    with notice("fal: loading torch and the model ..."):
        from transformers.utils import logging as transformers_logging

        from ..bulk.inputs import describe_error
        from ..bulk.processes import Processes
        from ..labeling.labeler import DEFAULT_CHECKPOINT, VideoLabeler
        from ..labeling.memory import keep_freed_memory

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        keep_freed_memory()
        model = arguments.model or DEFAULT_CHECKPOINT
        device = arguments.device or Processes.launched().device
        options |= {name: getattr(arguments, name) for name in ("adaptive_patches", "compile", "dtype", "runtime")}
        try:
            with shown_log() if arguments.verbose else nullcontext():
                return VideoLabeler.from_pretrained(model, device=device, **options)
        except Exception as error:  # a foreign or damaged checkpoint may fail in any way
            raise UsageError(f"cannot load the model {model}: {describe_error(error)}") from error


@contextmanager
def shown_log() -> Iterator[None]:
    """Shows on standard error what the package logs."""
    logger, handler = logging.getLogger("fal_hf"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fal: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def notice(text: str) -> Iterator[None]:
    """Shows a line on standard error while something takes its time; it is gone afterwards, and never in a file."""
    if not sys.stderr.isatty():
        yield
        return
    shown = []

    def show() -> None:
        shown.append(text)
        print(text, end="", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # now the line is there as a whole, or will never be
        if shown:
            print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)


__all__ = ["load_labeler", "notice"]
