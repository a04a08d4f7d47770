"""The labels of a video as JSON values, which label files, journals and the command share."""

from typing import Any

# Version of a record; it rises when a key changes its meaning or goes.
SCHEMA_VERSION = 1

# What `VideoLabels.to_dict` returns or, for a video that failed, what `failed_record` does.
Record = dict[str, Any]


def failed_record(video: str, reason: str) -> Record:
    """The record of a video that could not be labeled."""
    return {"video": video, "error": reason, "schema_version": SCHEMA_VERSION}


__all__ = ["SCHEMA_VERSION", "Record", "failed_record"]
