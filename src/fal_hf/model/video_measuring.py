"""How long a video is and how many frames it has, from its packets: headers are not believed."""

from fractions import Fraction

import av

from .video_info import VideoInfo
from .video_pixels import rotation_degrees, upright_shape
from .video_search import SEEK_DISTANCE_SECONDS
from .video_source import ShownEnd, VideoSource

# Files up to this size and length are read through once to be measured; of others only the end is.
MEASURED_WHOLE_BYTES = 16 * 2**20
MEASURED_WHOLE_SECONDS = 60.0


def measure(source: VideoSource) -> VideoInfo:
    """Decodes the first frame and reads, undecoded, the packets at the end.

    Raises:
        VideoError: none of its frames decodes.
    """
    first = next(source.decode_rest(), None)
    if first is None:
        raise source.no_frame_error()
    start = first.pts if source.has_timestamps else None
    duration_seconds, num_frames = _measure_length(source, start)
    height, width = upright_shape(first)
    return VideoInfo(
        width=width,
        height=height,
        start_seconds=0.0 if start is None else float(start * source.time_base),
        duration_seconds=duration_seconds,
        num_frames=num_frames,
        frame_rate=float(source.frame_rate) if source.frame_rate else None,
        rotation_degrees=rotation_degrees(first),
        codec=source.stream.codec_context.codec.name,
        pixel_format=first.format.name,
    )


def _measure_length(source: VideoSource, start: int | None) -> tuple[float, int | None]:
    """
    Seconds and frame count from the packets: all of a short file's, those at the end of a long one's.

    `start` is the time of the first frame in ticks; None where times say nothing.
    """
    stream, expected = source.stream, _header_ticks(source)
    is_large = source.container.size > MEASURED_WHOLE_BYTES
    if start is not None and expected and (is_large or expected * source.time_base > MEASURED_WHOLE_SECONDS):
        end = _end_near(source, start, start + expected)
        if end is not None:
            differs = abs(end - start - expected) * source.time_base * source.counting_rate >= 1
            if is_large or not differs:
                return float((end - start) * source.time_base), None if differs else stream.frames or None
    source.rewind()
    count, end = read_to_end(source)
    if start is None or end is None:
        return float(count / source.counting_rate), None
    return float((end - start) * source.time_base), count


def _header_ticks(source: VideoSource) -> int | None:
    """The duration that the header names, in ticks."""
    if source.stream.duration is None and source.container.duration:
        return int(Fraction(source.container.duration, av.time_base) / source.time_base)
    return source.stream.duration


def _end_near(source: VideoSource, start: int, expected_end: int) -> int | None:
    """Where the last packet's frame ends, sought from ever earlier before the time that the header names."""
    lead = int(SEEK_DISTANCE_SECONDS / source.time_base)
    while lead < expected_end - start and source.seek(expected_end - lead):
        end = read_to_end(source)[1]
        if end is not None:
            return end
        lead *= 4
    return None


def read_to_end(source: VideoSource) -> tuple[int, int | None]:
    """Number of shown packets from here on, and where the last one's frame ends, in ticks."""
    count, end = 0, ShownEnd(source)
    frame_ticks = int(1 / (source.counting_rate * source.time_base))
    while (packet := source.read_packet()) is not None:
        if packet.is_discard:
            continue
        count += 1
        if packet.pts is not None:
            end.add(packet.pts, packet.dts, packet.duration or frame_ticks)
    return count, end.ticks


__all__ = ["measure", "read_to_end"]
