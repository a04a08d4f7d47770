"""The files of a runtime. A model is traced once for each format, whatever is made of it then."""

import ast
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from transformers.exporters.base import ExportedComponent, ExportedModel, HfExporter
from transformers.exporters.configs import ExportFormat, OnnxConfig, OpenVINOConfig
from transformers.exporters.exporter_onnx import OnnxExporter
from transformers.exporters.exporter_openvino import OpenVINOExporter
from transformers.exporters.quantizers.quantizer_nncf import NNCFOpenVINOQuantizer, NNCFQuantizationConfig
from transformers.exporters.quantizers.quantizer_onnxruntime import OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

from ..model.modeling_fal import CellNeighborhood, FALAttention, FALVideoClassifierForVideoClassification
from ..runtimes.exported_classifier import require_packages
from ..runtimes.formats import Format
from ..runtimes.frozen_model import compose_steps, match_linears
from ..runtimes.trial import clip_size
from .candidates import Candidate

# The axes of pixels that a graph may leave open: clips, frames, height, width.
OPEN_AXES = (0, 1, 3, 4)
# Of those that are given, evenly; each takes some forwards.
MOST_CALIBRATION_CLIPS = 128


class TorchWriter:
    """
    Writes models that torch runs: their weights, which `load_runtime` makes int8.

    Args:
        model: A float32 model.
        clips: Clips to calibrate with, which torch has no need of.
    """

    def __init__(self, model: FALVideoClassifierForVideoClassification, clips: Sequence[torch.Tensor]):
        self.model = model
        self.fixed_size = None

    def write(self, candidate: Candidate, folder: Path) -> None:
        """Writes a runtime."""
        model = copy.deepcopy(self.model).bfloat16() if candidate.precision == "bfloat16" else self.model
        model.save_pretrained(folder)

    def float_linears(self, candidate: Candidate) -> tuple[str, ...]:
        """The names of the Linears that a candidate leaves in float32."""
        return tuple(match_linears(self.model, candidate.float_linears))


class GraphWriter:
    """
    Writes graphs. What has no fixed cells takes clips of any number of frames and of any size.

    Args:
        model: A float32 model.
        clips: Clips to calibrate with, `(1, T, channels, height, width)` each.

    Raises:
        ImportError: a package is missing.
    """

    format: Format

    def __init__(self, model: FALVideoClassifierForVideoClassification, clips: Sequence[torch.Tensor]):
        require_packages(self.format)
        self.model = copy.deepcopy(model).eval()
        compose_steps(self.model)
        self.clips = clips[:: -(-len(clips) // MOST_CALIBRATION_CLIPS)] if clips else clips
        self.fixed_size = clip_size(model.config) if has_fixed_cells(model) else None

    def write(self, candidate: Candidate, folder: Path) -> None:
        """Writes a runtime."""
        with quiet():
            program = self.make_program(candidate)
            component = ExportedComponent(program, self.traced.components["model"].metadata)
            ExportedModel({"model": component}, self.format).save_pretrained(folder)

    def float_linears(self, candidate: Candidate) -> tuple[str, ...]:
        """The names of the Linears that a candidate leaves in float32."""
        return tuple(match_linears(self.model, candidate.float_linears))

    def make_program(self, candidate: Candidate) -> Any:
        """The graph of a candidate, as the format has it."""
        raise NotImplementedError

    @cached_property
    def traced(self) -> ExportedModel:
        """The graph in float32."""
        return self.trace(self.model)

    def trace(self, model: FALVideoClassifierForVideoClassification) -> ExportedModel:
        """A model's graph; it is traced on a clip of another size than the tables', so that these are fitted."""
        frames, channels, height, width = clip_size(model.config)
        patch_size = model.config.patch_size
        axes = OPEN_AXES[:1]
        if self.fixed_size is None:
            frames, height, width = frames + 1, height + patch_size, width + 2 * patch_size
            axes = OPEN_AXES
        clips = torch.zeros(2, frames, channels, height, width, dtype=model.dtype)
        dynamic_shapes = {"pixel_values": dict.fromkeys(axes, Dim.AUTO)}
        with quiet():
            return self.exporter.export(model, {"pixel_values": clips}, self.config(dynamic_shapes))

    @property
    def exporter(self) -> HfExporter:
        """What traces."""
        raise NotImplementedError

    def config(self, dynamic_shapes: dict[str, Any]) -> Any:
        """How it traces."""
        raise NotImplementedError


class OnnxWriter(GraphWriter):
    """
    Writes ONNX models. In int8 they are quantized by ONNX Runtime: weights with a scale a row, and inputs with one of
    their own each time.
    """

    format = "onnx"

    @property
    def exporter(self):
        return OnnxExporter()

    def config(self, dynamic_shapes):
        return OnnxConfig(dynamic_shapes=dynamic_shapes)

    def make_program(self, candidate):
        if candidate.precision == "float32":
            return self.traced.program
        from onnxruntime.quantization import QuantType

        is_signed = candidate.settings["weights"].startswith("signed")
        config = OnnxRuntimeDynamicConfig(
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=is_signed,
            weight_type=QuantType.QInt8 if is_signed else QuantType.QUInt8,
            nodes_to_exclude=self._nodes_of(self.float_linears(candidate)),
        )
        quantizer = OnnxRuntimeQuantizer(config)
        return quantizer.quantize(self.traced.program, {}, ExportFormat(self.format))

    def _nodes_of(self, linears: Sequence[str]) -> list[str]:
        """The names of the nodes of some Linears; ONNX Runtime makes a product and a sum of a `Gemm`."""
        names = []
        for node in self.traced.program.graph:
            scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
            if node.op_type in ("MatMul", "Gemm") and set(scopes) & set(linears):
                names += [node.name, f"{node.name}_MatMul"]
        return names


class OpenVinoWriter(GraphWriter):
    """
    Writes OpenVINO models. In int8 they are quantized by NNCF, on clips, and safe from overflow on processors without
    VNNI.
    """

    format = "openvino"

    @property
    def exporter(self):
        return OpenVINOExporter()

    def config(self, dynamic_shapes):
        return OpenVINOConfig(dynamic_shapes=dynamic_shapes)

    def make_program(self, candidate):
        if candidate.precision == "float32":
            return self.traced.program
        if candidate.precision == "bfloat16":
            return self.trace(copy.deepcopy(self.model).bfloat16()).program
        import nncf

        smooth_quant = nncf.AdvancedSmoothQuantParameters(matmul=candidate.settings["SmoothQuant alpha"])
        config = NNCFQuantizationConfig(
            subset_size=len(self.clips),
            ignored_scope=nncf.IgnoredScope(names=self._nodes_of(self.float_linears(candidate)), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE, smooth_quant_alphas=smooth_quant
            ),
        )
        quantizer = NNCFOpenVINOQuantizer(config, [{"pixel_values": clip} for clip in self.clips])
        sample = {"pixel_values": self.clips[0]}
        return quantizer.quantize(self.traced.program.clone(), sample, ExportFormat(self.format))

    def _nodes_of(self, linears: Sequence[str]) -> list[str]:
        """The names of the nodes of some Linears, which are numbered in the order in which they are called."""
        order = list_calls(self.model)
        nodes = {
            int(name.split("/")[0].removeprefix("linear_")): name
            for node in self.traced.program.get_ordered_ops()
            if node.get_type_name() == "MatMul" and (name := node.get_friendly_name()).startswith("linear_")
        }
        if len(nodes) != len(order):
            raise RuntimeError(f"expected the {len(order)} Linears of the model in its graph, got {len(nodes)}")
        return [nodes[number] for number, name in enumerate(order) if name in linears]


WRITERS: dict[Format, type[TorchWriter] | type[GraphWriter]] = {
    "torch": TorchWriter,
    "onnx": OnnxWriter,
    "openvino": OpenVinoWriter,
}


def has_fixed_cells(model: FALVideoClassifierForVideoClassification) -> bool:
    """Whether patches adapt or attention cuts the grid by slices, which a graph writes down for one size."""
    if model.config.adaptive_patches is not None:
        return True
    neighborhoods = [module.neighborhood for module in model.modules() if isinstance(module, FALAttention)]
    return any(isinstance(neighborhood, CellNeighborhood) for neighborhood in neighborhoods)


@torch.inference_mode()
def list_calls(model: FALVideoClassifierForVideoClassification) -> list[str]:
    """The names of a model's Linears in the order in which it calls them."""
    names: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        model(torch.zeros(1, *clip_size(model.config), dtype=model.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return names


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps from the terminal what the packages say of themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


__all__ = ["WRITERS", "GraphWriter", "TorchWriter"]
