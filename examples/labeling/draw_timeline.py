"""Draws the timeline of a video that `fal label --timeline --output labels.jsonl` has labelled, as SVG.

Each label that has a segment gets a row: the line is its score in each window, the bars are its segments. Scores of
labels that are not among a window's best (`--top-k`) are drawn as 0.

python examples/labeling/draw_timeline.py labels.jsonl timeline.svg
"""

import argparse
import html
import json
from pathlib import Path

WIDTH, ROW_HEIGHT, LEFT, MARGIN = 860, 44, 150, 16
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


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
    colour, top = COLOURS[row % len(COLOURS)], MARGIN + ROW_HEIGHT * row
    height = ROW_HEIGHT - 10
    parts = [f'<text x="{LEFT - 10}" y="{top + height / 2 + 4}" text-anchor="end">{html.escape(label)}</text>']
    for segment in (segment for segment in record["segments"] if segment["label"] == label):
        left = LEFT + segment["start_seconds"] * per_second
        width = (segment["end_seconds"] - segment["start_seconds"]) * per_second
        box = f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"'
        parts.append(f'<rect {box} rx="3" fill="{colour}" fill-opacity="0.3"/>')
        parts.append(f'<text x="{left + 5:.1f}" y="{top + 14}" font-size="11">{segment["score"]:.0%}</text>')
    points = []
    for window in record["windows"]:
        middle = (window["start_seconds"] + window["end_seconds"]) / 2
        score = next((scored["score"] for scored in window["labels"] if scored["label"] == label), 0.0)
        points.append(f"{LEFT + middle * per_second:.1f},{top + height * (1 - score):.1f}")
    parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="JSON Lines with windows and segments; the first video is drawn")
    parser.add_argument("output", type=Path, help="file to write, for instance timeline.svg")
    options = parser.parse_args()
    with open(options.labels, encoding="utf-8") as file:
        record = json.loads(next(file))
    if not record.get("segments"):
        parser.error(f"{options.labels}: expected a video with segments; label it with --timeline")
    options.output.write_text(draw(record), encoding="utf-8")


if __name__ == "__main__":
    main()
