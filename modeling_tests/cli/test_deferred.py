"""Sub-commands whose options are read when they run."""

import argparse

import pytest

from fal_hf.cli.deferred import add_deferred_command


@pytest.mark.parametrize("words", [[], ["--help"], ["recipe.json", "--seed", "1", "-x"]])
def test_all_words_behind_the_name_reach_the_command(words):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    add_deferred_command(commands, "cook", help="cooks", run=lambda arguments: arguments.words)
    arguments = parser.parse_args(["cook", *words])
    assert arguments.run(arguments) == words
