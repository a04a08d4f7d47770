"""Clips to train the camera-motion checkpoint on: rendering, a replay buffer, and the symmetries of the task."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from rendering import (
    FOREGROUND_AREA_MAX,
    LABELS,
    Shot,
    draw_shot,
    edge_speed,
    h264_round_trip,
    load_photo,
    patch_flow,
    render_frames,
    without_distractions,
)
from torchvision.transforms.v2 import functional as tvf

FRAME_INTERVAL_SECONDS = 0.125
NUM_FRAMES = 8
VISIBLE_MOTION = 0.012  # a window that moves less than this many short sides is labeled static
MIXTURE_MAX = 0.97  # a few clean clips stay in the mixture
DIRECTION_PAIRS = (
    ("pan_left", "pan_right"),
    ("tilt_up", "tilt_down"),
    ("zoom_in", "zoom_out"),
    ("roll_clockwise", "roll_counterclockwise"),
)


@dataclass
class ClipBatch:
    """Rendered clips: `pixels` uint8 (N, T, 3, S, S), `flow` (N, T, h, w, 2) in short sides a step, `labels` (N,)."""

    pixels: torch.Tensor
    flow: torch.Tensor
    labels: torch.Tensor

    def __getitem__(self, index) -> "ClipBatch":
        return ClipBatch(self.pixels[index], self.flow[index], self.labels[index])

    def to(self, device: torch.device) -> "ClipBatch":
        return ClipBatch(self.pixels.to(device), self.flow.to(device), self.labels.to(device))

    def __setitem__(self, index, clips: "ClipBatch"):
        self.pixels[index], self.flow[index], self.labels[index] = clips.pixels, clips.flow, clips.labels

    @classmethod
    def empty(cls, count: int, *, image_size: int, grid: int) -> "ClipBatch":
        return cls(
            torch.zeros(count, NUM_FRAMES, 3, image_size, image_size, dtype=torch.uint8),
            torch.zeros(count, NUM_FRAMES, grid, grid, 2),
            torch.zeros(count, dtype=torch.long),
        )


def window_label(shot: Shot, times: np.ndarray) -> str:
    """The label of a part of a shot: a pan that has not begun yet is static."""
    if shot.label in ("static", "shake"):
        return shot.label
    start, end = shot.path.progress(times[[0, -1]])
    return shot.label if edge_speed(shot.path.rates) * (end - start) >= VISIBLE_MOTION else "static"


def render_window(
    rng: np.random.Generator, shot: Shot, photo: np.ndarray, times: np.ndarray, *, image_size: int, compressed: bool
) -> torch.Tensor:
    """Renders the shot's central square at `times` as the processor would deliver it, uint8 (T, 3, S, S)."""
    side = 2 * round(image_size * rng.uniform(1.2, 2.0) / 2)
    if compressed:
        first, last = (round(time * shot.frame_rate) for time in times[[0, -1]])
        every = np.arange(first, last + 1) / shot.frame_rate
        frames = render_frames(shot, photo, every, size=(side, side))
        frames = h264_round_trip(frames, frame_rate=shot.frame_rate, crf=int(rng.integers(18, 36)), preset="superfast")
        frames = frames[[round(time * shot.frame_rate) - first for time in times]]
    else:
        frames = render_frames(shot, photo, times, size=(side, side))
    return tvf.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [image_size, image_size], antialias=True)


def render_training_clip(
    rng: np.random.Generator, photos: list[Path], *, image_size: int, grid: int, difficulty: float
) -> tuple[torch.Tensor, np.ndarray, int]:
    """Renders one clip.

    At `difficulty` 0 all are blurred and clean, at 1 nearly all are as the files of the evaluation, and up to 2 more
    and larger objects move in front of the camera than there.
    """
    label = LABELS[rng.integers(len(LABELS))]
    photo = load_photo(photos[rng.integers(len(photos))])
    easy, crowd = rng.uniform() >= min(difficulty, MIXTURE_MAX), max(difficulty - 1, 0.0)
    num_objects = 0 if easy or rng.uniform() < 0.55 - 0.15 * crowd else rng.integers(1, 4)
    textures = [load_photo(photos[rng.integers(len(photos))]) for _ in range(num_objects)]
    shot = draw_shot(rng, label, photo, textures=textures, foreground_area=FOREGROUND_AREA_MAX * (1 + 0.8 * crowd))
    if easy:
        shot = without_distractions(shot)
        photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(1, 8))
    span = (NUM_FRAMES - 1) * FRAME_INTERVAL_SECONDS
    start = rng.uniform(0, shot.duration_seconds - span)
    times = start + FRAME_INTERVAL_SECONDS * np.arange(NUM_FRAMES)
    times = np.floor(times * shot.frame_rate + 1e-6) / shot.frame_rate  # the frame on display
    compressed = not easy and rng.uniform() < 0.5
    pixels = render_window(rng, shot, photo, times, image_size=image_size, compressed=compressed)
    return pixels, patch_flow(shot, times, grid), LABELS.index(window_label(shot, times))


def render_clips(
    rng: np.random.Generator, photos: list[Path], count: int, *, image_size: int, grid: int, difficulty: float
) -> ClipBatch:
    """Renders `count` clips of random labels."""
    clips = ClipBatch.empty(count, image_size=image_size, grid=grid)
    for index in range(count):
        pixels, flow, label = render_training_clip(
            rng, photos, image_size=image_size, grid=grid, difficulty=difficulty
        )
        clips[index] = ClipBatch(pixels, torch.from_numpy(flow), torch.tensor(label))
    return clips


def render_forever(clips_queue, difficulty, photos: list[Path], seed: int, chunk: int, image_size: int, grid: int):
    """The worker process: renders chunks of clips as long as somebody takes them."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    while True:
        clips = render_clips(rng, photos, chunk, image_size=image_size, grid=grid, difficulty=difficulty.value)
        clips_queue.put((clips.pixels.numpy(), clips.flow.numpy(), clips.labels.numpy()))


class ReplayBuffer:
    """A ring of rendered clips that worker processes keep filling."""

    def __init__(self, photos: list[Path], *, capacity: int, image_size: int, grid: int, seed: int, workers: int):
        context = multiprocessing.get_context("spawn")
        self.clips = ClipBatch.empty(capacity, image_size=image_size, grid=grid)
        self.filled = self.received = 0
        self.first_needed = min(capacity, 512)
        self.difficulty = context.Value("d", 0.0)
        self.queue = context.Queue(maxsize=8)
        self.workers = [
            context.Process(
                target=render_forever,
                args=(self.queue, self.difficulty, photos, seed + worker, 16, image_size, grid),
                daemon=True,
            )
            for worker in range(workers)
        ]
        for worker in self.workers:
            worker.start()

    def receive(self, *, at_least: int):
        """Takes rendered clips until `at_least` have come since the start."""
        while self.received < at_least:
            chunk = ClipBatch(*(torch.from_numpy(array) for array in self.queue.get(timeout=300)))
            capacity = len(self.clips.labels)
            self.clips[torch.arange(self.received, self.received + len(chunk.labels)) % capacity] = chunk
            self.received += len(chunk.labels)
            self.filled = min(self.received, capacity)

    def sample(self, count: int) -> ClipBatch:
        return self.clips[torch.randint(self.filled, (count,))]

    def close(self):
        for worker in self.workers:
            worker.terminate()


# Symmetries


def swapped(*pairs: tuple[str, str]) -> torch.Tensor:
    """The permutation of label indices that exchanges the given pairs."""
    order = torch.arange(len(LABELS))
    for first, second in pairs:
        a, b = LABELS.index(first), LABELS.index(second)
        order[[a, b]] = order[[b, a]]
    return order


PAN, TILT, ZOOM, ROLL = DIRECTION_PAIRS
MIRRORED, UPSIDE_DOWN, REVERSED = swapped(PAN, ROLL), swapped(TILT, ROLL), swapped(PAN, TILT, ZOOM, ROLL)
TRANSPOSED = swapped(("pan_right", "tilt_down"), ("pan_left", "tilt_up"), ROLL)


def mirror(clips: ClipBatch) -> ClipBatch:
    return ClipBatch(clips.pixels.flip(-1), clips.flow.flip(3) * torch.tensor([-1.0, 1.0]), MIRRORED[clips.labels])


def turn_upside_down(clips: ClipBatch) -> ClipBatch:
    return ClipBatch(clips.pixels.flip(-2), clips.flow.flip(2) * torch.tensor([1.0, -1.0]), UPSIDE_DOWN[clips.labels])


def transpose(clips: ClipBatch) -> ClipBatch:
    return ClipBatch(clips.pixels.transpose(-1, -2), clips.flow.transpose(2, 3).flip(-1), TRANSPOSED[clips.labels])


def reverse(clips: ClipBatch) -> ClipBatch:
    backwards = -clips.flow[:, :-1].flip(1)
    return ClipBatch(clips.pixels.flip(1), torch.cat([backwards, backwards[:, -1:]], 1), REVERSED[clips.labels])


def random_symmetries(clips: ClipBatch) -> ClipBatch:
    """Applies each symmetry to a random half of the clips."""
    for symmetry in (mirror, turn_upside_down, transpose, reverse):
        chosen = torch.rand(len(clips.labels)) < 0.5
        clips[chosen] = symmetry(clips[chosen])
    return clips


def random_patches(clips: ClipBatch, patch_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One random patch of each clip: pixels (B, T, 3, P, P), place (B,) in the position table, motion (B, T, 2)."""
    count, grid = len(clips.labels), clips.flow.shape[2]
    each, rows, columns = torch.arange(count), torch.randint(grid, (count,)), torch.randint(grid, (count,))
    patches = clips.pixels.unflatten(-1, (grid, patch_size)).unflatten(-3, (grid, patch_size))
    patches = patches.permute(0, 3, 5, 1, 2, 4, 6)[each, rows, columns]
    return patches, rows * grid + columns, clips.flow.permute(0, 2, 3, 1, 4)[each, rows, columns]
