"""What the suites of FAL and ViViT share: inputs, model testers, processor testers and their test classes."""

import copy

import torch
from tests.test_configuration_common import ConfigTester
from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin, prepare_video_inputs
from tests.test_modeling_common import ModelTesterMixin
from tests.test_video_processing_common import VideoProcessingTestMixin
from tests.test_video_processing_common import prepare_video_inputs as prepare_videos
from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES
from transformers.testing_utils import torch_device


class VideoModelTester:
    """Sizes, configuration and inputs of a tiny model; subclasses say which configuration and how many tokens."""

    config_class = None
    config_fields: dict = {}

    def __init__(self, parent):
        self.parent = parent
        self.is_training = True
        self.batch_size = 2
        self.num_labels = 10
        self.image_size = 8
        self.patch_size = 4
        self.num_frames = 4
        self.num_channels = 3
        self.hidden_size = 32
        self.num_hidden_layers = 2
        self.num_attention_heads = 4
        self.seq_length = self.count_tokens()

    def count_tokens(self) -> int:
        raise NotImplementedError

    def get_config(self):
        sizes = {"hidden_size": self.hidden_size, "intermediate_size": 37, "image_size": self.image_size}
        counts = {"num_hidden_layers": self.num_hidden_layers, "num_attention_heads": self.num_attention_heads}
        dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
        clip = {"num_frames": self.num_frames, "num_channels": self.num_channels, "num_labels": self.num_labels}
        return self.config_class(**{**sizes, **counts, **dropout, **clip, **self.config_fields})

    def prepare_config_and_inputs_for_common(self):
        shape = (self.batch_size, self.num_frames, self.num_channels, self.image_size, self.image_size)
        return self.get_config(), {"pixel_values": torch.rand(shape, device=torch_device)}


class VideoModelSuite(ModelTesterMixin):
    """The model mixin, for models whose input is a clip's pixels."""

    group = "model"
    test_resize_embeddings = False
    model_tester_class = None

    def setUp(self):
        self.model_tester = self.model_tester_class(self)
        fields = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        self.config_tester = ConfigTester(
            self, config_class=self.model_tester_class.config_class, has_text_modality=False, **fields
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs_dict = copy.deepcopy(inputs_dict)
        if return_labels and model_class.__name__ in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES.values():
            inputs_dict["labels"] = torch.zeros(self.model_tester.batch_size, dtype=torch.long, device=torch_device)
        return inputs_dict

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_inputs_embeds(self):
        self.skipTest(reason="the input is pixels, not embeddings")

    def test_model_get_set_embeddings(self):
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config)
            self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
            output_embeddings = model.get_output_embeddings()
            self.assertTrue(output_embeddings is None or isinstance(output_embeddings, torch.nn.Linear))


class ClipImageProcessingTester(ImageProcessingTester):
    """Inputs are clips; an image processor makes `(B, T, C, H, W)` of them."""

    classes: dict[str, type] = {}

    def __init__(self, parent, **kwargs):
        kwargs.setdefault("size", {"shortest_edge": 18})
        kwargs.setdefault("crop_size", {"height": 18, "width": 18})
        kwargs.setdefault("image_mean", [0.5, 0.5, 0.5])
        kwargs.setdefault("image_std", [0.5, 0.5, 0.5])
        super().__init__(parent, batch_size=5, max_resolution=80, num_frames=10, **kwargs)

    def _get_image_processing_classes(self):
        return self.classes

    def prepare_video_inputs(self, **kwargs):
        sizes = {"min_resolution": self.min_resolution, "max_resolution": self.max_resolution}
        channels = kwargs.pop("num_channels", self.num_channels)
        return prepare_video_inputs(
            batch_size=self.batch_size, num_frames=self.num_frames, num_channels=channels, **sizes, **kwargs
        )


class ClipImageProcessingSuite(ImageProcessingTestMixin):
    """The image processor mixin; where it calls with images, clips are the input and the expected shape has a T."""

    group = "image processor"

    def check_call(self, *, num_channels: int = 3, arguments: dict | None = None, **form):
        tester = self.image_processor_tester
        shape = (tester.num_frames, num_channels, tester.crop_size["height"], tester.crop_size["width"])
        for image_processing_class in self.image_processing_classes.values():
            processor = image_processing_class(**self.image_processor_dict)
            clips = tester.prepare_video_inputs(num_channels=num_channels, equal_resolution=False, **form)
            for inputs, batch_size in ((clips[0], 1), (clips, tester.batch_size)):
                pixel_values = processor(inputs, return_tensors="pt", **(arguments or {})).pixel_values
                self.assertEqual(tuple(pixel_values.shape), (batch_size, *shape))

    def test_call_pil(self):
        self.check_call()

    def test_call_numpy(self):
        self.check_call(numpify=True)

    def test_call_pytorch(self):
        self.check_call(torchify=True)

    def test_call_numpy_4_channels(self):
        normal = {"image_mean": [0.0] * 4, "image_std": [1.0] * 4, "do_convert_rgb": False}
        self.check_call(num_channels=4, numpify=True, arguments=normal | {"input_data_format": "channels_first"})


class ClipVideoProcessingTester:
    """Settings and inputs of a video processor."""

    def __init__(self, parent):
        self.parent = parent
        self.batch_size = 5
        self.num_frames = 8
        self.num_channels = 3
        self.min_resolution = 30
        self.max_resolution = 80
        self.crop_size = {"height": 18, "width": 18}

    def prepare_video_processor_dict(self) -> dict:
        sizes = {"do_resize": True, "size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": self.crop_size}
        normal = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
        return {**sizes, **normal, "do_convert_rgb": True}

    def expected_output_video_shape(self, videos) -> list[int]:
        return [self.num_frames, self.num_channels, self.crop_size["height"], self.crop_size["width"]]

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        return prepare_videos(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=self.min_resolution,
            max_resolution=self.max_resolution,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class ClipVideoProcessingSuite(VideoProcessingTestMixin):
    """The video processor mixin."""

    group = "video processor"
    input_name = "pixel_values"

    def setUp(self):
        super().setUp()
        self.video_processor_tester = ClipVideoProcessingTester(self)

    @property
    def video_processor_dict(self) -> dict:
        return self.video_processor_tester.prepare_video_processor_dict()
