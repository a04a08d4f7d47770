"""Convolutional networks that are trained in FAL's place: on its clips, by its recipe, from random weights."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18
from torchvision.ops import Conv3dNormActivation
from transformers.modeling_outputs import ImageClassifierOutput

from fal_hf import FALConfig
from fal_hf.hub.model_card import count_parameters_and_gflop

# Channels and steps in time, height and width of each convolution; chosen so that a clip costs what it costs the small
# FAL, within a tenth.
LAYERS = ((16, (1, 2, 2)), (32, (1, 2, 2)), (64, (2, 2, 2)), (64, (2, 2, 2)))


def small_cnn(num_classes: int) -> nn.Sequential:
    """Convolutions of 3 x 3 x 3 with batch norms, the mean over what is left of the clip, and one Linear."""
    layers, channels = [], 3
    for width, stride in LAYERS:
        layers.append(Conv3dNormActivation(channels, width, stride=stride))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, num_classes))


# Makes a network for a number of classes, as torchvision's functions do.
Network = Callable[..., nn.Module]
FAL, SMALL_CNN = "FAL", "small 3D CNN"
TORCHVISION: dict[str, Network] = {"R3D-18": r3d_18, "MC3-18": mc3_18, "R(2+1)D-18": r2plus1d_18}
NETWORKS: dict[str, Network | None] = {FAL: None, SMALL_CNN: small_cnn, **TORCHVISION}


class VideoNetwork(nn.Module):
    """
    A network that takes clips as FAL does, (B, T, C, H, W), and gives logits (B, num_labels).

    Args:
        network: Makes one that takes (B, C, T, H, W).
        config: Of the FAL in whose place it stands: it has the labels.
    """

    def __init__(self, network: Network, config: FALConfig):
        super().__init__()
        self.config = config
        self.network = network(num_classes=config.num_labels)

    def forward(self, pixel_values: torch.Tensor) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=self.network(pixel_values.transpose(1, 2)))


def count_gflop(network: Network | None, config: FALConfig) -> float:
    """10⁹ operations of a clip of the configured size, in the network or, with None, in FAL itself."""
    if network is None:
        return count_parameters_and_gflop(config)[1]
    frames, rows, columns = config.grid_size
    with torch.device("meta"):
        model = VideoNetwork(network, config).eval()
        clip = torch.empty(1, frames, config.num_channels, rows * config.patch_size, columns * config.patch_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops() / 1e9
