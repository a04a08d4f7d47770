"""What cannot be watched is refused before anything is loaded."""

import pytest

from fal_hf.bulk.watch_checks import MAX_SOURCES, check_watch


def test_what_can_be_watched_passes():
    check_watch(["a.mp4"] * MAX_SOURCES, window_seconds=0.5, hop_seconds=2.0, reconnect_seconds=5.0, reuse_static=6.0)
    check_watch(["a.mp4"])


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([], {}, "expected 1 to 8 sources, got 0"),
        (["nothing://x"], {}, "nothing://x: expected a URL of one of file, http, .*, got nothing"),
        (["a.mp4"] * 9, {}, "expected 1 to 8 sources, got 9"),
        (["a.mp4"], {"window_seconds": 0.0}, "a window of 0.0 seconds"),
        (["a.mp4"], {"hop_seconds": float("nan")}, "a hop of nan seconds"),
        (["a.mp4"], {"window_seconds": float("inf")}, "a window of inf seconds"),
        (["a.mp4"], {"reconnect_seconds": -1.0}, "opened again, got -1.0 seconds"),
        (["a.mp4"], {"reconnect_seconds": float("inf")}, "opened again, got inf seconds"),
        (["a.mp4"], {"reuse_static": 0.0}, "reuse_static: expected levels above 0 and up to 255, got 0.0"),
    ],
)
def test_what_cannot_is_refused_by_name(sources, options, message):
    with pytest.raises(ValueError, match=message):
        check_watch(sources, **options)
