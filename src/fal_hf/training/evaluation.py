"""Evaluates a classifier on labeled clips: video by video, for several numbers of clips.

`clips.jsonl`, which a training writes, says which clips were held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..labeling.aggregation import MULTI_LABEL
from ..labeling.label_files import check_folder
from ..labeling.labeler import VideoLabeler
from ..model.configuration_fal import FALConfig
from ..model.label_names import find_labels
from ..model.label_space import check_prompt
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.patch_layout import AdaptivePatches
from ..model.video_info import VideoInfo
from .calibration import Calibration, cross_fit, fit_temperature, judge
from .clips import IGNORED, AugmentationArguments, ClipCollator, EvaluationClips, UnreadableClips
from .data import (
    SINGLE_LABEL,
    SPLITS,
    DataArguments,
    LabeledClip,
    check_labels,
    label_indices,
    load_clips,
    named_option,
    refuse_empty,
)
from .metrics import (
    calibration_error,
    decide,
    group_interval,
    majority_share,
    negative_log_likelihood,
    per_class_table,
    reliability_table,
    summarize,
    summarize_levels,
    video_scores,
    wilson_interval,
)
from .recipe import predict_views
from .report import EvaluationReport, Prediction
from .start import loading


@dataclass
class EvaluationArguments:
    """What is evaluated, and how."""

    _argument_group_name = "evaluation"

    model_name_or_path: str = field(metadata={"help": "Folder or Hub id of a classifier."})
    labels: str | None = field(
        default=None,
        metadata={
            "help": "Labels in your own words, with commas between them or a file of them, for a model with label "
            "embeddings and a text tower; the model's own unless given."
        },
    )
    label_prompt: str | None = field(
        default=None, metadata={"help": "Text that stands for such a label, a video of {}; unset: the checkpoint's."}
    )
    adaptive_patches: float | None = field(
        default=None,
        metadata={
            "help": "Patches that adapt to the clip: tokens of a frame as a share of its patches, 0.25 to 1; unset: "
            "the checkpoint's own layout."
        },
    )
    static_patches: float | None = field(
        default=None,
        metadata={
            "help": "In its place, in joint attention: patches of later frames that change by less than this, in "
            "normalized values, are left out, 0.1 for example."
        },
    )
    calibrate: str | None = field(
        default=None,
        metadata={
            "help": "A new folder for a copy of the model whose scores are divided by the temperature that fits the "
            "clips best, so that probabilities are right as often as they say."
        },
    )
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
    runtime: str = field(
        default="auto", metadata={"help": "Of an exported model: onnx-int8, ...; auto: the fastest on this machine."}
    )
    seed: int = field(default=42, metadata={"help": "Of the split, where the clips name none."})

    def __post_init__(self):
        refuse_empty(self, [one.name for one in fields(self)])
        if self.output_dir is not None:
            check_folder(self.output_dir)
        if self.labels is not None:
            with named_option("labels"):
                find_labels(self.labels)
        if self.label_prompt is not None:
            with named_option("label_prompt"):
                check_prompt(self.label_prompt)
            if self.labels is None:
                raise ValueError("--label_prompt: expected --labels with it")
        if self.find_patches() is not None and self.calibrate is not None:
            raise ValueError(
                "--calibrate: expected it without --adaptive_patches and --static_patches, its copy has the "
                "checkpoint's own patches"
            )
        if self.calibrate is not None:
            self._check_calibrate(Path(self.calibrate))
        for name, least in (("batch_size", 1), ("num_workers", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        if self.split not in SPLITS:
            raise ValueError(f"--split: expected one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.num_crops not in (1, 3) or min(self.num_clips) < 1:
            raise ValueError(
                f"expected --num_clips of at least 1 and --num_crops of 1 or 3, got {self.num_clips}, {self.num_crops}"
            )

    def _check_calibrate(self, folder: Path) -> None:
        check_folder(folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"--calibrate: expected a new folder, got {folder}, which is not empty")
        if self.dtype != "auto":
            raise ValueError(f"--calibrate: expected the checkpoint's own precision, got --dtype {self.dtype}")

    def find_patches(self) -> AdaptivePatches | None:
        """The patches that are asked for, if any; a ValueError where they are out of their range."""
        if self.adaptive_patches is not None and self.static_patches is not None:
            raise ValueError("expected --adaptive_patches or --static_patches, got both")
        for name, option in (("adaptive_patches", "share"), ("static_patches", "static_threshold")):
            if (value := getattr(self, name)) is not None:
                with named_option(name):
                    return AdaptivePatches(**{option: value})
        return None


def evaluate(*, data: DataArguments, evaluation: EvaluationArguments) -> EvaluationReport:
    """
    Evaluates a classifier on the clips of a split, writes the report to the output folder, and calibrates the
    classifier where that is asked for.

    Args:
        data: The clips.
        evaluation: The model, the split, and how many clips of a video are averaged.

    Raises:
        ValueError: there are no clips of the split, the model does not know their labels, or they tell no temperature;
            the report is written then.
        RuntimeError: too many clips cannot be read.
    """
    evaluator = Evaluator(evaluation, data)
    report = evaluator.report()
    return report if evaluation.calibrate is None else evaluator.calibrate(report)


class Evaluator:
    """The readable clips of a split, and the model that is to name them."""

    def __init__(self, arguments: EvaluationArguments, data: DataArguments):
        self.arguments, self.data = arguments, data
        name = Path(arguments.model_name_or_path).resolve().name
        self.output_dir = Path(arguments.output_dir or f"runs/evaluation/{name}")
        labeler = self._load_labeler()
        if arguments.calibrate is not None and labeler.runtime is not None:
            raise ValueError(
                f"--calibrate: expected a checkpoint, got {arguments.model_name_or_path}, which is an export; "
                "calibrate what it was made from, and export that"
            )
        self.model, self.processor = labeler.model, labeler.processor
        self.problem_type = self.model.config.problem_type or SINGLE_LABEL
        self.labels, self.label2id = labeler.names, label_indices(self.model.config)
        splits = load_clips(data, seed=arguments.seed)
        if arguments.split not in splits:
            raise ValueError(f"expected clips of the split {arguments.split}, there are only: {', '.join(splits)}")
        clips = splits[arguments.split]
        check_labels(clips, self.label2id, self.problem_type)
        self.unreadable = UnreadableClips(
            self.output_dir / "unreadable.jsonl", num_clips=len(clips), max_share=data.max_unreadable_share
        )
        infos = self.unreadable.probe(clips)
        kept = [(clip, info) for clip, info in zip(clips, infos, strict=True) if isinstance(info, VideoInfo)]
        if not kept:
            raise RuntimeError(f"expected videos to evaluate, none can be read: see {self.unreadable.path}")
        self.clips, self.infos = [clip for clip, _ in kept], [info for _, info in kept]

    def _load_labeler(self) -> VideoLabeler:
        arguments, name = self.arguments, self.arguments.model_name_or_path
        labels = None if arguments.labels is None else find_labels(arguments.labels)
        options = {"labels": labels, "prompt": arguments.label_prompt, "dtype": arguments.dtype}
        options |= {"adaptive_patches": arguments.find_patches(), "runtime": arguments.runtime}
        with loading(name):
            return VideoLabeler.from_pretrained(name, device=arguments.device, **options)

    def report(self) -> EvaluationReport:
        """Evaluates every number of clips, and writes down what comes out; tables are of the most clips."""
        results = []
        for num_clips in sorted(self.arguments.num_clips):
            logits, labels, clips = self.predict(num_clips)
            results.append({"num_clips": num_clips, **self.figures(logits, labels, clips)})
        self.predicted = logits, labels, clips
        references, scores = labels.numpy(), video_scores(logits, self.problem_type).numpy()
        predictions = decide(scores, self.problem_type)
        confusion, by_label = None, scores
        if self.problem_type != MULTI_LABEL:
            confusion = confusion_matrix(references, predictions, labels=range(len(self.labels)))
            by_label = None
        report = EvaluationReport(
            model=self.arguments.model_name_or_path,
            split=self.arguments.split,
            dataset_type=self.data.dataset_name or "local",
            dataset_name=self._name_of_clips(),
            labels=self.labels,
            results=results,
            per_class=per_class_table(predictions, references, self.labels, by_label),
            confusion=confusion,
            reliability=reliability_table(scores, references),
            predictions=self._name_predictions(clips, scores, predictions),
            unreadable=self.unreadable.reasons(),
            output_dir=self.output_dir,
        )
        report.write()
        return report

    def calibrate(self, report: EvaluationReport) -> EvaluationReport:
        """
        Fits a temperature on the videos of a report, the one that was made last, and writes the model with it; returns
        the report with what came of that.

        Raises:
            ValueError: the videos tell none; nothing is written then.
        """
        logits, labels, clips = self.predicted
        of_videos, config = (logits, labels, self.problem_type), cast(FALConfig, self.model.config)
        old, temperature = config.temperature, fit_temperature(*of_videos)
        divided = cross_fit(*of_videos, groups_of(clips))
        calibration = Calibration(
            temperature=old * temperature,
            num_videos=len(clips),
            before=judge(*of_videos),
            after=judge(divided, labels, self.problem_type),
            folder=Path(cast(str, self.arguments.calibrate)),
        )
        config.temperature = calibration.temperature
        cast(FALVideoClassifierForVideoClassification, self.model).save_pretrained(calibration.folder)
        self.processor.save_pretrained(calibration.folder)
        config.temperature = old
        report = replace(report, calibration=calibration)
        report.write()
        return report

    def figures(self, logits: torch.Tensor, labels: torch.Tensor, clips: Sequence[LabeledClip]) -> dict:
        """The figures of videos, with intervals, from logits (N, views, num_labels) and the labels."""
        references, scores = labels.numpy(), video_scores(logits, self.problem_type)
        predictions = decide(scores.numpy(), self.problem_type)
        is_correct = (predictions == references).reshape(len(clips), -1).all(axis=1)
        figures = {
            "num_crops": self.arguments.num_crops,
            "num_videos": len(clips),
            **summarize(logits, labels, self.problem_type),
            "accuracy_interval": wilson_interval(int(is_correct.sum()), len(clips)),
            "calibration_error": calibration_error(scores.numpy(), references),
            "negative_log_likelihood": negative_log_likelihood(logits, labels, self.problem_type),
        }
        groups = groups_of(clips)
        if len(set(groups)) < len(clips):
            figures["accuracy_interval_by_group"] = group_interval(is_correct, groups)
        if self.problem_type != MULTI_LABEL:
            figures["majority_share"] = majority_share(references)
        if self.model.config.label_hierarchy is not None:
            space = self.model.config.label_space
            figures["levels"] = summarize_levels(scores, labels, space, self.problem_type)
        return figures

    def _name_of_clips(self) -> str:
        if self.data.dataset_name:
            return self.data.dataset_name
        splits = (self.arguments.split, "train")
        sources = (getattr(self.data, f"{split}_{kind}") for split in splits for kind in ("file", "dir"))
        return Path(next(filter(None, sources))).stem

    def _name_predictions(
        self, clips: Sequence[LabeledClip], scores: np.ndarray, predictions: np.ndarray
    ) -> list[Prediction]:
        """With the names of the labels: scores are (N, num_labels), predictions as `decide` has them."""
        is_said = predictions if predictions.ndim == 2 else predictions[:, None] == np.arange(len(self.labels))
        names = np.array(self.labels, dtype=object)
        return [
            Prediction(clip=clip, scores=dict(zip(self.labels, row.tolist(), strict=True)), labels=tuple(names[said]))
            for clip, row, said in zip(clips, scores, is_said.astype(bool), strict=True)
        ]

    def predict(self, num_clips: int) -> tuple[torch.Tensor, torch.Tensor, list[LabeledClip]]:
        """Logits (N, views, num_labels), labels and clips of the videos that could be read to the end."""
        dataset = EvaluationClips(
            self.clips,
            self.infos,
            self.processor,
            label2id=self.label2id,
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


def groups_of(clips: Sequence[LabeledClip]) -> list[str]:
    """What each clip has in common with others: its group or, where it has none, its video."""
    return [clip.group if clip.group is not None else clip.path for clip in clips]
