"""Manifests: CSV and JSON Lines files with a row for each video, or for each stretch of one."""

import csv
import json
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..model.video_info import Stretch

Row = dict[str, Any]


def read_rows(path: str | os.PathLike, *, errors: str = "strict") -> Iterator[tuple[int, Row]]:
    """
    The rows of a manifest, in UTF-8 with or without a byte-order mark.

    Args:
        path: A `.csv` file with a header, or a `.jsonl` file with an object a line.
        errors: What becomes of bytes that are no UTF-8, as for `open`.

    Yields:
        The number of a row's line from 1, and its columns that hold something.

    Raises:
        ValueError: the file is neither, or a line is damaged; the message names both.
        OSError: it cannot be read.
    """
    path = Path(path)
    reader = ROW_READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: expected a manifest that ends in {' or '.join(ROW_READERS)}")
    with path.open(newline="", encoding="utf-8-sig", errors=errors) as file:
        try:
            yield from reader(file)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected a {path.suffix} file in UTF-8: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _csv_rows(file) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(file, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"expected a .csv file in UTF-8: line {reader.line_num}: {error}") from error
        if row is None:
            return
        yield reader.line_num, {name: value for name, value in row.items() if value}


def _json_lines_rows(file) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: expected an object, got a {type(row).__name__}")
        yield number, row


ROW_READERS = {".csv": _csv_rows, ".jsonl": _json_lines_rows}


def stretch_of(row: Mapping[str, Any]) -> Stretch:
    """
    The stretch that a row names by `start_seconds` and `end_seconds`, each of which may be missing.

    Raises:
        ValueError: they are no such times.
    """
    end_seconds = row.get("end_seconds")
    return Stretch(
        _seconds_of("start_seconds", row.get("start_seconds") or 0.0),
        None if end_seconds is None else _seconds_of("end_seconds", end_seconds),
    )


def _seconds_of(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected a number of seconds, got {reprlib.repr(value)}") from error


__all__ = ["ROW_READERS", "read_rows", "stretch_of"]
