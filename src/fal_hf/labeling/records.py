"""The labels of a video as JSON values, which label files, journals and the command share."""

from dataclasses import asdict
from typing import Any

from ..model.video_info import WHOLE, Stretch

# Version of a record; it rises when a key changes its meaning or goes.
SCHEMA_VERSION = 1

# What `VideoLabels.to_dict` returns or, for a video that failed, what `failed_record` does.
Record = dict[str, Any]


def failed_record(video: str, reason: str, stretch: Stretch = WHOLE) -> Record:
    """The record of a video, or of a stretch of one, that could not be labeled."""
    times = {} if stretch.is_whole else asdict(stretch)
    return {"video": video, **times, "error": reason, "schema_version": SCHEMA_VERSION}


def time_of(record: Record) -> tuple[float, float]:
    """Where in its video a record begins and ends, in seconds after the first frame."""
    return record.get("start_seconds", 0.0), record.get("end_seconds", record["duration_seconds"])


__all__ = ["SCHEMA_VERSION", "Record", "failed_record", "time_of"]
