"""What a video is, as measured; and a stretch of one, which is planned and read as if it were a video by itself."""

import math
from dataclasses import dataclass, replace

# An instant this little before a frame's time counts as that frame's: users round instants, frames rarely last less.
INSTANT_TOLERANCE_SECONDS = 1e-6


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video is, as measured.

    Attributes:
        width, height: pixels of an upright frame (after rotation).
        start_seconds: the container's time of the first frame; instants elsewhere count from it.
        duration_seconds: from the first frame to the end of the last one that the file really holds.
        num_frames: frames in the file; None where only decoding all of it would tell.
        frame_rate: mean frames per second; None where neither container nor packets tell.
        is_steady: whether all frames last equally long, as far as the header and the packets that were read tell.
        rotation_degrees: clockwise turn (0, 90, 180 or 270) that makes the stored frames upright.
        codec: FFmpeg's name, e.g. "h264".
        pixel_format: FFmpeg's name of the stored format, e.g. "yuv420p".
    """

    width: int
    height: int
    start_seconds: float
    duration_seconds: float
    num_frames: int | None
    frame_rate: float | None
    is_steady: bool
    rotation_degrees: int
    codec: str
    pixel_format: str


@dataclass(frozen=True)
class Stretch:
    """A stretch of a video.

    Args:
        start_seconds: where it begins, in seconds after the first frame; at least 0.
        end_seconds: where it ends, after its start; None: with the video.

    Raises:
        ValueError: the numbers are no such times.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None

    def __post_init__(self):
        end_seconds = math.inf if self.end_seconds is None else self.end_seconds
        if not 0 <= self.start_seconds < end_seconds:
            raise ValueError(
                f"expected 0 <= start_seconds < end_seconds, got {self.start_seconds} and {self.end_seconds}"
            )

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole of any video."""
        return self.start_seconds == 0 and self.end_seconds is None

    def within(self, info: VideoInfo) -> VideoInfo:
        """The stretch as if it were a video of its own, as far as the video lasts.

        Raises:
            ValueError: the video is over before the stretch begins.
        """
        if self.is_whole:
            return info
        end_seconds = min(info.duration_seconds, math.inf if self.end_seconds is None else self.end_seconds)
        if end_seconds <= self.start_seconds:
            raise ValueError(f"ends at {end_seconds:.3f} s, the clip begins at {self.start_seconds} s")
        return replace(info, duration_seconds=end_seconds - self.start_seconds, num_frames=None)


WHOLE = Stretch()

__all__ = ["INSTANT_TOLERANCE_SECONDS", "WHOLE", "Stretch", "VideoInfo"]
