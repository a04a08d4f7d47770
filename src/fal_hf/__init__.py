"""FAL, Framework for Automated Labeling: a space-time transformer that labels videos, for Transformers."""

import sys

import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)

from .aggregation import Segment, Timeline
from .configuration_fal import FALConfig
from .image_processing_fal import FALImageProcessor
from .image_processing_pil_fal import FALImageProcessorPil
from .labeling import Label, VideoLabeler, VideoLabels, WindowLabels
from .modeling_fal import FALModel, FALPreTrainedModel, FALVideoClassifierForVideoClassification
from .video_io import VideoError, VideoFrames, VideoInfo, probe, read_frames
from .video_processing_fal import FALVideoProcessor
from .views import Views

__all__ = [
    "FALConfig",
    "FALImageProcessor",
    "FALImageProcessorPil",
    "FALModel",
    "FALPreTrainedModel",
    "FALVideoClassifierForVideoClassification",
    "FALVideoProcessor",
    "Label",
    "Segment",
    "Timeline",
    "VideoError",
    "VideoFrames",
    "VideoInfo",
    "VideoLabeler",
    "VideoLabels",
    "Views",
    "WindowLabels",
    "probe",
    "read_frames",
]

AutoConfig.register(FALConfig.model_type, FALConfig, exist_ok=True)
AutoModel.register(FALConfig, FALModel, exist_ok=True)
AutoModelForVideoClassification.register(FALConfig, FALVideoClassifierForVideoClassification, exist_ok=True)
AutoImageProcessor.register(
    FALConfig, image_processor_classes={"torchvision": FALImageProcessor, "pil": FALImageProcessorPil}, exist_ok=True
)
AutoVideoProcessor.register(FALConfig, video_processor_class=FALVideoProcessor, exist_ok=True)

# `from transformers import FALModel` works from now on. While its parts are imported, transformers may replace its own
# module object: both get the names.
for _module in (transformers, sys.modules["transformers"]):
    for _name in (name for name in __all__ if name.startswith("FAL")):
        setattr(_module, _name, globals()[_name])
