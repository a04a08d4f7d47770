"""Finding the frame on display at an instant, among the packets of a video source.

Packets are read ahead of the decoder, everything before the last keyframe at or before the instant is dropped, far
instants are reached by a seek, and frames that no other frame refers to are skipped on the way. A frame counts only if
it is the one that the packets announce for the instant; otherwise it is looked for again without these shortcuts.

Damage is an error where it hides more than half a second; shorter losses and the smears that follow a damaged place
until the next keyframe are shown as players show them.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator

import av

from .video_source import ShownEnd, VideoSource

# A player shows the previous frame where a few are damaged; for longer stretches that would be a made-up still.
LONGEST_LOSS_SECONDS = 0.5
# Up to here it costs less to read the packets in between than to seek.
SEEK_DISTANCE_SECONDS = 10.0
READ_AHEAD_PACKETS = 1024
READ_AHEAD_BYTES = 32 * 2**20


class MustCount(Exception):
    """Times do not lead to the frames of this video: they have to be counted from the start."""


def time_of(frame: av.VideoFrame) -> int:
    """The presentation time of a frame, in ticks; MustCount where it has none."""
    if frame.pts is None:
        raise MustCount
    return frame.pts


def _packet_time(packet: av.Packet) -> int:
    time = packet.dts if packet.pts is None else packet.pts
    if time is None:
        raise MustCount
    return time


class Playhead:
    """Finds the frame on display at instants that never go back.

    Packets wait in `ahead` before they are decoded, decoded frames wait in `frames`, and `held` is the frame on
    display so far. `times` are the presentation times, in order, of all packets read since the last jump: they tell
    which frame is to be on display. Times are in ticks of the stream's time base; `start` is that of the first frame,
    which `first_frame` decodes.
    """

    start: int

    def __init__(self, source: VideoSource):
        self.source = source
        self.ticks_per_second = 1 / source.time_base
        self.lead_ticks = 0
        self.longest_gop = 0
        self.shortcuts = True
        self._forget()

    def _forget(self) -> None:
        """Back to knowing nothing of the packets and frames around the current position."""
        self.ahead: deque[av.Packet] = deque()
        self.ahead_bytes = 0
        self.frames: deque[av.VideoFrame] = deque()
        self.held: av.VideoFrame | None = None
        self.times: list[int] = []
        self.anchor: int | None = None
        self.wait_for_keyframe = False
        self.flush_first = False
        self.last_dts: int | None = None
        self.last_keyframe: int | None = None
        self.end = ShownEnd(self.source)
        self.all_read = False
        self.all_decoded = False

    def _ticks(self, seconds: float) -> int:
        return int(seconds * self.ticks_per_second)

    def first_frame(self) -> av.VideoFrame:
        """Decodes the first frame, which stays in `frames`."""
        while not self.frames:
            if self.all_decoded:
                raise self.source.no_frame_error()
            self._read_packet(None)
            self._decode_packet(skip_unreferenced=False)
        self.start = time_of(self.frames[0])
        return self.frames[0]

    def frame_at(self, ticks: int) -> av.VideoFrame:
        """The frame on display at an instant, or a VideoError if the video has none."""
        if self._is_far(ticks):
            self._seek_before(ticks)
        self._advance(ticks)
        if self._missing(ticks):
            self._look_again(ticks)
        self._check_end(ticks)
        if self.held is None or self._is_lost(self.held, ticks):
            raise self.source.error(self._loss(ticks))
        return self.held

    def frames_from(self, ticks: int) -> Iterator[av.VideoFrame]:
        """The frame on display at an instant, and all that follow it."""
        yield self.frame_at(ticks)
        while self.frames or not self.all_decoded:
            if self.frames:
                self.held = self.frames.popleft()
                yield self.held
            elif not self.ahead and not self.all_read:
                self._read_packet(None)
            else:
                self._decode_packet(skip_unreferenced=False)

    def _is_far(self, ticks: int) -> bool:
        if not self.shortcuts or self.all_read or self.last_dts is None:
            return False
        return ticks - self.last_dts > max(self._ticks(SEEK_DISTANCE_SECONDS), self.longest_gop)

    def _wanted(self, ticks: int) -> int | None:
        """The time of the frame on display at an instant, as far as packets have been read."""
        position = bisect_right(self.times, ticks)
        return self.times[position - 1] if position else None

    def _missing(self, ticks: int) -> bool:
        wanted = self._wanted(ticks)
        return self.held is None or (wanted is not None and time_of(self.held) < wanted)

    # reading ahead

    def _read_ahead(self, ticks: int) -> None:
        """Reads packets until none can follow that is shown at or before `ticks`, within the limits."""
        while not self.all_read and (self.last_dts is None or self.last_dts <= ticks):
            if len(self.ahead) >= READ_AHEAD_PACKETS or self.ahead_bytes >= READ_AHEAD_BYTES:
                return
            self._read_packet(ticks)

    def _read_packet(self, ticks: int | None) -> None:
        """Reads one packet; drops what was before it if it is a keyframe at or before `ticks`."""
        packet = self.source.read_packet()
        if packet is None:
            self.all_read = True
            return
        time = _packet_time(packet)
        self.last_dts = packet.dts
        if packet.is_keyframe:
            self.last_keyframe = time
            if self.shortcuts and ticks is not None and time <= ticks:
                self._start_at(packet)
        elif self.last_keyframe is not None:
            self.longest_gop = max(self.longest_gop, time - self.last_keyframe)
        if not self.wait_for_keyframe:
            self._append(packet, time)

    def _append(self, packet: av.Packet, time: int) -> None:
        self.ahead.append(packet)
        self.ahead_bytes += packet.size
        if packet.is_discard:
            return
        insort(self.times, time)
        self.end.add(time, packet.dts, packet.duration or self.source.frame_ticks)

    def _start_at(self, keyframe: av.Packet) -> None:
        """Drops everything before a keyframe: from there on, frames do not depend on what was before."""
        self.ahead.clear()
        self.ahead_bytes = 0
        self.frames.clear()
        self.held = None
        self.times.clear()
        self.anchor = _packet_time(keyframe)
        self.wait_for_keyframe = False
        self.flush_first = True

    def _drop_passed(self, ticks: int) -> None:
        """Jumps to the last keyframe at or before `ticks` among the packets that were read ahead earlier."""
        packets = list(self.ahead)
        for position in range(len(packets) - 1, -1, -1):
            if packets[position].is_keyframe and _packet_time(packets[position]) <= ticks:
                self._start_at(packets[position])
                for packet in packets[position:]:
                    self._append(packet, _packet_time(packet))
                return

    # decoding

    def _advance(self, ticks: int) -> None:
        """Decodes until `held` is the frame on display at `ticks`, or until no more frames can be it."""
        if self.shortcuts:
            self._drop_passed(ticks)
        while True:
            self._read_ahead(ticks)
            wanted = self._wanted(ticks)
            if self.held is not None and self.held.pts == wanted and self._no_more_until(ticks):
                return
            if self.frames:
                if time_of(self.frames[0]) > ticks:
                    return
                self.held = self.frames.popleft()
            elif self.all_decoded:
                return
            elif not self.ahead and not self.all_read:
                self._read_packet(ticks)  # a delayed frame comes out when later packets go in
            else:
                self._decode_packet(skip_unreferenced=self.shortcuts, wanted=wanted)

    def _no_more_until(self, ticks: int) -> bool:
        return self.all_read or (self.last_dts is not None and self.last_dts > ticks)

    def _decode_packet(self, *, skip_unreferenced: bool, wanted: int | None = None) -> None:
        if self.flush_first:
            self.source.flush()
            self.flush_first = False
        packet = self.ahead.popleft() if self.ahead else None
        if packet is None:
            self.all_decoded = True
        else:
            self.ahead_bytes -= packet.size
        # Frames from the wanted one on are kept: the next instants may be theirs.
        skip = skip_unreferenced and packet is not None and wanted is not None and _packet_time(packet) < wanted
        for frame in self.source.decode(packet, skip_unreferenced=skip):
            self._add_frame(frame)

    def _add_frame(self, frame: av.VideoFrame) -> None:
        time = time_of(frame)
        # Frames shown before the keyframe that decoding began at refer to frames that were never decoded.
        if self.anchor is not None and time < self.anchor:
            return
        before = self.frames[-1] if self.frames else self.held
        if before is not None and time < time_of(before):
            raise MustCount
        self.frames.append(frame)

    # jumping

    def _seek_before(self, ticks: int) -> None:
        """Goes to a keyframe at or before an instant; to the start where no seek leads to one."""
        lead = self.lead_ticks
        step = self._ticks(SEEK_DISTANCE_SECONDS) // 2
        while ticks - lead > 0 and self.source.seek(ticks - lead):
            self._forget()
            self.wait_for_keyframe = True
            self._read_ahead(ticks)
            if self.anchor is not None:
                self.lead_ticks = lead
                self.flush_first = False
                return
            lead = max(step, 4 * lead)
        self._go_to_start()

    def _go_to_start(self) -> None:
        self.source.rewind()
        self._forget()

    def _look_again(self, ticks: int) -> None:
        """Looks for a frame that did not come: from its keyframe, else from the start, with nothing skipped."""
        if self.shortcuts:
            self._seek_before(ticks)
            self.shortcuts = False
            self._advance(ticks)
            self.shortcuts = self.held is not None
        if self.held is None:
            self._go_to_start()
            self._advance(ticks)

    def _is_lost(self, held: av.VideoFrame, ticks: int) -> bool:
        """Whether a frame is held for long where the file is damaged, and not because the next one comes late."""
        longest = max(self._ticks(LONGEST_LOSS_SECONDS), 2 * self.source.frame_ticks)
        return ticks - time_of(held) > longest and (self._missing(ticks) or self.source.is_damaged)

    # what to say

    def _seconds(self, ticks: int) -> float:
        return float((ticks - self.start) * self.source.time_base)

    def _loss(self, ticks: int) -> str:
        last = "the start" if self.held is None else f"{self._seconds(time_of(self.held)):.3f} s"
        return f"is damaged: no frame can be decoded between {last} and the instant {self._seconds(ticks):.3f} s"

    def _check_end(self, ticks: int) -> None:
        last = self.end.ticks
        if self.all_read and last is not None and ticks > last + self.source.frame_ticks:
            end, asked = self._seconds(last), self._seconds(ticks)
            raise self.source.error(f"ends at {end:.3f} s, before the instant {asked:.3f} s that was asked for")
