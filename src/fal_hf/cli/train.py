"""`fal train`."""

import argparse
from typing import TYPE_CHECKING

from .arguments import as_usage_error
from .deferred import add_deferred_command
from .loading import notice

if TYPE_CHECKING:
    from ..training.result import TrainingResult


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal train`."""
    add_deferred_command(commands, "train", help="fine-tune a model on labeled clips", run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs `fal train`; returns the exit status."""
    with as_usage_error(ValueError, RuntimeError, OSError, ImportError):
        with notice("fal train: loading torch ..."):
            from transformers.utils import logging

            from ..training.arguments import parse_arguments
            from ..training.run import prepare_run
            from ..training.trainer import end_processes, fit

        logging.set_verbosity_warning()  # Trainer shows its progress
        logging.disable_progress_bar()
        prepared = prepare_run(parse_arguments(arguments.words, program="fal train"))
    result = fit(prepared)
    if prepared.arguments.training.process_index == 0:
        print(prepared.unreadable)
        print_result(result, has_files=prepared.arguments.data.dataset_name is None)
    end_processes()
    return 0


def print_result(result: "TrainingResult", *, has_files: bool) -> None:
    """The figures, where the model is, and the commands that use it."""
    for split, figures in result.figures.items():
        print(f"{split}: " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items()))
        if has_files:  # of a data set the manifest names rows
            clips = f"--train_file {result.manifest} --split {split}"
            print(f"  fal evaluate --model_name_or_path {result.model_dir} {clips}")
    print(f"{result.model_dir}: the model, its processors and its card")
    print(f"  fal label --model {result.model_dir} video.mp4")
    if result.commit is not None:
        print(result.commit.commit_url)
