"""Writes a short sample video without any download: the camera pans to the right over a drawn mountain range.

python examples/labeling/make_sample_video.py sample.mp4
"""

import argparse
from pathlib import Path

import av
import numpy as np
from PIL import Image

PICTURE_SIZE = (1600, 480)  # width, height of the drawn panorama in pixels
FRAME_SIZE = (640, 360)
SECONDS, FRAME_RATE = 3, 25


def draw_panorama(rng: np.random.Generator) -> Image.Image:
    """A sky over six ranges of hills, the nearer the darker, with fine texture everywhere."""
    width, height = PICTURE_SIZE
    rows = np.arange(height)[:, None]
    picture = np.array([120, 170, 225]) + rows[..., None] / height * np.array([110, 60, 10])  # (height, 1, 3) sky
    picture = np.broadcast_to(picture, (height, width, 3)).copy()
    for depth in range(6):
        steps = rng.normal(size=width // 4)
        ridge = np.convolve(np.cumsum(steps), np.ones(9) / 9, mode="same")
        ridge = np.interp(np.arange(width), np.arange(0, width, 4), ridge - ridge.mean())
        top = height * (0.25 + 0.12 * depth) + ridge * (6 - depth)
        color = np.array([95, 120, 130]) * (1 - 0.14 * depth) + np.array([0, 12, 0]) * depth
        texture = 1 + 0.12 * rng.normal(size=(height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
        picture = np.where((rows > top)[..., None], color * texture[..., None], picture)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def pan_right(picture: Image.Image) -> list[Image.Image]:
    """The frames of a camera that turns right: the view slides over the picture from left to right."""
    width, height = FRAME_SIZE
    top = (PICTURE_SIZE[1] - height) / 2
    lefts = np.linspace(100, PICTURE_SIZE[0] - width - 100, SECONDS * FRAME_RATE)
    return [
        picture.transform(FRAME_SIZE, Image.Transform.AFFINE, (1, 0, left, 0, 1, top), Image.Resampling.BICUBIC)
        for left in lefts
    ]


def write_video(path: Path, frames: list[Image.Image]) -> None:
    """Writes frames as H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="file to write, for instance sample.mp4")
    write_video(parser.parse_args().output, pan_right(draw_panorama(np.random.default_rng(0))))


if __name__ == "__main__":
    main()
