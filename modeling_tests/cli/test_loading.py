"""A line on the terminal while a model loads, which is gone when it has."""

import sys
import time

import pytest
from pseudo_terminal import terminal

from fal_hf.cli import loading, main
from fal_hf.cli.loading import notice

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
TEXT = "loading ..."


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE_SECONDS", 0.05)


def test_what_takes_long_is_said_and_taken_back():
    with terminal() as read:
        with notice(TEXT):
            time.sleep(0.5)
            assert read() == TEXT
        assert read() == f"\r{' ' * len(TEXT)}\r"


def test_it_is_taken_back_when_loading_fails_too():
    with terminal() as read:
        with pytest.raises(OSError), notice(TEXT):
            time.sleep(0.5)
            raise OSError
        assert read() == f"{TEXT}\r{' ' * len(TEXT)}\r"


def test_what_is_quick_is_not_mentioned_and_never_will_be():
    with terminal() as read:
        with notice(TEXT):
            pass
        time.sleep(0.2)
        assert read() == ""


def test_nothing_is_written_where_standard_error_is_no_terminal(capsys):
    with notice(TEXT):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_the_command_says_that_it_loads_the_model(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "PATIENCE_SECONDS", 0.0)
    (tmp_path / "broken.mp4").write_text("no video")
    with terminal() as read:
        assert main(["label", str(tmp_path / "broken.mp4"), "--model", str(tmp_path)]) == 2
        shown = read()
    assert shown.startswith("fal: loading torch and the model ...\r ")
    assert "\rfal: cannot load the model" in shown
