# SPDX-License-Identifier: MIT

"""
The labels of a model as a space: which there are, which stand above them, and how they attend (paper, sections 4.1 and
4.2). Plain Python, so that wrong hierarchies are found before anything takes seconds.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

# How labels take part in attention, and the steps of a block's label layer; the default comes first.
LABEL_STEPS: dict[str, tuple[str, ...]] = {
    "none": (),
    "label": ("level", "family", "features"),
    "unified": (),
    "divided": ("level", "family", "features", "labels"),
}
LABEL_ATTENTIONS = tuple(LABEL_STEPS)

# What stands in a text for bytes that are none.
SURROGATES = range(0xD800, 0xE000)

# What tokens see of one another takes memory by the square of their number: 1.6 GB for each of two steps here.
MOST_TOKENS = 20_000

# Far above any taxonomy; each level is a step of every loss and score.
MOST_LEVELS = 100

# The name under which a model returns the weights of each step.
LABEL_MAPS = {
    "level": "level_attentions",
    "family": "family_attentions",
    "features": "label_attentions",
    "labels": "feature_label_attentions",
}


@dataclass(frozen=True)
class LabelSpace:
    """
    Labels and those above them.

    Attributes:
        names: The model's labels, in the order of its scores, then those above them that are no labels of the model,
            in the order in which the hierarchy, sorted by its labels, first names them.
        num_labels: How many of them are the model's labels.
        parents: The number of each one's parent in `names`; -1 where it has none.
    """

    names: tuple[str, ...]
    num_labels: int
    parents: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[str], hierarchy: Mapping[str, str] | None = None) -> "LabelSpace":
        """
        The space of some labels.

        Args:
            labels: The model's labels, in the order of its scores.
            hierarchy: Label to its parent. Parents may have parents, and may be labels themselves.

        Raises:
            ValueError: the hierarchy is no mapping of label to parent, empty, names what is neither a label nor a
                parent, or has a label that is its own ancestor; or labels below it are named twice.
        """
        if hierarchy is not None:
            check_hierarchy(hierarchy)
            twice = sorted(name for name, count in Counter(labels).items() if count > 1)
            if twice:
                raise ValueError(f"{shorten(twice)}: expected labels that differ below a hierarchy")
            unknown = sorted(hierarchy.keys() - set(labels) - set(hierarchy.values()))
            if unknown:
                expected = f"labels of the model ({shorten(labels)}) or parents"
                raise ValueError(f"{shorten(unknown)}: expected {expected}")
        # Sorted, as config.json has it: a saved model's tokens are in the order that its file gives.
        hierarchy, known = dict(sorted((hierarchy or {}).items())), set(labels)
        names = (*labels, *(name for name in dict.fromkeys(hierarchy.values()) if name not in known))
        numbers = {name: number for number, name in enumerate(names)}
        parents = tuple(numbers[hierarchy[name]] if name in hierarchy else -1 for name in names)
        return cls(names, len(labels), parents)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """How many stand above each one: 0 for the most general ones."""
        return tuple(len(self.path(number)) - 1 for number in range(len(self.names)))

    @property
    def num_levels(self) -> int:
        return max(self.levels) + 1

    def check_tokens(self) -> None:
        """Refuses, by a ValueError, more labels than can be tokens."""
        if len(self.names) > MOST_TOKENS:
            raise ValueError(
                f"expected at most {MOST_TOKENS:,} labels as tokens, those above them included, got "
                f"{len(self.names):,}; label_attention='none' has no such limit"
            )

    def path(self, number: int) -> tuple[int, ...]:
        """The numbers of a label and all above it, the most general one first."""
        path = [number]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return tuple(reversed(path))


def check_labels(labels: Sequence[str]) -> None:
    """Refuses, by a ValueError, what is no list of different names."""
    expected = 'expected a list of labels, ["a dog runs", "a car turns"]'
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ValueError(f"{expected}, got {labels!r}")
    if not labels:
        raise ValueError(f"{expected}, got an empty one")
    for label in labels:
        if not is_text(label):
            raise ValueError(f"{expected}, each a text, got {label!r} among them")
    twice = [name for name, count in Counter(labels).items() if count > 1]
    if twice:
        raise ValueError(f"{expected} that differ, got {shorten(twice)} more than once")


def shorten(names: Sequence[str], *, at_most: int = 4) -> str:
    """The first of some names, for people."""
    return ", ".join(names if len(names) <= at_most else [*names[:at_most], "..."])


def is_text(value: object) -> bool:
    """Whether a value is a text that says something, and no bytes that are no text."""
    return isinstance(value, str) and value.strip() != "" and not any(ord(letter) in SURROGATES for letter in value)


def check_prompt(prompt: str) -> None:
    """Refuses, by a ValueError, a prompt that does not say once where the label goes."""
    if not is_text(prompt) or prompt.count("{}") != 1:
        raise ValueError(f"expected a prompt with {{}} in the label's place, 'a video of {{}}', got {prompt!r}")


def check_hierarchy(hierarchy: Mapping[str, str]) -> None:
    """Refuses, by a ValueError, what is no mapping of label to parent, an empty, circular or endlessly deep one."""
    if not isinstance(hierarchy, Mapping) or not all(isinstance(name, str) and name for name in hierarchy.values()):
        raise ValueError('expected an object of label and parent, {"pan_left": "pan", ...}')
    if not hierarchy:
        raise ValueError('expected a parent at least, {"pan_left": "pan", ...}, got none')
    levels: dict[str, int] = {}
    for label in hierarchy:
        name, path = label, {}
        while name in hierarchy and name not in levels:
            if name in path:
                raise ValueError(f"{name}: expected a hierarchy, got a label that is its own ancestor")
            path[name] = None
            name = hierarchy[name]
        for level, member in enumerate(reversed(path), start=levels.get(name, 0) + 1):
            levels[member] = level
        if levels[label] >= MOST_LEVELS:
            raise ValueError(f"{label}: expected at most {MOST_LEVELS} levels, got more above this label")


def read_parents(path: str | PathLike, labels: Sequence[str] | None = None) -> dict[str, str]:
    """
    Reads the JSON file of a label hierarchy: an object of label and parent.

    Args:
        path: The file.
        labels: Those that the hierarchy is to be of, where they are known.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, or a hierarchy of other labels; names the file.
    """
    try:
        parents = json.loads(Path(path).read_text(encoding="utf-8"))
        check_hierarchy(parents)
        if labels is not None:
            LabelSpace.of(labels, parents)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    return parents


__all__ = [
    "LABEL_ATTENTIONS",
    "LABEL_MAPS",
    "LABEL_STEPS",
    "LabelSpace",
    "check_hierarchy",
    "check_labels",
    "check_prompt",
    "is_text",
    "read_parents",
    "shorten",
]
