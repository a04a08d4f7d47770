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

from .model.configuration_fal import FALConfig
from .model.image_processing_fal import FALImageProcessor
from .model.image_processing_pil_fal import FALImageProcessorPil
from .model.modeling_fal import FALModel, FALPreTrainedModel, FALVideoClassifierForVideoClassification
from .model.video_processing_fal import FALVideoProcessor

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

# While its parts are imported, transformers may replace its own module object: both get the names.
for _module in (transformers, sys.modules["transformers"]):
    for _class in CLASSES:
        setattr(_module, _class.__name__, _class)
