"""Records of labeled videos as files: JSON Lines, CSV, Parquet, WebVTT and Label Studio's JSON.

A record is what `VideoLabels.to_dict` returns, or for a video that failed
`{"video": ..., "error": ..., "schema_version": 1}`.

* JSON Lines holds the records as they are, one a line.
* CSV and Parquet hold the same table, one row for each label of a video (`kind` "label"), each parent of a hierarchy
  ("parent"), each segment ("segment") and each video that failed ("error"). Scores of single windows are in JSON Lines
  alone.
* WebVTT and Label Studio's timeline hold the segments or, without a timeline, each video's best label over its whole
  length.

A file is written beside its place and moved there when it is whole.
"""

import csv
import html
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any

from .records import Record, time_of

# Columns of a table's rows; numbers are float64, all others text.
TABLE_COLUMNS: tuple[str, ...] = ("video", "kind", "label", "score", "peak", "start_seconds", "end_seconds", "error")
NUMBER_COLUMNS = frozenset({"score", "peak", "start_seconds", "end_seconds"})
ROWS_AT_ONCE = 10_000
# Label Studio counts frames; what it takes where nothing is said.
DEFAULT_FRAME_RATE = 25.0
# What `{name}` in an output's path becomes: the video's own name.
NAME = "{name}"


class OutputError(ValueError):
    """A path that the labels of these videos cannot be written to."""


def write_labels(path: str | os.PathLike, records: Iterable[Record]) -> list[Path]:
    """
    Writes records in the format that the suffix of `path` names.

    Args:
        path: A file with one of the suffixes in `FORMATS`. `.vtt` is one file a video, in whose path `{name}` stands
            for the name of the video; it may be missing for a single video.
        records: In the order in which they are to be written.

    Returns:
        The files that were written.

    Raises:
        OutputError: (a `ValueError`) the suffix is unknown, or several videos meet a `.vtt` without `{name}`.
        OSError: a file cannot be written; what was there before still is.
    """
    return FORMATS[checked_suffix(path, FORMATS)](Path(path), records)


def check_output(path: str | os.PathLike, *, num_videos: int) -> None:
    """
    Refuses an output that the labels of so many videos cannot be written to, before they are made.

    Raises:
        OutputError: as [`write_labels`] does.
        ImportError: the package for the format is missing.
    """
    text, suffix = os.fspath(path), check_file(path, FORMATS)
    if suffix == ".vtt" and num_videos > 1 and NAME not in text:
        raise OutputError(f"{text}: expected {NAME} in it, one file for each of {num_videos} videos")
    if suffix != ".vtt" and NAME in text:
        raise OutputError(f"{text}: expected {NAME} in .vtt files alone, one file holds all videos")


def check_file(path: str | os.PathLike, formats: Collection[str]) -> str:
    """
    The suffix of a file that can be written in one of some formats.

    Raises:
        OutputError: it is a folder, its suffix is none of these, or nothing can be written where it is to be.
        ImportError: the package for the format is missing.
    """
    text = os.fspath(path)
    if os.path.isdir(path) or text.endswith(("/", os.sep)):
        raise OutputError(f"{text}: expected a file, got a folder")
    suffix = checked_suffix(path, formats)
    check_package(path, suffix)
    check_folder(Path(path).parent)
    return suffix


def check_package(path: str | os.PathLike, suffix: str) -> None:
    """Refuses, by an ImportError, a format whose package is missing."""
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ImportError(f"{os.fspath(path)}: expected pyarrow to be installed, run `pip install fal-hf[files]`")


def check_folder(path: str | os.PathLike) -> None:
    """Refuses, by an OutputError, a folder in which no file can be made, whether it is there or is to be made."""
    folder = Path(path).absolute()
    found = next(there for there in (folder, *folder.parents) if os.path.lexists(there))
    if not found.is_dir():
        raise OutputError(f"{folder}: expected a folder, {found} is a file")
    if not os.access(found, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: expected a folder that can be written to, {found} cannot")


def checked_suffix(path: str | os.PathLike, formats: Collection[str]) -> str:
    """The suffix of an output's path, in lower case, or an OutputError that names those there are."""
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise OutputError(f"{os.fspath(path)}: expected a suffix among {', '.join(formats)}, got {suffix or 'none'}")
    return suffix


@contextmanager
def whole_file(path: Path, *, mode: str = "w") -> Iterator[IO]:
    """A file that takes its place, and its predecessor's, when it is whole; an error leaves no trace of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    # One name: what a killed process leaves is overwritten by the next one.
    beside = path.with_name(f".{path.name}.part")
    try:
        with named(path), open(beside, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def named(path: str | os.PathLike) -> Iterator[None]:
    """Names a file in the errors of writing it: the system tells of a full disk, but not of the file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = os.fspath(path)
        raise


# ---- JSON Lines ----


def _write_json_lines(path: Path, records: Iterable[Record]) -> list[Path]:
    with whole_file(path) as file:
        file.writelines(f"{json.dumps(record)}\n" for record in records)
    return [path]


# ---- tables ----


def table_rows(record: Record) -> Iterator[dict[str, Any]]:
    """The rows of one record, each with all of TABLE_COLUMNS; what does not apply is None."""
    empty = {**dict.fromkeys(TABLE_COLUMNS), "video": record["video"]}
    if "error" in record:
        times = {name: record.get(name) for name in ("start_seconds", "end_seconds")}
        yield {**empty, **times, "kind": "error", "error": record["error"]}
        return
    start_seconds, end_seconds = time_of(record)
    whole = {**empty, "start_seconds": start_seconds, "end_seconds": end_seconds}
    for kind, name in (("label", "labels"), ("parent", "parents")):
        for label in record.get(name, ()):
            yield {**whole, "kind": kind, **label}
    for segment in record.get("segments", ()):
        yield {**empty, "kind": "segment", **segment}


def _write_csv(path: Path, records: Iterable[Record]) -> list[Path]:
    with whole_file(path) as file:
        writer = csv.DictWriter(file, TABLE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerows(table_rows(record))
    return [path]


def _write_parquet(path: Path, records: Iterable[Record]) -> list[Path]:
    import pyarrow
    from pyarrow import parquet

    types = {name: pyarrow.float64() if name in NUMBER_COLUMNS else pyarrow.string() for name in TABLE_COLUMNS}
    schema = pyarrow.schema(types.items())
    rows = (encodable(row) for record in records for row in table_rows(record))
    with whole_file(path, mode="wb") as file, parquet.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
    return [path]


def encodable(row: dict[str, Any]) -> dict[str, Any]:
    """A row in UTF-8, with escapes for the lone surrogates that stand for bytes of a name that are no text."""
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    return row | {name: text.encode("utf-8", "backslashreplace").decode("utf-8") for name, text in texts.items()}


# ---- WebVTT ----


def _write_webvtt(path: Path, records: Iterable[Record]) -> list[Path]:
    written: dict[Path, None] = {}
    names = _FileNames()
    for record in records:
        target = Path(str(path).replace(NAME, names.of(record["video"])))
        if target in written:
            raise OutputError(f"{path}: expected {NAME} in the path where there are several videos, one file each")
        with whole_file(target) as file:
            file.write("\n".join(_webvtt_blocks(record)))
        written[target] = None
    return list(written)


class _FileNames:
    """Names of files for videos: each video's own, numbered in their order where several would be the same."""

    def __init__(self):
        self.used: Counter[str] = Counter()
        self.taken: set[str] = set()

    def of(self, video: str) -> str:
        own = name = Path(video.split("?")[0]).stem
        while name in self.taken:
            self.used[own] += 1
            name = f"{own}-{self.used[own] + 1}"
        self.taken.add(name)
        return name


def _webvtt_blocks(record: Record) -> Iterator[str]:
    yield "WEBVTT\n"
    if "error" in record:
        yield f"NOTE failed: {_cue_text(record['error'])}\n"
    for segment in timed_labels(record):
        times = f"{_timestamp(segment['start_seconds'])} --> {_timestamp(segment['end_seconds'])}"
        yield f"{times}\n{_cue_text(segment['label'])} {segment['score']:.0%}\n"


def timed_labels(record: Record) -> list[dict[str, Any]]:
    """The segments of a record or, without a timeline, its best label over its whole length."""
    if "error" in record:
        return []
    if "segments" in record:
        return record["segments"]
    best = record["labels"][0]
    start_seconds, end_seconds = time_of(record)
    return [{**best, "start_seconds": start_seconds, "end_seconds": end_seconds, "peak": best["score"]}]


def _timestamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _cue_text(text: str) -> str:
    """Text on one line in which `<`, `&` and `-->` mean nothing."""
    return html.escape(" ".join(text.split()), quote=False)


# ---- Label Studio ----


def _write_label_studio(path: Path, records: Iterable[Record]) -> list[Path]:
    """
    Tasks with predictions, to import into a project of Label Studio's template "Video Frame Classification".

    Its `<Video frameRate="...">` is to be the videos' own, which `data.frame_rate` tells: the timeline counts frames.
    """
    with whole_file(path) as file:
        file.write("[")
        for number, record in enumerate(records):
            file.write(f"{',' if number else ''}\n{json.dumps(label_studio_task(record))}")
        file.write("\n]\n")
    return [path]


def label_studio_task(record: Record) -> dict[str, Any]:
    """One record as a task; a video that failed is a task without a prediction, with the reason in its data."""
    if "error" in record:
        return {"data": {"video": record["video"], "error": record["error"]}, "predictions": []}
    frame_rate = record["frame_rate"] or DEFAULT_FRAME_RATE
    result = [_region(number, segment, frame_rate) for number, segment in enumerate(timed_labels(record))]
    score = max((label["score"] for label in record["labels"]), default=0.0)
    return {
        "data": {"video": record["video"], "frame_rate": frame_rate},
        "predictions": [{"model_version": "fal", "score": score, "result": result}],
    }


def _region(number: int, segment: dict[str, Any], frame_rate: float) -> dict[str, Any]:
    """Frames count from 1, and the last one belongs to the range."""
    first = round(segment["start_seconds"] * frame_rate) + 1
    last = max(first, round(segment["end_seconds"] * frame_rate))
    return {
        "id": f"fal-{number}",
        "type": "timelinelabels",
        "from_name": "videoLabels",
        "to_name": "video",
        "score": segment["score"],
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [segment["label"]]},
    }


FORMATS: dict[str, Callable[[Path, Iterable[Record]], list[Path]]] = {
    ".jsonl": _write_json_lines,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".vtt": _write_webvtt,
    ".json": _write_label_studio,
}

__all__ = [
    "FORMATS",
    "OutputError",
    "check_file",
    "check_folder",
    "check_output",
    "check_package",
    "checked_suffix",
    "encodable",
    "label_studio_task",
    "named",
    "table_rows",
    "whole_file",
    "write_labels",
]
