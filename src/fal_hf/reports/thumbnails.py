"""Some frames of a video as small pictures."""

import io

from PIL import Image

from ..model.video_file import Video, VideoFile
from ..model.video_info import WHOLE, Stretch
from ..model.video_source import reported


def thumbnails(video: Video, *, stretch: Stretch = WHOLE, count: int = 4, side: int = 240) -> list[bytes]:
    """
    Frames from the middles of as many equal parts of a video, as JPEG files.

    Args:
        video: Path, URL, bytes or a binary file object.
        stretch: What of the video is looked at.
        count: How many frames at most; a frame that is on display all the time is there once.
        side: Pixels of a picture's longer side at most.

    Raises:
        VideoError: (a ValueError) the video cannot be read.
    """
    with VideoFile(video) as file:
        with reported(file.name):
            length = stretch.within(file.info).duration_seconds
        instants = [stretch.start_seconds + length * (part + 0.5) / count for part in range(count)]
        frames = {frame.seconds: frame.image for frame in file.frames_at(instants)}
    return [encode_jpeg(Image.fromarray(image), side=side) for image in frames.values()]


def encode_jpeg(image: Image.Image, *, side: int) -> bytes:
    """A picture whose longer side has so many pixels at most, as a JPEG file."""
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


__all__ = ["thumbnails"]
