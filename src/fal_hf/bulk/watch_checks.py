"""What may be asked of a watch. Nothing here needs torch, so that wrong usage is found before it is imported."""

import math
import threading
from collections.abc import Sequence

from ..labeling.options import check_levels
from ..model.video_source import LIVE_PROTOCOLS

MAX_SOURCES = 8
SCHEMES = frozenset({None, "file", "http", "https", *LIVE_PROTOCOLS})


def check_watch(
    sources: Sequence[str],
    *,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    reconnect_seconds: float | None = None,
    reuse_static: float | None = None,
) -> None:
    """Refuses, by a ValueError, what `watching.watch` cannot do: see there."""
    if not 1 <= len(sources) <= MAX_SOURCES:
        raise ValueError(f"expected 1 to {MAX_SOURCES} sources, got {len(sources)}")
    for source in sources:
        scheme = source.partition("://")[0].lower() if "://" in source else None
        if scheme not in SCHEMES:
            known = ", ".join(sorted(filter(None, SCHEMES)))
            raise ValueError(f"{source}: expected a URL of one of {known}, got {scheme}")
    for name, seconds in (("window", window_seconds), ("hop", hop_seconds)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"expected a positive window and hop, got a {name} of {seconds} seconds")
    if reconnect_seconds is not None and not 0 < reconnect_seconds < threading.TIMEOUT_MAX:
        raise ValueError(
            f"reconnect: expected a positive time until a source is opened again, got {reconnect_seconds} seconds"
        )
    if reuse_static is not None:
        check_levels(reuse_static)


__all__ = ["check_watch"]
