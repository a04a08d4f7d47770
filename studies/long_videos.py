"""Whether longer clips tell more of a long video (paper, section 4.13 and table 8).

    python studies/long_videos.py

A film of nearly seven minutes shows sixteen short events, stripes that lie or stand, so far apart that 8.5 seconds
see one of them at most. Its label is how many of them stand. Small models of 8, 32, 64 and 96 frames, 1.07 seconds
apart as in the paper, are trained from nothing on random clips of such films; a test film is covered by as many clips
as it takes, without overlap, and their scores are averaged.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
from comparison import NUM_SEEDS
from data_sets import SIDE, two_folders, write_clips
from intervals import mean_difference, mean_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from small_training import SMALL, train_small, write_start
from study import Case, Setting, Study, Value, origin_line

from fal_hf import FALConfig
from fal_hf.training import ModelArguments

# Frames of a clip, with the paper's accuracies.
PAPER = {8: 56.8, 32: 61.2, 64: 62.2, 96: 62.6}
# Every 32nd frame of 30 a second; 48 clips of 8 frames, 12 of 32, 6 of 64 or 4 of 96 cover a film.
FRAME_RATE = Fraction(30, 32)
FILM_FRAMES = 384
# Events, the frames of each, and the least distance from one's first frame to the next one's.
NUM_EVENTS, EVENT_FRAMES, LEAST_DISTANCE = 16, 2, 10
# How many of them stand, by label.
STANDING = {"two": 2, "six": 6, "ten": 10, "fourteen": 14}
STRIPE_PIXELS = 4
CHANCE = 100 / len(STANDING)
# A patch of a quarter of the frame: what matters here is far apart in time.
CONFIG = {**SMALL, "patch_size": 16}
# Training and test films of each label.
FILMS = {"toy": (4, 1), "small": (100, 25), "full": (400, 200)}
EPOCHS = {"toy": 1, "small": 10, "full": 40}


def draw_film(rng: np.random.Generator, label: str) -> np.ndarray:
    """(FILM_FRAMES, SIDE, SIDE, 3) uint8: an event in each of equal parts, at any time of it, on noise."""
    part = FILM_FRAMES // NUM_EVENTS
    starts = part * np.arange(NUM_EVENTS) + rng.integers(0, part - LEAST_DISTANCE + 1, NUM_EVENTS)
    stands = rng.permutation(NUM_EVENTS) < STANDING[label]
    stripes = np.where(np.arange(SIDE) // STRIPE_PIXELS % 2, 1, -1)
    frames = rng.normal(110, 12, (FILM_FRAMES, SIDE, SIDE))
    for start, is_standing in zip(starts, stands, strict=True):
        pattern = stripes[None, :] if is_standing else stripes[:, None]
        frames[start : start + EVENT_FRAMES] += rng.uniform(40, 70) * pattern
    return np.repeat(np.clip(frames, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def prepare(files: Path, setting: Setting) -> None:
    """Writes `films-<setting>/<train or test>/<label>/<number>.mp4`, where they are not there yet."""
    for seed, (part, count) in enumerate(zip(("train", "test"), FILMS[setting], strict=True)):
        folder = films_folder(files, setting) / part
        write_clips(folder, draw_film, tuple(STANDING), count=count, seed=1 + seed, frame_rate=FRAME_RATE)


def films_folder(files: Path, setting: Setting) -> Path:
    return files / f"films-{setting}"


def cases(setting: Setting) -> Sequence[Case]:
    return [
        {"num_frames": num_frames, "num_clips": FILM_FRAMES // num_frames, "seed": seed}
        for num_frames in (list(PAPER)[:2] if setting == "toy" else PAPER)
        for seed in range(NUM_SEEDS[setting])
    ]


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    num_frames, seed = case["num_frames"], case["seed"]
    folder = files / f"{setting}-{num_frames}-{seed}"
    config = FALConfig.from_preset("fal-small", **CONFIG, num_frames=num_frames, image_size=SIDE)
    write_start(folder / "start", config, seed=seed)
    result, _ = train_small(
        folder,
        two_folders(films_folder(files, setting)),
        ModelArguments(
            model_name_or_path=str(folder / "start"),
            num_frames=num_frames,
            image_size=SIDE,
            frame_interval_seconds=float(1 / FRAME_RATE),
            eval_num_clips=case["num_clips"],
        ),
        epochs=EPOCHS[setting],
        seed=seed,
        use_cpu=True,
    )
    return {"accuracy_percent": 100 * result.figures["test"]["accuracy"]}


def draw(table: pandas.DataFrame) -> Figure:
    """Accuracy over what a clip covers: a dot a model, a line through the means."""
    figure, axes = pyplot.subplots()
    seconds = table["num_frames"] / float(FRAME_RATE)
    axes.plot(seconds, table["accuracy_percent"], "o", color="C0", alpha=0.4, markersize=4)
    means = table.groupby(seconds)["accuracy_percent"].mean()
    axes.plot(means.index, means, "-", color="black", label="mean")
    paper = {frames / float(FRAME_RATE): PAPER[frames] for frames in table["num_frames"].unique()}
    axes.plot(paper.keys(), paper.values(), "s--", color="gray", markersize=4, label="the paper's, on other videos")
    axes.axhline(CHANCE, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(list(paper), [f"{each:.1f}" for each in paper])
    axes.set_xlabel("seconds that a clip covers")
    axes.set_ylabel("accuracy, %")
    axes.legend()
    return figure


def tell(table: pandas.DataFrame) -> str:
    lines = [
        origin_line(table, "python studies/long_videos.py"),
        "",
        "| frames of a clip | seconds it covers | clips of a film | accuracy, % | in the paper, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    counts = table["num_frames"].unique()
    rows = {count: table[table["num_frames"] == count] for count in counts}
    for count in counts:
        accuracy = mean_of(rows[count]["accuracy_percent"].to_list())
        seconds, clips = count / float(FRAME_RATE), rows[count]["num_clips"].iloc[0]
        lines.append(f"| {count} | {seconds:.1f} | {clips} | {accuracy} | {PAPER[count]} |")
    lines += [f"| always one label | | | {CHANCE:.1f} | |", "", "| points gained | in the paper | here |"]
    lines.append("| --- | --- | --- |")
    pairs = [*pairwise(counts), *([(counts[0], counts[-1])] if len(counts) > 2 else [])]
    for fewer, more in pairs:
        gain = mean_difference(rows[more], rows[fewer], "accuracy_percent")
        in_paper = PAPER[more] - PAPER[fewer]
        lines.append(f"| {more} frames over {fewer} | {in_paper:.1f} | {gain}: {gain.verdict} |")
    return "\n".join([*lines, ""])


STUDY = Study(name="long_videos", cases=cases, prepare=prepare, measure=measure, draw=draw, tell=tell)

if __name__ == "__main__":
    STUDY.main()
