"""
What labels as tokens cost: parameters, GFLOP (two for a multiply-add) and seconds of a clip, for each kind of label
attention and number of labels, beside the same model without them.

Seconds are medians, and their ratios medians over runs made in turn, in one process.

    python benchmarks/label_attention.py --labels 10 500 --group 10
"""

import argparse
import statistics
import time

import torch
from figures import Figures

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.hub.model_card import count_parameters_and_gflop
from fal_hf.model.configuration_fal import PRESETS
from fal_hf.model.label_space import LABEL_ATTENTIONS


def build_config(preset: str, label_attention: str, num_labels: int, *, group: int | None, **fields) -> FALConfig:
    """A configuration with so many labels, of which each `group` have a parent."""
    names = {number: f"label {number}" for number in range(num_labels)}
    hierarchy = {name: f"group {number // group}" for number, name in names.items()} if group else None
    labels = {"id2label": names, "label_hierarchy": hierarchy, "label_attention": label_attention}
    return FALConfig.from_preset(preset, **labels, **fields)


def clip_shape(config: FALConfig) -> tuple[int, ...]:
    frames, rows, columns = config.grid_size
    return 1, frames, config.num_channels, rows * config.patch_size, columns * config.patch_size


@torch.inference_mode()
def time_in_turn(configs: dict[str, FALConfig], *, runs: int) -> dict[str, list[float]]:
    """Seconds of each model's runs; the first run prepares and is left out."""
    models = {name: FALVideoClassifierForVideoClassification(config).eval() for name, config in configs.items()}
    clip = torch.randn(clip_shape(next(iter(configs.values()))))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + runs):
        for name, model in models.items():
            began = time.perf_counter()
            model(clip)
            seconds[name].append(time.perf_counter() - began)
    return {name: taken[1:] for name, taken in seconds.items()}


def add_rows(figures: Figures, num_labels: int, options: argparse.Namespace) -> None:
    sizes = {"num_frames": options.frames, "label_integration_layer": options.integration_layer}
    configs = {
        name: build_config(options.preset, name, num_labels, group=options.group, **sizes) for name in LABEL_ATTENTIONS
    }
    seconds = time_in_turn(configs, runs=options.runs)
    reference = {"gflop": count_parameters_and_gflop(configs["none"])[1], "seconds": seconds["none"]}
    for name, config in configs.items():
        parameters, gflop = count_parameters_and_gflop(config)
        figures.add(
            "cost",
            labels=num_labels,
            label_attention=name,
            million_parameters=parameters / 1e6,
            GFLOP=gflop,
            GFLOP_beside_none=gflop / reference["gflop"],
            seconds=statistics.median(seconds[name]),
            seconds_beside_none=statistics.median(
                a / b for a, b in zip(seconds[name], reference["seconds"], strict=True)
            ),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="fal-base", help="size of the model")
    parser.add_argument("--frames", type=int, default=8, help="of a clip")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 100, 500, 2000], help="numbers of labels")
    parser.add_argument("--group", type=int, help="so many labels have a parent; without, there is no hierarchy")
    parser.add_argument("--integration-layer", type=int, default=8, help="blocks before the labels")
    parser.add_argument("--runs", type=int, default=5, help="of each model")
    options = parser.parse_args()
    with Figures("label_attention") as figures:
        for num_labels in options.labels:
            add_rows(figures, num_labels, options)


if __name__ == "__main__":
    main()
