"""Writes a film of 16 seconds in which the camera stands, pans right, stands, zooms in and pans left, for a timeline.

python examples/labeling/make_sample_film.py film.mp4
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from make_sample_video import FRAME_RATE, FRAME_SIZE, PICTURE_SIZE, draw_panorama, write_video
from PIL import Image

# Seconds, and where the view goes: centre x in pixels of the panorama, and how many of them make a frame's width.
SHOTS = [(3, 450, 640), (4, 1050, 640), (3, 1050, 640), (3, 1050, 400), (3, 700, 400)]


def views() -> Iterator[tuple[float, float]]:
    """Centre and width of each frame's view."""
    centre, width = SHOTS[0][1:]
    for seconds, next_centre, next_width in SHOTS:
        progress = np.linspace(0, 1, seconds * FRAME_RATE, endpoint=False)
        yield from zip(
            centre + progress * (next_centre - centre), width * (next_width / width) ** progress, strict=True
        )
        centre, width = next_centre, next_width


def cut_out(picture: Image.Image, centre: float, width: float) -> Image.Image:
    """One frame: the view scaled to the frame's size."""
    scale = width / FRAME_SIZE[0]
    left, top = centre - width / 2, (PICTURE_SIZE[1] - scale * FRAME_SIZE[1]) / 2
    matrix = (scale, 0, left, 0, scale, top)
    return picture.transform(FRAME_SIZE, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="file to write, for instance film.mp4")
    picture = draw_panorama(np.random.default_rng(0))
    write_video(parser.parse_args().output, [cut_out(picture, *view) for view in views()])


if __name__ == "__main__":
    main()
