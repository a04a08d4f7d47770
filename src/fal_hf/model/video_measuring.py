"""How long a video is and how many frames it has, from its packets: headers are not believed."""

from fractions import Fraction
from typing import NamedTuple

import av

from .video_info import VideoInfo
from .video_pixels import rotation_degrees, upright_shape
from .video_search import SEEK_DISTANCE_SECONDS
from .video_source import ShownEnd, VideoSource

# Files up to this size are read through once to be measured, unless they are MP4 and longer than this; of others only
# the end is.
MEASURED_WHOLE_BYTES = 16 * 2**20
MEASURED_WHOLE_SECONDS = 60.0
# How far the frames at the end may be from the number that a right frame rate gives: reordered ones straddle its cut.
TAIL_TOLERANCE_FRAMES = 4
HALF_A_FRAME = Fraction(1, 2)


class _Length(NamedTuple):
    """How long a video is; `num_frames` and `frame_rate` are None where they are not known."""

    seconds: Fraction
    num_frames: int | None
    frame_rate: Fraction | None


def measure(source: VideoSource) -> VideoInfo:
    """Decodes the first frame and reads, undecoded, the packets at the end.

    Raises:
        VideoError: none of its frames decodes.
    """
    first = next(source.decode_rest(), None)
    if first is None:
        raise source.no_frame_error()
    start = first.pts if source.has_timestamps else None
    length = _length_from_its_end(source, start) or _length_from_all_packets(source, start)
    height, width = upright_shape(first)
    return VideoInfo(
        width=width,
        height=height,
        start_seconds=0.0 if start is None else float(start * source.time_base),
        duration_seconds=float(length.seconds),
        num_frames=length.num_frames,
        frame_rate=None if length.frame_rate is None else float(length.frame_rate),
        is_steady=_is_steady(source, length),
        rotation_degrees=rotation_degrees(first),
        codec=source.stream.codec_context.codec.name,
        pixel_format=first.format.name,
    )


def _length_from_its_end(source: VideoSource, start: int | None) -> _Length | None:
    """
    For large and long files, whose header is right about the end; for others None.

    `start` is the time of the first frame in ticks; None where times say nothing.
    """
    expected = _header_ticks(source)
    if start is None or not expected:
        return None
    is_large = source.container.size > MEASURED_WHOLE_BYTES
    if not is_large and expected * source.time_base <= MEASURED_WHOLE_SECONDS:
        return None
    tail = _tail_near(source, start, start + expected)
    if tail is None or tail.end is None:
        return None
    seconds = (tail.end - start) * source.time_base
    differs = abs(seconds - expected * source.time_base) * source.counting_rate >= 1
    if differs and not is_large:
        return None
    if not differs and (num_frames := _listed_frames(source, seconds)):
        return _Length(seconds, num_frames, _mean_rate(source, num_frames, seconds))
    rate = source.frame_rate
    # A small file is counted; the end of a large one has to bear out what the header says.
    if not is_large or not rate or abs(tail.count - tail.seconds * rate) > TAIL_TOLERANCE_FRAMES:
        return None
    return _Length(seconds, None, rate)


def _listed_frames(source: VideoSource, seconds: Fraction) -> int | None:
    """How many frames the table of an MP4 file has, if all of them are shown: an edit list leaves some out."""
    count, rate = source.stream.frames, source.frame_rate
    if not source.is_mp4 or not count or not rate or abs(count / rate - seconds) * rate > HALF_A_FRAME:
        return None
    return count


def _length_from_all_packets(source: VideoSource, start: int | None) -> _Length:
    """For files whose packets are few, or have to be counted."""
    source.rewind()
    packets = read_to_end(source)
    if start is None or packets.end is None:
        return _Length(packets.count / source.counting_rate, None, source.counting_rate)
    seconds = (packets.end - start) * source.time_base
    return _Length(seconds, packets.count, _mean_rate(source, packets.count, seconds))


def _mean_rate(source: VideoSource, count: int, seconds: Fraction) -> Fraction | None:
    """Frames a second: as the header has it where that is right, for the times of packets are rounded to ticks."""
    claimed = source.frame_rate
    if claimed and abs(count / claimed - seconds) <= min(2 * source.time_base, HALF_A_FRAME / claimed):
        return claimed
    return count / seconds if seconds > 0 else source.frame_rate


def _is_steady(source: VideoSource, length: _Length) -> bool:
    """Whether all frames last equally long, as far as the header and the packets that were read tell."""
    shortest = source.stream.base_rate
    if length.frame_rate is None or not shortest:
        return False
    return abs(length.seconds * (shortest - length.frame_rate)) < HALF_A_FRAME


def _header_ticks(source: VideoSource) -> int | None:
    """The duration that the header names, in ticks."""
    if source.stream.duration is None and source.container.duration:
        return int(Fraction(source.container.duration, av.time_base) / source.time_base)
    return source.stream.duration


class _Packets(NamedTuple):
    """Shown packets up to the end: how many, for how long, until which tick; None where they have no times."""

    count: int
    seconds: Fraction
    end: int | None


def _tail_near(source: VideoSource, start: int, expected_end: int) -> _Packets | None:
    """The packets at the end, sought from ever earlier before the time that the header names."""
    lead = int(SEEK_DISTANCE_SECONDS / source.time_base)
    while lead < expected_end - start and source.seek(expected_end - lead):
        packets = read_to_end(source)
        if packets.end is not None:
            return packets
        lead *= 4
    return None


def read_to_end(source: VideoSource) -> _Packets:
    """Counts the shown packets from here on."""
    count, begin, end = 0, None, ShownEnd(source)
    while (packet := source.read_packet()) is not None:
        if packet.is_discard:
            continue
        count += 1
        if packet.pts is not None:
            begin = packet.pts if begin is None else min(begin, packet.pts)
            end.add(packet.pts, packet.dts, packet.duration or source.frame_ticks)
    seconds = Fraction(0) if begin is None or end.ticks is None else (end.ticks - begin) * source.time_base
    return _Packets(count, seconds, end.ticks)


__all__ = ["measure", "read_to_end"]
