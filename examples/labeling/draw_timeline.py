"""Draws the timeline of a video that `fal label --timeline --output labels.jsonl` has labeled, as SVG.

Each label that has a segment gets a row: the line is its score in each window, the bars are its segments. Scores of
labels that are not among a window's best (`--top-k`) are drawn as 0. A strip of the video's frames, each above its own
stretch of time, is a picture of the same width.

python examples/labeling/draw_timeline.py labels.jsonl timeline.svg --film-strip film.jpg
"""

import argparse
import html
import json
from pathlib import Path

from PIL import Image

WIDTH, ROW_HEIGHT, LEFT, MARGIN = 860, 44, 150, 16
STRIP_FRAMES, STRIP_SCALE = 8, 2  # the strip has more pixels than the timeline, for fine screens
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def draw(record: dict) -> str:
    """The SVG of one record with `segments` and `windows`."""
    labels = list(dict.fromkeys(segment["label"] for segment in record["segments"]))
    bottom = MARGIN + ROW_HEIGHT * len(labels)
    per_second = (WIDTH - LEFT - MARGIN) / record["duration_seconds"]
    parts = [part for row, label in enumerate(labels) for part in draw_row(record, row, label, per_second)]
    parts += draw_axis(record["duration_seconds"], bottom, per_second)
    size = f'width="{WIDTH}" height="{bottom + 34}"'
    style = 'font-family="sans-serif" font-size="13" fill="#333"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', background, *parts, "</svg>", ""])


def draw_row(record: dict, row: int, label: str, per_second: float) -> list[str]:
    """A label's name, its segments as bars and its scores as a line."""
    color, top = COLORS[row % len(COLORS)], MARGIN + ROW_HEIGHT * row
    height = ROW_HEIGHT - 10
    parts = [f'<text x="{LEFT - 10}" y="{top + height / 2 + 4}" text-anchor="end">{html.escape(label)}</text>']
    for segment in (segment for segment in record["segments"] if segment["label"] == label):
        left = LEFT + segment["start_seconds"] * per_second
        width = (segment["end_seconds"] - segment["start_seconds"]) * per_second
        box = f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"'
        parts.append(f'<rect {box} rx="3" fill="{color}" fill-opacity="0.3"/>')
        parts.append(f'<text x="{left + 5:.1f}" y="{top + 14}" font-size="11">{segment["score"]:.0%}</text>')
    points = []
    for window in record["windows"]:
        middle = (window["start_seconds"] + window["end_seconds"]) / 2
        score = next((scored["score"] for scored in window["labels"] if scored["label"] == label), 0.0)
        points.append(f"{LEFT + middle * per_second:.1f},{top + height * (1 - score):.1f}")
    parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
    return parts


def draw_axis(duration_seconds: float, bottom: float, per_second: float) -> list[str]:
    """A line with about ten marks."""
    parts = [f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - MARGIN}" y2="{bottom}" stroke="#999"/>']
    step = max(1, round(duration_seconds / 10))
    for seconds in range(0, int(duration_seconds) + 1, step):
        parts.append(
            f'<text x="{LEFT + seconds * per_second:.1f}" y="{bottom + 18}" text-anchor="middle">{seconds} s</text>'
        )
    return parts


def draw_film_strip(record: dict) -> Image.Image:
    """Frames side by side, each the middle one of the stretch of time that it stands above in the timeline."""
    from fal_hf import read_frames  # here: importing it takes seconds, and a timeline alone does not need it

    duration_seconds = record["duration_seconds"]
    seconds = [(index + 0.5) * duration_seconds / STRIP_FRAMES for index in range(STRIP_FRAMES)]
    frames = [Image.fromarray(frame) for frame in read_frames(record["video"], seconds=seconds).frames]
    width = STRIP_SCALE * (WIDTH - LEFT - MARGIN) / STRIP_FRAMES
    height = round(width * frames[0].height / frames[0].width)
    strip = Image.new("RGB", (STRIP_SCALE * WIDTH, height), "white")
    for index, frame in enumerate(frames):
        picture = frame.resize((round(width) - 2 * STRIP_SCALE, height))
        strip.paste(picture, (round(STRIP_SCALE * LEFT + index * width), 0))
    return strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="JSON Lines with windows and segments; the first video is drawn")
    parser.add_argument("output", type=Path, help="file to write, for instance timeline.svg")
    parser.add_argument("--film-strip", type=Path, metavar="FILE", help="write frames of the video as well, as .jpg")
    options = parser.parse_args()
    with open(options.labels, encoding="utf-8") as file:
        record = json.loads(next(file))
    if not record.get("segments"):
        parser.error(f"{options.labels}: expected a video with segments; label it with --timeline")
    options.output.write_text(draw(record), encoding="utf-8")
    if options.film_strip is not None:
        draw_film_strip(record).save(options.film_strip)


if __name__ == "__main__":
    main()
