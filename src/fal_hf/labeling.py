"""Labels for videos: sampling, preprocessing, model and aggregation joined for one video."""

from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from .aggregation import mean_probabilities
from .modeling_fal import FALVideoClassifierForVideoClassification
from .video_io import Video
from .video_processing_fal import FALVideoProcessor

DEFAULT_CHECKPOINT = Path(__file__).parent / "checkpoints" / "camera_motion"


@dataclass(frozen=True)
class Label:
    """A label and its score, the mean probability over the clips, in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class VideoLabels:
    """
    The labels of one video, best first.

    Args:
        video: Path or URL as it was given; a description where bytes or a file object were given.
        labels: The best labels, by falling score.
        num_clips: Number of clips whose probabilities were averaged.
        duration_seconds: Length of the video, None where it is not known.
    """

    video: str
    labels: list[Label]
    num_clips: int
    duration_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """The same as a dictionary that `json.dumps` takes."""
        return asdict(self)


class VideoLabeler:
    """
    Labels videos with a FAL model.

    Args:
        model: A classifier with `config.id2label`.
        processor: The video processor of the same checkpoint; its sampling settings say which frames make a clip.
        num_clips: Clips a video, whose probabilities are averaged; None takes the processor's own number.

    Example:

    ```python
    >>> from fal_hf import VideoLabeler

    >>> labeler = VideoLabeler.from_pretrained()
    >>> print(labeler("video.mp4").labels)
    ```"""

    def __init__(
        self,
        model: FALVideoClassifierForVideoClassification,
        processor: FALVideoProcessor,
        *,
        num_clips: int | None = None,
    ):
        self.model = model.eval()
        self.processor = processor
        self.num_clips = num_clips

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike = DEFAULT_CHECKPOINT,
        *,
        num_clips: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        **kwargs,
    ) -> "VideoLabeler":
        """
        Loads a model and its processor.

        Args:
            model: A folder or a Hub id of FAL or TimeSformer layout; by default the camera-motion checkpoint that
                comes with the package.
            num_clips: As for the class.
            device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; None takes a GPU where there is one.
            dtype: `"auto"` (the checkpoint's own), `"float32"`, `"bfloat16"` or `"float16"`.
            kwargs: Passed on to `from_pretrained`: `revision`, `token`, `local_files_only`, ...

        Raises:
            OSError: if there is no such folder or Hub repository.
            ValueError: if it is not a FAL model, or weights are missing.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        classifier, report = FALVideoClassifierForVideoClassification.from_pretrained(
            fspath(model), dtype=dtype, output_loading_info=True, **kwargs
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ValueError(
                f"{model}: expected the weights of a video classifier, {len(missing)} are missing, "
                f"{missing[0]} for instance; fine-tune the model first"
            )
        processor = FALVideoProcessor.from_pretrained(fspath(model), **kwargs)
        return cls(classifier.to(device), processor, num_clips=num_clips)

    @torch.inference_mode()
    def __call__(self, video: Video, *, top_k: int = 5) -> VideoLabels:
        """
        Labels one video.

        Args:
            video: Path, URL, bytes or a binary file object.
            top_k: How many labels to return at most.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be read; names the file and the reason.
        """
        if top_k < 1:
            raise ValueError(f"expected top_k >= 1, got {top_k}")
        clips = self.processor.sample_clips(video, num_clips=self.num_clips)
        inputs = self.processor([clip.frames for clip in clips], do_sample_frames=False, return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        logits = self.model(pixel_values).logits
        scores = mean_probabilities(logits, self.model.config.problem_type)
        return VideoLabels(
            video=fspath(video) if isinstance(video, str | PathLike) else f"<{type(video).__name__}>",
            labels=self._best(scores, top_k),
            num_clips=len(clips),
            duration_seconds=clips[0].metadata.duration,
        )

    def _best(self, scores: torch.Tensor, top_k: int) -> list[Label]:
        best = scores.topk(min(top_k, len(scores)))
        id2label = self.model.config.id2label
        return [
            Label(label=id2label[index], score=score)
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


__all__ = ["Label", "VideoLabeler", "VideoLabels"]
