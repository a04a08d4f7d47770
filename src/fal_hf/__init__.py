"""FAL, Framework for Automated Labeling: a space-time transformer that labels videos, for Transformers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .lazy_names import lazy_names

if TYPE_CHECKING:
    from .labeling.aggregation import Segment
    from .labeling.embeddings import VideoEmbedding, WindowEmbeddings
    from .labeling.explanations import Explanation
    from .labeling.labeler import Label, VideoLabeler, VideoLabels, WindowLabels
    from .labeling.options import Timeline, Views
    from .model.configuration_fal import FALConfig
    from .model.image_processing_fal import FALImageProcessor
    from .model.image_processing_pil_fal import FALImageProcessorPil
    from .model.modeling_fal import FALModel, FALPreTrainedModel, FALVideoClassifierForVideoClassification
    from .model.patch_layout import AdaptivePatches
    from .model.video_file import VideoFile, VideoFrame, VideoFrames, probe, read_frames
    from .model.video_info import Stretch, VideoInfo
    from .model.video_processing_fal import FALVideoProcessor
    from .model.video_source import VideoError

# Where each public name is; it is imported when it is asked for.
_MODULES = {
    "labeling.aggregation": ("Segment",),
    "labeling.embeddings": ("VideoEmbedding", "WindowEmbeddings"),
    "labeling.explanations": ("Explanation",),
    "labeling.labeler": ("Label", "VideoLabeler", "VideoLabels", "WindowLabels"),
    "labeling.options": ("Timeline", "Views"),
    "model.configuration_fal": ("FALConfig",),
    "model.image_processing_fal": ("FALImageProcessor",),
    "model.image_processing_pil_fal": ("FALImageProcessorPil",),
    "model.modeling_fal": ("FALModel", "FALPreTrainedModel", "FALVideoClassifierForVideoClassification"),
    "model.patch_layout": ("AdaptivePatches",),
    "model.video_file": ("VideoFile", "VideoFrame", "VideoFrames", "probe", "read_frames"),
    "model.video_info": ("Stretch", "VideoInfo"),
    "model.video_processing_fal": ("FALVideoProcessor",),
    "model.video_source": ("VideoError",),
}

__all__ = [
    "AdaptivePatches",
    "Explanation",
    "FALConfig",
    "FALImageProcessor",
    "FALImageProcessorPil",
    "FALModel",
    "FALPreTrainedModel",
    "FALVideoClassifierForVideoClassification",
    "FALVideoProcessor",
    "Label",
    "Segment",
    "Stretch",
    "Timeline",
    "VideoEmbedding",
    "VideoError",
    "VideoFile",
    "VideoFrame",
    "VideoFrames",
    "VideoInfo",
    "VideoLabeler",
    "VideoLabels",
    "Views",
    "WindowEmbeddings",
    "WindowLabels",
    "probe",
    "read_frames",
]


__getattr__, __dir__ = lazy_names(__name__, _MODULES)


def _is_command() -> bool:
    """Whether a command of FAL's imports this: it answers `--help` before anything takes seconds."""
    program = Path(sys.argv[0]).name if sys.argv else ""
    return program in ("fal", "fal.exe", "-m", "convert_checkpoint.py")


if not _is_command():
    from . import auto_classes  # noqa: F401, registers FAL with transformers
