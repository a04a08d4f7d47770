"""What a clip costs by frames, pixels, clips in a batch and streams: computation, seconds and memory, of divided
attention beside joint attention (paper, figures 3 and 5, table 9, sections 4.6 and 4.15).

    python studies/cost.py

Models have random weights, which cost what trained ones do. What would take too long, or more memory than half of this
machine's, is calculated from its operations and tokens and from what clips of 16 frames took, and marked so.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pandas
import torch
from intervals import mean_of
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study import Case, Setting, Study, Value, origin_line  # isort: split

from forward import extra_mib  # of the benchmarks, like those below
from growth import make_stream, time_batch, time_streams
from label_attention import clip_shape
from transformers.utils import logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.hub.model_card import count_parameters_and_gflop

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DIVIDED, JOINT, MAPS = "divided", "joint", "joint, whole maps"
# By attention: its scheme, and what computes it. "Whole maps" keeps all weights of a step, as was usual before fused
# kernels.
ATTENTIONS = {
    DIVIDED: ("divided_space_time", "sdpa"),
    JOINT: ("joint_space_time", "sdpa"),
    MAPS: ("joint_space_time", "eager"),
}
# Maps that such a step keeps at once, before and after the softmax.
MAPS_AT_ONCE = 2
NUM_LABELS = 500
# Frames of the clip by which larger ones are calculated.
SAMPLE_FRAMES = 16
# Of the A100 on which the paper measured, the larger one.
A100_GIB = 80e9 / 2**30
# Table 9: frames to seconds, GB and GFLOP.
PAPER = {8: (0.042, 4.2, 102), 16: (0.084, 7.8, 196), 32: (0.156, 14.2, 384), 64: (0.312, 26.8, 760)}
# How far a growth may be from what is claimed, as an exponent, and a rate, as a share.
EXPONENT_TOLERANCE = 0.25
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Clip:
    """What a forward is measured on."""

    attention: str
    frames: int
    side: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """
    What is measured in a setting.

    Args:
        fields: Of the model's configuration that differ from the preset's.
        side: Of the clips whose frames are counted; `sides` those of clips of `frames[0]` frames.
        batch_side: Of the clips in batches.
        stream_clips: Clips that a stream labels.
        rounds: How often each case is measured.
        max_seconds: Of a forward; what takes longer is calculated.
    """

    preset: str
    frames: Sequence[int]
    side: int
    sides: Sequence[int]
    batches: Sequence[int]
    batch_side: int
    streams: Sequence[int]
    stream_clips: int
    rounds: int
    max_seconds: float
    fields: Mapping[str, Value] = field(default_factory=dict)


SIZES: dict[Setting, Sizes] = {
    "toy": Sizes(
        preset="fal-small",
        fields={"num_hidden_layers": 1, "label_integration_layer": 0},
        frames=(8, 16),
        side=32,
        sides=(32, 64),
        batches=(1, 2),
        batch_side=32,
        streams=(1,),
        stream_clips=1,
        rounds=2,
        max_seconds=4,
    ),
    "small": Sizes(
        preset="fal-small",
        frames=(8, 16, 32, 64, 96),
        side=224,
        sides=(112, 224, 448, 672, 896, 1024),
        batches=(1, 4, 16, 64, 256),
        batch_side=112,
        streams=(1, 2, 4, 8),
        stream_clips=3,
        rounds=3,
        max_seconds=3,
    ),
    "full": Sizes(
        preset="fal-base",
        frames=(8, 16, 32, 64, 96),
        side=224,
        sides=(112, 224, 448, 672, 896, 1024),
        batches=(1, 4, 16, 64, 256),
        batch_side=224,
        streams=(1, 2, 4, 8),
        stream_clips=16,
        rounds=5,
        max_seconds=60,
    ),
}


def cases(setting: Setting) -> Sequence[Case]:
    return [
        {**circumstances, "seed": seed}
        for seed in range(SIZES[setting].rounds)
        for circumstances in list_circumstances(SIZES[setting])
    ]


def list_circumstances(sizes: Sizes) -> Iterator[dict[str, Value]]:
    """What a round measures."""
    clips = [(frames, sizes.side) for frames in sizes.frames] + [(sizes.frames[0], side) for side in sizes.sides]
    for attention in ATTENTIONS:
        for frames, side in dict.fromkeys(clips):
            yield circumstances_of("clips", attention=attention, frames=frames, side=side)
    for attention in (DIVIDED, JOINT):
        for batch in sizes.batches:
            yield circumstances_of(
                "batches", attention=attention, frames=sizes.frames[0], side=sizes.batch_side, batch=batch
            )
    for streams in sizes.streams:
        yield circumstances_of("streams", frames=sizes.frames[0], side=sizes.side, streams=streams)


def circumstances_of(
    part: str, *, frames: int, side: int, attention: str = DIVIDED, batch: int = 1, streams: int = 1
) -> dict[str, Value]:
    return {
        "part": part,
        "attention": attention,
        "frames": frames,
        "side": side,
        "batch": batch,
        "streams": streams,
    }


def prepare(files: Path, setting: Setting) -> None:
    """Measures the clips by which larger ones are calculated, once, and writes what streams run."""
    be_quiet()
    path = files / "samples.json"
    samples = json.loads(path.read_text()) if path.exists() else {}
    for attention in ATTENTIONS:
        if attention not in samples:
            samples[attention] = measure_forward(sample_clip(attention, setting), 1, setting)
            path.write_text(json.dumps(samples))
    sizes = SIZES[setting]
    config = build_config(Clip(DIVIDED, sizes.frames[0], sizes.side), setting)
    command = make_stream(files, config, clips=sizes.stream_clips, device=DEVICE)
    (files / "stream.json").write_text(json.dumps(command))


def be_quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def sample_clip(attention: str, setting: Setting) -> Clip:
    return Clip(attention, SAMPLE_FRAMES, SIZES[setting].side)


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    be_quiet()
    clip, batch, limit_gib = Clip(case["attention"], case["frames"], case["side"]), case["batch"], device_gib() / 2
    row: dict[str, Value] = {
        "GFLOP": batch * count_gflop(clip, setting),
        "memory_limit_gib": limit_gib,
        "is_calculated": False,
        "calculated_seconds": None,
        "calculated_mib": None,
        "memory_mib": None,
    }
    if case["part"] == "streams":
        seconds = time_streams(json.loads((files / "stream.json").read_text()), case["streams"])
        return {**row, "seconds": seconds / SIZES[setting].stream_clips}
    seconds, mib = calculate(clip, batch, setting, json.loads((files / "samples.json").read_text()))
    row |= {"calculated_seconds": seconds, "calculated_mib": mib}
    if seconds > SIZES[setting].max_seconds or mib / 2**10 > limit_gib:
        return {**row, "is_calculated": True, "seconds": seconds, "memory_mib": mib}
    return {**row, **measure_forward(clip, batch, setting)}


def calculate(
    clip: Clip, batch: int, setting: Setting, samples: Mapping[str, Mapping[str, float]]
) -> tuple[float, float]:
    """
    Seconds of a batch, at the rate of the sample with its attention, and MiB on top of weights and clips: for each
    token as much as the sample of fused attention took, and the whole maps of one step.
    """
    sample = sample_clip(clip.attention, setting)
    seconds = samples[clip.attention]["seconds"] * batch * count_gflop(clip, setting) / count_gflop(sample, setting)
    config, tokens = build_config(clip, setting), count_tokens(build_config(clip, setting))
    fused = samples[JOINT if clip.attention == MAPS else clip.attention]["memory_mib"]
    mib = fused * batch * tokens / count_tokens(build_config(sample, setting))
    if clip.attention == MAPS:
        mib += MAPS_AT_ONCE * batch * config.num_attention_heads * tokens**2 * 4 / 2**20
    return seconds, mib


def measure_forward(clip: Clip, batch: int, setting: Setting) -> dict[str, float]:
    """Seconds of a batch, and its memory on top of weights and clips; NaN where the system does not count it."""
    config, (_, implementation) = build_config(clip, setting), ATTENTIONS[clip.attention]
    model = FALVideoClassifierForVideoClassification._from_config(config, attn_implementation=implementation)
    model = model.eval().to(DEVICE)
    pixels = torch.randn(batch, *clip_shape(config)[1:], device=DEVICE)
    seconds = time_batch(model, pixels, runs=1)
    with torch.inference_mode():
        mib = extra_mib(lambda: model(pixels), DEVICE)
    return {"seconds": seconds, "memory_mib": float("nan") if mib is None else mib}


def build_config(clip: Clip, setting: Setting) -> FALConfig:
    """The model of a clip."""
    sizes, (scheme, _) = SIZES[setting], ATTENTIONS[clip.attention]
    fields = {"num_frames": clip.frames, "image_size": clip.side, "num_labels": NUM_LABELS, **sizes.fields}
    return FALConfig.from_preset(sizes.preset, attention_type=scheme, **fields)


@cache
def count_gflop(clip: Clip, setting: Setting) -> float:
    return count_parameters_and_gflop(build_config(clip, setting))[1]


def count_tokens(config: FALConfig) -> int:
    """Of a clip: its patches and the classification token."""
    return 1 + prod(config.grid_size)


def device_gib() -> float:
    """Memory of the GPU, or of the machine."""
    if DEVICE == "cuda":
        return torch.cuda.mem_get_info()[1] / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


# ---- what the rows say ----


def draw(table: pandas.DataFrame) -> Figure:
    """Computation, seconds and memory of a clip by frames and by side, then batches and streams."""
    figure, panels = pyplot.subplots(3, 3, figsize=(7, 6.6))
    figures = {"GFLOP": "GFLOP a clip", "seconds": "s a clip", "memory_mib": "memory, MiB"}
    for row, (rows, axis, label) in zip(panels[:2], sweeps(table), strict=True):
        for panel, (name, title) in zip(row, figures.items(), strict=True):
            draw_growth(panel, rows, axis, name)
            panel.set(xlabel=label, ylabel=title, xscale="log", yscale="log")
    batches = part_of(table, "batches")
    batches = batches.assign(rate=batches["batch"] / batches["seconds"])
    for panel, (name, title) in zip(
        panels[2], {"rate": "clips a second", "memory_mib": "memory, MiB"}.items(), strict=False
    ):
        draw_growth(panel, batches, "batch", name)
        panel.set(xlabel="clips in a batch", ylabel=title, xscale="log", yscale="log")
    draw_growth(panels[2][2], part_of(table, "streams"), "streams", "seconds")
    panels[2][2].set(xlabel="streams at once", ylabel="s a clip", ylim=(0, None))
    panels[0][0].legend(fontsize=7)
    for panel in panels.flat:
        values = sorted({int(x) for line in panel.lines for x in line.get_xdata()})
        panel.set_xticks(values, [str(value) for value in values], rotation=45, minor=False)
        panel.minorticks_off()
    return figure


def draw_growth(panel: Axes, rows: pandas.DataFrame, axis: str, name: str) -> None:
    """A line an attention, through means of rounds; what was calculated is hollow."""
    for attention, marker, style in zip(ATTENTIONS, "os^", ("-", "--", ":"), strict=True):
        ours = rows[rows["attention"] == attention]
        if ours.empty:
            continue
        means = ours.groupby(axis)[[name, "is_calculated"]].mean()
        line = panel.plot(means[name], style, linewidth=1, label=attention)[0]
        for is_calculated, points in means.groupby(means["is_calculated"] > 0):
            filling = "white" if is_calculated and name != "GFLOP" else line.get_color()
            panel.plot(points[name], marker, color=line.get_color(), markerfacecolor=filling, markersize=4)


def part_of(table: pandas.DataFrame, part: str) -> pandas.DataFrame:
    return table[table["part"] == part]


def sweeps(table: pandas.DataFrame) -> Iterator[tuple[pandas.DataFrame, str, str]]:
    """The clips of one side by frames, and those of the fewest frames by side; with what an axis is called."""
    clips = part_of(table, "clips")
    side = clips.loc[clips["frames"] != clips["frames"].min(), "side"].iloc[0]
    yield clips[clips["side"] == side], "frames", f"frames of {side} px"
    yield clips[clips["frames"] == clips["frames"].min()], "side", f"side of {clips['frames'].min()} frames, px"


def tell(table: pandas.DataFrame) -> str:
    return "\n".join(
        [
            origin_line(table, "python studies/cost.py"),
            "",
            *clip_lines(table),
            "",
            *batch_lines(table),
            "",
            *stream_lines(table),
            "",
            *check_lines(table),
            "",
            *claim_lines(table),
            "",
        ]
    )


def table_lines(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (heading, ["---"] * len(heading), *rows)]


def clip_lines(table: pandas.DataFrame) -> list[str]:
    """Every size of a clip, beside table 9."""
    clips, rows = part_of(table, "clips"), []
    for (frames, side), ours in clips.groupby(["frames", "side"]):
        by_attention = {attention: ours[ours["attention"] == attention] for attention in ATTENTIONS}
        flops = [f"{by_attention[attention]['GFLOP'].iloc[0]:,.0f}" for attention in (DIVIDED, JOINT)]
        seconds = [cell(one, one["seconds"], ".2f") for one in by_attention.values()]
        memory = [cell(one, one["memory_mib"], ",.0f") for one in by_attention.values()]
        said = PAPER.get(frames) if side == 224 else None
        paper = "{} s, {} GB, {} GFLOP".format(*said) if said else ""
        rows.append([f"{frames} × {side}²", *flops, *seconds, *memory, paper])
    heading = [f"GFLOP, {DIVIDED}", f"{JOINT}", f"seconds, {DIVIDED}", JOINT, MAPS, f"MiB, {DIVIDED}", JOINT, MAPS]
    return table_lines(["clip", *heading, "the paper's table 9"], rows)


def cell(rows: pandas.DataFrame, values: pandas.Series, spec: str) -> str:
    """The mean over rounds, in italics where it was calculated."""
    if rows["is_calculated"].any():
        return f"*{values.mean():{spec}}*"
    return format(mean_of(values.to_list()), spec)


def batch_lines(table: pandas.DataFrame) -> list[str]:
    batches, rows = part_of(table, "batches"), []
    for batch, ours in batches.groupby("batch"):
        by_attention = [ours[ours["attention"] == attention] for attention in (DIVIDED, JOINT)]
        rates = [cell(one, batch / one["seconds"], ".2f") for one in by_attention]
        rows.append([str(batch), *rates, *(cell(one, one["memory_mib"], ",.0f") for one in by_attention)])
    size = f"{batches['frames'].iloc[0]} × {batches['side'].iloc[0]}²"
    heading = [f"clips of {size} in a batch", f"clips a second, {DIVIDED}", JOINT, f"MiB, {DIVIDED}", JOINT]
    return table_lines(heading, rows)


def stream_lines(table: pandas.DataFrame) -> list[str]:
    streams = part_of(table, "streams")
    rows = [
        [str(count), cell(ours, ours["seconds"], ".2f"), cell(ours, count / ours["seconds"], ".2f")]
        for count, ours in streams.groupby("streams")
    ]
    return table_lines(["streams at once", "seconds a clip of each", "clips a second of all"], rows)


def check_lines(table: pandas.DataFrame) -> list[str]:
    """How calculated figures are made, and how far such ones are from those that were measured."""
    measured = table[~table["is_calculated"]]
    ratios = []
    for name, calculated in (("seconds", "calculated_seconds"), ("memory_mib", "calculated_mib")):
        values = (measured[name] / measured[calculated]).dropna()
        ratios.append(f"{values.min():.1f} to {values.max():.1f} times (median {values.median():.1f})")
    return [
        "GFLOP count two operations for a multiply-add; memory is that on top of weights and clips, in float32. In "
        "italics: calculated, seconds in proportion to operations and memory to tokens, from a clip of "
        f"{SAMPLE_FRAMES} frames; whole maps add {MAPS_AT_ONCE} × heads × tokens² numbers. Where both are known, "
        f"measured seconds are {ratios[0]} the calculated ones, measured memory {ratios[1]}."
    ]


def claim_lines(table: pandas.DataFrame) -> list[str]:
    by_frames, by_side = (rows for rows, _, _ in sweeps(table))
    by_side = by_side.assign(pixels=by_side["side"] ** 2)
    rows = [
        growth_row("table 9: GFLOP grow linearly with frames", by_frames, DIVIDED, "frames", "GFLOP", 1),
        growth_row("4.15: seconds grow with frames, linearly or less", by_frames, DIVIDED, "frames", "seconds", 1),
        growth_row("4.15: memory grows linearly with frames", by_frames, DIVIDED, "frames", "memory_mib", 1),
        growth_row("figure 3, read as: GFLOP grow with the square of frames", by_frames, JOINT, "frames", "GFLOP", 2),
        growth_row("4.6: GFLOP grow linearly with pixels", by_side, DIVIDED, "pixels", "GFLOP", 1),
        growth_row("4.6: those of others with the square of pixels", by_side, JOINT, "pixels", "GFLOP", 2),
        *(memory_row(table, attention) for attention in (JOINT, MAPS)),
        batch_row(part_of(table, "batches")),
        stream_row(part_of(table, "streams")),
    ]
    return [
        *table_lines(["the paper", "attention", "here", "verdict"], rows),
        "",
        f"A growth is an exponent: 1 is linear. Linear holds where that of the two largest sizes is below "
        f"{1 + EXPONENT_TOLERANCE}, a square where it is above {2 - EXPONENT_TOLERANCE}; rates and latencies hold "
        f"where they get worse by less than {100 * RATE_TOLERANCE:.0f} %. A claim does not show where the interval of "
        "the rounds reaches that limit. Exponents of seconds and memory are of what was measured.",
    ]


def growth_row(claim: str, rows: pandas.DataFrame, attention: str, axis: str, name: str, claimed: int) -> list[str]:
    """Whether a figure grows as is claimed: by at most that where it is linear, by at least that else."""
    ours = rows[rows["attention"] == attention]
    if name != "GFLOP":
        ours = ours[~ours["is_calculated"]]
    fits = [fit_exponents(of_round, axis, name) for _, of_round in ours.groupby("seed")]
    if not fits or any(fit is None for fit in fits):
        return [claim, attention, "too few sizes measured", "not measured"]
    overall, last = (mean_of(values) for values in zip(*fits, strict=True))
    spare = [1 + EXPONENT_TOLERANCE - end if claimed == 1 else end - claimed + EXPONENT_TOLERANCE for _, end in fits]
    return [claim, attention, f"{overall:.2f} over all, {last:.2f} at the end", mean_of(spare).verdict]


def fit_exponents(rows: pandas.DataFrame, axis: str, name: str) -> tuple[float, float] | None:
    """The exponent of the power law nearest to all sizes in logarithms, and that of the two largest ones."""
    rows = rows.dropna(subset=[name]).sort_values(axis)
    x, y = np.log(rows[axis].to_numpy(float)), np.log(rows[name].to_numpy(float))
    return (slope(x, y), slope(x[-2:], y[-2:])) if len(rows) > 1 else None


def slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def memory_row(table: pandas.DataFrame, attention: str) -> list[str]:
    """Whether there are clips for which an attention needs more memory than there is, and divided attention less."""
    clips = part_of(table, "clips").groupby(["attention", "frames", "side"])["memory_mib"].mean() / 2**10
    limits = {"this machine's half": table["memory_limit_gib"].iloc[0], "an A100's 80 GB": A100_GIB}
    found = {
        name: [size for size, gib in clips[attention].items() if gib > limit > clips[DIVIDED][size]]
        for name, limit in limits.items()
    }
    texts = [
        f"beyond {name} ({limits[name]:.0f} GiB) at " + (", ".join(f"{f} × {s}²" for f, s in sizes) or "no size")
        for name, sizes in found.items()
    ]
    largest = f"at most {clips[attention].max():.1f} GiB beside {clips[DIVIDED].max():.1f} of divided attention"
    claim = "figure 3: joint attention exceeds memory where divided attention does not"
    return [claim, attention, "; ".join([largest, *texts]), "holds" if any(found.values()) else "does not show"]


def batch_row(batches: pandas.DataFrame) -> list[str]:
    """Whether clips in large batches are as fast as single ones, in the largest batch that was measured."""
    measured = batches[(batches["attention"] == DIVIDED) & ~batches["is_calculated"]]
    ratios = ratios_of_ends(measured.assign(rate=measured["batch"] / measured["seconds"]), "batch", "rate")
    largest, wanted = measured["batch"].max(), batches["batch"].max()
    here = f"{mean_of(ratios):.2f} times the rate of single clips in batches of {largest}"
    if largest < wanted:
        here += f"; {wanted} were calculated"
    verdict = mean_of([ratio - 1 + RATE_TOLERANCE for ratio in ratios]).verdict
    return ["4.6: batches up to 256 are efficient", DIVIDED, here, verdict]


def stream_row(streams: pandas.DataFrame) -> list[str]:
    """Whether a clip takes as long beside other streams as by itself."""
    ratios, count = ratios_of_ends(streams, "streams", "seconds"), streams["streams"].max()
    here = f"{mean_of(ratios):.2f} times the seconds a clip with {count} streams"
    verdict = mean_of([1 + RATE_TOLERANCE - ratio for ratio in ratios]).verdict
    return ["4.6: 8 streams with minimal latency increase", DIVIDED, here, verdict]


def ratios_of_ends(rows: pandas.DataFrame, axis: str, name: str) -> list[float]:
    """A figure at the largest size beside that at the smallest one, of each round."""
    ends = [rows[rows[axis] == size].set_index("seed")[name] for size in (rows[axis].max(), rows[axis].min())]
    return (ends[0] / ends[1]).to_list()


STUDY = Study(name="cost", cases=cases, prepare=prepare, measure=measure, draw=draw, tell=tell, is_timed=True)

if __name__ == "__main__":
    STUDY.main()
