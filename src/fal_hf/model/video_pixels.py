"""Decoded frames as upright RGB."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .video_source import VideoSource

# Starting threads for each frame costs more than they save; releases without the option start none.
SCALER_OPTIONS = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


class FrameConverter:
    """Frames of a source as upright RGB of the first frame's size; one that comes again at once is converted once.

    Attributes:
        shape: (height, width) of every image.
    """

    def __init__(self, source: VideoSource, first: av.VideoFrame):
        self.source = source
        self.reformatter = VideoReformatter()
        self.shape = upright_shape(first)
        self.frame: av.VideoFrame | None = None
        self.image: np.ndarray | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB, converted with the frame's own color matrix and range."""
        if self.image is None or frame is not self.frame:
            self.source.check_pixels(frame.width, frame.height)
            self.frame, self.image = frame, self._convert(frame)
        return self.image

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        swap, flip_rows, flip_columns = _orientation(frame)
        height, width = self.shape[::-1] if swap else self.shape
        image = self.reformatter.reformat(frame, width, height, "rgb24", **SCALER_OPTIONS).to_ndarray()
        image = image.transpose(1, 0, 2) if swap else image
        return image[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def upright_shape(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of a frame after rotation."""
    swap, _, _ = _orientation(frame)
    return (frame.width, frame.height) if swap else (frame.height, frame.width)


def rotation_degrees(frame: av.VideoFrame) -> int:
    """The clockwise turn that makes a frame upright: 0, 90, 180 or 270."""
    return round(-frame.rotation / 90) * 90 % 360


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How a stored frame becomes upright: swap rows and columns, then flip rows, then flip columns."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV has no name for
        data = None
    if data is None:
        return False, False, False
    # x' = a x + c y and y' = b x + d y; angles other than quarter turns are taken for the nearest one.
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


__all__ = ["FrameConverter", "rotation_degrees", "upright_shape"]
