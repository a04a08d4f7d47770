"""
Explanations as files: films, animations and sheets of the frames that a model saw beside where it looked in them, and
the numbers themselves.

What is hot is bright: colors are those of a cubehelix (Green 2011, arXiv:1108.5083), whose lightness rises evenly, for
people who see no colors and on paper as well.
"""

import math
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..labeling.explanations import Explanation
from ..labeling.label_files import OutputError, check_folder, whole_file
from ..model.video_writing import write_video

# Pixels: a frame's shorter side at least; around everything, even as films need it; a line of text; the curve.
LEAST_SIDE, MARGIN, LINE, CURVE = 240, 10, 18, 48
# Of a frame on a sheet, and how many there are at most.
SHEET_SIDE, SHEET_FRAMES = 160, 8
# Frames a second that a film has: the video's own pace within these, so that eyes can follow it.
SLOWEST, FASTEST = 2, 10
BACKGROUND, TEXT, FAINT, CURVE_COLOR, NOW = "#101014", "#f0f0f0", "#50505a", "#ffb060", "#ffffff"
# How much of an overlay is heat; the rest is the frame.
OPACITY = 0.65


def check_picture(path: str | PathLike) -> None:
    """Refuses, by an OutputError, a file that no explanation can be written to, before there is one."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"{fspath(path)}: expected a suffix among {', '.join(FORMATS)}, got {suffix or 'none'}")
    if Path(path).is_dir():
        raise OutputError(f"{fspath(path)}: expected a file, got a folder")
    check_folder(Path(path).parent)


def write_explanation(path: str | PathLike, explanation: Explanation) -> None:
    """
    Writes an explanation in the format that the suffix names.

    Args:
        path: `.mp4` (H.264) and `.gif`: each frame beside its heat, above a curve over time; `.png` and `.jpg`: up to
            8 frames on a sheet; `.npz`: `heat`, `seconds`, `frames`, `label`, `score` and `method` of the explanation.
        explanation: What a labeler's `explain` returns.

    Raises:
        OutputError: (a `ValueError`) the suffix is another one, or the file cannot be there.
        OSError: the file cannot be written; what was there before still is.
    """
    check_picture(path)
    with whole_file(Path(path), mode="wb") as file:
        FORMATS[Path(path).suffix.lower()](file, explanation)


# ---- files ----


def _write_film(file: IO[bytes], explanation: Explanation) -> None:
    write_video(file.name, np.stack(draw_film(explanation)), frame_rate=find_frame_rate(explanation.seconds))


def _write_animation(file: IO[bytes], explanation: Explanation) -> None:
    first, *others = (Image.fromarray(picture) for picture in draw_film(explanation))
    milliseconds = round(1000 / find_frame_rate(explanation.seconds))
    first.save(file, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def _write_sheet(file: IO[bytes], explanation: Explanation) -> None:
    Image.fromarray(draw_sheet(explanation)).save(file, "PNG", optimize=True)


def _write_photo(file: IO[bytes], explanation: Explanation) -> None:
    Image.fromarray(draw_sheet(explanation)).save(file, "JPEG", quality=85)


def _write_numbers(file: IO[bytes], explanation: Explanation) -> None:
    arrays = {"heat": explanation.heat, "seconds": explanation.seconds, "frames": explanation.frames}
    about = {"label": explanation.label, "score": explanation.score, "method": explanation.method}
    np.savez_compressed(file, allow_pickle=False, **arrays, **about)


FORMATS: dict[str, Callable[[IO[bytes], Explanation], None]] = {
    ".mp4": _write_film,
    ".gif": _write_animation,
    ".png": _write_sheet,
    ".jpg": _write_photo,
    ".npz": _write_numbers,
}


def find_frame_rate(seconds: np.ndarray) -> int:
    """Frames a second of a film of frames at these times, `(T,)` seconds."""
    span = float(seconds[-1] - seconds[0])
    return FASTEST if span == 0 else int(np.clip(round((len(seconds) - 1) / span), SLOWEST, FASTEST))


# ---- pictures ----


def draw_film(explanation: Explanation) -> list[np.ndarray]:
    """A picture for each frame, `(height, width, 3)` uint8 of even sides: the frame, its heat and the curve."""
    width, height = fit_frame(explanation.frames.shape[1:3], at_least=LEAST_SIDE)
    top = MARGIN + LINE + MARGIN
    bottom = top + height + MARGIN + CURVE + MARGIN
    size = (2 * width + 3 * MARGIN, bottom + bottom % 2)
    pictures = []
    for number, seconds in enumerate(explanation.seconds):
        canvas = Image.new("RGB", size, BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        draw_title(draw, explanation, f"{seconds:.2f} s", size[0])
        frame, overlay = draw_frame(explanation, number, (width, height))
        canvas.paste(frame, (MARGIN, top))
        canvas.paste(overlay, (2 * MARGIN + width, top))
        box = (MARGIN, top + height + MARGIN, size[0] - MARGIN, top + height + MARGIN + CURVE)
        draw_curve(draw, explanation, box, now=float(seconds))
        pictures.append(np.asarray(canvas))
    return pictures


def draw_sheet(explanation: Explanation) -> np.ndarray:
    """Frames spread over the clip above their heat, and the curve, `(height, width, 3)` uint8."""
    total = len(explanation.seconds)
    numbers = np.unique(np.linspace(0, total - 1, min(total, SHEET_FRAMES)).round().astype(int))
    height, width = explanation.frames.shape[1:3]
    scale = SHEET_SIDE / min(height, width)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    top = MARGIN + LINE + MARGIN
    step = width + MARGIN
    size = (len(numbers) * step + MARGIN, top + 2 * height + LINE + 2 * MARGIN + CURVE + MARGIN)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw_title(draw, explanation, "", size[0])
    for column, number in enumerate(numbers):
        left = MARGIN + column * step
        frame, overlay = draw_frame(explanation, number, (width, height))
        canvas.paste(frame, (left, top))
        canvas.paste(overlay, (left, top + height))
        draw.text((left, top + 2 * height + 3), f"{explanation.seconds[number]:.2f} s", fill=TEXT, font=find_font())
    bottom = top + 2 * height + LINE + MARGIN
    draw_curve(draw, explanation, (MARGIN, bottom, size[0] - MARGIN, bottom + CURVE))
    return np.asarray(canvas)


def fit_frame(shape: tuple[int, int], *, at_least: int) -> tuple[int, int]:
    """Width and height at which a frame of (height, width) is shown: its own, or times a number where it is small."""
    height, width = shape
    times = max(1, math.ceil(at_least / min(height, width)))
    return times * width, times * height


def draw_frame(explanation: Explanation, number: int, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """A frame, and its heat over it, at (width, height)."""
    frame = Image.fromarray(explanation.frames[number]).resize(size, Image.Resampling.BICUBIC)
    share = explanation.heat[number] / (explanation.heat.max() or 1.0)  # frames are to be compared with one another
    heat = np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    return frame, Image.blend(frame, Image.fromarray(color_heat(heat)), OPACITY)


def color_heat(heat: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], of any shape, to RGB colors `(..., 3)` uint8 of a cubehelix, black to white."""
    heat = np.asarray(heat, dtype=np.float32).clip(0, 1)
    angle = 2 * np.pi * (0.5 / 3 + 1 - 0.9 * heat)
    depth = 1.3 * heat * (1 - heat) / 2
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    directions = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]], dtype=np.float32)
    colors = heat[..., None] + depth[..., None] * (waves @ directions.T)
    return (255 * colors.clip(0, 1)).round().astype(np.uint8)


def draw_title(draw: ImageDraw.ImageDraw, explanation: Explanation, time: str, width: int) -> None:
    """A line with label, score and method, and at its right end the time."""
    font = find_font()
    about = f"  {explanation.score:.1%}  {explanation.method}"
    room = width - 3 * MARGIN - font.getlength(about) - font.getlength(time)
    label = " ".join(explanation.label.encode("utf-8", "backslashreplace").decode().split())
    if font.getlength(label) > room:
        while label and font.getlength(f"{label}...") > room:
            label = label[:-1]
        label = f"{label}..."
    draw.text((MARGIN, MARGIN), f"{label}{about}", fill=TEXT, font=font)
    draw.text((width - MARGIN - font.getlength(time), MARGIN), time, fill=TEXT, font=font)


def draw_curve(
    draw: ImageDraw.ImageDraw, explanation: Explanation, box: tuple[int, int, int, int], now: float | None = None
) -> None:
    """Each frame's share over time, from 0 to the largest, in a box of left, top, right and bottom."""
    left, top, right, bottom = box
    seconds, shares = explanation.seconds, explanation.by_frame
    span, most = float(seconds[-1] - seconds[0]) or 1.0, float(shares.max()) or 1.0

    def place(second: float, share: float) -> tuple[float, float]:
        return left + (right - left) * (second - float(seconds[0])) / span, bottom - (bottom - top) * share / most

    draw.line([(left, bottom), (right, bottom)], fill=FAINT)
    points = [place(float(second), float(share)) for second, share in zip(seconds, shares, strict=True)]
    draw.line(points, fill=CURVE_COLOR, width=2)
    for x, y in points:
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=CURVE_COLOR)
    if now is not None:
        draw.line([place(now, 0.0), place(now, most)], fill=NOW)


def find_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with PIL."""
    return ImageFont.load_default(size=13)


__all__ = ["check_picture", "color_heat", "draw_film", "draw_sheet", "write_explanation"]
