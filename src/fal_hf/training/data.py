"""Labeled clips for training and evaluation: where they come from, what their labels are, how they are split.

Clips are files in class folders, the rows of a manifest (CSV or JSON Lines), or a `datasets` data set with a column of
videos. Clips of one group (a source film, a person, a camera) never stand on both sides of a split.
`clips` makes tensors of them.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from sklearn.model_selection import StratifiedGroupKFold
from transformers import PreTrainedConfig

from ..labeling.aggregation import MULTI_LABEL
from ..labeling.manifests import ROW_READERS, read_rows, stretch_of
from ..model.video_file import Video
from ..model.video_info import Stretch
from ..model.video_source import is_video_name

SINGLE_LABEL = "single_label_classification"
SPLITS = ("train", "validation", "test")
MANIFEST_FIELDS = ("path", "label", "labels", "start_seconds", "end_seconds", "split", "group")
# Between the labels of a clip in a CSV manifest.
LABEL_SEPARATOR = ";"


@dataclass(frozen=True, kw_only=True)
class LabeledClip:
    """
    A labeled stretch of a video.

    Args:
        path: File or URL; a name for messages where `load` is given.
        labels: Names of the labels that are right: one, or any number in a multi-label set.
        start_seconds: Where it begins, after the first frame.
        end_seconds: Where it ends; None: with the video.
        split: "train", "validation" or "test"; None where that is still to be decided.
        group: What it has in common with other clips (a source film, say); None: nothing known.
        load: Returns the video where it is not a file of its own.
    """

    path: str
    labels: tuple[str, ...]
    start_seconds: float = 0.0
    end_seconds: float | None = None
    split: str | None = None
    group: str | None = None
    load: Callable[[], Video] | None = field(default=None, repr=False, compare=False)

    @property
    def video(self) -> Video:
        return self.path if self.load is None else self.load()

    @property
    def stretch(self) -> Stretch:
        return Stretch(self.start_seconds, self.end_seconds)


@dataclass
class DataArguments:
    """Which clips a model is trained and evaluated on."""

    _argument_group_name = "clips"

    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set of the Hub, or a folder, that `datasets.load_dataset` reads."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    video_column_name: str = field(default="video", metadata={"help": "Its column of videos."})
    label_column_name: str = field(default="label", metadata={"help": "Its column of labels, or of lists of them."})
    group_column_name: str | None = field(default=None, metadata={"help": "Its column of groups."})
    train_dir: str | None = field(default=None, metadata={"help": "Folder with a folder of clips for each class."})
    validation_dir: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_dir: str | None = field(default=None, metadata={"help": "The same for testing."})
    train_file: str | None = field(
        default=None,
        metadata={"help": f"Manifest, .csv or .jsonl, with the columns {', '.join(MANIFEST_FIELDS)} or some of them."},
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    train_val_split: float = field(
        default=0.15, metadata={"help": "Share of the clips for validation, where nothing else says which."}
    )
    train_test_split: float = field(
        default=0.0, metadata={"help": "Share of the clips for testing, where nothing else says which."}
    )
    max_unreadable_share: float = field(
        default=0.05, metadata={"help": "The run stops where more than this share of the clips cannot be read."}
    )

    def __post_init__(self):
        refuse_empty(self, [one.name for one in fields(self)])
        for name in ("train_val_split", "train_test_split", "max_unreadable_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name}: expected a share in [0, 1), got {getattr(self, name)}")


def refuse_empty(arguments: Any, names: Iterable[str]) -> None:
    """Raises a ValueError where one of these is an empty text, as that of a variable which nobody has set is."""
    for name in names:
        if getattr(arguments, name) == "":
            raise ValueError(f"--{name}: expected a value, got an empty one")


@contextmanager
def named_option(name: str) -> Iterator[None]:
    """Puts the name of an option before a ValueError about its value."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from error


# ---- where clips come from ----


def load_clips(arguments: DataArguments, *, seed: int) -> dict[str, list[LabeledClip]]:
    """
    The clips of each split that is not empty.

    Validation and test clips that nothing names are taken from the training clips: by group, with the classes in
    proportion, the same ones for the same seed.

    Raises:
        ValueError: no source or several are given, there are no clips, or a group is in two splits.
    """
    clips = _read_files(arguments)
    if arguments.dataset_name and clips:
        raise ValueError("expected --dataset_name, or folders and manifests of clips, got both")
    if arguments.dataset_name:
        clips = _read_dataset(arguments.dataset_name, arguments)
    if not clips:
        raise ValueError("expected clips, found none; check --dataset_name, --train_dir or --train_file")
    shares = {"test": arguments.train_test_split, "validation": arguments.train_val_split}
    splits = split_clips(clips, shares=shares, seed=seed)
    check_leaks(splits)
    return splits


def _read_files(arguments: DataArguments) -> list[LabeledClip]:
    clips = []
    for split in SPLITS:
        folder, manifest = getattr(arguments, f"{split}_dir"), getattr(arguments, f"{split}_file")
        if folder and manifest:
            raise ValueError(f"expected --{split}_dir or --{split}_file, got both")
        found = read_class_folders(folder) if folder else read_manifest(manifest) if manifest else []
        clips += found if split == "train" else [replace(clip, split=split) for clip in found]
    return clips


def read_class_folders(folder: str | Path) -> list[LabeledClip]:
    """
    The videos in the folders of a folder, which are the classes; hidden files are left out, paths are absolute. Bytes
    of a folder's name that are no UTF-8 are escaped.

    Raises:
        ValueError: there is no such folder, none in it, or no video in them.
    """
    folder = Path(folder).absolute()
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not classes:
        raise ValueError(f"{folder}: expected a folder with a folder of clips for each class")
    clips = [
        LabeledClip(path=str(path), labels=(label,))
        for label, one in ((_label_of(folder), folder) for folder in classes)
        for path in sorted(one.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and is_video_name(path.name)
    ]
    if not clips:
        raise ValueError(f"{folder}: expected videos in its folders, found none; they are known by their suffix")
    return clips


def _label_of(folder: Path) -> str:
    """A folder's name as text, whatever its bytes are and this system takes them for."""
    return os.fsencode(folder.name).decode("utf-8", "backslashreplace")


def read_manifest(path: str | Path) -> list[LabeledClip]:
    """
    The rows of a CSV or JSON Lines file. Paths count from the manifest's folder.

    A row has a `path` and a `label`, or `labels`: a list in JSON Lines, separated by ";" in CSV. `start_seconds`,
    `end_seconds`, `split` and `group` may be there or not.

    Raises:
        ValueError: the file is missing or has no such rows; the message names the line.
    """
    path = Path(path)
    if path.suffix.lower() not in ROW_READERS or not path.is_file():
        raise ValueError(f"{path}: expected a manifest that exists and ends in {' or '.join(ROW_READERS)}")
    clips = []
    for line, row in read_rows(path):
        if path.suffix.lower() == ".csv" and "labels" in row:
            row["labels"] = [label.strip() for label in row["labels"].split(LABEL_SEPARATOR)]
        try:
            clips.append(_clip_of_row(row, path.parent))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: line {line}: {error}") from error
    return clips


def _clip_of_row(row: Mapping, folder: Path) -> LabeledClip:
    unknown = [str(name) for name in row if name not in MANIFEST_FIELDS]
    if unknown or "path" not in row or ("label" in row) == ("labels" in row):
        got = ", ".join(map(str, row))
        raise ValueError(f"expected path, label or labels, and of {', '.join(MANIFEST_FIELDS[3:])} any; got {got}")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    stretch = stretch_of(row)
    labels = row["labels"] if "labels" in row else [row["label"]]
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"expected names as labels, got {labels!r}")
    path = row["path"] if "://" in row["path"] else str((folder / row["path"]).absolute())
    group = row.get("group")
    return LabeledClip(
        path=path,
        labels=tuple(dict.fromkeys(labels)),
        start_seconds=stretch.start_seconds,
        end_seconds=stretch.end_seconds,
        split=split,
        group=None if group is None else str(group),
    )


def write_manifest(path: Path, splits: Mapping[str, Sequence[LabeledClip]]) -> None:
    """Writes down, as JSON Lines that `read_manifest` reads, which clips are in which split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for split, clips in splits.items():
            for clip in clips:
                row = {"path": clip.path, "labels": clip.labels, "split": split}
                row |= {"start_seconds": clip.start_seconds} if clip.start_seconds else {}
                row |= {"end_seconds": clip.end_seconds} if clip.end_seconds is not None else {}
                row |= {"group": clip.group} if clip.group is not None else {}
                file.write(json.dumps(row) + "\n")


def _read_dataset(name: str, arguments: DataArguments) -> list[LabeledClip]:
    """The rows of a `datasets` data set; videos are taken out of it as files or bytes when they are needed."""
    from datasets import load_dataset

    splits = {str(split): rows for split, rows in load_dataset(name, arguments.dataset_config_name).items()}
    aliases = {"train": None, "validation": "validation", "val": "validation", "test": "test"}
    unknown = sorted(set(splits) - set(aliases))
    if unknown:
        raise ValueError(f"{name}: expected the splits {', '.join(SPLITS)}, got {', '.join(unknown)}")
    return [clip for split, rows in splits.items() for clip in clips_of_dataset(rows, arguments, split=aliases[split])]


def clips_of_dataset(rows, arguments: DataArguments, *, split: str | None) -> list[LabeledClip]:
    """
    The clips of a `datasets.Dataset` with a column of videos.

    Raises:
        ValueError: a column is missing.
    """
    from datasets import Video as VideoFeature

    columns = [arguments.video_column_name, arguments.label_column_name, arguments.group_column_name]
    missing = [column for column in columns if column is not None and column not in rows.column_names]
    if missing:
        raise ValueError(f"expected the columns {', '.join(missing)}; the data set has {', '.join(rows.column_names)}")
    videos = rows.select_columns([arguments.video_column_name])
    videos = videos.cast_column(arguments.video_column_name, VideoFeature(decode=False))
    labels = _label_names(rows, arguments.label_column_name)
    groups = [None] * len(rows) if arguments.group_column_name is None else rows[arguments.group_column_name]
    return [
        LabeledClip(
            path=f"{split or 'train'} row {index}",
            labels=names,
            split=split,
            group=None if group is None else str(group),
            load=partial(_load_row, videos, index, arguments.video_column_name),
        )
        for index, (names, group) in enumerate(zip(labels, groups, strict=True))
    ]


def _label_names(rows, column: str) -> list[tuple[str, ...]]:
    feature = rows.features[column]
    feature = getattr(feature, "feature", feature)  # of a list of labels, the labels' own
    name_of = getattr(feature, "int2str", str)
    return [tuple(map(name_of, value if isinstance(value, list) else [value])) for value in rows[column]]


def _load_row(rows, index: int, column: str) -> Video:
    video = rows[index][column]
    return video["bytes"] if video["bytes"] is not None else video["path"]


# ---- splits and labels ----


def split_clips(
    clips: Sequence[LabeledClip], *, shares: Mapping[str, float], seed: int
) -> dict[str, list[LabeledClip]]:
    """
    The clips by split; a split that no clip names takes its share of those that name none. Groups stay together and
    classes in proportion, as far as the groups allow.

    Args:
        clips: All clips.
        shares: For each split to make: its share of all clips that name no split, in [0, 1). It is larger where
            every class is too small for it: of two clips one is held out.
        seed: The same seed makes the same splits.

    Raises:
        ValueError: too few groups, or a single clip of every class, to hold some out.
    """
    splits = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    undecided = [clip for clip in clips if clip.split is None]
    total = len(undecided)
    for name, share in shares.items():
        if share and undecided and not splits[name]:
            undecided, splits[name] = _hold_out(undecided, share * total / len(undecided), seed=seed)
    splits["train"] += undecided
    return {name: part for name, part in splits.items() if part}


def _hold_out(clips: list[LabeledClip], share: float, *, seed: int) -> tuple[list[LabeledClip], list[LabeledClip]]:
    """Clips that are kept and clips that are held out; the rarest label of a clip is its class."""
    counts = Counter(label for clip in clips for label in clip.labels)
    classes = [min(clip.labels, key=lambda label: (counts[label], label), default="") for clip in clips]
    groups = [clip.group if clip.group is not None else f"\0{clip.path}" for clip in clips]
    num_groups, least, largest = len(set(groups)), max(2, round(1 / share)), max(Counter(classes).values())
    if largest < 2:
        raise ValueError(
            "expected at least 2 clips of a class to hold some out, got one of each; name the validation and test "
            "clips yourself, or train without (--train_val_split 0)"
        )
    if num_groups < least and any(clip.group is not None for clip in clips):
        raise ValueError(
            f"expected at least {least} groups of clips to hold out a share of {share:.2f}, got {num_groups}; "
            "name the validation and test clips yourself, or choose a larger share"
        )
    num_folds, num_held = _count_folds(share, most=min(num_groups, largest, max(least, 10)))
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer clips than folds is in some of them only
        parts = [part.tolist() for _, part in folds.split(clips, classes, groups)]
    choices = combinations(parts, num_held)
    held = set(chain(*min(choices, key=lambda choice: abs(sum(map(len, choice)) / len(clips) - share))))
    rows = list(enumerate(clips))
    return [clip for index, clip in rows if index not in held], [clip for index, clip in rows if index in held]


def _count_folds(share: float, *, most: int) -> tuple[int, int]:
    """The fewest folds, up to `most`, and how many of them, that come closest to a share."""
    choices = [(folds, min(max(1, round(share * folds)), folds - 1)) for folds in range(2, most + 1)]
    return min(choices, key=lambda choice: round(abs(choice[1] / choice[0] - share), 6))


def check_leaks(splits: Mapping[str, Sequence[LabeledClip]]) -> None:
    """Raises a ValueError where a group, or the same stretch of a file, is in two splits."""
    owners: dict[tuple, str] = {}
    for split, clips in splits.items():
        for clip in clips:
            keys = [("clip", clip.path, clip.start_seconds, clip.end_seconds)]
            keys += [("group", clip.group)] if clip.group is not None else []
            for key in keys:
                if owners.setdefault(key, split) != split:
                    raise ValueError(
                        f"{key[0]} {key[1]}: expected it in one split, found it in {owners[key]} and {split}"
                    )


def list_labels(clips: Iterable[LabeledClip]) -> list[str]:
    """The names of all labels, sorted: the order of a new model's scores."""
    return sorted({label for clip in clips for label in clip.labels})


def label_indices(config: PreTrainedConfig) -> dict[str, int]:
    """The index of each label among the scores of a classifier of this configuration."""
    return {label: int(index) for label, index in (config.label2id or {}).items()}


def find_problem_type(clips: Iterable[LabeledClip]) -> str:
    """Single-label where every clip has exactly one label, else multi-label."""
    return SINGLE_LABEL if all(len(clip.labels) == 1 for clip in clips) else MULTI_LABEL


def check_labels(clips: Sequence[LabeledClip], label2id: Mapping[str, int], problem_type: str) -> None:
    """Raises a ValueError where clips have labels that the model does not know, or more or fewer than it can give."""
    unknown = [label for label in list_labels(clips) if label not in label2id]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: expected labels of the model, which are {', '.join(label2id)}")
    if problem_type == SINGLE_LABEL and find_problem_type(clips) != SINGLE_LABEL:
        path = next(clip.path for clip in clips if len(clip.labels) != 1)
        raise ValueError(f"{path}: expected one label, as every clip of a single-label model has; use {MULTI_LABEL}")


def encode_labels(clip: LabeledClip, label2id: Mapping[str, int], problem_type: str) -> torch.Tensor:
    """The class index, () int64; of a multi-label set 0 and 1, (num_labels,) float32."""
    indices = [label2id[label] for label in clip.labels]
    if problem_type != MULTI_LABEL:
        return torch.tensor(indices[0])
    encoded = torch.zeros(len(label2id))
    encoded[indices] = 1.0
    return encoded


def label_counts(labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """How many clips have each label, (num_labels,) float32, from `encode_labels` of all clips."""
    return labels.sum(dim=0) if labels.ndim == 2 else torch.bincount(labels, minlength=num_labels).float()


def balanced_weights(labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """How often to draw each clip so that labels come equally often: by its rarest label, (num_clips,)."""
    rarity = 1 / label_counts(labels, num_labels).clamp(min=1)
    if labels.ndim == 1:
        return rarity[labels]
    return torch.where(labels.any(dim=1), (labels * rarity).amax(dim=1), rarity.min())
