"""
transformers' common tests on FAL: every attention scheme, every way of labels to be tokens, the configuration and the
processors.
"""

import tempfile
import unittest
from pathlib import Path

import testers
import torch
from safetensors.torch import load_file
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from fal_hf import FALConfig, FALModel, FALVideoClassifierForVideoClassification
from fal_hf.model.image_processing_fal import FALImageProcessor
from fal_hf.model.image_processing_pil_fal import FALImageProcessorPil
from fal_hf.model.video_processing_fal import FALVideoProcessor

# The tests tell a model's task by these tables of names; without an entry several of them would test nothing.
MODEL_MAPPING_NAMES["fal"] = FALModel.__name__
MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES["fal"] = FALVideoClassifierForVideoClassification.__name__


class FALModelTester(testers.VideoModelTester):
    config_class = FALConfig

    @property
    def config_fields(self):
        fields = {"patch_size": self.patch_size, "attention_type": self.parent.attention_type}
        fields |= self.parent.config_fields
        if self.parent.label_attention == "none":
            return fields
        hierarchy = {"LABEL_0": "LABEL_1", "LABEL_1": "above", "LABEL_2": "above"}
        fields |= {"label_attention": self.parent.label_attention, "label_hierarchy": hierarchy}
        if self.parent.label_attention == "label":  # where the blocks before the labels are all that features have
            fields |= {"num_hidden_layers": self.num_hidden_layers + 1}
        first = fields.get("num_hidden_layers", self.num_hidden_layers) - 1
        return {**fields, "label_integration_layer": first, "label_embedding_size": 16}

    @property
    def frame_tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    def count_tokens(self):
        num_cls = self.num_frames if self.parent.attention_type == "space_only" else 1
        return num_cls + self.num_frames * self.frame_tokens


class FALModelSuite(testers.VideoModelSuite):
    tested_model = "FAL"
    model_tester_class = FALModelTester
    all_model_classes = (FALModel, FALVideoClassifierForVideoClassification)
    attention_type = "divided_space_time"
    label_attention = "none"
    config_fields = {}
    test_can_init_all_missing_weights_before_2023 = True  # without a year in the file, FAL counts as old

    def test_reverse_loading_mapping(self):
        """FAL's mapping reads another layout and never writes it: a saved model has FAL's names, and reads exactly."""
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config)
            with tempfile.TemporaryDirectory() as folder:
                for each in (model, "reloaded"):
                    each = model_class.from_pretrained(folder) if each == "reloaded" else each
                    each.save_pretrained(folder)
                    saved = load_file(Path(folder) / "model.safetensors")
                    self.assertEqual(saved.keys(), model.state_dict().keys())
                    self.assertTrue(all(torch.equal(saved[name], model.state_dict()[name]) for name in saved))

    def test_can_load_ignoring_mismatched_shapes(self):
        """With labels as tokens, a model of other labels has other embeddings, and not only another head."""
        if self.label_attention == "none":
            super().test_can_load_ignoring_mismatched_shapes()
            return
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        with tempfile.TemporaryDirectory() as folder:
            FALVideoClassifierForVideoClassification(config).save_pretrained(folder)
            fields = {"num_labels": 42, "label_hierarchy": None}
            with self.assertRaises(RuntimeError):
                FALVideoClassifierForVideoClassification.from_pretrained(folder, **fields)
            again, report = FALVideoClassifierForVideoClassification.from_pretrained(
                folder, **fields, ignore_mismatched_sizes=True, output_loading_info=True
            )
        drawn = {"fal.label_embeddings.embeddings.weight", "classifier.weight", "classifier.bias"}
        self.assertEqual({key[0] for key in report["mismatched_keys"]}, drawn)
        self.assertEqual(again(**inputs).logits.shape, (self.model_tester.batch_size, 42))

    def test_attention_outputs(self):
        """The maps of the main step are as long as its neighborhoods, not as the sequence."""
        tester = self.model_tester
        lengths = {
            "joint_space_time": tester.seq_length,
            "sparse_local_global": 1 + tester.num_frames // 2,
            "axial": 3,
        }
        tester.seq_length = lengths.get(self.attention_type, 1 + tester.frame_tokens)
        super().test_attention_outputs()


class FALDividedModelTest(FALModelSuite, unittest.TestCase):
    pass


class FALSpaceOnlyModelTest(FALModelSuite, unittest.TestCase):
    attention_type = "space_only"


class FALJointModelTest(FALModelSuite, unittest.TestCase):
    attention_type = "joint_space_time"


class FALSparseModelTest(FALModelSuite, unittest.TestCase):
    attention_type = "sparse_local_global"


class FALAxialModelTest(FALModelSuite, unittest.TestCase):
    attention_type = "axial"


class FALLabelAttentionTest(FALModelSuite, unittest.TestCase):
    label_attention = "label"


class FALUnifiedLabelAttentionTest(FALModelSuite, unittest.TestCase):
    label_attention = "unified"


class FALDividedLabelAttentionTest(FALModelSuite, unittest.TestCase):
    label_attention = "divided"


class FALSimilarityTest(FALModelSuite, unittest.TestCase):
    """A model that takes any labels, with CLIP's norms; its head is not of the size of its labels."""

    attention_type = "space_only"
    config_fields = {"classifier_type": "similarity", "norm_layout": "clip", "label_embedding_size": 16}

    def test_can_load_ignoring_mismatched_shapes(self):
        self.skipTest("labels are changed by set_labels")


class FALImageProcessingTester(testers.ClipImageProcessingTester):
    classes = {"torchvision": FALImageProcessor, "pil": FALImageProcessorPil}


class FALImageProcessingTest(testers.ClipImageProcessingSuite, unittest.TestCase):
    tested_model = "FAL"
    image_processor_tester_class = FALImageProcessingTester

    def test_image_processor_preprocess_arguments(self):
        """An argument that no processor has does not pass in silence."""
        clip = self.image_processor_tester.prepare_video_inputs()[0]
        for image_processing_class in self.image_processing_classes.values():
            with self.assertRaisesRegex((TypeError, ValueError), "extra_argument"):
                image_processing_class()(clip, extra_argument=True)

    def test_override_instance_attributes_does_not_affect_other_instances(self):
        for image_processing_class in self.image_processing_classes.values():
            first, second = image_processing_class(), image_processing_class()
            size = dict(second.size)
            for key in size:
                first.size[key] = -1
            self.assertEqual(dict(second.size), size)
            self.assertIsInstance(first.image_mean, tuple)  # which nothing can alter


class FALVideoProcessingTest(testers.ClipVideoProcessingSuite, unittest.TestCase):
    tested_model = "FAL"
    fast_video_processing_class = FALVideoProcessor

    def test_call_sample_frames(self):
        """The test expects an error for clips that are too short; FAL's default is to hold frames."""
        self.video_processor_tester.short_clip = "error"
        super().test_call_sample_frames()

    @property
    def video_processor_dict(self):
        short_clip = getattr(self.video_processor_tester, "short_clip", "hold")
        return super().video_processor_dict | {"short_clip": short_clip}
