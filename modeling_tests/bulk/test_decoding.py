"""Decoding in other processes: the same batches, and videos that hang, crash or grow."""

import multiprocessing
import os
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest
from media_files import moving_frames, write_video

from fal_hf import FALVideoProcessor, Views
from fal_hf.bulk import decoding
from fal_hf.bulk.decoding import decode_videos, decoding_context
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.limits import DecodeLimits
from fal_hf.bulk.messages import Batch, Ended, Failed, Opened
from fal_hf.labeling.views import ViewReader

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="signals, pipes in the file system and limits of POSIX"
)


class OddReader(ViewReader):
    """Does what a decoder with a defect might do, for files with these names."""

    def open(self, video):
        if "crash" in video:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "sleep" in video:
            time.sleep(60)
        return super().open(video)


def make_reader(kind=ViewReader, *, num_clips=5):
    sizes = {"num_frames": 4, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return kind(FALVideoProcessor(**sizes), Views(num_clips=num_clips), patch_size=4, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        write_video(folder / f"good_{number}.mp4", moving_frames(20, seed=number))
    (folder / "broken.mp4").write_text("no video")
    for name in ("crash.mp4", "sleep.mp4"):
        (folder / name).write_bytes((folder / "good_0.mp4").read_bytes())
    os.mkfifo(folder / "pipe.mp4")
    write_video(folder / "large.avi", [np.zeros((4000, 4000, 3), np.uint8)], codec="mjpeg", pixel_format="yuvj420p")
    return folder


def messages_by_video(videos, reader, **options) -> dict[str, list]:
    found = {video.name: [] for video in videos}
    for video, message in decode_videos(videos, reader, **options):
        found[video.name].append(message)
    return found


def assert_whole(messages) -> None:
    assert [type(message) for message in messages] == [Opened, Batch, Batch, Batch, Ended]


def test_workers_give_the_same_messages_as_this_process(folder):
    videos = find_videos([str(folder / "good_*.mp4"), str(folder / "broken.mp4")])
    here = messages_by_video(videos, make_reader())
    there = messages_by_video(videos, make_reader(), num_workers=3)
    for video in videos[:-1]:
        assert_whole(here[video.name])
        assert_whole(there[video.name])
        for expected, found in zip(here[video.name], there[video.name], strict=True):
            if isinstance(expected, Batch):
                np.testing.assert_array_equal(found.views, expected.views)
            else:
                assert found == expected
    (failed,) = there[videos[-1].name]
    assert failed == here[videos[-1].name][0]
    assert isinstance(failed, Failed) and "broken.mp4: " in failed.reason


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("pipe.mp4", {"timeout_seconds": 1.0}, "took longer than 1 s to decode a batch of clips"),
        ("sleep.mp4", {"timeout_seconds": 1.0}, "took longer than 1 s"),
        ("crash.mp4", {}, f"ended with exit code -{int(signal.SIGSEGV)}"),
        ("large.avi", {"max_memory_bytes": 64 * 2**20}, "Unable to allocate|emory"),
    ],
)
def test_a_video_that_hangs_crashes_or_grows_fails_alone(folder, name, limits, reason):
    names = ["good_0.mp4", name, "good_1.mp4", "good_2.mp4"]
    videos = find_videos(str(folder / each) for each in names)
    found = messages_by_video(videos, make_reader(OddReader), num_workers=2, limits=DecodeLimits(**limits))
    failed = found[str(folder / name)][-1]
    assert isinstance(failed, Failed)
    assert name in failed.reason and re.search(reason, failed.reason)
    for video in videos:
        if name not in video.name:
            assert_whole(found[video.name])


def test_the_time_of_the_consumer_is_not_the_decoders(folder):
    videos = find_videos([str(folder / "good_*.mp4")])
    limits = DecodeLimits(timeout_seconds=1.0)
    kinds = []
    for _, message in decode_videos(videos[:2], make_reader(), num_workers=2, limits=limits):
        kinds.append(type(message))
        time.sleep(0.4)
    assert kinds.count(Ended) == 2 and Failed not in kinds


def test_a_worker_is_at_most_one_batch_ahead_and_ends_with_its_consumer(folder):
    videos = find_videos([str(folder / "good_0.mp4")])
    stream = decode_videos(videos, make_reader(num_clips=400), num_workers=1)
    assert isinstance(next(stream)[1], Opened)
    stream.close()


def test_workers_share_the_cores(folder, monkeypatch):
    num_threads = []
    start = decoding._Worker._start
    monkeypatch.setattr(decoding, "available_cores", lambda: 3)
    monkeypatch.setattr(decoding, "default_threads", lambda: 3)
    monkeypatch.setattr(
        decoding._Worker, "_start", lambda self: num_threads.append(self.reader.num_threads) or start(self)
    )
    reader = make_reader()
    for num_workers in (1, 2):
        list(
            decode_videos(
                find_videos([str(folder / "good_0.mp4"), str(folder / "good_1.mp4")]), reader, num_workers=num_workers
            )
        )
    assert num_threads == [3, 1, 1] and reader.num_threads is None


def test_limits_may_be_as_large_as_they_like(folder):
    limits = DecodeLimits(timeout_seconds=float("inf"), max_memory_bytes=2**80)
    (*_, last) = decode_videos(find_videos([str(folder / "good_0.mp4")]), make_reader(), num_workers=1, limits=limits)
    assert last[1] == Ended()


def hang_in_a_worker(connection, path: str) -> None:
    """Begins to decode a pipe that nobody writes to, and tells the worker's process id."""
    stream = decode_videos(find_videos([path]), make_reader(), num_workers=1)
    threading.Thread(target=next, args=(stream,), daemon=True).start()
    while not multiprocessing.active_children():
        time.sleep(0.01)
    time.sleep(1)  # until it decodes
    connection.send(multiprocessing.active_children()[0].pid)
    time.sleep(60)


def test_a_worker_that_hangs_ends_when_its_main_process_is_killed(folder):
    ours, theirs = multiprocessing.Pipe()
    process = decoding_context().Process(target=hang_in_a_worker, args=(theirs, str(folder / "pipe.mp4")))
    process.start()
    worker = ours.recv()
    os.kill(worker, 0)
    process.kill()
    process.join()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.05)


def test_a_collection_need_not_be_a_list(folder):
    videos = find_videos([str(folder / "good_*.mp4")])
    messages = [message for _, message in decode_videos(iter(videos), make_reader(), num_workers=2)]
    assert messages.count(Ended()) == 5
