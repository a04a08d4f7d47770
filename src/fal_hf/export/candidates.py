"""The ways to make a runtime, those that promise to be the fastest first."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..runtimes.formats import Format, Precision

# What stays in float32 beside int8: first what reads pixels and what scores, which cost little, then what the second
# Linear of an MLP reads, whose largest numbers are far from the others; at last the blocks at both ends, where
# rounding does most.
KEPT = ("embeddings", "classifier", "label_head")
SECOND_LINEARS = r"mlp\.fc2$"
# What else can be chosen. For OpenVINO, how much of the difficulty SmoothQuant moves from what Linears read to their
# weights; for ONNX Runtime, of how many bits weights are: products of signed ones of eight overflow on processors
# without VNNI, and those of unsigned ones take longer where it is there.
SETTINGS: dict[Format, list[dict[str, Any]]] = {
    "onnx": [{"weights": "signed, 7 bits"}, {"weights": "unsigned, 8 bits"}],
    "openvino": [{"SmoothQuant alpha": alpha} for alpha in (0.15, 0.5, 0.95)],
    "torch": [{}],
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """
    A way to make a runtime.

    Args:
        format: What runs it.
        precision: Of its products.
        float_linears: Regular expressions of the Linears that stay in float32.
        settings: How it is quantized, in words that a card can show.
    """

    format: Format
    precision: Precision
    float_linears: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The runtime's name."""
        return f"{self.format}-{self.precision}"

    def __str__(self) -> str:
        return ", ".join([self.name, *(f"{name}: {value}" for name, value in self.settings.items())])


def list_candidates(format: Format, precision: Precision, *, num_layers: int) -> list[Candidate]:
    """The ways to make a runtime of a model of so many blocks, by falling speed."""
    if precision != "int8":
        return [Candidate(format=format, precision=precision)]
    more = (*KEPT, SECOND_LINEARS)
    ends = rf"layers\.(0|{num_layers - 1})\."
    float_linears = {
        "embeddings and heads": KEPT,
        "embeddings, heads and the second Linears of the MLPs": more,
    }
    if num_layers > 2:  # else no block would be left
        float_linears["embeddings, heads, the second Linears of the MLPs, the first and the last block"] = (
            *more,
            ends,
        )
    return [
        Candidate(
            format=format, precision=precision, float_linears=patterns, settings={"in float32": kept, **settings}
        )
        for (kept, patterns), settings in product(float_linears.items(), SETTINGS[format])
    ]


__all__ = ["Candidate", "list_candidates"]
