"""The picture of a timeline."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from media_files import write_video
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "labeling" / "draw_timeline.py"
SVG = "{http://www.w3.org/2000/svg}"
WINDOWS = [
    {"start_seconds": float(second), "end_seconds": second + 1.0, "labels": [{"label": "a<b", "score": score}]}
    for second, score in enumerate([0.9, 0.8, 0.1, 0.7])
]
SEGMENTS = [
    {"label": "a<b", "start_seconds": 0.0, "end_seconds": 2.0, "score": 0.85, "peak": 0.9},
    {"label": "a<b", "start_seconds": 3.0, "end_seconds": 4.0, "score": 0.7, "peak": 0.7},
    {"label": "c", "start_seconds": 2.0, "end_seconds": 3.0, "score": 0.6, "peak": 0.6},
]


def run_script(tmp_path, record, *options: str) -> subprocess.CompletedProcess:
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps(record) + "\n")
    command = [sys.executable, str(SCRIPT), str(labels), str(tmp_path / "timeline.svg"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_timeline_has_a_bar_a_segment_and_a_line_a_label(tmp_path):
    run_script(tmp_path, {"duration_seconds": 4.0, "windows": WINDOWS, "segments": SEGMENTS}).check_returncode()
    root = ElementTree.parse(tmp_path / "timeline.svg").getroot()
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("rx")]
    widths = [float(bar.get("width")) for bar in bars]
    assert len(bars) == 3 and widths[0] == 2 * widths[1] == 2 * widths[2]
    assert [len(line.get("points").split()) for line in root.iter(f"{SVG}polyline")] == [4, 4]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a<b" in texts and "85%" in texts and "4 s" in texts


def test_a_video_without_segments_is_refused(tmp_path):
    process = run_script(tmp_path, {"duration_seconds": 4.0, "labels": []})
    assert process.returncode == 2 and "label it with --timeline" in process.stderr


def test_each_frame_of_the_strip_stands_above_its_own_stretch_of_time(tmp_path):
    dark, bright = np.zeros((20, 48, 64, 3), np.uint8), np.full((20, 48, 64, 3), 240, np.uint8)
    write_video(tmp_path / "film.mp4", np.concatenate([dark, bright]), rate=10)
    record = {"video": str(tmp_path / "film.mp4"), "duration_seconds": 4.0, "windows": WINDOWS, "segments": SEGMENTS}
    run_script(tmp_path, record, "--film-strip", str(tmp_path / "film.jpg")).check_returncode()
    strip = np.asarray(Image.open(tmp_path / "film.jpg").convert("L"), dtype=float)
    svg = ElementTree.parse(tmp_path / "timeline.svg").getroot()
    assert strip.shape[1] % int(svg.get("width")) == 0
    scale = strip.shape[1] // int(svg.get("width"))
    axis = svg.find(f"{SVG}line")
    left, right = scale * float(axis.get("x1")), scale * float(axis.get("x2"))
    middle = round((left + right) / 2)
    assert strip[:, : round(left) - 4].min() > 250  # nothing above the names
    assert strip[:, round(left) + 8 : middle - 8].mean() < 60 < 200 < strip[:, middle + 8 : round(right) - 8].mean()
