"""The steps that the image and the video processor share."""

import numpy as np
import pytest
import torch

from fal_hf import FALImageProcessor, FALVideoProcessor
from fal_hf.model.torchvision_frames import TorchvisionPreprocessing


@pytest.mark.parametrize(
    "options", [{}, {"do_flip_channel_order": True}, {"do_center_crop": False}, {"do_rescale": False}]
)
def test_image_and_video_processor_give_the_same_values(options):
    clip = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    sizes = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
    processors = FALImageProcessor(**sizes, **options), FALVideoProcessor(num_frames=3, **sizes, **options)
    assert all(isinstance(processor, TorchvisionPreprocessing) for processor in processors)
    image, video = (processor(clip, return_tensors="pt")["pixel_values"] for processor in processors)
    assert torch.equal(image, video)


def test_pieces_of_different_frames_are_joined_to_one_clip():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (height, 30, 3), dtype=np.uint8) for height in (24, 24, 36)]
    processor = FALImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False)
    (joined,) = processor(frames, return_tensors="pt")["pixel_values"]
    alone = torch.cat([processor(frame, return_tensors="pt")["pixel_values"][0] for frame in frames])
    assert joined.shape == (3, 3, 16, 16) and torch.equal(joined, alone)
