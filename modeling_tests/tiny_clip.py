"""Tiny CLIPs of transformers with a tokenizer of their own, for the tests."""

import json
from pathlib import Path

import torch
from tiny_fal import tiny_config, tiny_model
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModelWithProjection, CLIPTokenizer

from fal_hf import FALVideoProcessor
from fal_hf.model.text_encoder import TextEncoder

SIDE = 16
PATCH_SIZE = 8
PROJECTION_DIM = 12


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer whose tokens are bytes, so that it takes texts in any script."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def tiny_clip(tokenizer: CLIPTokenizer, *, seed: int = 0, hidden_act: str = "quick_gelu") -> CLIPModel:
    """A CLIP in evaluation mode with large random weights, so that no part is hidden by small ones."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shared = {**sizes, "hidden_act": hidden_act, "projection_dim": PROJECTION_DIM}
    config = CLIPConfig(
        text_config={
            **shared,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**shared, "image_size": SIDE, "patch_size": PATCH_SIZE},
        projection_dim=PROJECTION_DIM,
    )
    model = CLIPModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name != "logit_scale":
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_tiny_clip(folder: Path, **kwargs) -> CLIPModel:
    """A CLIP, its tokenizer and its image processor in a folder as transformers saves them."""
    tokenizer = make_tokenizer(folder)
    model = tiny_clip(tokenizer, **kwargs)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return model


def make_text_encoder(folder: Path) -> TextEncoder:
    """The text tower of a tiny CLIP, and its tokenizer, whose files are written to a folder."""
    tokenizer = make_tokenizer(folder)
    clip = tiny_clip(tokenizer)
    tower = CLIPTextModelWithProjection(clip.config.text_config)
    tower.load_state_dict(clip.state_dict(), strict=False)
    return TextEncoder(tower, tokenizer)


def write_open_checkpoint(folder: Path, labels: list[str], **fields) -> Path:
    """A folder with a tiny FAL that takes any labels, of one clip a video, with its processor and text tower."""
    config = tiny_config(classifier_type="similarity", label_embedding_size=PROJECTION_DIM, **fields)
    model = tiny_model(config)
    model.text_encoder = make_text_encoder(folder / "text")
    model.set_labels(labels)
    model.save_pretrained(folder)
    height, width = config.image_size
    size, crop_size = {"shortest_edge": height}, {"height": height, "width": width}
    FALVideoProcessor(num_frames=config.num_frames, size=size, crop_size=crop_size).save_pretrained(folder)
    return folder
