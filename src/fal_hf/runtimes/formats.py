"""What runs an exported model, and in which precision. Nothing here takes long to import."""

from typing import Literal, get_args

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["float32", "bfloat16", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# ONNX Runtime multiplies no bfloat16 on a CPU.
PRECISIONS_OF: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("float32", "int8"),
    "openvino": PRECISIONS,
    "torch": PRECISIONS,
}

__all__ = ["FORMATS", "PRECISIONS", "PRECISIONS_OF", "Format", "Precision"]
