"""Evaluates a classifier on labeled clips: video by video, for several numbers of clips, with intervals and tables.

    fal evaluate --model_name_or_path runs/mine/model \\
        --train_file runs/mine/clips.jsonl --split test --num_clips 1 3 5 10 --num_crops 1

`clips.jsonl`, which the fine-tuning scripts write, says which clips were held out. To the output folder go
`evaluation.json`, `per_class.csv`, `confusion_matrix.csv` and `.png`, and `model_index.yaml`, the entries for a card.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import confusion_matrix
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import HfArgumentParser

from .. import VideoError, VideoLabeler
from ..labeling.aggregation import MULTI_LABEL
from .clips import (
    IGNORED,
    AugmentationArguments,
    ClipCollator,
    EvaluationClips,
    UnreadableClips,
    probe_clips,
)
from .data import SINGLE_LABEL, SPLITS, DataArguments, LabeledClip, check_labels, load_clips
from .metrics import (
    decide,
    group_interval,
    majority_share,
    per_class_table,
    summarize,
    video_scores,
    wilson_interval,
)
from .recipe import predict_views

CELL_PIXELS = 64


@dataclass
class EvaluationArguments:
    """What is evaluated, and how."""

    model_name_or_path: str = field(metadata={"help": "Folder or Hub id of a classifier."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Where the figures go; runs/evaluation/<name of the model> unless given."}
    )
    split: str = field(default="test", metadata={"help": f"Which clips: {', '.join(SPLITS)}."})
    num_clips: list[int] = field(
        default_factory=lambda: [1, 3, 5, 10], metadata={"help": "Clips of a video; each number is evaluated."}
    )
    num_crops: int = field(default=1, metadata={"help": "Crops of a clip: 1, or 3 along the longer side."})
    batch_size: int = field(default=8, metadata={"help": "Clips that go through the model at once."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode; 0: none but this one."})
    device: str | None = field(
        default=None, metadata={"help": "cpu, cuda, ...; a GPU where there is one unless given."}
    )
    dtype: str = field(default="auto", metadata={"help": "float32, bfloat16, ...; the checkpoint's unless given."})
    seed: int = field(default=42, metadata={"help": "Of the split, where the clips name none."})

    def __post_init__(self):
        if self.split not in SPLITS:
            raise ValueError(f"--split: expected one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.num_crops not in (1, 3) or min(self.num_clips) < 1:
            raise ValueError(
                f"expected --num_clips of at least 1 and --num_crops of 1 or 3, got {self.num_clips}, {self.num_crops}"
            )


class Evaluator:
    """The readable clips of a split, and the model that is to name them."""

    def __init__(self, arguments: EvaluationArguments, data: DataArguments, output_dir: Path):
        self.arguments = arguments
        labeler = VideoLabeler.from_pretrained(
            arguments.model_name_or_path, device=arguments.device, dtype=arguments.dtype
        )
        self.model, self.processor = labeler.model, labeler.processor
        self.problem_type = self.model.config.problem_type or SINGLE_LABEL
        self.labels = labeler.names
        splits = load_clips(data, seed=arguments.seed)
        if arguments.split not in splits:
            raise ValueError(f"expected clips of the split {arguments.split}, there are only: {', '.join(splits)}")
        clips = splits[arguments.split]
        check_labels(clips, self.model.config.label2id, self.problem_type)
        self.unreadable = UnreadableClips(
            output_dir / "unreadable.jsonl", num_clips=len(clips), max_share=data.max_unreadable_share
        )
        self.unreadable.path.unlink(missing_ok=True)
        self.clips, self.infos = self._leave_out_unreadable(clips)

    def _leave_out_unreadable(self, clips: list[LabeledClip]) -> tuple[list, list]:
        infos = probe_clips(clips)
        for clip, info in zip(clips, infos, strict=True):
            if isinstance(info, VideoError):
                self.unreadable.record(clip, info)
        kept = [pair for pair in zip(clips, infos, strict=True) if not isinstance(pair[1], VideoError)]
        if not kept:
            raise RuntimeError(f"expected videos to evaluate, none can be read: see {self.unreadable.path}")
        return tuple(map(list, zip(*kept, strict=True)))

    def predict(self, num_clips: int) -> tuple[torch.Tensor, torch.Tensor, list[LabeledClip]]:
        """Logits (N, views, num_labels), labels and clips of the videos that could be read to the end."""
        dataset = EvaluationClips(
            self.clips,
            self.infos,
            self.processor,
            label2id=self.model.config.label2id,
            problem_type=self.problem_type,
            unreadable=self.unreadable,
            num_clips=num_clips,
            num_crops=self.arguments.num_crops,
        )
        collate = ClipCollator(len(self.labels), AugmentationArguments())
        loader = DataLoader(dataset, num_workers=self.arguments.num_workers, collate_fn=collate)
        logits, labels = [], []
        for batch in tqdm(loader, desc=f"{num_clips} clips", disable=None):
            views = batch["pixel_values"].to(self.model.device)
            logits.append(predict_views(self.model, views, batch_size=self.arguments.batch_size).cpu())
            labels.append(batch["labels"])
        logits, labels = torch.cat(logits), torch.cat(labels)
        is_read = (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED
        read_clips = [clip for clip, read in zip(self.clips, is_read.tolist(), strict=True) if read]
        return logits[is_read], labels[is_read], read_clips

    def evaluate(self, num_clips: int) -> tuple[dict, np.ndarray, np.ndarray]:
        """The figures of a number of clips, with intervals; predictions and references."""
        logits, labels, clips = self.predict(num_clips)
        references = labels.numpy()
        predictions = decide(video_scores(logits, self.problem_type).numpy(), self.problem_type)
        is_correct = (predictions == references).reshape(len(clips), -1).all(axis=1)
        figures = {
            "num_clips": num_clips,
            "num_crops": self.arguments.num_crops,
            "num_videos": len(clips),
            **summarize(logits, labels, self.problem_type),
            "accuracy_interval": wilson_interval(int(is_correct.sum()), len(clips)),
        }
        groups = [clip.group if clip.group is not None else clip.path for clip in clips]
        if len(set(groups)) < len(clips):
            figures["accuracy_interval_by_group"] = group_interval(is_correct, groups)
        if self.problem_type != MULTI_LABEL:
            figures["majority_share"] = majority_share(references)
        return figures, predictions, references


# ---- what is written ----


def write_table(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


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


def card_entries(arguments: EvaluationArguments, data: DataArguments, figures: dict) -> str:
    """The figures as the metadata of a model card, YAML."""
    sources = (getattr(data, f"{split}_{kind}") for split in (arguments.split, "train") for kind in ("file", "dir"))
    name = data.dataset_name or Path(next(filter(None, sources))).stem
    metrics = {key: value for key, value in figures.items() if isinstance(value, float) and key != "majority_share"}
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=data.dataset_name or "local",
            dataset_name=name,
            dataset_split=arguments.split,
            metric_type=key,
            metric_value=round(value, 4),
        )
        for key, value in metrics.items()
    ]
    return ModelCardData(model_name=Path(arguments.model_name_or_path).name, eval_results=results).to_yaml()


def print_figures(results: Sequence[dict]) -> None:
    """A row for each number of clips."""
    print("clips  crops  videos  clip accuracy  video accuracy  95 % interval   macro F1  weighted F1")
    for row in results:
        low, high = row["accuracy_interval"]
        print(
            f"{row['num_clips']:>5}  {row['num_crops']:>5}  {row['num_videos']:>6}  {row['clip_accuracy']:>13.3f}  "
            f"{row['accuracy']:>14.3f}  {low:.3f} to {high:.3f}  {row['f1_macro']:>8.3f}  {row['f1_weighted']:>11.3f}"
        )
    last = results[-1]
    if "accuracy_interval_by_group" in last:
        low, high = last["accuracy_interval_by_group"]
        print(f"with {last['num_clips']} clips, 95 % interval where whole groups are drawn: {low:.3f} to {high:.3f}")
    for name in ("top5_accuracy", "mean_average_precision", "majority_share"):
        if name in last:
            print(f"{name.replace('_', ' ')}: {last[name]:.3f}")


def main(argv: list[str] | None = None) -> None:
    parser = HfArgumentParser((EvaluationArguments, DataArguments))
    arguments, data = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    name = Path(arguments.model_name_or_path).resolve().name
    output_dir = Path(arguments.output_dir or f"runs/evaluation/{name}")
    output_dir.mkdir(parents=True, exist_ok=True)
    evaluator = Evaluator(arguments, data, output_dir)
    results = []
    for num_clips in sorted(arguments.num_clips):
        figures, predictions, references = evaluator.evaluate(num_clips)
        results.append(figures)
    table = per_class_table(predictions, references, evaluator.labels)  # of the most clips
    report = {
        "model": arguments.model_name_or_path,
        "split": arguments.split,
        "labels": evaluator.labels,
        "results": results,
        "per_class": table,
        "unreadable": [
            {"path": path, "reason": reason} for (path, _), reason in evaluator.unreadable.reasons().items()
        ],
    }
    (output_dir / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    write_table(output_dir / "per_class.csv", table)
    (output_dir / "model_index.yaml").write_text(card_entries(arguments, data, results[-1]) + "\n")
    if evaluator.problem_type != MULTI_LABEL:
        matrix = confusion_matrix(references, predictions, labels=range(len(evaluator.labels)))
        write_confusion(output_dir, matrix, evaluator.labels)
    print_figures(results)
    print(f"{'label':>24}  precision  recall     F1  videos")
    for row in table:
        figures = f"{row['precision']:>9.3f}  {row['recall']:>6.3f}  {row['f1']:>5.3f}  {row['support']:>6}"
        print(f"{row['label']:>24}  {figures}")
    print(evaluator.unreadable)
    print(f"written to {output_dir}")


if __name__ == "__main__":
    main()
