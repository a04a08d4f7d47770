#!/usr/bin/env python
"""`fal convert` for a checkout: converts a TimeSformer or image-ViT checkpoint to a FAL folder, and pushes it."""

import argparse
import sys
from collections.abc import Sequence

from fal_hf.cli.convert import configure


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    return configure(argparse.ArgumentParser(prog="convert_checkpoint.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
