"""Labeled clips to tensors: probing, random training clips, the views of an evaluation, batches.

What is unusual here:

* What is random about a training clip follows from (seed, epoch, clip) alone: any number of workers and processes, and
  a run that was interrupted, see the same clips.
* A clip that cannot be read is written down with the reason and left out of loss and metrics; where there are too many
  the run stops.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

from ..labeling.views import ViewReader, Views
from ..model.clip_plan import ClipPlan
from ..model.clip_reading import read_all_clips
from ..model.clip_sampling import random_instants
from ..model.video_file import VideoError, VideoFile, VideoInfo
from ..model.video_processing_fal import FALVideoProcessor
from ..model.video_source import reported
from .data import LabeledClip, encode_labels

# The label of a clip that could not be read; loss and metrics leave it out.
IGNORED = -100

# ---- clips that cannot be read ----


class UnreadableClips:
    """
    The clips that are left out, with the reason, in a JSON Lines file that all processes and workers add to.

    Args:
        path: The file.
        num_clips: How many clips there are in all.
        max_share: More unreadable ones than this share stop the run.
    """

    def __init__(self, path: Path, *, num_clips: int, max_share: float):
        self.path, self.num_clips, self.max_share = path, num_clips, max_share

    def probe(self, clips: Sequence[LabeledClip]) -> list[VideoInfo | VideoError]:
        """Starts anew, and writes the clips down whose files cannot be read; returns what `probe_clips` says."""
        infos = probe_clips(clips)
        self.path.unlink(missing_ok=True)
        for clip, info in zip(clips, infos, strict=True):
            if isinstance(info, VideoError):
                self.record(clip, info)
        return infos

    def record(self, clip: LabeledClip, error: Exception) -> None:
        """
        Writes a clip down.

        Raises:
            RuntimeError: too many clips cannot be read.
        """
        entry = {"path": clip.path, "start_seconds": clip.start_seconds, "reason": str(error)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:  # one short write: processes do not mix their lines
            file.write(json.dumps(entry) + "\n")
        reasons = self.reasons()
        if len(reasons) > self.max_share * self.num_clips:
            raise RuntimeError(
                f"{len(reasons)} of {self.num_clips} clips cannot be read, more than the share of {self.max_share} "
                f"that --max_unreadable_share allows; the last one: {error}. All are in {self.path}"
            )

    def reasons(self) -> dict[tuple[str, float], str]:
        """The reason of each clip, by path and start."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        entries = map(json.loads, lines)
        return {(entry["path"], entry["start_seconds"]): entry["reason"] for entry in entries}

    def __str__(self) -> str:
        return f"{len(self.reasons())} of {self.num_clips} clips left out as unreadable"


def probe_clips(clips: Sequence[LabeledClip], *, num_threads: int = 8) -> list[VideoInfo | VideoError]:
    """What each clip's file is, or why it cannot be read."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(tqdm(pool.map(_probe_clip, clips), total=len(clips), desc="probing clips", disable=None))


def _probe_clip(clip: LabeledClip) -> VideoInfo | VideoError:
    try:
        with VideoFile(clip.video, num_threads=1) as video, reported(clip.path):
            clip.stretch.within(video.info)
            return video.info
    except VideoError as error:
        return error


# ---- clips to tensors ----


@dataclass
class AugmentationArguments:
    """How a training clip is changed; every change is the same for all frames of a clip."""

    _argument_group_name = "changes of training clips"

    short_side_min: int | None = field(
        default=None, metadata={"help": "Smallest short side before the random crop; unset: 8/7 of the crop."}
    )
    short_side_max: int | None = field(default=None, metadata={"help": "Largest one; unset: 10/7 of the crop."})
    horizontal_flip: float = field(default=0.0, metadata={"help": "Probability of mirroring a clip."})
    flip_label_pairs: str | None = field(
        default=None,
        metadata={"help": "Labels that a mirror image swaps: pan_left=pan_right,roll_clockwise=roll_counterclockwise"},
    )
    colour_ops: int = field(default=0, metadata={"help": "RandAugment-style changes of color for each clip."})
    colour_magnitude: int = field(default=9, metadata={"help": "Their strength, 0 to 30."})
    random_erasing: float = field(default=0.0, metadata={"help": "Probability of erasing a rectangle."})
    mixup_alpha: float = field(default=0.0, metadata={"help": "Mixup's Beta(alpha, alpha); 0: none."})
    cutmix_alpha: float = field(default=0.0, metadata={"help": "CutMix's Beta(alpha, alpha); 0: none."})

    def __post_init__(self):
        for name in ("horizontal_flip", "random_erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name}: expected a probability, got {getattr(self, name)}")
        for name in ("colour_ops", "mixup_alpha", "cutmix_alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"--{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("short_side_min", "short_side_max"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name}: expected at least 1, got {value}")
        if not 0 <= self.colour_magnitude <= 30:
            raise ValueError(f"--colour_magnitude: expected 0 to 30, got {self.colour_magnitude}")


class RandomColor(v2.RandAugment):
    """RandAugment without the changes that move pixels: these would change what a motion is."""

    _AUGMENTATION_SPACE = {
        name: v2.RandAugment._AUGMENTATION_SPACE[name]
        for name in ("Identity", "Brightness", "Color", "Contrast", "Sharpness", "AutoContrast", "Equalize")
    }


class ClipAugmentation:
    """
    Frames (T, H, W, 3) uint8 and labels to pixel values (T, C, height, width) float32 and labels.

    Args:
        processor: Says the size, and normalizes.
        arguments: What to do.
        label2id: The labels, which a mirror image may swap.

    Raises:
        ValueError: mirroring is asked for, labels tell left from right, and no pairs are given.
    """

    def __init__(self, processor: FALVideoProcessor, arguments: AugmentationArguments, label2id: Mapping[str, int]):
        height, width = clip_size(processor)
        smallest = arguments.short_side_min or math.ceil(8 / 7 * max(height, width))
        largest = arguments.short_side_max or math.ceil(10 / 7 * max(height, width))
        if not max(height, width) <= smallest <= largest:
            raise ValueError(
                f"expected {max(height, width)} (the crop) <= --short_side_min <= --short_side_max, "
                f"got {smallest} and {largest}"
            )
        self.processor = processor
        self.flip_probability = arguments.horizontal_flip
        self.mirrored = mirrored_labels(arguments, label2id)
        self.geometry = v2.Compose(
            [v2.RandomShortestSize(list(range(smallest, largest + 1))), v2.RandomCrop((height, width))]
        )
        self.color = RandomColor(arguments.colour_ops, arguments.colour_magnitude)
        self.erasing = v2.RandomErasing(arguments.random_erasing)

    def __call__(self, frames: np.ndarray, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        video = self.geometry(torch.from_numpy(frames).permute(0, 3, 1, 2))  # (T, 3, height, width)
        if torch.rand(()) < self.flip_probability:
            video, labels = video.flip(-1), self._mirror(labels)
        return self.erasing(to_pixel_values(self.processor, [self.color(video)])[0]), labels

    def _mirror(self, labels: torch.Tensor) -> torch.Tensor:
        return labels[self.mirrored] if labels.ndim else self.mirrored[labels]


def mirrored_labels(arguments: AugmentationArguments, label2id: Mapping[str, int]) -> torch.Tensor:
    """The index of each label in a mirror image, (num_labels,) int64."""
    mirrored = torch.arange(len(label2id))
    for pair in (arguments.flip_label_pairs or "").split(","):
        names = pair.split("=")
        if pair and (len(names) != 2 or any(name not in label2id for name in names)):
            raise ValueError(f"--flip_label_pairs: expected label=label of {', '.join(label2id)}; got {pair!r}")
        if pair:
            first, second = (label2id[name] for name in names)
            mirrored[first], mirrored[second] = second, first
    sided = [name for name in label2id if {"left", "right"} & set(re.findall("[a-z]+", name.lower()))]
    if arguments.horizontal_flip and sided and arguments.flip_label_pairs is None:
        raise ValueError(
            f"--horizontal_flip: {', '.join(sided)} may change in a mirror image; give --flip_label_pairs "
            f"({sided[0]}=...), empty where none changes"
        )
    return mirrored


def clip_size(processor: FALVideoProcessor) -> tuple[int, int]:
    """
    Height and width of every clip that the processor makes.

    Raises:
        ValueError: clips differ in size or in their number of frames.
    """
    size = processor.crop_size if processor.do_center_crop else processor.size
    height, width = size.get("height"), size.get("width")
    has_fixed_count = processor.num_frames is not None and getattr(processor, "fps", None) is None
    if height is None or width is None or not has_fixed_count:
        raise ValueError(
            "expected a processor with num_frames, without fps, and with a crop size or a fixed height and width: "
            "the clips of a batch are of one shape"
        )
    return height, width


def to_pixel_values(processor: FALVideoProcessor, clips: Sequence, **options) -> torch.Tensor:
    """Clips of frames that have their size already to (B, T, C, H, W) float32."""
    options = {"do_resize": False, "do_center_crop": False, **options}
    return processor(list(clips), do_sample_frames=False, return_tensors="pt", **options)["pixel_values"]


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Torch's randomness on the CPU follows from the seed; torchvision's transforms take no generator."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed accelerators as well
    try:
        yield
    finally:
        torch.set_rng_state(state)


class ClipTensors(TypedDict):
    """`pixel_values` (..., T, C, H, W) float32 of a clip or its views, and `labels` as `encode_labels` has them."""

    pixel_values: torch.Tensor
    labels: torch.Tensor


class ClipItem(ClipTensors, total=False):
    """What the collator takes: of a training clip with the seed of what is random about it."""

    seed: int


class ClipDataset(Dataset[ClipItem]):
    """
    What training and evaluation clips have in common.

    Args:
        clips: The clips.
        infos: What [`probe`] says of each one's file.
        processor: Says which frames make a clip, how large they are, and normalizes.
        label2id: The model's labels.
        problem_type: Whether a clip has one label.
        unreadable: Where clips are written down whose frames prove not to be readable.
    """

    def __init__(
        self,
        clips: Sequence[LabeledClip],
        infos: Sequence[VideoInfo],
        processor: FALVideoProcessor,
        *,
        label2id: Mapping[str, int],
        problem_type: str,
        unreadable: UnreadableClips,
    ):
        self.clips, self.infos, self.processor, self.unreadable = clips, infos, processor, unreadable
        self.labels = torch.stack([encode_labels(clip, label2id, problem_type) for clip in clips])

    def open(self, index: int) -> VideoFile:
        """The file of a clip; workers are many already, so each decodes in one thread."""
        num_threads = None if get_worker_info() is None else 1
        return VideoFile(self.clips[index].video, num_threads=num_threads, info=self.infos[index])

    def __len__(self) -> int:
        return len(self.clips)

    def left_out(self, index: int, error: VideoError, num_views: tuple[int, ...] = ()) -> ClipTensors:
        """Writes the clip down and stands in for it, with labels that loss and metrics leave out."""
        self.unreadable.record(self.clips[index], error)
        shape = (*num_views, self.processor.num_frames, 3, *clip_size(self.processor))
        return {"pixel_values": torch.zeros(shape), "labels": torch.full_like(self.labels[index], IGNORED)}


class TrainingClips(ClipDataset):
    """
    One random clip of each video: `pixel_values` (T, C, H, W) float32, `labels` as `encode_labels` has them, `seed`.

    It is indexed by (epoch, index), as [`ClipSampler`] does: the same pair gives the same clip.
    """

    def __init__(self, *args, augmentation: AugmentationArguments, seed: int, label2id: Mapping[str, int], **kwargs):
        super().__init__(*args, label2id=label2id, **kwargs)
        self.seed = seed
        self.augment = ClipAugmentation(self.processor, augmentation, label2id)

    def __getitem__(self, key: tuple[int, int]) -> ClipItem:
        epoch, index = key
        generator = np.random.default_rng((self.seed, epoch, index))
        seed = int(generator.integers(2**62))
        try:
            frames = self._read_random_clip(index, generator)
        except VideoError as error:
            return {**self.left_out(index, error), "seed": seed}
        with seeded_torch(seed):
            pixel_values, labels = self.augment(frames, self.labels[index])
        return {"pixel_values": pixel_values, "labels": labels, "seed": seed}

    def _read_random_clip(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8: at the processor's distance of frames, or spread over the clip where it has none."""
        stretch = self.clips[index].stretch
        with reported(self.clips[index].path):
            info = stretch.within(self.infos[index])
        num_frames, seconds = self.processor.num_frames, self.processor.clip_seconds(info)
        stride = None if seconds is None else seconds / num_frames
        instants = random_instants(info.duration_seconds, num_frames, stride_seconds=stride, generator=generator)
        may_repeat = self.processor.short_clip != "error"
        plan = ClipPlan(positions=instants + stretch.start_seconds, may_repeat=may_repeat)
        with self.open(index) as video:
            decoded, rows = read_all_clips(video, plan)
        return decoded.frames[rows[0]]


class EvaluationClips(ClipDataset):
    """
    The views of each video, those that `VideoLabeler` takes: `pixel_values` (K x crops, T, C, H, W) and `labels`.

    Args:
        num_clips: Clips K of a video.
        num_crops: 1 (the middle) or 3 (along the longer side).
    """

    def __init__(self, *args, num_clips: int = 1, num_crops: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        clip_size(self.processor)
        views = Views(num_clips=num_clips, num_crops=num_crops)
        self.reader = ViewReader(self.processor, views, patch_size=1, batch_size=num_clips)
        self.num_views = num_clips * num_crops

    def __getitem__(self, index: int) -> ClipTensors:
        try:
            with self.open(index) as video:
                plan = self.reader.plan(video, self.clips[index].stretch)
                batches = cast(Iterator[list[np.ndarray]], self.reader.read(video, plan))  # no windows to reuse
                ((views,),) = batches  # (K, crops, T, C, h, w), all at once
        except VideoError as error:
            return self.left_out(index, error, (self.num_views,))
        return {"pixel_values": torch.from_numpy(views).flatten(0, 1), "labels": self.labels[index]}


class ClipSampler(Sampler[tuple[int, int]]):
    """
    The order of an epoch's training clips, as (epoch, index).

    Args:
        num_clips: How many there are.
        seed: The same seed and epoch give the same order.
        weights: How often each clip is drawn, (num_clips,); None: each once.
    """

    def __init__(self, num_clips: int, *, seed: int, weights: torch.Tensor | None = None):
        self.num_clips, self.seed, self.weights, self.epoch = num_clips, seed, weights, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_clips

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.num_clips, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.num_clips, replacement=True, generator=generator)
        yield from ((self.epoch, index) for index in order.tolist())


class ClipCollator:
    """
    Stacks clips; mixes those of a training batch where mixup or CutMix is on, which makes class indices to shares.

    Args:
        num_labels: Number of labels.
        arguments: Of the mixing.
    """

    def __init__(self, num_labels: int, arguments: AugmentationArguments):
        alphas = {v2.MixUp: arguments.mixup_alpha, v2.CutMix: arguments.cutmix_alpha}
        self.mixes = [mix(alpha=alpha, num_classes=num_labels) for mix, alpha in alphas.items() if alpha]
        self.num_labels = num_labels

    def __call__(self, items: Sequence[ClipItem]) -> dict[str, torch.Tensor]:
        pixel_values = torch.stack([item["pixel_values"] for item in items])
        labels = torch.stack([item["labels"] for item in items])
        first = items[0]
        if not self.mixes or "seed" not in first:  # evaluation clips are not random and have none
            return {"pixel_values": pixel_values, "labels": labels}
        shares = labels if labels.ndim == 2 else torch.full((len(labels), self.num_labels), float(IGNORED))
        readable = (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED
        if readable.any():
            with seeded_torch(first["seed"]):
                mix = self.mixes[torch.randint(len(self.mixes), ())]
                mixed, mixed_labels = mix(tv_tensors.Video(pixel_values[readable]), labels[readable])
            pixel_values[readable], shares[readable] = mixed.as_subclass(torch.Tensor), mixed_labels.to(shares.dtype)
        return {"pixel_values": pixel_values, "labels": shares}
