"""What an evaluation has found: figures, tables and pictures, in Python, on the screen and in files."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image, ImageDraw, ImageFont

from .calibration import Calibration
from .data import LabeledClip

CELL_PIXELS = 64


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """
    What a classifier says of a video.

    Args:
        clip: The video, with its true labels.
        scores: The score of each label, in [0, 1].
        labels: The labels that it gets: the best one, or of several those with a score of at least a half.
    """

    clip: LabeledClip
    scores: dict[str, float]
    labels: tuple[str, ...]

    @property
    def is_correct(self) -> bool:
        return set(self.labels) == set(self.clip.labels)


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """
    The figures of a classifier on the clips of a split.

    Args:
        model: Folder or Hub id of the classifier.
        split: "train", "validation" or "test".
        dataset_type: Hub id of the data set, or "local".
        dataset_name: The same, or the name of the file or folder.
        labels: The names of the labels, in the order of the model's scores.
        results: The figures for each number of clips of a video, with 95 % intervals, and with a hierarchy `levels`,
            as `summarize_levels` has them. What follows is of the most.
        per_class: For each label: `precision`, `recall`, `f1` and `support`, the number of videos that have it; where
            videos have several labels also `average_precision`, None for a label of no video, and `calibration_error`.
        confusion: (num_labels, num_labels) videos, a row for each true label, a column for each predicted one; None
            where videos have several labels.
        reliability: How often videos are right by how sure the model is, as `reliability_table` has it.
        predictions: What is said of each video.
        unreadable: Why videos were left out, by path and start in seconds.
        output_dir: Where [`EvaluationReport.write`] writes.
        calibration: The temperature that was fitted, where that was asked for.
    """

    model: str
    split: str
    dataset_type: str
    dataset_name: str
    labels: list[str]
    results: list[dict]
    per_class: list[dict]
    confusion: np.ndarray | None
    reliability: list[dict]
    predictions: list[Prediction]
    unreadable: dict[tuple[str, float], str]
    output_dir: Path
    calibration: Calibration | None = None

    @property
    def accuracy(self) -> float:
        """The share of videos that are right."""
        return self.results[-1]["accuracy"]

    @property
    def mistakes(self) -> list[Prediction]:
        return [prediction for prediction in self.predictions if not prediction.is_correct]

    def to_dict(self) -> dict:
        """All but the single predictions, for JSON."""
        return {
            "model": self.model,
            "split": self.split,
            "labels": self.labels,
            "results": self.results,
            "per_class": self.per_class,
            "reliability": self.reliability,
            **({} if self.calibration is None else {"calibration": self.calibration.to_dict()}),
            "unreadable": [{"path": path, "reason": reason} for (path, _), reason in self.unreadable.items()],
        }

    def write(self) -> None:
        """
        Writes `evaluation.json`, `per_class.csv`, `predictions.jsonl` (a line for each video),
        `confusion_matrix.csv` and `.png`, and `model_index.yaml`, the entries for a card.
        """
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / "evaluation.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        (self.output_dir / "model_index.yaml").write_text(self.card_entries() + "\n", encoding="utf-8")
        with (self.output_dir / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.per_class[0].keys())
            writer.writeheader()
            writer.writerows(self.per_class)
        with (self.output_dir / "predictions.jsonl").open("w", encoding="utf-8") as file:
            for one in self.predictions:
                row = {"path": one.clip.path, "start_seconds": one.clip.start_seconds, "labels": one.clip.labels}
                row |= {"predicted": one.labels, "scores": one.scores}
                file.write(json.dumps(row) + "\n")
        if self.confusion is not None:
            write_confusion(self.output_dir, self.confusion, self.labels)

    def card_entries(self) -> str:
        """The figures with the most clips as the metadata of a model card, YAML."""
        last = self.results[-1]
        figures = {key: value for key, value in last.items() if isinstance(value, float)}
        figures.pop("majority_share", None)
        for row in last.get("levels", ()):
            figures |= {f"{name}_level_{row['level']}": row[name] for name in ("accuracy", "f1_macro")}
        results = [
            EvalResult(
                task_type="video-classification",
                dataset_type=self.dataset_type,
                dataset_name=self.dataset_name,
                dataset_split=self.split,
                metric_type=key,
                metric_value=round(value, 4),
            )
            for key, value in figures.items()
        ]
        return ModelCardData(model_name=Path(self.model).name, eval_results=results).to_yaml()

    def __str__(self) -> str:
        """A row for each number of clips, for each level of a hierarchy, and for each label."""
        lines = ["clips  crops  videos  clip accuracy  video accuracy  95 % interval   macro F1  weighted F1"]
        for row in self.results:
            low, high = row["accuracy_interval"]
            lines.append(
                f"{row['num_clips']:>5}  {row['num_crops']:>5}  {row['num_videos']:>6}  "
                f"{row['clip_accuracy']:>13.3f}  {row['accuracy']:>14.3f}  {low:.3f} to {high:.3f}  "
                f"{row['f1_macro']:>8.3f}  {row['f1_weighted']:>11.3f}"
            )
        last = self.results[-1]
        if "accuracy_interval_by_group" in last:
            low, high = last["accuracy_interval_by_group"]
            what = f"with {last['num_clips']} clips, 95 % interval where whole groups are drawn"
            lines.append(f"{what}: {low:.3f} to {high:.3f}")
        for name in (
            "top5_accuracy",
            "mean_average_precision",
            "majority_share",
            "calibration_error",
            "negative_log_likelihood",
        ):
            if name in last:
                lines.append(f"{name.replace('_', ' ')}: {last[name]:.3f}")
        if "levels" in last:
            lines.append(f"{'level':>24}  labels  videos  accuracy  macro F1")
        for row in last.get("levels", ()):
            counts = f"{row['num_labels']:>6}  {row['num_videos']:>6}"
            lines.append(f"{row['level']:>24}  {counts}  {row['accuracy']:>8.3f}  {row['f1_macro']:>8.3f}")
        lines.append(f"{'label':>24}  precision  recall     F1  videos")
        for row in self.per_class:
            figures = f"{row['precision']:>9.3f}  {row['recall']:>6.3f}  {row['f1']:>5.3f}  {row['support']:>6}"
            lines.append(f"{row['label']:>24}  {figures}")
        return "\n".join(lines)


def write_confusion(folder: Path, matrix: np.ndarray, labels: Sequence[str]) -> None:
    """`confusion_matrix.csv` and `.png`: a row for each true label, a column for each predicted one."""
    with (folder / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *labels])
        writer.writerows([label, *row.tolist()] for label, row in zip(labels, matrix, strict=True))
    draw_confusion(matrix, labels).save(folder / "confusion_matrix.png")


def draw_confusion(matrix: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """The matrix as a picture: counts, on a ground that is the darker the larger their share of the row."""
    margin = 16 + math.ceil(max(map(ImageFont.load_default().getlength, labels)))
    side = margin + CELL_PIXELS * len(labels)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    for row, label in enumerate(labels):
        middle = margin + CELL_PIXELS * (row + 0.5)
        draw.text((margin - 8, middle), label, fill="black", anchor="rm")
        column_name = Image.new("RGB", (margin - 8, CELL_PIXELS), "white")
        ImageDraw.Draw(column_name).text((0, CELL_PIXELS / 2), label, fill="black", anchor="lm")
        image.paste(column_name.rotate(90, expand=True), (margin + CELL_PIXELS * row, 0))
        for column in range(len(labels)):
            left, top = margin + CELL_PIXELS * column, margin + CELL_PIXELS * row
            lightness = round(255 * (1 - shares[row, column]))
            draw.rectangle((left, top, left + CELL_PIXELS - 2, top + CELL_PIXELS - 2), (lightness, lightness, 255))
            ink = "white" if lightness < 128 else "black"
            center = left + CELL_PIXELS / 2, top + CELL_PIXELS / 2
            draw.text(center, str(matrix[row, column]), fill=ink, anchor="mm")
    return image
