"""transformers' common tests on ViViT, the peer that tells which of them do not apply to a video classifier."""

import unittest

import testers
from transformers import (
    VivitConfig,
    VivitForVideoClassification,
    VivitImageProcessor,
    VivitModel,
    VivitVideoProcessor,
)


class VivitModelTester(testers.VideoModelTester):
    config_class = VivitConfig
    config_fields = {"tubelet_size": [2, 4, 4]}

    def count_tokens(self):
        return 1 + (self.num_frames // 2) * (self.image_size // self.patch_size) ** 2


class VivitModelTest(testers.VideoModelSuite, unittest.TestCase):
    tested_model = "ViViT"
    model_tester_class = VivitModelTester
    all_model_classes = (VivitModel, VivitForVideoClassification)


class VivitImageProcessingTester(testers.ClipImageProcessingTester):
    classes = {"torchvision": VivitImageProcessor}


class VivitImageProcessingTest(testers.ClipImageProcessingSuite, unittest.TestCase):
    tested_model = "ViViT"
    image_processor_tester_class = VivitImageProcessingTester


class VivitVideoProcessingTest(testers.ClipVideoProcessingSuite, unittest.TestCase):
    tested_model = "ViViT"
    fast_video_processing_class = VivitVideoProcessor
