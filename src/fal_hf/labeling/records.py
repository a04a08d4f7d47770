"""The labels, or the embedding, of a video as JSON values, which files, journals and the command share."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..model.video_info import WHOLE, Stretch

# Version of a record; it rises when a key changes its meaning or goes.
SCHEMA_VERSION = 1

# What `to_dict` of `VideoLabels` or `VideoEmbedding` returns or, for a video that failed, what `failed_record` does.
Record = dict[str, Any]


def failed_record(video: str, reason: str, stretch: Stretch = WHOLE) -> Record:
    """The record of a video, or of a stretch of one, that could not be read."""
    times = {} if stretch.is_whole else asdict(stretch)
    return {"video": video, **times, "error": reason, "schema_version": SCHEMA_VERSION}


def time_of(record: Record) -> tuple[float, float]:
    """Where in its video a record begins and ends, in seconds after the first frame."""
    return record.get("start_seconds", 0.0), record.get("end_seconds", record["duration_seconds"])


def pack_embedding(embedding: np.ndarray) -> str:
    """`(D,)` float32 numbers as text, to the bit: base64 of their bytes, little-endian."""
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode("ascii")


def unpack_embedding(text: str) -> np.ndarray:
    """The `(D,)` float32 numbers of a text from [`pack_embedding`]; a ValueError where it is none."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


# ---- what is a record ----

Check = Callable[[Any], bool]

# Far above any time and any frame rate, and products of the two are numbers still.
MOST = 2.0**53


def is_record(value: Any) -> bool:
    """Whether a JSON value, read from a file that may be damaged, is a record that every format takes."""
    return _is_labeled(value) or _is_failed(value)


def is_embedding_record(value: Any, *, size: int) -> bool:
    """As [`is_record`], for the record of an embedding of so many numbers."""
    embedding = {"embedding": _is_embedding(size)}
    is_embedded = _is_object(
        {**_VIDEO, **embedding, "num_clips": _is_number, "duration_seconds": _is_time},
        optional={**_TIMES, "windows": _is_list(_is_object({**_TIMES, **embedding}), least=1)},
    )
    return is_embedded(value) or _is_failed(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < MOST


def _is_time_or_none(value: Any) -> bool:
    return value is None or _is_time(value)


def _is_score(value: Any) -> bool:
    return isinstance(value, float)


def _is_embedding(size: int) -> Check:
    def check(value: Any) -> bool:
        try:
            return isinstance(value, str) and len(unpack_embedding(value)) == size
        except ValueError:
            return False

    return check


def _is_object(keys: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None) -> Check:
    known = {**keys, **(optional or {})}

    def check(value: Any) -> bool:
        is_complete = isinstance(value, dict) and keys.keys() <= value.keys() <= known.keys()
        return is_complete and all(known[key](part) for key, part in value.items())

    return check


def _is_list(is_part: Check, *, least: int = 0) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(is_part, value))


_VIDEO: dict[str, Check] = {"video": _is_text, "schema_version": _is_number}
_TIMES: dict[str, Check] = {"start_seconds": _is_time, "end_seconds": _is_time}
_is_label = _is_object({"label": _is_text, "score": _is_score})
_is_window = _is_object({**_TIMES, "labels": _is_list(_is_label, least=1)})
_is_segment = _is_object({**_TIMES, "label": _is_text, "score": _is_score, "peak": _is_score})
_is_failed = _is_object(
    {**_VIDEO, "error": _is_text}, optional={"start_seconds": _is_time, "end_seconds": _is_time_or_none}
)
_is_labeled = _is_object(
    {
        **_VIDEO,
        "labels": _is_list(_is_label, least=1),
        "num_clips": _is_number,
        "duration_seconds": _is_time,
        "frame_rate": _is_time_or_none,
    },
    optional={
        **_TIMES,
        "parents": _is_list(_is_label),
        "windows": _is_list(_is_window),
        "segments": _is_list(_is_segment),
        "num_reused_windows": _is_number,
    },
)

__all__ = [
    "SCHEMA_VERSION",
    "Record",
    "failed_record",
    "is_embedding_record",
    "is_record",
    "pack_embedding",
    "time_of",
    "unpack_embedding",
]
