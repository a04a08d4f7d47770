"""Videos at random, whose frames show their number: every way of asking, against the truth and plain decoding."""

import numpy as np
import pytest
from numbered_videos import NumberedVideo, plain_decoding, random_video, read_number, read_numbers

from fal_hf import FALVideoProcessor
from fal_hf.model.video_file import VideoFile, live_frames, probe, read_frames
from fal_hf.model.video_info import Stretch

NUM_FRAMES = 4
SAMPLINGS = (
    {},
    {"num_clips": 3},
    {"num_frames": 300},
    {"fps": 3.0},
    {"frame_interval_seconds": 0.21, "num_clips": 2},
    {"frame_stride": 1},
    {"frame_stride": 3, "num_clips": 2},
)


@pytest.fixture(scope="module")
def processor() -> FALVideoProcessor:
    return FALVideoProcessor(num_frames=NUM_FRAMES)


@pytest.mark.parametrize("seed", range(30))
def test_a_random_video_is_read_as_it_was_drawn(tmp_path, processor, seed):
    check_everything(random_video(tmp_path, seed), processor, np.random.default_rng(seed))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_300_random_videos_are_read_as_they_were_drawn(tmp_path, processor, batch):
    for seed in range(1000 + 30 * batch, 1030 + 30 * batch):
        check_everything(random_video(tmp_path, seed), processor, np.random.default_rng(seed))


def check_everything(video: NumberedVideo, processor: FALVideoProcessor, rng: np.random.Generator) -> None:
    try:
        check_all_frames_as_they_come(video)
        check_information(video)
        check_all_frames(video)
        check_chosen_frames(video, rng)
        check_stretches(video, rng)
        check_clips(video, processor, rng)
    except Exception as error:
        raise AssertionError(f"{video.path}: {video.recipe}") from error


def check_information(video: NumberedVideo) -> None:
    info = probe(video.path)
    shortest = video.seconds[-1]
    assert shortest < info.duration_seconds <= shortest + video.longest_last_seconds + video.tick_seconds
    assert info.num_frames in (None, len(video.numbers))
    assert 1 / info.frame_rate == pytest.approx(info.duration_seconds / len(video.numbers), abs=3 * video.tick_seconds)
    assert (info.height, info.width) == read_frames(video.path, indices=[0]).frames.shape[1:3]
    assert info.rotation_degrees == video.clockwise_degrees


def check_all_frames(video: NumberedVideo) -> None:
    everything = read_frames(video.path)
    assert read_numbers(everything.frames) == video.numbers.tolist()
    np.testing.assert_allclose(everything.seconds, video.seconds, rtol=0, atol=video.tick_seconds)
    with VideoFile(video.path) as file:
        np.testing.assert_allclose(file.frame_seconds(), video.seconds, rtol=0, atol=video.tick_seconds)


def check_all_frames_as_they_come(video: NumberedVideo) -> None:
    numbers, seconds = plain_decoding(video.path)
    assert numbers.tolist() == video.numbers.tolist()
    live = [read_number(frame.convert()) for frame in live_frames(str(video.path), interval_seconds=1e-4)]
    # Of two frames with the same time, which FFmpeg makes up in AVI and MPEG, one is enough.
    needed = numbers[np.append(True, ~(np.diff(seconds) <= 0))]
    assert live == sorted(live) and set(needed) <= set(live) <= set(numbers)


def check_chosen_frames(video: NumberedVideo, rng: np.random.Generator) -> None:
    indices = rng.integers(0, len(video.numbers), 5)
    found = read_frames(video.path, indices=indices)
    assert read_numbers(found.frames) == video.numbers[indices].tolist()
    np.testing.assert_allclose(found.seconds, video.seconds[indices], rtol=0, atol=video.tick_seconds)

    instants = rng.uniform(0, probe(video.path).duration_seconds, 8)
    instants = instants[video.is_clear(instants)]
    instants = np.append(instants, 0.0)
    assert read_numbers(read_frames(video.path, seconds=instants).frames) == video.shown_at(instants).tolist()


def check_stretches(video: NumberedVideo, rng: np.random.Generator) -> None:
    begin, end = np.sort(rng.uniform(0, probe(video.path).duration_seconds, 2))
    if not video.is_clear(np.array([begin, end])).all():
        return
    with VideoFile(video.path) as file:
        found = read_numbers(frame.image for frame in file.frames_of(Stretch(begin, end)))
    first, last = video.shown_at(np.array([begin, end]))
    assert found == list(range(first, last + 1))


def check_clips(video: NumberedVideo, processor: FALVideoProcessor, rng: np.random.Generator) -> None:
    duration_seconds = probe(video.path).duration_seconds
    for options in SAMPLINGS:
        for start_seconds in (0.0, rng.uniform(0, duration_seconds)):
            clips = processor.sample_clips(video.path, start_seconds=start_seconds, **options)
            expected = naive_clips(video, duration_seconds, start_seconds=start_seconds, **options)
            if expected is None:
                continue
            assert [read_numbers(clip.frames) for clip in clips] == expected.tolist(), (options, start_seconds)


def naive_clips(
    video: NumberedVideo,
    duration_seconds: float,
    *,
    start_seconds: float,
    num_clips: int = 1,
    num_frames: int = NUM_FRAMES,
    fps: float | None = None,
    frame_interval_seconds: float | None = None,
    frame_stride: int | None = None,
) -> np.ndarray | None:
    """(num_clips, num_frames) numbers, as the options' texts define them; None where rounding decides."""
    left_seconds = duration_seconds - start_seconds
    first = np.searchsorted(video.seconds, start_seconds, side="right") - 1
    if not video.is_clear(np.array([start_seconds])).all():
        return None
    left = video.numbers[first:]
    is_spread = fps is None and frame_interval_seconds is None and frame_stride is None
    is_short = len(left) < num_frames
    if is_short and left_seconds * len(video.numbers) / duration_seconds > 1.9 * num_frames:
        return None  # a gap hides how few frames are left
    if frame_stride or (is_spread and is_short):
        stride = frame_stride or 1
        begins = np.linspace(0, max(0, len(left) - 1 - (num_frames - 1) * stride), num_clips).astype(int)
        return left[np.minimum(begins[:, None] + stride * np.arange(num_frames), len(left) - 1)]
    if frame_interval_seconds:
        begins = np.linspace(
            start_seconds, max(start_seconds, duration_seconds - num_frames * frame_interval_seconds), num_clips
        )
        instants = np.minimum(begins[:, None] + frame_interval_seconds * np.arange(num_frames), duration_seconds)
    else:
        num_frames = num_frames if fps is None else max(1, int(left_seconds * fps))
        parts = num_frames * num_clips
        instants = start_seconds + left_seconds * (np.arange(parts) + 0.5) / parts
        instants = instants.reshape(num_frames, num_clips).T
    if not video.is_clear(instants.ravel()).all():
        return None
    return video.shown_at(instants.ravel()).reshape(instants.shape)
