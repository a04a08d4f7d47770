"""What a model's weights are known by again."""

import hashlib
from collections.abc import Mapping

import torch


def hash_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types, shapes and values of some weights, whatever order they come in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


__all__ = ["hash_weights"]
