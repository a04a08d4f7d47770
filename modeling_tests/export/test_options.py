"""What an export can be told, and the ways to make a runtime."""

import pytest

from fal_hf.export.options import ExportOptions
from fal_hf.runtimes.formats import FORMATS, PRECISIONS, PRECISIONS_OF


def test_each_format_comes_in_each_precision_once():
    options = ExportOptions(formats=("torch", "openvino", "torch"), precisions=("bfloat16", "float32"), check=("a",))
    assert options.runtimes == [
        ("torch", "bfloat16"),
        ("torch", "float32"),
        ("openvino", "bfloat16"),
        ("openvino", "float32"),
    ]
    assert set(PRECISIONS_OF) == set(FORMATS) and all(set(PRECISIONS_OF[name]) <= set(PRECISIONS) for name in FORMATS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"formats": ()}, "to: expected some of onnx, openvino, torch, got none"),
        ({"formats": ("tflite",)}, "to: expected some of onnx, openvino, torch, got tflite"),
        ({"formats": ("onnx",), "precisions": ("int4",)}, "precision: expected some of .*, got int4"),
        (
            {"formats": ("onnx",), "precisions": ("bfloat16",), "check": ("a",)},
            "expected float32 or int8 with onnx, got bfloat16",
        ),
        ({"formats": ("onnx",), "precisions": ("int8",)}, "expected --calibrate VIDEOS or --check VIDEOS with int8"),
        (
            {"formats": ("torch",), "precisions": ("bfloat16",)},
            "expected .* or --check VIDEOS with bfloat16",
        ),
        (
            {"formats": ("openvino",), "precisions": ("int8",), "check": ("a",)},
            "expected --calibrate VIDEOS with openvino in int8",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        ExportOptions(**options)
