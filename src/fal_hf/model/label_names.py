# SPDX-License-Identifier: MIT

"""
Labels as people write them: in a text or in a file. Plain Python, so that what is wrong with them is found before
anything takes seconds.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

from .label_space import check_labels, is_text, shorten


def find_labels(text: str) -> list[str]:
    """
    The labels that a text names: those of a file where it ends as one, else its own, between commas.

    Raises:
        ValueError: there is no such file or it holds something else; or a label is empty or there twice.
    """
    path = Path(text)
    if path.suffix not in LABEL_READERS:
        return split_labels(text)
    if not path.is_file():
        raise ValueError(f"{text}: expected labels with commas between them or a file of labels, found no such file")
    return read_labels(path)


def split_labels(text: str) -> list[str]:
    """Labels with commas between them, without the spaces around; a ValueError where one is empty or there twice."""
    labels = [label.strip() for label in text.split(",")]
    check_labels(labels)
    return labels


def read_labels(path: str | PathLike) -> list[str]:
    """
    The names of classes, in the order of a model's logits.

    Args:
        path: A `.json` file with a list of names, an object of number and name or one of name and number; a `.csv`
            file with a name a row, or a number and a name, with or without a header; a `.txt` file with a name a line.

    Raises:
        ValueError: for numbers other than 0, 1, 2, ..., names that are empty or come twice, and other files.
    """
    path = Path(path)
    if path.suffix not in LABEL_READERS:
        raise ValueError(f"{path}: expected labels in a {', '.join(LABEL_READERS)} file")
    try:
        labels = LABEL_READERS[path.suffix](path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    bad = [label for label in labels if not is_text(label)]
    if bad or not labels:
        raise ValueError(f"{path}: expected names, got {bad[0]!r}" if bad else f"{path}: expected names, got none")
    repeated = sorted(name for name, count in Counter(labels).items() if count > 1)
    if repeated:
        raise ValueError(f"{path}: expected every name once, got {shorten(repeated)} more than once")
    return labels


def _parse_json_labels(text: str) -> list[Any]:
    content = json.loads(text)
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise ValueError(f"expected a list of names or an object, got a {type(content).__name__}")
    if all(isinstance(value, int) for value in content.values()):
        return _in_order({index: name for name, index in content.items()}, count=len(content))
    return _in_order({int(index): name for index, name in content.items()}, count=len(content))


def _parse_csv_labels(text: str) -> list[str]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(StringIO(text), skipinitialspace=True) if any(row)]
    widths = {len(row) for row in rows}
    if widths == {1}:
        return [row[0] for row in rows]
    if widths != {2}:
        raise ValueError(f"expected one or two columns, got {sorted(widths)}")
    if not any(cell.isdigit() for cell in rows[0]):
        rows = rows[1:]  # the header
    number = 0 if all(row[0].isdigit() for row in rows) else 1
    return _in_order({int(row[number]): row[1 - number] for row in rows}, count=len(rows))


def _parse_text_labels(text: str) -> list[str]:
    return [line.strip() for line in StringIO(text.strip())]  # `splitlines` parts at more than newlines


def _in_order(names: dict[int, Any], *, count: int) -> list[Any]:
    """Names by their number; the numbers are those from 0 on."""
    if sorted(names) != list(range(count)):
        numbers = shorten([str(number) for number in sorted(names)])
        raise ValueError(f"expected the numbers 0 to {count - 1}, each once, got [{numbers}]")
    return [names[index] for index in range(count)]


LABEL_READERS: dict[str, Callable[[str], list[Any]]] = {
    ".json": _parse_json_labels,
    ".csv": _parse_csv_labels,
    ".txt": _parse_text_labels,
}

__all__ = ["LABEL_READERS", "find_labels", "read_labels", "split_labels"]
