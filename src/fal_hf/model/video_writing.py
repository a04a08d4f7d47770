"""Frames to video files, for clips that are rendered or come as arrays."""

import shutil
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np


def write_video(
    path: str | Path, frames: np.ndarray, *, frame_rate: int | Fraction, crf: int = 18, preset: str = "medium"
) -> None:
    """
    Writes frames as an H.264 MP4 file, which plays in browsers while it comes.

    Args:
        path: The file; its folder exists.
        frames: (N, H, W, 3) uint8 RGB, H and W even.
        frame_rate: Frames a second, a fraction where that is no whole number.
        crf: x264's constant rate factor: 18 is visually lossless, 35 is coarse.
        preset: x264's preset: "veryfast" is fast, "medium" makes smaller files.

    Raises:
        ValueError: the frames are none of these.
    """
    frames = np.asarray(frames)
    if (
        frames.ndim != 4
        or frames.shape[3] != 3
        or frames.dtype != np.uint8
        or frames.shape[1] % 2 + frames.shape[2] % 2
    ):
        raise ValueError(
            f"{path}: expected frames (N, H, W, 3) uint8 of even height and width, got {frames.shape} {frames.dtype}"
        )
    with TemporaryDirectory() as folder:
        whole = Path(folder) / "video.mp4"
        with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=frame_rate, options={"crf": str(crf), "preset": preset})
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
            container.mux(stream.encode(None))
        shutil.copyfile(whole, path)


__all__ = ["write_video"]
