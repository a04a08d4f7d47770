"""Classifiers of exported folders that run on the CPU alone, called like the model that they were made from."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.configuration_fal import FALConfig
from ..model.modeling_fal import FALVideoClassifierForVideoClassification, FALVideoClassifierOutput
from .formats import Format, Precision
from .frozen_model import compose_steps, quantize_linears
from .runtime_folder import RuntimeFolder, RuntimeRecord

# What reads and runs a format.
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "torch": (),
}
# What OpenVINO computes in: by itself it takes bfloat16 where the processor has it.
OPENVINO_PRECISIONS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class ExportedClassifier(nn.Module):
    """
    A classifier of an exported folder, on the CPU, with as many threads as torch has.

    It has no parameters, stays on the CPU, and can be pickled: it is read again from its folder.

    Args:
        folder: The exported folder.
        record: The runtime: of ONNX, OpenVINO, or of torch in int8.

    Raises:
        ImportError: the package that runs it is missing.
        ValueError: the files are not what an export writes.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: RuntimeFolder, record: RuntimeRecord):
        require_packages(record.format)
        super().__init__()
        self.folder, self.record = folder, record
        self.config = FALConfig.from_pretrained(folder.path)
        self._run = OPENERS[record.format](folder.path / record.name, record)
        # Where inputs get their scale as they come, clips go through one by one: no score depends on the clips beside.
        self._scales_by_batch = record.precision == "int8" and record.format != "openvino"

    def forward(self, pixel_values: torch.Tensor) -> FALVideoClassifierOutput:
        """`(B, T, channels, height, width)` float32 pixels to an output with `logits`, `(B, num_labels)`."""
        size, fixed_size = tuple(pixel_values.shape[1:]), self.record.fixed_size
        if fixed_size not in (None, size):
            raise ValueError(
                f"{self.record.name}: expected clips of (frames, channels, height, width) = {fixed_size}, the "
                f"only size that this export takes, got {size}; use the model itself for others"
            )
        if not self._scales_by_batch:
            return FALVideoClassifierOutput(logits=self._run(pixel_values))
        return FALVideoClassifierOutput(logits=torch.cat([self._run(clip) for clip in pixel_values.split(1)]))

    def __reduce__(self) -> tuple[Callable, tuple]:
        return ExportedClassifier, (self.folder, self.record)

    def __deepcopy__(self, memo: dict) -> "ExportedClassifier":
        return self  # nothing in it changes


def require_packages(format: Format) -> None:
    """Refuses, by an ImportError, a format whose packages are missing."""
    missing = [name for name in PACKAGES.get(format, ()) if find_spec(name) is None]
    if missing:
        raise ImportError(f"{format}: expected {', '.join(missing)} to be installed, run `pip install fal-hf[export]`")


def open_onnx(path: Path, record: RuntimeRecord) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs an ONNX model, pixels to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is told by an error
    return _runner(path, session_options=options, providers=["CPUExecutionProvider"])


def open_openvino(path: Path, record: RuntimeRecord) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs an OpenVINO model, pixels to logits."""
    config = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[record.precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    return _runner(path, device="cpu", config=config)


def open_torch(path: Path, record: RuntimeRecord) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs a torch model in int8, pixels to logits."""
    model = FALVideoClassifierForVideoClassification.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    compose_steps(model)
    quantized = quantize_linears(model.eval(), record.float_linears)
    return lambda pixel_values: quantized(pixel_values).logits


OPENERS = {"onnx": open_onnx, "openvino": open_openvino, "torch": open_torch}


def _runner(path: Path, **options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from transformers.exporters.base import ExportedModel

    exported = ExportedModel.from_pretrained(path, local_files_only=True, **options)

    def run(pixel_values: torch.Tensor) -> torch.Tensor:
        return exported(pixel_values=pixel_values)["logits"].float()

    return run


__all__ = ["ExportedClassifier", "require_packages"]
