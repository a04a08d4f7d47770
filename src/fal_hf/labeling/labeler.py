"""Labels for videos: views, model and aggregation joined for one video."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..model.label_space import check_labels
from ..model.modeling_fal import FALSimilarityHead, FALVideoClassifierForVideoClassification
from ..model.onednn import requested_library
from ..model.patch_layout import AdaptivePatches
from ..model.video_file import Video
from ..model.video_info import WHOLE, Stretch
from ..model.video_processing_fal import FALVideoProcessor
from ..runtimes.exported_classifier import ExportedClassifier
from ..runtimes.loading import Classifier, load_runtime, runs_anywhere
from ..runtimes.runtime_folder import RuntimeFolder, RuntimeRecord, find_runtimes
from ..runtimes.trial import choose_runtime
from .aggregation import (
    MULTI_LABEL,
    LabelHierarchy,
    Segment,
    Timeline,
    average_views,
    check_problem_type,
    find_segments,
    label_probabilities,
    window_borders,
    with_reused,
)
from .embeddings import VideoEmbedding, summarize_embeddings
from .explanations import Explanation, check_attention, check_method, explain_clips
from .options import read_parents
from .records import SCHEMA_VERSION
from .static_windows import ReusedWindow
from .views import ViewLayout, ViewReader, Views

# Patches that go through a model at once on a CPU: so many keep its cores busy, more only take memory.
CPU_PATCHES = 4096
DEFAULT_CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "camera_motion"


@dataclass(frozen=True)
class Label:
    """A label and its score, the mean probability over the views, in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class WindowLabels:
    """The best labels of one window of a video, which lasts from `start_seconds` to `end_seconds`."""

    start_seconds: float
    end_seconds: float
    labels: list[Label]


@dataclass(frozen=True)
class VideoLabels:
    """
    The labels of one video, best first.

    Args:
        video: Path or URL as it was given; a description where bytes or a file object were given.
        labels: The best labels, by falling score.
        num_clips: Number of clips whose probabilities were averaged.
        duration_seconds: Length of the video, or of the stretch of it that was labeled.
        frame_rate: Mean frames a second, None where the container does not say.
        start_seconds, end_seconds: Of a stretch: where in the video it begins and ends. All times count from the
            video's first frame.
        parents: With a label hierarchy: all parents, by falling score.
        windows: With a timeline: the best labels of each window, in the order of time.
        segments: With a timeline: the stretches of the video that have a label, by start.
        num_reused_windows: With `Views(reuse_static=...)`: how many windows took over the scores of an earlier one.
    """

    video: str
    labels: list[Label]
    num_clips: int
    duration_seconds: float | None
    frame_rate: float | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    parents: list[Label] | None = None
    windows: list[WindowLabels] | None = None
    segments: list[Segment] | None = None
    num_reused_windows: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """
        The same as a dictionary that `json.dumps` takes, with `schema_version` in it.

        What was not asked for (a stretch, `parents`, `windows`, `segments`, `num_reused_windows`) is not in it.
        """
        record = {**asdict(self), "schema_version": SCHEMA_VERSION}
        optional = ("start_seconds", "end_seconds", "parents", "windows", "segments", "num_reused_windows")
        return {name: value for name, value in record.items() if name not in optional or value is not None}


class VideoLabeler:
    """
    Labels videos with a FAL model.

    Args:
        model: A classifier with `config.id2label`. It is put into evaluation mode, and its weights are moved to memory
            of another alignment where scores would depend on that; their values stay.
        processor: The video processor of the same checkpoint; its sampling settings say which frames make a clip.
        labels: Any labels, in your own words, for a model with label embeddings; they take the place of its own.
        prompt: The text that stands for a given label, with `{}` in its place; the model's own unless given.
        multi_label: Whether the scores of given labels are independent of one another (sigmoid) where those of the
            model's own labels add up to one (softmax).
        num_clips: Clips a video, whose probabilities are averaged; None takes the processor's own number. Short for
            `views=Views(num_clips=...)`.
        views: Which clips, crops and scales are scored, and whether windows tile the video.
        timeline: How the scores of windows become segments; needs `views` with windows.
        hierarchy: Label to its parent, or a JSON file of that; the checkpoint's own unless it or labels are given. It
            adds the parents' scores, see [`LabelHierarchy`].
        adaptive_patches: Patches that adapt to the clip, see [`AdaptivePatches`]; the checkpoint's own unless given.
        batch_size: Clips that go through the model at once, fewer of large ones on a CPU. They are always of one
            video: what a video's scores are does not depend on the videos beside it.

    Example:

    ```python
    >>> from fal_hf import VideoLabeler, Views

    >>> labeler = VideoLabeler.from_pretrained()
    >>> print(labeler("video.mp4").labels)
    >>> labeler = VideoLabeler.from_pretrained(views=Views(windows=True))
    >>> print(labeler("video.mp4").segments)
    >>> labeler = VideoLabeler.from_pretrained("clip", labels=["a dog runs", "a car turns"])
    ```

    Raises:
        ValueError: options contradict one another or the model; the model takes no other labels than its own.
    """

    def __init__(
        self,
        model: Classifier,
        processor: FALVideoProcessor,
        *,
        labels: Sequence[str] | None = None,
        prompt: str | None = None,
        multi_label: bool = False,
        num_clips: int | None = None,
        views: Views | None = None,
        timeline: Timeline | None = None,
        hierarchy: Mapping[str, str] | str | PathLike | None = None,
        adaptive_patches: AdaptivePatches | None = None,
        batch_size: int = 8,
    ):
        if num_clips is not None and views is not None:
            raise ValueError("expected num_clips or views, got both: give views=Views(num_clips=...)")
        requested_library()  # refused here rather than for each video
        self.has_given_labels = labels is not None
        if labels is not None:
            give_labels(model, labels, prompt=prompt, multi_label=multi_label, hierarchy=hierarchy)
            hierarchy = None  # the model has it now
        elif prompt is not None or multi_label:
            raise ValueError("prompt and multi_label: expected labels with them")
        check_problem_type(model.config.problem_type)
        if adaptive_patches is not None:
            if isinstance(model, ExportedClassifier):
                raise ValueError(f"adaptive_patches: expected a checkpoint with them, got {model.record.name}")
            model.adapt_patches(adaptive_patches)
        self.model = model.eval()
        self.runtime: tuple[RuntimeFolder, RuntimeRecord] | None = None
        align_weights(model)
        self.processor = processor
        self.views = views or Views(num_clips=num_clips)
        if timeline is not None and not self.views.windows:
            raise ValueError("timeline: expected views with windows beside it, give views=Views(windows=True)")
        self.timeline = timeline or Timeline()
        id2label: dict[int, str] = model.config.id2label  # pyright: ignore[reportAssignmentType]  # by number, never None
        self.names = [id2label[index] for index in range(len(id2label))]
        hierarchy = model.config.label_hierarchy if hierarchy is None else hierarchy
        self.hierarchy = None if hierarchy is None else LabelHierarchy.load(hierarchy, self.names)
        patch_size = model.config.patch_size
        self.reader = ViewReader(processor, self.views, patch_size=patch_size, batch_size=batch_size)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        align_weights(self.model)

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike = DEFAULT_CHECKPOINT,
        *,
        labels: Sequence[str] | None = None,
        prompt: str | None = None,
        multi_label: bool = False,
        num_clips: int | None = None,
        views: Views | None = None,
        timeline: Timeline | None = None,
        hierarchy: Mapping[str, str] | str | PathLike | None = None,
        adaptive_patches: AdaptivePatches | None = None,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        runtime: str = "auto",
        compile: bool = False,
        **kwargs,
    ) -> "VideoLabeler":
        """
        Loads a model and its processor.

        Args:
            model: A folder or a Hub id of FAL or TimeSformer layout, or of what `fal export` has written; by default
                the camera-motion checkpoint that comes with the package.
            labels, prompt, multi_label, num_clips, views, timeline, hierarchy, adaptive_patches, batch_size: As for
                the class.
            device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; None takes a GPU where there is one.
            dtype: `"auto"` (the checkpoint's own), `"float32"`, `"bfloat16"` or `"float16"`.
            runtime: Of an exported folder: the name of a runtime, or `"auto"`, the fastest on this machine.
            compile: Whether torch compiles the model, at its first clip of a size.
            kwargs: Passed on to `from_pretrained`: `revision`, `token`, `local_files_only`, ...

        Raises:
            OSError: if there is no such folder or Hub repository.
            ValueError: if it is not a FAL model that classifies, weights are missing, or the device computes nothing;
                and as for the class.
        """
        options = {
            "labels": labels,
            "prompt": prompt,
            "multi_label": multi_label,
            "num_clips": num_clips,
            "views": views,
            "timeline": timeline,
            "hierarchy": hierarchy,
            "adaptive_patches": adaptive_patches,
            "batch_size": batch_size,
        }
        folder = find_runtimes(model, **kwargs)
        if folder is not None:
            if dtype != "auto":
                raise ValueError(f"dtype: expected auto with {model}, whose runtimes have their own, got {dtype}")
            if compile:
                raise ValueError(f"compile: expected a checkpoint with it, got {model}, which is an export")
            return cls._of_runtime(folder, runtime, device, options)
        if runtime != "auto":
            raise ValueError(f"runtime: expected a folder that `fal export` has written with it, got {model}")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_device(device)
        classifier, report = FALVideoClassifierForVideoClassification.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]  # a pair, as asked for
            fspath(model), dtype=dtype, output_loading_info=True, **kwargs
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ValueError(
                f"{model}: expected the weights of a video classifier, {len(missing)} are missing, "
                f"{missing[0]} for instance; fine-tune the model first"
            )
        processor: FALVideoProcessor = FALVideoProcessor.from_pretrained(fspath(model), **kwargs)  # pyright: ignore[reportAssignmentType]  # a pair only where asked for
        labeler = cls(classifier.to(device), processor, **options)
        if compile:
            classifier.compile()
        return labeler

    @classmethod
    def _of_runtime(
        cls, folder: RuntimeFolder, name: str, device: str | torch.device | None, options: dict[str, Any]
    ) -> "VideoLabeler":
        """A labeler of an exported folder's runtime."""
        records = folder.records if name == "auto" else (folder.find(name),)
        if device is None:
            device = "cuda" if torch.cuda.is_available() and any(map(runs_anywhere, records)) else "cpu"
        check_device(device)
        record = choose_runtime(folder, device) if name == "auto" else records[0]
        processor: FALVideoProcessor = FALVideoProcessor.from_pretrained(folder.path)  # pyright: ignore[reportAssignmentType]  # a pair only where asked for
        labeler = cls(load_runtime(folder, record, device), processor, **options)
        labeler.runtime = folder, record
        return labeler

    def __call__(self, video: Video, *, top_k: int = 5, stretch: Stretch = WHOLE) -> VideoLabels:
        """
        Labels one video.

        Args:
            video: Path, URL, bytes or a binary file object.
            top_k: How many labels to return at most, for the video and for each window.
            stretch: What of the video is labeled, as if that were a video by itself.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be read; names the file and the reason.
        """
        if top_k < 1:
            raise ValueError(f"expected top_k >= 1, got {top_k}")
        name, layout, scores, reused = self._read(video, stretch, self.score)
        return self.summarize(name, layout, scores, reused=reused, top_k=top_k)

    def embed(self, video: Video, *, stretch: Stretch = WHOLE) -> VideoEmbedding:
        """
        The embedding of one video, by which it can be compared with others: the mean over its views of the clip's
        embedding y, the model's `pooler_output` (paper, equation 10).

        Args:
            video: Path, URL, bytes or a binary file object.
            stretch: What of the video is embedded, as if that were a video by itself.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be read; names the file and the reason.
            ValueError: an exported runtime has scores alone.
        """
        self.check_embeddings()
        return summarize_embeddings(*self._read(video, stretch, self.embed_clips))

    def _read(
        self, video: Video, stretch: Stretch, run: Callable[[Sequence[np.ndarray]], torch.Tensor]
    ) -> tuple[str, ViewLayout, list[torch.Tensor], list[int]]:
        """A video's name, what its clips stand for, what its batches came to, and the windows that are reused."""
        with self.reader.open(video) as file:
            plan = self.reader.plan(file, stretch)
            outputs: list[torch.Tensor] = []
            reused: list[int] = []
            for part in self.reader.read(file, plan):
                if isinstance(part, ReusedWindow):
                    reused.append(part.number)
                else:
                    outputs.append(run(part))
        return file.name, plan.layout, outputs, reused

    def explain(
        self, video: Video, label: str | None = None, *, method: str = "gradient", stretch: Stretch = WHOLE
    ) -> Explanation:
        """
        Where the model looks in one video for a label, in the clips that it is labeled by.

        Args:
            video: Path, URL, bytes or a binary file object.
            label: One of the model's labels; the best one unless given.
            method: `"gradient"`: what speaks for the label (Chefer et al. 2021); `"rollout"`: where the clip's
                embedding is from, whatever the label, unless labels are tokens (Abnar and Zuidema 2020).
            stretch: What of the video is explained, as if that were a video by itself.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be read; names the file and the reason.
            ValueError: there is no such label or method, the model is an exported one, or the labeler has views of
                several crops or scales, or windows.
        """
        self.check_explainable(label, method)
        with self.reader.open(video) as file:
            clips = list(self.reader.read_pictured(file, self.reader.plan(file, stretch)))
        batches = [self.reader.stack([clip]) for clip in clips]
        scores = torch.cat([self.score(batch) for batch in batches]).mean(dim=0)
        number = int(scores.argmax()) if label is None else self.names.index(label)
        model = cast(FALVideoClassifierForVideoClassification, self.model)
        pixels = (torch.from_numpy(views).flatten(0, 1).to(model.device, model.dtype) for (views,) in batches)
        heat = torch.cat([explain_clips(model, clip, number, method).flatten(0, 1).cpu() for clip in pixels]).numpy()
        frames = [frame for clip in clips for frame in clip]
        seconds, first, place = np.unique([frame.seconds for frame in frames], return_index=True, return_inverse=True)
        joined = np.zeros((len(seconds), *heat.shape[1:]))
        np.add.at(joined, place, heat)
        joined /= np.bincount(place)[:, None, None]
        return Explanation(
            video=file.name,
            label=self.names[number],
            score=float(scores[number]),
            method=method,
            heat=(joined / (joined.sum() or 1.0)).astype(np.float32),
            seconds=seconds,
            frames=np.stack([frames[index].picture for index in first]),
        )

    def check_explainable(self, label: str | None = None, method: str = "gradient") -> None:
        """Refuses, by a ValueError, what `explain` cannot explain whatever the video is."""
        check_method(method)
        check_attention(self.model)
        if self.views.windows or self.views.num_crops > 1 or len(self.views.scales) > 1:
            raise ValueError(
                f"explain: expected views of one crop at one scale and no windows, got {self.views}; of a window "
                "give the stretch"
            )
        if label is not None and label not in self.names:
            raise ValueError(f"label: expected one of {', '.join(self.names)}, got {label!r}")

    @torch.inference_mode()
    def score(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """
        Scores some clips.

        Args:
            batch: One float32 array a scale, `(clips, crops, T, C, H, W)`, as a [`ViewReader`] yields them.

        Returns:
            `(clips, num_labels)` float32 in [0, 1], on the CPU.
        """
        return average_views([self._score_scale(torch.from_numpy(pixels)) for pixels in batch], self.views.scales)

    def _score_scale(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = self._run(lambda part: cast(torch.Tensor, self.model(part).logits), pixels)
        return label_probabilities(logits, self.model.config.problem_type).cpu().unflatten(0, pixels.shape[:2])

    @torch.inference_mode()
    def embed_clips(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """
        Embeds some clips: the mean over their crops, then over their scales, which weigh as they do for scores.

        Args:
            batch: As for [`score`].

        Returns:
            `(clips, D)` float32, on the CPU.

        Raises:
            ValueError: an exported runtime has scores alone.
        """
        return average_views([self._embed_scale(torch.from_numpy(pixels)) for pixels in batch], self.views.scales)

    def _embed_scale(self, pixels: torch.Tensor) -> torch.Tensor:
        backbone = self.check_embeddings().fal
        embeddings = self._run(lambda part: cast(torch.Tensor, backbone(part, cls_only=True).pooler_output), pixels)
        return embeddings.float().cpu().unflatten(0, pixels.shape[:2])

    def check_embeddings(self) -> FALVideoClassifierForVideoClassification:
        """The model, or a ValueError where it is an exported runtime, which has scores alone."""
        if isinstance(self.model, ExportedClassifier):
            raise ValueError(
                f"expected a model that embeds clips, got the runtime {self.model.record.name} of an export, which "
                "has scores alone; take the checkpoint that it was made from, or a runtime of torch in float32 or "
                "bfloat16"
            )
        return self.model

    def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
        """What `forward` makes of the views of some clips, `(clips, crops, T, C, H, W)`: `(clips * crops, ...)`."""
        pixel_values = aligned(pixels.flatten(0, 1).to(self.model.device, self.model.dtype))
        at_once = len(pixel_values)
        if pixel_values.device.type == "cpu":
            at_once = max(1, CPU_PATCHES * self.model.config.patch_size**2 // pixel_values[0, :, 0].numel())
        return torch.cat([forward(part) for part in pixel_values.split(at_once)])

    def summarize(
        self,
        video: str,
        layout: ViewLayout,
        scores: Sequence[torch.Tensor],
        *,
        reused: Sequence[int] = (),
        top_k: int = 5,
    ) -> VideoLabels:
        """
        The labels of a video from the scores of its clips.

        Args:
            video: What to call it.
            layout: What they stand for.
            scores: The scores of its batches, in their order, from [`score`].
            reused: For each window that was not scored the number of that whose scores it takes over.
            top_k: How many labels to return at most, for the video and for each window.
        """
        by_clip = with_reused(torch.cat(list(scores)), reused, num_clips=layout.num_clips)
        mean = by_clip.mean(dim=0)
        result: dict[str, Any] = {
            "labels": best_labels(self.names, mean, top_k),
            "num_clips": len(by_clip),
            "duration_seconds": layout.duration_seconds,
            "frame_rate": layout.frame_rate,
        }
        if not layout.stretch.is_whole:
            start_seconds = layout.stretch.start_seconds
            result |= {"start_seconds": start_seconds, "end_seconds": start_seconds + layout.duration_seconds}
        if self.hierarchy is not None:
            parents = self.hierarchy.scores(mean, self.model.config.problem_type)
            result["parents"] = best_labels(self.hierarchy.labels, parents, len(parents))
        if self.views.reuse_static is not None:
            result["num_reused_windows"] = len(reused)
        if layout.windows is not None:
            by_window = by_clip.unflatten(0, (-1, layout.num_clips)).mean(dim=1)
            result["windows"] = [
                WindowLabels(start, start + layout.windows.seconds, best_labels(self.names, window, top_k))
                for start, window in zip(layout.windows.starts.tolist(), by_window, strict=True)
            ]
            end_seconds = layout.stretch.start_seconds + layout.duration_seconds
            borders = window_borders(layout.windows.starts, layout.windows.seconds, end_seconds)
            result["segments"] = self._find_segments(by_window, borders)
        return VideoLabels(video=video, **result)

    def _find_segments(self, by_window: torch.Tensor, borders: np.ndarray) -> list[Segment]:
        """Segments of the labels, and of the parents where there is a hierarchy, by start."""
        problem_type = self.model.config.problem_type
        exclusive = problem_type != MULTI_LABEL
        segments = find_segments(by_window.numpy(), borders, self.names, self.timeline, exclusive=exclusive)
        if self.hierarchy is None:
            return segments
        parents, names = self.hierarchy.scores(by_window, problem_type).numpy(), self.hierarchy.labels
        # A label that is a parent as well is there once, with all that is below it.
        segments = [segment for segment in segments if segment.label not in names]
        segments += find_segments(parents, borders, names, self.timeline, exclusive=False)
        return sorted(segments, key=lambda segment: (segment.start_seconds, -segment.end_seconds, segment.label))


def give_labels(
    model: Classifier,
    labels: Sequence[str],
    *,
    prompt: str | None,
    multi_label: bool,
    hierarchy: Mapping[str, str] | str | PathLike | None,
) -> None:
    """Has a model say other labels; what its own were, and what stood above them, it forgets."""
    if isinstance(model, ExportedClassifier):
        raise ValueError(
            f"labels: expected a model that takes others, got {model.record.name}, made for its own alone"
        )
    check_labels(labels)
    if isinstance(hierarchy, str | PathLike):
        hierarchy = read_parents(hierarchy, labels)
    model.set_labels(labels, prompt=prompt, hierarchy=hierarchy)
    if multi_label:
        model.config.problem_type = MULTI_LABEL
        cast(FALSimilarityHead, model.classifier).check_bias()


def check_device(device: str | torch.device) -> None:
    """Refuses, by a ValueError, a device that is not there or that keeps no numbers."""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # how torch tells depends on how it was built
        raise ValueError(f"device: expected one of this machine, got {device}: {error}") from error


def align_weights(model: torch.nn.Module) -> None:
    """Moves weights that need it to multiples of 64 bytes: where those of a file lie depends on the file."""
    for parameter in model.parameters():
        parameter.data = aligned(parameter.data)


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """
    The tensor, or a copy where it does not begin at a multiple of 64 bytes. On some processors MKL rounds products by
    where their factors lie, and the scores of a video are to be the same in every process.
    """
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()


def best_labels(names: Sequence[str], scores: torch.Tensor, top_k: int) -> list[Label]:
    """The `top_k` best labels by falling score; `scores` is `(len(names),)`."""
    best = scores.topk(min(top_k, len(scores)))
    indices: list[int] = best.indices.tolist()
    return [Label(names[index], score) for index, score in zip(indices, best.values.tolist(), strict=True)]


__all__ = ["Label", "VideoLabeler", "VideoLabels", "WindowLabels"]
