"""FAL in transformers: importing this registers the Auto classes, and `from transformers import FALModel` works."""

import sys

import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .model.configuration_fal import FALConfig
from .model.feature_pipeline import VideoFeatureExtractionPipeline
from .model.image_processing_fal import FALImageProcessor
from .model.image_processing_pil_fal import FALImageProcessorPil
from .model.modeling_fal import FALModel, FALPreTrainedModel, FALVideoClassifierForVideoClassification
from .model.video_processing_fal import FALVideoProcessor
from .model.zero_shot_pipeline import ZeroShotVideoClassificationPipeline

CLASSES = (
    FALConfig,
    FALImageProcessor,
    FALImageProcessorPil,
    FALModel,
    FALPreTrainedModel,
    FALVideoClassifierForVideoClassification,
    FALVideoProcessor,
)

AutoConfig.register(FALConfig.model_type, FALConfig, exist_ok=True)
AutoModel.register(FALConfig, FALModel, exist_ok=True)
AutoModelForVideoClassification.register(FALConfig, FALVideoClassifierForVideoClassification, exist_ok=True)
AutoImageProcessor.register(
    FALConfig, image_processor_classes={"torchvision": FALImageProcessor, "pil": FALImageProcessorPil}, exist_ok=True
)
AutoVideoProcessor.register(FALConfig, video_processor_class=FALVideoProcessor, exist_ok=True)

# As transformers has its own pipelines: those of `register_pipeline` save code that runs only where it is trusted.
PIPELINE_REGISTRY.supported_tasks["zero-shot-video-classification"] = {
    "impl": ZeroShotVideoClassificationPipeline,
    "pt": (AutoModelForVideoClassification,),
    "type": "multimodal",
}
# A repository's own code has none of it: a model of one custom pipeline takes that where no task is named.
PIPELINE_REGISTRY.supported_tasks["video-feature-extraction"] = {
    "impl": VideoFeatureExtractionPipeline,
    "pt": (AutoModel,),
    "type": "video",
}

# While its parts are imported, transformers may replace its own module object: both get the names.
for _module in (transformers, sys.modules["transformers"]):
    for _class in CLASSES:
        setattr(_module, _class.__name__, _class)
