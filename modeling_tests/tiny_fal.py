"""Tiny FAL models and clips for the tests."""

from copy import deepcopy
from pathlib import Path

import torch

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.model.attention_schemes import ATTENTION_TYPES

DIVIDED = "divided_space_time"
ORDERS = ("time_space", "space_time", "parallel")
# Every scheme, and of divided attention every order, with the CLS key in the temporal step and without it.
VARIANTS = [
    *({"attention_type": name} for name in ATTENTION_TYPES if name not in (DIVIDED, "axial")),
    *(
        {"attention_type": DIVIDED, "attention_order": order, "cls_in_temporal_attention": cls_in_time}
        for order in ORDERS
        for cls_in_time in (True, False)
    ),
    *({"attention_type": "axial", "cls_in_temporal_attention": cls_in_time} for cls_in_time in (True, False)),
]
# (frames, rows, columns) of patches: even, odd, a single frame, a single row, a single patch.
GRIDS = [(4, 4, 4), (3, 5, 3), (1, 3, 2), (2, 1, 3), (1, 1, 1)]


def variant_name(variant: dict) -> str:
    return "-".join(str(value) for value in variant.values())


def tiny_config(*, grid: tuple[int, int, int] = (4, 4, 4), patch_size: int = 4, **fields) -> FALConfig:
    frames, rows, columns = grid
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    image_size = [rows * patch_size, columns * patch_size]
    clip = {"num_frames": frames, "image_size": image_size, "patch_size": patch_size}
    return FALConfig(**{**sizes, **clip, "num_labels": 5, **fields})


def tiny_model(config: FALConfig | None = None, *, seed: int = 0, std: float = 0.2, attention: str = "sdpa", **fields):
    """A classifier in evaluation mode with large random weights, so that no step is hidden by small or zero ones."""
    config = config if config is not None else tiny_config(**fields)
    model = FALVideoClassifierForVideoClassification._from_config(config, attn_implementation=attention)
    randomise(model, seed=seed, std=std)
    return model.eval()


def write_tiny_checkpoint(folder: Path) -> Path:
    """A folder with a tiny model of the labels a to e and its processors, which take three clips a video."""
    model = tiny_model(id2label=dict(enumerate("abcde")), label2id={name: i for i, name in enumerate("abcde")})
    model.save_pretrained(folder)
    size = model.config.image_size[0]
    FALVideoProcessor(
        num_frames=model.config.num_frames,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        num_clips=3,
    ).save_pretrained(folder)
    return folder


@torch.no_grad()
def randomise(model: torch.nn.Module, *, seed: int = 0, std: float = 0.2):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.state_dict().items()):
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.copy_(centre + std * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def realigned(model: torch.nn.Module):
    """
    A copy whose weights begin at multiples of 64 bytes, as those of a new model do and those of a file need not: on
    some processors the products of MKL are rounded by where their factors lie.
    """
    return deepcopy(model)


def random_clip(config: FALConfig, *, batch: int = 2, seed: int = 0, grid: tuple[int, int, int] | None = None):
    """Pixel values of the size that the configuration, or another grid of patches, says."""
    frames, rows, columns = grid if grid is not None else config.grid_size
    shape = (batch, frames, config.num_channels, rows * config.patch_size, columns * config.patch_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of each parameter; zero where none came, as an optimiser takes it."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def logits_and_gradients(model: torch.nn.Module, pixel_values: torch.Tensor, forward=None, **kwargs):
    """Logits, and the gradients of a fixed mixture of them, of the pixels and of each parameter."""
    pixel_values = pixel_values.clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    logits = model(pixel_values, **kwargs).logits if forward is None else forward(model, pixel_values)
    mixture = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    (logits * mixture).sum().backward()
    return logits.detach(), {"pixel_values": pixel_values.grad, **gradients(model)}


def assert_same(result, expected, *, tolerance: float):
    """Compares logits and gradients, the latter relative to the largest entry of each."""
    torch.testing.assert_close(result[0], expected[0], atol=tolerance, rtol=tolerance)
    assert result[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = max(gradient.abs().max().item(), 1.0)
        difference = (result[1][name] - gradient).abs().max().item()
        assert difference <= tolerance * scale, f"the gradients of {name} differ by {difference}"


def model_scores(labeler, frames, **options) -> torch.Tensor:
    """The naive way: one clip alone through the processor and the model."""
    inputs = labeler.processor(frames, do_sample_frames=False, return_tensors="pt", **options)
    with torch.no_grad():
        return labeler.model(**inputs).logits.softmax(-1)[0]
