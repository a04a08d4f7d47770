"""`fal evaluate`."""

import argparse

from .arguments import as_usage_error
from .deferred import add_deferred_command
from .loading import notice

DESCRIPTION = (
    "Evaluate a video classifier on labeled clips: video by video, for several numbers of clips, with intervals and "
    "tables. `clips.jsonl` in the output folder of a training says which clips were held out."
)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal evaluate`."""
    add_deferred_command(commands, "evaluate", help="evaluate a model on labeled clips", run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs `fal evaluate`; returns the exit status."""
    with as_usage_error(ValueError, RuntimeError, OSError, ImportError):
        with notice("fal evaluate: loading torch ..."):
            from transformers import HfArgumentParser
            from transformers.utils import logging

            from ..training.data import DataArguments
            from ..training.evaluation import EvaluationArguments, Evaluator

        logging.disable_progress_bar()
        parser = HfArgumentParser(
            (EvaluationArguments, DataArguments),  # pyright: ignore[reportArgumentType]  # its hint takes no class
            prog="fal evaluate",
            usage="%(prog)s --model_name_or_path MODEL --train_file CLIPS [options]",
            description=DESCRIPTION,
        )
        evaluation, data = parser.parse_args_into_dataclasses(arguments.words, look_for_args_file=False)
        evaluator = Evaluator(evaluation, data)
    report = evaluator.report()
    print(report)
    print(evaluator.unreadable)
    print(f"written to {report.output_dir}")
    return 0
