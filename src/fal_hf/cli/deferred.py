"""Sub-commands whose options are fields of dataclasses that take seconds to import: they are read when one runs."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def add_deferred_command(
    commands: argparse._SubParsersAction, name: str, *, help: str, run: Callable[[argparse.Namespace], int]
) -> None:
    """Adds a sub-command that gets all words after its name, `--help` too, as `words`."""
    parser = commands.add_parser(name, help=help, add_help=False, prefix_chars="\0")  # no word begins an option
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Makes errors of arguments, of what they name and of what is not installed to messages of one line."""
    from ..bulk.inputs import describe_error
    from . import UsageError

    try:
        yield
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        raise UsageError(describe_error(error)) from error
