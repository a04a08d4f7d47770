"""FAL, Framework for Automated Labeling: a space-time transformer that labels videos, for Transformers."""

import sys

import transformers
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification

from .configuration_fal import FALConfig
from .modeling_fal import FALModel, FALPreTrainedModel, FALVideoClassifierForVideoClassification

__all__ = ["FALConfig", "FALModel", "FALPreTrainedModel", "FALVideoClassifierForVideoClassification"]

AutoConfig.register(FALConfig.model_type, FALConfig, exist_ok=True)
AutoModel.register(FALConfig, FALModel, exist_ok=True)
AutoModelForVideoClassification.register(FALConfig, FALVideoClassifierForVideoClassification, exist_ok=True)

# transformers may replace its own module object while its parts are imported: old and new one get the names.
for _module in (transformers, sys.modules["transformers"]):
    for _name in __all__:
        setattr(_module, _name, globals()[_name])
