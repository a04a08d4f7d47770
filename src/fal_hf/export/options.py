"""
What an export can be told. Nothing here takes long to import: the command `fal export` reads its choices from it.
"""

from dataclasses import dataclass
from itertools import product

from ..runtimes.formats import FORMATS, PRECISIONS, PRECISIONS_OF, Format, Precision

# The gate: the share of videos whose labels are those of the float32 model, and how far a probability may be off.
LEAST_EQUAL = 0.99
MOST_DIFFERENCE = 0.05


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """
    Everything that [`export_model`] can be told beyond where to read and where to write.

    Args:
        formats: What is to run the model: `"onnx"` (ONNX Runtime), `"openvino"`, `"torch"`.
        precisions: Of its products: `"float32"`, `"bfloat16"`, `"int8"`. Each format comes in each precision.
        calibrate: Videos that say how large the numbers in the model get, for OpenVINO in int8; what is exported is
            compared on them.
        check: Videos on which it is compared instead, which calibration has not seen.
        force: Whether to keep what is too far from the float32 model.
        license: The card's license, an identifier of the Hub.

    Raises:
        ValueError: a format does not come in a precision, or videos are missing.
    """

    formats: tuple[Format, ...]
    precisions: tuple[Precision, ...] = ("float32",)
    calibrate: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    force: bool = False
    license: str = "unknown"

    def __post_init__(self):
        for name, values, known in (("to", self.formats, FORMATS), ("precision", self.precisions, PRECISIONS)):
            unknown = [value for value in values if value not in known]
            if unknown or not values:
                raise ValueError(f"{name}: expected some of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
        for format, precision in self.runtimes:
            if precision not in PRECISIONS_OF[format]:
                raise ValueError(
                    f"precision: expected {' or '.join(PRECISIONS_OF[format])} with {format}, got {precision}"
                )
        if set(self.precisions) != {"float32"} and not self.calibrate and not self.check:
            raise ValueError(
                f"precision: expected --calibrate VIDEOS or --check VIDEOS with {', '.join(self.precisions)}, to "
                "compare with the float32 model on; nothing is kept unchecked"
            )
        if ("openvino", "int8") in self.runtimes and not self.calibrate:
            raise ValueError("precision: expected --calibrate VIDEOS with openvino in int8, got none")

    @property
    def runtimes(self) -> list[tuple[Format, Precision]]:
        """The format and the precision of each runtime, in the order in which they were named."""
        return list(dict.fromkeys(product(self.formats, self.precisions)))


__all__ = ["LEAST_EQUAL", "MOST_DIFFERENCE", "ExportOptions"]
