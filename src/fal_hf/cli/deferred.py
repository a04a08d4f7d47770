"""Sub-commands whose options are fields of dataclasses that take seconds to import: they are read when one runs."""

import argparse
from collections.abc import Callable


def add_deferred_command(
    commands: argparse._SubParsersAction, name: str, *, help: str, run: Callable[[argparse.Namespace], int]
) -> None:
    """Adds a sub-command that gets all words after its name, `--help` too, as `words`."""
    parser = commands.add_parser(name, help=help, add_help=False, prefix_chars="\0")  # no word begins an option
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)
