"""
Training on features: what the frozen part of a model says of each clip is computed once and kept on disk, and the rest
of the model is trained on that.

Features are what does not depend on labels, `FALModel.forward_features`: F tokens, the CLS tokens alone or, where
labels are tokens, all that these meet. There is a file for each clip, named by all that its features depend on: a run
that was interrupted goes on, and what has changed is computed anew.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from accelerate import PartialState
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm
from transformers import TrainingArguments

from ..labeling.fingerprints import hash_weights
from ..labeling.label_files import whole_file
from ..model.attention_schemes import Grid
from ..model.configuration_fal import FALConfig
from ..model.modeling_fal import FALVideoClassifierForVideoClassification, FALVideoClassifierOutput
from ..model.patch_layout import count_places
from ..model.video_processing_fal import FALVideoProcessor
from .clips import IGNORED, EvaluationClips, clip_size
from .data import LabeledClip
from .recipe import map_views

# Of the tensor in a file.
NAME = "features"
# What of a configuration features do not depend on.
OF_LABELS = ("id2label", "label2id", "label_hierarchy", "label_prompt", "problem_type", "temperature")
WITHOUT_EFFECT = (*OF_LABELS, "_name_or_path")
# The weights that they depend on.
FROZEN_WEIGHTS = ("fal.embeddings.", "fal.layers.")
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class FeatureClassifier(nn.Module):
    """
    A classifier from its features on. It shares with the classifier what is trained, and has no weights besides.

    Args:
        whole: The classifier, whose `fal.embeddings`, `fal.layers` and `fal.layernorm` are frozen.
        grid: The patches of every clip: (frames, rows, columns).
    """

    main_input_name = NAME
    whole: FALVideoClassifierForVideoClassification

    def __init__(self, whole: FALVideoClassifierForVideoClassification, grid: Grid):
        super().__init__()
        self.config, self.grid = whole.config, grid
        self.classifier, self.label_head = whole.classifier, whole.label_head
        self.label_embeddings, self.label_layers = whole.fal.label_embeddings, whole.fal.label_layers
        self.__dict__["whole"] = whole.eval()  # as no part: what is frozen is in no checkpoint, and has no dropout

    def forward(self, features: torch.Tensor) -> FALVideoClassifierOutput:
        """Features `(B, F, D)` to scores, those that the whole model gives the clips."""
        outputs = self.whole.fal.forward_labels(features, self.grid, cls_only=True)
        logits, label_logits, label_share = self.whole.score(outputs)
        return FALVideoClassifierOutput(logits=logits, label_logits=label_logits, label_share=label_share)


class FeatureStore:
    """
    The files of features.

    Args:
        folder: Where they are.
        model: The classifier, which is put on the device of the run.
        processor: Says which frames make a clip.
        training: Of its precision, batch size and workers.
        num_clips: Clips of a video that have features.
        num_crops: Crops of each of them.
    """

    def __init__(
        self,
        folder: Path,
        model: FALVideoClassifierForVideoClassification,
        processor: FALVideoProcessor,
        training: TrainingArguments,
        *,
        num_clips: int,
        num_crops: int,
    ):
        self.folder, self.training = folder, training
        model.to(training.device)  # pyright: ignore[reportArgumentType]  # the hint of a decorator counts `self`
        self.model = model.eval()
        self.dtype = DTYPES[training.mixed_precision]
        self.grid = grid_of_clips(model.config, processor)
        has_tokens = model.config.label_attention != "none"
        num_tokens = model.fal.embeddings.count_cls(self.grid) + has_tokens * int(np.prod(self.grid))
        self.shape = (num_clips * num_crops, num_tokens, model.config.hidden_size)
        config = {name: value for name, value in model.config.to_dict().items() if name not in WITHOUT_EFFECT}
        weights = {name: value for name, value in model.state_dict().items() if name.startswith(FROZEN_WEIGHTS)}
        self.settings = [config, processor.to_dict(), num_clips, num_crops, str(self.dtype), hash_weights(weights)]

    def path(self, clip: LabeledClip) -> Path:
        """The file of a clip."""
        stretch = [clip.path, clip.start_seconds, clip.end_seconds, identify_video(clip)]
        text = json.dumps([self.settings, stretch], sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def fill(self, clips: EvaluationClips) -> list[Path]:
        """Computes what is missing of some clips, by all processes; returns the file of each, readable or not."""
        paths = [self.path(clip) for clip in clips.clips]
        missing = {path: index for index, path in enumerate(paths) if not path.exists()}
        state = PartialState()
        state.wait_for_everyone()  # all see the same ones missing before the first is there
        mine = list(missing.values())[state.process_index :: state.num_processes]
        loader = DataLoader(
            Subset(clips, mine),
            self.training.per_device_eval_batch_size,
            num_workers=self.training.dataloader_num_workers,
            generator=torch.Generator(),  # the model's randomness is what it would be without them
        )
        batches = tqdm(loader, desc="features", disable=None if mine else True)
        computed = (pair for batch in batches for pair in zip(self.compute(batch), batch["labels"], strict=True))
        for index, (views, labels) in zip(mine, computed, strict=True):
            if not (labels == IGNORED).any():
                with whole_file(paths[index], mode="wb") as file:
                    file.write(save({NAME: views.contiguous()}))
        state.wait_for_everyone()
        return paths

    @torch.no_grad()
    def compute(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features `(B, views, F, D)`, on the CPU, of `pixel_values` `(B, views, T, C, H, W)`."""
        device, forward = self.model.device, self.model.fal.forward_features
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = map_views(
                lambda views: forward(views.to(device), cls_only=True)[0],
                batch["pixel_values"],
                batch_size=self.training.per_device_eval_batch_size,
            )
        return features.to("cpu", self.dtype)


class FeatureItem(TypedDict):
    """`features` (views, F, D) float32 of a video, or (F, D) of one view, and `labels` as `encode_labels` has them."""

    features: torch.Tensor
    labels: torch.Tensor


class EvaluationFeatures(Dataset[FeatureItem]):
    """
    The features of all views of each video. A video that could not be read has labels that loss and metrics leave out.

    Args:
        clips: The videos.
        store: Where their features are, or are written to first.
    """

    def __init__(self, clips: EvaluationClips, store: FeatureStore):
        self.paths, self.shape, self.labels = store.fill(clips), store.shape, clips.labels
        self.is_read = [path.exists() for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> FeatureItem:
        return self.read(index, slice(None))

    def read(self, index: int, views: slice | int) -> FeatureItem:
        """The features of some views, `(views, F, D)`, or of one, `(F, D)`."""
        if not self.is_read[index]:
            return {"features": torch.zeros(self.shape)[views], "labels": torch.full_like(self.labels[index], IGNORED)}
        with safe_open(self.paths[index], framework="pt") as file:
            return {"features": file.get_slice(NAME)[views].float(), "labels": self.labels[index]}


class TrainingFeatures(EvaluationFeatures):
    """
    The features of one of each video's views. It is indexed by (epoch, index), as [`ClipSampler`] does: the same pair
    gives the same view.
    """

    def __init__(self, clips: EvaluationClips, store: FeatureStore, *, seed: int):
        super().__init__(clips, store)
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> FeatureItem:
        epoch, index = key
        generator = np.random.default_rng((self.seed, epoch, index))
        return self.read(index, int(generator.integers(self.shape[0])))


def grid_of_clips(config: FALConfig, processor: FALVideoProcessor) -> Grid:
    """Patches of every clip that a processor makes: (frames, rows, columns), adaptive ones (frames, 1, places)."""
    rows, columns = (side // config.patch_size for side in clip_size(processor))
    if config.adaptive_patches is None:
        return processor.num_frames, rows, columns
    return processor.num_frames, 1, count_places(rows, columns, config.adaptive_patches.count_split(rows, columns))


def identify_video(clip: LabeledClip) -> Sequence:
    """What changes when the video of a clip does: size and time of its file, or a hash of its bytes."""
    video = clip.video
    if isinstance(video, bytes):
        return [hashlib.sha256(video).hexdigest()]
    if isinstance(video, str | Path) and os.path.exists(video):
        status = os.stat(video)
        return [status.st_size, status.st_mtime_ns]
    return []  # a URL
