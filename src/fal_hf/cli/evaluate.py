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

            from ..reports.evaluation_report import ReportArguments, write_report
            from ..training.data import DataArguments
            from ..training.evaluation import EvaluationArguments, Evaluator

        logging.disable_progress_bar()
        parser = HfArgumentParser(
            (EvaluationArguments, ReportArguments, DataArguments),  # pyright: ignore[reportArgumentType]  # its hint takes no class
            prog="fal evaluate",
            usage="%(prog)s --model_name_or_path MODEL --train_file CLIPS [options]",
            description=DESCRIPTION,
        )
        evaluation, page, data = parser.parse_args_into_dataclasses(arguments.words, look_for_args_file=False)
        evaluator = Evaluator(evaluation, data)
    report = evaluator.report()
    print(report)
    print(evaluator.unreadable)
    print(f"written to {report.output_dir}")
    try:
        if evaluation.calibrate is not None:
            with as_usage_error(ValueError):
                report = evaluator.calibrate(report)
            print(report.calibration)
            print(f"{evaluation.calibrate}: the model with this temperature, and its processor")
    finally:  # what was found is shown, whether it tells a temperature or not
        if page.report is not None:
            write_report(report, page.report, mistakes=page.report_mistakes)
            print(f"{page.report}: all of this as a page")
    return 0
