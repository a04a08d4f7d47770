"""What becomes of the names and the kernel of a TimeSformer; test_timesformer_parity.py loads whole ones."""

import torch
from torch import nn
from transformers.core_model_loading import apply_renamings

from fal_hf.model.timesformer_names import TIMESFORMER_MAPPING, FlattenKernel


def test_a_flat_kernel_gives_what_the_convolution_gives():
    convolution = nn.Conv2d(3, 5, kernel_size=4, stride=4)
    clip = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    (weight,) = FlattenKernel().convert({"any": convolution.weight}, ["any"], ["weight"]).values()
    patches = clip.unflatten(3, (3, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3)  # (2, 2, 3, 48)
    made = nn.functional.linear(patches, weight, convolution.bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, convolution(clip))


def test_names_of_the_two_attentions_of_a_block_do_not_meet():
    renamings = [mapping for mapping in TIMESFORMER_MAPPING if type(mapping).__name__ == "WeightRenaming"]
    block = "timesformer.encoder.layer.3."
    names = {
        f"{block}attention.output.dense.weight": "fal.layers.3.steps.main.attention.o_proj.weight",
        f"{block}temporal_attention.output.dense.weight": "fal.layers.3.steps.temporal.attention.o_proj.weight",
        f"{block}output.dense.bias": "fal.layers.3.mlp.fc2.bias",
    }
    assert {name: apply_renamings(name, renamings) for name in names} == names
