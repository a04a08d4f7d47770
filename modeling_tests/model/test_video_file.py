"""Frames out of files, against decoding everything and picking; and what cannot be read, against its error."""

import io
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import SlowStartFile, change_bytes, cut_bytes, moving_frames, write_audio, write_video
from PIL import Image

from fal_hf.model import video_file, video_measuring, video_source
from fal_hf.model.video_file import VideoError, VideoFile, VideoFrame, name_of, probe, read_frames
from fal_hf.model.video_info import Stretch

QUICK = {"preset": "ultrafast"}
REORDERED = {"preset": "veryfast", "bf": "3", "g": "60"}
OPEN_GOP = {"preset": "veryfast", "x264-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3"}
IRREGULAR = np.cumsum(np.random.default_rng(0).integers(10, 900, 120)).tolist()
MILLISECONDS = Fraction(1, 1000)

# name of the file: (number of frames, arguments of write_video)
WRITTEN = {
    "plain.mp4": (60, {"options": QUICK}),
    "reordered.mp4": (150, {"options": REORDERED}),
    "open_gop.mp4": (120, {"options": OPEN_GOP}),
    "open_gop.ts": (120, {"options": OPEN_GOP}),
    "rolling_refresh.ts": (120, {"options": {"x264-params": "intra-refresh=1:keyint=30"}}),
    "long.mp4": (700, {"rate": 10, "options": {"preset": "veryfast", "g": "100"}}),
    "long.ts": (700, {"rate": 10, "options": {"preset": "ultrafast", "g": "250"}}),
    "long.mkv": (700, {"rate": 10, "options": {"preset": "veryfast", "g": "100"}}),
    "long.avi": (700, {"rate": 10, "codec": "mpeg4", "gop_size": 50}),
    "reordered.avi": (90, {"rate": 10, "codec": "mpeg4", "options": {"bf": "2"}}),
    "irregular.mkv": (120, {"pts": IRREGULAR, "time_base": MILLISECONDS, "options": REORDERED}),
    "irregular.mp4": (120, {"pts": IRREGULAR, "time_base": MILLISECONDS, "options": REORDERED}),
    "vp8.webm": (60, {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"}}),
    "program.mpg": (60, {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}}),
    "flash.flv": (60, {"options": QUICK}),
    "raw.h264": (60, {"options": REORDERED}),
    "drawn.gif": (20, {"codec": "gif", "pixel_format": "rgb8", "rate": 10}),
    "stills.mov": (40, {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "gray.mp4": (40, {"pixel_format": "gray", "options": QUICK}),
    "fragments.mp4": (60, {"options": QUICK, "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "with_sound.mp4": (60, {"options": QUICK, "audio_seconds": 3.0}),
    "single.mp4": (1, {"options": QUICK}),
    **{f"turned_{angle}.mp4": (20, {"options": QUICK, "rotation_degrees": angle}) for angle in (90, 180, 270)},
}
REAL = ("clips", "odd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def written(folder):
    """Writes a video of the table once, and tells its path."""

    def path_of(name: str) -> Path:
        count, options = WRITTEN[name]
        path = folder / name
        return path if path.exists() else write_video(path, moving_frames(count), **options)

    return path_of


@pytest.fixture(scope="module")
def long_file(folder) -> Path:
    """70 seconds whose index stands before the data, so that a cut file still opens."""
    options = {"rate": 10, "options": {"preset": "veryfast", "g": "100"}}
    return write_video(
        folder / "index_first.mp4", moving_frames(700), container_options={"movflags": "faststart"}, **options
    )


def stream_frames(video: Path, *, seconds, num_threads: int | None = None) -> Iterator[VideoFrame]:
    """The frames at some instants, from a video that is open only as long as they are asked for."""
    with VideoFile(video, num_threads=num_threads) as file:
        yield from file.frames_at(seconds)


def decode_everything(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """The naive reference: all frames from the start, and their seconds after the first."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        frames = list(container.decode(stream))
        pts = [frame.pts for frame in frames]
        if None in pts or pts != sorted(pts):
            seconds = np.arange(len(frames)) / float(stream.average_rate)
        else:
            seconds = np.array([float((ticks - pts[0]) * stream.time_base) for ticks in pts])
        return seconds, [np.rot90(f.to_ndarray(format="rgb24"), round(f.rotation / 90)) for f in frames]


def assert_shows(found: video_file.VideoFrames, numbers, seconds: np.ndarray, images: list[np.ndarray]) -> None:
    np.testing.assert_allclose(found.seconds, seconds[list(numbers)], rtol=0, atol=1e-9)
    assert found.frames.dtype == np.uint8
    for place, number in enumerate(numbers):
        assert np.array_equal(found.frames[place], images[number]), f"position {place} is not frame {number}"


def assert_equals_decoding_everything(path: Path, *, draws: int = 3) -> None:
    seconds, images = decode_everything(path)
    duration = probe(path).duration_seconds
    rng = np.random.default_rng(0)
    for count in [1, 4, 12][:draws]:
        numbers = rng.integers(0, len(images), count)
        found = read_frames(path, indices=numbers)
        assert_shows(found, numbers, seconds, images)
        assert found.indices.tolist() == numbers.tolist()
        instants = np.append(rng.uniform(0, duration, count), 0.0)
        shown = np.maximum(np.searchsorted(seconds, instants + 1e-6, side="right") - 1, 0)
        assert_shows(read_frames(path, seconds=instants, num_threads=1 + count % 3), shown, seconds, images)
    everything = read_frames(path)
    assert_shows(everything, range(len(images)), seconds, images)
    assert everything.indices.tolist() == list(range(len(images)))


@pytest.mark.parametrize("name", WRITTEN)
def test_any_frames_of_any_container_equal_those_of_decoding_everything(written, name):
    assert_equals_decoding_everything(written(name))


@pytest.mark.parametrize("kind", REAL)
def test_any_frames_of_real_and_odd_files_equal_those_of_decoding_everything(media, kind):
    files = sorted((media / kind).iterdir())
    assert files
    for path in files:
        assert_equals_decoding_everything(path, draws=2)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("name", WRITTEN)
def test_streamed_frames_of_any_container_are_those_on_display(written, name, num_threads):
    seconds, images = decode_everything(written(name))
    instants = np.sort(np.random.default_rng(0).uniform(0, seconds[-1], 20))
    shown = np.searchsorted(seconds, instants + 1e-6, side="right") - 1
    frames = list(stream_frames(written(name), seconds=instants, num_threads=num_threads))
    assert len(frames) == len(shown)
    for number, (image, instant, _) in zip(shown, frames, strict=True):
        assert np.array_equal(image, images[number]) and instant == pytest.approx(seconds[number], abs=1e-9)


def test_streaming_decodes_no_further_than_is_asked_and_converts_a_frame_once(written):
    frames = stream_frames(written("long.mp4"), seconds=[0.0, 1.0, 1.01, 1.02, 99.0])
    first, second, third, fourth = (next(frames)[0] for _ in range(4))
    assert second is third is fourth and first is not second
    with pytest.raises(VideoError, match=r"ends at 70\.000 s, before the instant 99\.000 s"):
        next(frames)


def test_streaming_does_not_go_back(written):
    with pytest.raises(ValueError, match="never go back"):
        next(stream_frames(written("plain.mp4"), seconds=[1.0, 0.5]))


def test_a_video_with_odd_sides_keeps_them(folder):
    frames = moving_frames(10, height=49, width=65)
    path = write_video(folder / "odd.mp4", frames, pixel_format="yuv444p", options={"crf": "10"})
    found = read_frames(path).frames
    assert found.shape == frames.shape
    assert np.abs(found.astype(int) - frames).mean() < 5


def test_frames_come_in_the_order_asked_for_with_repetitions(written):
    path = written("reordered.mp4")
    seconds, images = decode_everything(path)
    numbers = [149, 0, 70, 70, 3, 149]
    assert_shows(read_frames(path, indices=numbers), numbers, seconds, images)
    assert_shows(read_frames(path, seconds=seconds[numbers]), numbers, seconds, images)


def test_an_instant_shows_the_last_frame_that_began_until_the_next_one_begins(written):
    seconds, images = decode_everything(written("irregular.mkv"))
    between = (seconds[:-1] + seconds[1:]) / 2
    assert_shows(read_frames(written("irregular.mkv"), seconds=between), range(len(between)), seconds, images)
    before = read_frames(written("irregular.mkv"), seconds=[-1.0])
    assert_shows(before, [0], seconds, images)


def test_instants_count_from_the_first_frame_of_a_container_that_starts_later(written):
    path = written("irregular.mp4")
    assert probe(path).start_seconds == pytest.approx(IRREGULAR[0] / 1000)
    assert read_frames(path, seconds=[0.0]).seconds.tolist() == [0.0]


@pytest.mark.parametrize("source", ["text path", "path", "bytes", "file", "file at its end", "memory"])
def test_every_kind_of_source_gives_the_same_frames(written, source):
    path = written("reordered.mp4")
    expected = read_frames(path, seconds=[1.0, 5.0])
    with open(path, "rb") as file:
        data = path.read_bytes()
        kinds = {"text path": str(path), "path": path, "bytes": data, "file": file}
        video = {**kinds, "file at its end": SlowStartFile(data), "memory": io.BytesIO(data)}[source]
        found = read_frames(video, seconds=[1.0, 5.0])
        assert np.array_equal(found.frames, expected.frames)
        assert probe(video) == probe(path)


def test_a_path_that_looks_like_a_protocol_or_a_pattern_is_a_path(written, folder):
    path = folder / "data: 100%03d.mp4"
    path.write_bytes(written("plain.mp4").read_bytes())
    assert probe(path).num_frames == 60


# ---- probe ----


def test_probe_measures_what_the_writer_wrote(written):
    info = probe(written("plain.mp4"))
    assert (info.width, info.height, info.num_frames, info.rotation_degrees) == (64, 48, 60, 0)
    assert (info.codec, info.pixel_format, info.frame_rate) == ("h264", "yuv420p", 25.0)
    assert info.duration_seconds == pytest.approx(2.4)


def test_a_raw_stream_which_has_no_times_is_measured_by_counting(written):
    info = probe(written("raw.h264"))
    assert (info.start_seconds, info.duration_seconds, info.num_frames, info.frame_rate) == (0.0, 2.4, None, 25.0)


def test_probe_tells_upright_sizes_and_the_clockwise_turn(written):
    assert [probe(written(f"turned_{angle}.mp4")).rotation_degrees for angle in (90, 180, 270)] == [270, 180, 90]
    assert [(i.width, i.height) for i in map(probe, map(written, ("turned_90.mp4", "turned_180.mp4")))] == [
        (48, 64),
        (64, 48),
    ]


def test_a_large_file_is_measured_at_its_end_alone(written, monkeypatch):
    whole = {name: probe(written(name)) for name in ("long.mp4", "long.ts", "long.mkv", "long.avi")}
    monkeypatch.setattr(video_measuring, "MEASURED_WHOLE_BYTES", 0)
    for name, info in whole.items():
        assert probe(written(name)).duration_seconds == pytest.approx(info.duration_seconds, abs=1e-6)


def test_a_long_mp4_file_is_measured_at_its_end_alone_however_small_it_is(written, monkeypatch):
    read = []
    read_packet = video_source.VideoSource.read_packet
    monkeypatch.setattr(video_source.VideoSource, "read_packet", lambda self: read.append(1) or read_packet(self))
    info = probe(written("long.mp4"))
    assert (info.num_frames, info.duration_seconds) == (700, pytest.approx(70.0))
    assert len(read) < 350


def test_the_duration_is_what_the_file_holds_and_not_what_its_header_promises(long_file, folder, monkeypatch):
    cut = cut_bytes(long_file, folder / "promises.mp4", share=0.6)
    measured = probe(cut).duration_seconds
    assert 30 < measured < 50
    monkeypatch.setattr(video_measuring, "MEASURED_WHOLE_BYTES", 0)
    assert probe(cut).duration_seconds == measured


# ---- damage ----


@pytest.mark.parametrize("share", [0.45, 0.5, 0.55, 0.6])
def test_a_cut_file_gives_the_frames_it_holds_and_an_error_for_those_it_promised(folder, share):
    options = {"preset": "veryfast", "bf": "0"}  # frames stand in their order: those that a cut leaves are the first
    whole = write_video(
        folder / "in_order.mp4",
        moving_frames(700),
        container_options={"movflags": "faststart"},
        rate=10,
        options=options,
    )
    seconds, images = decode_everything(whole)
    cut = cut_bytes(whole, folder / "cut.mp4", share=share)
    info = probe(cut)
    shown = np.linspace(0, info.num_frames - 1, 6).astype(int)
    assert_shows(read_frames(cut, seconds=seconds[shown]), shown, seconds, images)
    assert len(read_frames(cut).frames) == info.num_frames
    with pytest.raises(VideoError, match=r"cut\.mp4: ends at \d+\.\d+ s, before the instant 65"):
        read_frames(cut, seconds=[1.0, 65.0])
    with pytest.raises(VideoError, match=rf"has {info.num_frames} frames, number 699"):
        read_frames(cut, indices=[699])


@pytest.mark.parametrize("name", ["index_first.mp4", "long.ts", "long.mkv", "long.avi"])
@pytest.mark.parametrize("noise", [0, None])
def test_a_damaged_last_third_is_never_one_frame_held(long_file, written, folder, name, noise):
    path = long_file if name == "index_first.mp4" else written(name)
    seconds, images = decode_everything(path)
    # Index tables stand at the end of mkv and avi files; half way is data for certain.
    damaged = change_bytes(path, folder / f"damaged_{name}", begin=0.66, end=0.98, seed=noise)
    assert_shows(read_frames(damaged, seconds=seconds[[5, 200, 400]]), [5, 200, 400], seconds, images)
    with pytest.raises(VideoError, match=f"damaged_{name}: (is damaged|ends at)"):
        read_frames(damaged, seconds=np.linspace(50.0, 69.0, 8))


def test_a_little_damage_costs_no_more_than_it_hits(long_file, folder):
    seconds, images = decode_everything(long_file)
    damaged = change_bytes(long_file, folder / "scratched.mp4", begin=0.5, end=0.502)
    instants = np.array([2.0, 20.0, 55.0, 69.0])
    assert_shows(read_frames(damaged, seconds=instants), (instants * 10).astype(int), seconds, images)


# ---- the ways to the frames ----


def test_far_instants_are_reached_by_seeks_and_not_by_decoding_through(written, monkeypatch):
    decoded = []
    decode = video_source.VideoSource.decode
    monkeypatch.setattr(
        video_source.VideoSource, "decode", lambda self, *a, **k: decoded.append(1) or decode(self, *a, **k)
    )
    read_frames(written("long.mp4"), seconds=[30.5, 60.5])
    assert len(decoded) < 60


@pytest.fixture
def sources(monkeypatch) -> list[video_source.VideoSource]:
    """All sources that the test opens."""
    opened = []
    prepare = video_source.VideoSource.__init__

    def noted(self, *arguments, **options):
        opened.append(self)
        prepare(self, *arguments, **options)

    monkeypatch.setattr(video_source.VideoSource, "__init__", noted)
    return opened


@pytest.mark.parametrize(
    ("instants", "num_threads", "num_readers"),
    [
        ([5.0, 25.0, 45.0, 65.0], 2, 2),
        ([5.0, 25.0, 45.0, 65.0], 1, 1),
        ([5.0, 6.0, 7.0], 4, 1),
        (np.arange(0.0, 69.0, 4.0), 4, 2),
    ],
)
def test_distant_parts_are_decoded_side_by_side(written, sources, monkeypatch, instants, num_threads, num_readers):
    meeting = threading.Barrier(num_readers, timeout=30)  # nobody reads before so many do
    read = video_file._InstantReader.read
    monkeypatch.setattr(video_file._InstantReader, "read", lambda self, block: meeting.wait() < 0 or read(self, block))
    num_sources = 1 if num_readers == 1 else 1 + num_readers
    seconds, images = decode_everything(written("long.mp4"))
    numbers = (np.asarray(instants) * 10).astype(int)
    found = read_frames(written("long.mp4"), seconds=instants, num_threads=num_threads)
    assert_shows(found, numbers, seconds, images)
    assert len(sources) == num_sources and not any(source.container.input_was_opened for source in sources)


def test_parts_that_would_take_much_memory_are_decoded_one_after_the_other(written, sources, monkeypatch):
    seconds, images = decode_everything(written("long.mp4"))
    monkeypatch.setattr(video_file, "BLOCK_BYTES", images[0].nbytes)
    assert_shows(
        read_frames(written("long.mp4"), seconds=[5.0, 6.0, 45.0], num_threads=4), [50, 60, 450], seconds, images
    )
    assert len(sources) == 1


def test_a_file_object_is_read_at_one_place_at_a_time(written, sources):
    seconds, images = decode_everything(written("long.mp4"))
    with open(written("long.mp4"), "rb") as file:
        assert_shows(read_frames(file, seconds=[5.0, 25.0, 45.0], num_threads=4), [50, 250, 450], seconds, images)
    assert len(sources) == 1


@pytest.mark.parametrize("late", [0, 1, 2])
def test_frames_are_right_whichever_thread_comes_late(written, monkeypatch, late):
    class Unfair(ThreadPoolExecutor):
        """One of three tasks begins when the others are done."""

        begun = 0

        def submit(self, function, /, *arguments):
            delay = 0.5 if self.begun % 3 == late else 0.0
            self.begun += 1
            return super().submit(lambda: time.sleep(delay) or function(*arguments))

    monkeypatch.setattr(video_file, "ThreadPoolExecutor", Unfair)
    seconds = [5.0, 16.0, 27.0, 38.0, 49.0, 60.0]
    frames = stream_frames(written("long.mp4"), seconds=seconds, num_threads=3)
    assert [frame.seconds for frame in frames] == pytest.approx(seconds)


def test_what_fails_far_ahead_fails_when_it_is_reached_and_leaves_nothing_open(written, sources):
    frames = stream_frames(written("long.mp4"), seconds=[5.0, 25.0, 45.0, 99.0], num_threads=3)
    assert [next(frames)[1] for _ in range(3)] == pytest.approx([5.0, 25.0, 45.0])
    with pytest.raises(VideoError, match=r"ends at 70\.000 s, before the instant 99\.000 s"):
        next(frames)
    unfinished = stream_frames(written("long.mp4"), seconds=[5.0, 25.0, 45.0, 65.0], num_threads=3)
    next(unfinished)
    unfinished.close()
    assert len(sources) >= 4 and not any(source.container.input_was_opened for source in sources)


def test_a_file_that_cannot_seek_is_decoded_through(written, monkeypatch):
    seconds, images = decode_everything(written("long.mkv"))
    monkeypatch.setattr(video_source.VideoSource, "seek", lambda self, ticks: False)
    assert_shows(read_frames(written("long.mkv"), seconds=[10.0, 65.0]), [100, 650], seconds, images)
    assert_shows(read_frames(written("long.mkv"), indices=[5, 690]), [5, 690], seconds, images)


def test_a_seek_that_lands_too_late_is_noticed(written, monkeypatch):
    seconds, images = decode_everything(written("long.mp4"))
    seek = video_source.VideoSource.seek
    late = 30 * 10240
    monkeypatch.setattr(video_source.VideoSource, "seek", lambda self, ticks: seek(self, ticks + late))
    assert_shows(read_frames(written("long.mp4"), seconds=[35.0, 55.0]), [350, 550], seconds, images)


def test_key_flags_that_lie_are_noticed(written, monkeypatch):
    seconds, images = decode_everything(written("reordered.mp4"))

    class AllKeys:
        def __init__(self, packet):
            self.packet = packet

        def __getattr__(self, name):
            return name == "is_keyframe" or getattr(self.packet, name)

    read, decode = video_source.VideoSource.read_packet, video_source.VideoSource.decode
    monkeypatch.setattr(
        video_source.VideoSource, "read_packet", lambda self: AllKeys(p) if (p := read(self)) is not None else None
    )
    monkeypatch.setattr(
        video_source.VideoSource, "decode", lambda self, p, **options: decode(self, p.packet if p else None, **options)
    )
    assert_shows(read_frames(written("reordered.mp4"), seconds=[3.0, 5.0]), [75, 125], seconds, images)


def test_a_size_that_changes_midway_is_scaled_to_the_first_one(folder):
    first = write_video(folder / "a.ts", moving_frames(25), options=QUICK)
    large = moving_frames(25, height=96, width=128)
    second = write_video(folder / "b.ts", large, options=QUICK, pts=range(25, 50))
    both = folder / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    found = read_frames(both)
    assert found.frames.shape[1:] == (48, 64, 3)
    assert len(found.frames) >= 48
    assert np.abs(found.frames[-1].astype(int) - large[-1][::2, ::2]).mean() < 20


# ---- limits and refusals ----


def test_too_large_frames_and_results_are_refused_before_they_are_made(written):
    with pytest.raises(VideoError, match="64 x 48 pixels are over max_pixels_per_frame = 1000"):
        read_frames(written("plain.mp4"), max_pixels_per_frame=1000)
    for request in ({"indices": [0] * 12}, {"seconds": [0.0] * 12}, {}):
        with pytest.raises(VideoError, match="over max_output_bytes = 100000"):
            read_frames(written("plain.mp4"), max_output_bytes=100_000, **request)


def test_what_is_behind_the_end_is_an_error_that_names_the_end(written):
    path = written("plain.mp4")
    assert read_frames(path, seconds=[2.4]).seconds.tolist() == [2.36]
    with pytest.raises(VideoError, match=r"ends at 2\.400 s, before the instant 3\.000 s"):
        read_frames(path, seconds=[3.0])
    with pytest.raises(VideoError, match=r"has 60 frames, number 60 \(from 0\)"):
        read_frames(path, indices=[60])
    with pytest.raises(VideoError, match="has 90 frames"):
        read_frames(written("reordered.avi"), indices=[90])
    with pytest.raises(VideoError, match="has 90 frames"):
        read_frames(written("reordered.avi"), seconds=[20.0])


@pytest.mark.parametrize(
    "request_",
    [
        {"seconds": [0.0], "indices": [0]},
        {"seconds": []},
        {"seconds": [float("nan")]},
        {"seconds": [[0.0, 1.0]]},
        {"indices": [-1]},
        {"indices": [0.5]},
    ],
)
def test_requests_that_make_no_sense_are_refused(written, request_):
    with pytest.raises(ValueError, match=r"expected .*, got"):
        read_frames(written("plain.mp4"), **request_)


def test_something_that_is_no_source_is_a_type_error():
    with pytest.raises(TypeError, match="expected a path, a URL, bytes or a seekable binary file object, got int"):
        probe(3)


def not_videos(folder: Path, long_file: Path) -> dict[str, tuple[object, str]]:
    (folder / "text.txt").write_text("not a video\n" * 50)
    (folder / "text.mp4").write_text("not a video\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    index_last = write_video(folder / "index_last.mp4", moving_frames(30), options=QUICK)
    return {
        "text.txt": (folder / "text.txt", "holds text"),
        "text.mp4": (folder / "text.mp4", "not a video"),
        "empty.mp4": (folder / "empty.mp4", "is empty"),
        "0 bytes": (b"", "is empty"),
        "100 bytes": (bytes(100), "not a video"),
        "list.m3u8": (folder / "list.m3u8", ""),
        "missing.mp4": (folder / "missing.mp4", "no such file"),
        folder.name: (folder, "is a folder"),
        "sound.wav": (write_audio(folder / "sound.wav", codec="pcm_s16le"), "no video stream, only audio"),
        "sound.mp3": (write_audio(folder / "sound.mp3", codec="libmp3lame"), "no video stream, only audio"),
        "sound.m4a": (write_audio(folder / "sound.m4a", codec="aac"), "no video stream, only audio"),
        "cover.mp3": (write_audio(folder / "cover.mp3", codec="libmp3lame", cover=True), "only cover art"),
        "no_index.mp4": (cut_bytes(index_last, folder / "no_index.mp4", share=0.6), "damaged"),
        "stub.mp4": (cut_bytes(long_file, folder / "stub.mp4", share=0.05), ""),
        "127.0.0.1:9/x.mp4": ("http://127.0.0.1:9/x.mp4", ""),
    }


def test_what_is_no_video_is_one_kind_of_error_that_names_the_file_and_the_reason(folder, long_file, capfd):
    for name, (video, reason) in not_videos(folder, long_file).items():
        for read in (
            probe,
            read_frames,
            lambda v: read_frames(v, seconds=[0.0]),
            lambda v: read_frames(v, indices=[0]),
        ):
            with pytest.raises(VideoError) as caught:
                read(video)
            assert name in caught.value.video
            assert caught.value.reason and reason in caught.value.reason
            assert str(caught.value) == f"{caught.value.video}: {caught.value.reason}"
    assert capfd.readouterr() == ("", "")


def test_a_video_error_crosses_processes_whole():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "is empty")))
    assert (error.video, error.reason, str(error)) == ("a.mp4", "is empty", "a.mp4: is empty")


# The package without its __init__, which imports torch and transformers.
BARE_PACKAGE = """
import sys, types
package = types.ModuleType("fal_hf")
package.__path__ = [sys.argv[1]]
sys.modules["fal_hf"] = package
"""


def run_bare(code: str, *arguments: str) -> tuple[str, str]:
    """What code writes to the standard streams where `fal_hf` is the bare package."""
    folder = Path(video_file.__file__).parents[1]
    command = [sys.executable, "-c", BARE_PACKAGE + code, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_reading_damaged_files_leaves_the_standard_streams_alone(long_file, folder):
    damaged = change_bytes(long_file, folder / "noisy.mp4", begin=0.3, end=0.4)
    code = "from fal_hf.model.video_file import read_frames; read_frames(sys.argv[2])"
    assert run_bare(code, str(damaged)) == ("", "")


def test_the_module_needs_neither_torch_nor_transformers():
    code = "import fal_hf.model.video_file; print({'torch', 'transformers'} & set(sys.modules))"
    assert run_bare(code) == ("set()\n", "")


def test_colours_follow_the_matrix_and_range_of_the_file(folder):
    frame = np.full((32, 32, 3), (200, 60, 30), np.uint8)
    for name, pixel_format in (("limited.mp4", "yuv420p"), ("full.mp4", "yuvj420p")):
        path = write_video(folder / name, [frame] * 3, pixel_format=pixel_format, options={"crf": "1"})
        assert np.abs(read_frames(path).frames.astype(int) - frame).max() <= 4


# ---- one file, opened once ----


def test_one_file_answers_everything_in_any_order(written, sources):
    seconds, images = decode_everything(written("plain.mp4"))
    sources.clear()
    with VideoFile(written("plain.mp4")) as video:
        for _ in range(2):
            assert [frame.index for frame in video.frames_of()] == list(range(len(images)))
            assert video.info.num_frames == len(images)
            (at,) = video.frames_at([seconds[7]])
            (numbered,) = video.frames_numbered([7])
            assert at.seconds == numbered.seconds == pytest.approx(seconds[7])
            np.testing.assert_array_equal(at.image, images[7])
            np.testing.assert_array_equal(numbered.image, images[7])
            assert_shows(video.read(indices=[9, 3, 9]), [9, 3, 9], seconds, images)
    assert len(sources) == 1


@pytest.mark.parametrize("name", [name for name, (count, _) in WRITTEN.items() if count > 17])
@pytest.mark.parametrize(("first", "behind"), [(0, 5), (6, 13), (17, None)])
def test_the_frames_of_a_stretch_are_those_on_display_during_it(written, name, first, behind):
    seconds, images = decode_everything(written(name))
    end_seconds = None if behind is None else seconds[behind]
    with VideoFile(written(name)) as video:
        found = video.read(stretch=Stretch(float(seconds[first]), end_seconds))
    expected = list(range(first, len(images) if behind is None else behind))
    np.testing.assert_allclose(found.seconds, seconds[expected], atol=1e-6)
    np.testing.assert_array_equal(found.frames, np.stack([images[number] for number in expected]))


def test_a_stretch_behind_the_end_is_refused_with_the_videos_name(written):
    with VideoFile(written("plain.mp4")) as video, pytest.raises(VideoError, match=r"plain\.mp4: ends at"):
        video.read(stretch=Stretch(1000.0))


def test_frames_are_asked_for_in_order(written):
    with VideoFile(written("plain.mp4")) as video:
        with pytest.raises(ValueError, match="never go back"):
            video.frames_at([0.2, 0.1])
        with pytest.raises(ValueError, match="rise"):
            video.frames_numbered([2, 2])


def test_what_was_measured_before_is_not_measured_again(written, monkeypatch):
    info = probe(written("plain.mp4"))
    monkeypatch.setattr(video_file, "measure", None)
    with VideoFile(written("plain.mp4"), info=info) as video:
        assert video.info is info


def test_every_video_is_called_by_one_name(written):
    path = written("plain.mp4")
    assert name_of(path) == name_of(str(path)) == str(path)
    assert name_of(b"123") == "video of 3 bytes"
    assert name_of(io.BytesIO(b"123")) == "BytesIO object"
    with open(path, "rb") as file:
        assert name_of(file) == str(path)
    with pytest.raises(TypeError, match="expected a path, a URL, bytes or a seekable binary file object, got int"):
        name_of(3)


# ---- what packets and files pretend ----


def write_with_a_gap(path, *, b_frames: int, first_behind: int, count: int = 40) -> Path:
    """A frame each 40 ms, and 5 seconds between two of them; encoders of MP4 then write durations of decoding."""
    frames = moving_frames(count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": str(b_frames), "g": "250"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 40 * number + (5000 if number >= first_behind else 0)
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("first_behind", [30, 37, 39])
def test_a_gap_in_time_does_not_lengthen_a_video(tmp_path, suffix, b_frames, first_behind):
    path = write_with_a_gap(tmp_path / f"gap{suffix}", b_frames=b_frames, first_behind=first_behind)
    info = probe(path)
    assert info.duration_seconds == pytest.approx(6.6, abs=0.005) and info.num_frames == 40
    seconds, images = decode_everything(path)
    instants = [0.0, 1.0, 3.0, 6.0, 6.56]
    shown = np.searchsorted(seconds, np.array(instants) + 1e-6, side="right") - 1
    found = read_frames(path, seconds=instants)
    np.testing.assert_array_equal(found.frames, np.stack([images[number] for number in shown]))
    with pytest.raises(VideoError, match=r"ends at 6\.600 s, before the instant 7\.000 s"):
        read_frames(path, seconds=[7.0])


def test_the_frame_rate_is_the_mean_whatever_the_header_says(written, monkeypatch):
    info = probe(written("irregular.mkv"))
    assert info.frame_rate == pytest.approx(120 / info.duration_seconds) and not info.is_steady
    assert probe(written("plain.mp4")).is_steady
    monkeypatch.setattr(video_measuring, "MEASURED_WHOLE_BYTES", 0)  # the end of a large file does not bear it out
    assert probe(written("irregular.mkv")) == info


def test_a_number_of_frames_that_the_header_makes_up_is_not_believed(tmp_path):
    path = write_video(
        tmp_path / "ticks.avi",
        moving_frames(70),
        rate=1000,
        codec="mpeg4",
        pts=[1000 * number for number in range(70)],
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 60_000
    info = probe(path)
    assert info.num_frames == 70 and info.frame_rate == pytest.approx(1.0, rel=0.02)


def test_the_times_of_all_frames_are_those_of_decoding_everything(written):
    for name in ("plain.mp4", "irregular.mkv", "open_gop.ts", "raw.h264", "reordered.avi"):
        with VideoFile(written(name)) as video:
            np.testing.assert_allclose(video.frame_seconds(), decode_everything(written(name))[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.ffconcat", "ffconcat version 1.0\nfile plain.mp4\n"),
        ("video.mp4", "ffconcat version 1.0\nfile plain.mp4\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\nplain.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_scripts_and_playlists_of_other_files_are_refused(tmp_path, name, text):
    for video in ("plain.mp4", "plain.ts"):
        write_video(tmp_path / video, moving_frames(20))
    (tmp_path / name).write_text(text)
    with pytest.raises(VideoError, match=rf"{name}: is a script or playlist"):
        probe(tmp_path / name)


def test_the_name_of_an_image_stands_for_no_other_images(tmp_path):
    for name, level in (("a000.png", 0), ("a001.png", 80), ("a%03d.png", 160)):
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(tmp_path / name)
    assert read_frames(tmp_path / "a%03d.png").frames[:, 0, 0, 0].tolist() == [160]


def test_the_url_of_a_file_is_its_path(tmp_path):
    path = write_video(tmp_path / "a b%20c.mp4", moving_frames(5))
    assert path.as_uri().startswith("file:///")
    assert probe(path.as_uri()) == probe(path)
    with pytest.raises(VideoError, match=r"file:///no/such\.mp4: no such file"):
        probe("file:///no/such.mp4")
