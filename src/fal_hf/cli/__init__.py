"""
The `fal` command. Each sub-command has a module, whose `add_command` adds its parser and names the function that runs
it. They parse and print; nothing is imported at their heads that takes time, so that what needs no model answers at
once.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from . import convert, embed, embedding_map, evaluate, explain, export, label, similar, train, watch
from .arguments import UsageError, describe_error

COMMANDS = (label, watch, explain, embed, similar, embedding_map, train, evaluate, convert, export)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `fal` and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="fal",
        description="FAL, Framework for Automated Labeling: labels for videos from a space-time transformer.",
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return parser


class ShowVersion(argparse.Action):
    """Looks the version up when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import version

        print(f"fal {version('fal-hf')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `fal` command; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is: no name of a file ends a run
    try:
        arguments = build_parser().parse_args(argv)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"fal: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fal: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        drop_output()
        return 1
    except OSError as error:  # a disk that is full, for instance
        print(f"fal: {describe_error(error)}", file=sys.stderr)
        drop_output()
        return 2


def drop_output() -> None:
    """Lets go of what standard output does not take, of which Python would tell once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["build_parser", "main"]
