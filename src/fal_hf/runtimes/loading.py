"""Models of exported folders, ready to run."""

from typing import cast

import torch

from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from .exported_classifier import ExportedClassifier
from .runtime_folder import RuntimeFolder, RuntimeRecord

Classifier = FALVideoClassifierForVideoClassification | ExportedClassifier


def load_runtime(folder: RuntimeFolder, record: RuntimeRecord, device: str | torch.device = "cpu") -> Classifier:
    """
    The model of a runtime.

    Args:
        folder: The exported folder.
        record: One of its runtimes.
        device: Where it runs; all but torch in float32 and bfloat16 are for the CPU.

    Raises:
        ImportError: a package is missing.
        ValueError: it does not run on that device, or its files are not what an export writes.
        OSError: files are missing.
    """
    if torch.device(device).type != "cpu" and not runs_anywhere(record):
        raise ValueError(f"device: expected cpu with the runtime {record.name}, got {device}")
    if not runs_anywhere(record):
        return ExportedClassifier(folder, record)
    model = cast(
        FALVideoClassifierForVideoClassification,
        FALVideoClassifierForVideoClassification.from_pretrained(
            folder.path / record.name, dtype="auto", local_files_only=True
        ),
    ).eval()
    return model.to(device)  # pyright: ignore[reportArgumentType]  # the hint of a decorator counts `self`


def runs_anywhere(record: RuntimeRecord) -> bool:
    """Whether a runtime is for any device, and not for the CPU alone."""
    return record.format == "torch" and record.precision != "int8"


__all__ = ["Classifier", "load_runtime", "runs_anywhere"]
