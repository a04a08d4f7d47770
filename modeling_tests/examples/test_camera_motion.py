"""The camera-motion renderer, its symmetries, and the training script from end to end."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from warm_python import WarmPython

from fal_hf import VideoLabeler

cv2 = pytest.importorskip("cv2")
pytest.importorskip("accelerate")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "camera_motion"
sys.path.insert(0, str(EXAMPLES))

import clips as camera_motion_clips  # noqa: E402
import rendering  # noqa: E402
import train as training  # noqa: E402

from fal_hf.training import write_video  # noqa: E402


def textured_photo(seed: int, height: int = 288, width: int = 384) -> np.ndarray:
    """A synthetic photograph (H, W, 3) with detail at several scales."""
    rng = np.random.default_rng(seed)
    grids = [rng.uniform(0, 255, (height // size, width // size, 3)) for size in (48, 24, 12)]
    layers = [cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) for grid in grids]
    return np.clip(np.mean(layers, 0) * 1.5 - 60, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(12):
        cv2.imwrite(str(folder / f"{seed}.jpg"), textured_photo(seed))
    return folder


def clean_shot(label: str, seed: int) -> tuple[rendering.Shot, np.ndarray]:
    photo = textured_photo(seed)
    shot = rendering.draw_shot(np.random.default_rng(seed), label, photo)
    return rendering.without_distractions(shot), photo


def measured_flow(shot: rendering.Shot, photo: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Farnebäck flow (H, W, 2) between two instants, in pixels of a 128-pixel frame."""
    frames = rendering.render_frames(shot, photo, times, size=(128, 128))
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 4, 21, 5, 7, 1.5, 0)


# Sign of (mean x, mean y, divergence, curl) of the picture's motion under the camera's; y points down.
CONTENT_MOTION = {
    "pan_left": (0, 1),
    "pan_right": (0, -1),
    "tilt_up": (1, 1),
    "tilt_down": (1, -1),
    "zoom_in": (2, 1),
    "zoom_out": (2, -1),
    "roll_clockwise": (3, -1),
    "roll_counterclockwise": (3, 1),
}


@pytest.mark.parametrize("label", CONTENT_MOTION)
def test_picture_moves_against_the_camera(label):
    axis, sign = CONTENT_MOTION[label]
    for seed in range(3):
        shot, photo = clean_shot(label, seed)
        middle = shot.duration_seconds / 2
        flow = measured_flow(shot, photo, np.array([middle, middle + 0.06]))[16:-16, 16:-16]
        y, x = np.mgrid[-48:48, -48:48] / 48
        u, v = flow[..., 0], flow[..., 1]
        motions = (u.mean(), v.mean(), (u * x + v * y).mean(), (v * x - u * y).mean())
        assert np.argmax(np.abs(motions)) == axis
        assert np.sign(motions[axis]) == sign


@pytest.mark.parametrize("label", ["pan_left", "tilt_down", "zoom_in", "roll_clockwise", "shake"])
def test_patch_flow_is_the_motion_that_optical_flow_measures(label):
    shot, photo = clean_shot(label, 1)
    times = np.array([0.5, 0.54]) * shot.duration_seconds
    expected = rendering.patch_flow(shot, times, 4)[0] * 128
    measured = measured_flow(shot, photo, times).reshape(4, 32, 4, 32, 2)[:, 12:20, :, 12:20].mean((1, 3))
    assert np.abs(measured - expected)[1:3, 1:3].max() < 0.35 + 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("label", ["static", "shake"])
def test_static_and_shake_have_no_net_motion(label):
    shot, _ = clean_shot(label, 2)
    assert not shot.path.rates.any()


def test_hand_jitter_stays_far_below_shake():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        times = np.linspace(0, 4, 200)
        hand = rendering.draw_label_jitter(rng, "static", np.zeros(4)).at(times)[:2]
        shake = rendering.draw_label_jitter(rng, "shake", np.zeros(4)).at(times)[:2]
        assert 1.3 * hand.std(1).max() < shake.std(1).max()


@pytest.mark.parametrize("label", rendering.LABELS)
def test_view_stays_inside_the_photograph(label):
    for seed in range(10):
        photo = textured_photo(seed)
        shot = rendering.draw_shot(np.random.default_rng(seed), label, photo)
        times = np.linspace(0, shot.duration_seconds, 60)
        corners = rendering.project(shot.photo_from_frame(times), rendering.frame_corners(shot.aspect_ratio))
        assert (corners > -3).all()
        assert (corners < np.array(photo.shape[1::-1]) + 3).all()


def test_foreground_covers_at_most_a_quarter():
    for seed in range(20):
        photo = textured_photo(0)
        shot = rendering.draw_shot(np.random.default_rng(seed), "static", photo, textures=[photo, photo])
        areas = [cv2.contourArea(item.outline.astype(np.float32)) for item in shot.objects]
        frame_area = max(shot.aspect_ratio, 1 / shot.aspect_ratio)
        assert 0 < sum(areas) <= rendering.FOREGROUND_AREA_MAX * frame_area * 1.01


def test_motion_lasts_for_most_of_the_shot():
    for seed in range(50):
        seconds, progress = rendering.draw_speed_profile(np.random.default_rng(seed), 2.0)
        moving = np.diff(progress) > 0.02 * np.diff(seconds).mean()
        assert moving.mean() > 0.55


def test_rendering_is_deterministic():
    def render() -> np.ndarray:
        photo = textured_photo(3)
        shot = rendering.draw_shot(np.random.default_rng(5), "pan_left", photo, textures=[textured_photo(4)])
        return rendering.render_frames(shot, photo, np.arange(4) / 8, size=(96, 64))

    first, second = render(), render()
    assert first.shape == (4, 64, 96, 3)
    np.testing.assert_array_equal(first, second)


def test_compression_keeps_number_and_order_of_frames():
    shot, photo = clean_shot("pan_right", 4)
    frames = rendering.render_frames(shot, photo, np.arange(12) / 24, size=(96, 96))
    decoded = rendering.h264_round_trip(frames, frame_rate=24, crf=20)
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 12
    assert np.abs(decoded[0].astype(int) - frames[0]).mean() < np.abs(decoded[0].astype(int) - frames[-1]).mean()


def test_photographs_are_split_before_rendering(photo_folder):
    split = rendering.split_photographs(photo_folder, validation=2, test=3)
    assert {name: len(paths) for name, paths in split.items()} == {"train": 7, "validation": 2, "test": 3}
    assert len({path for paths in split.values() for path in paths}) == 12
    assert split == rendering.split_photographs(photo_folder, validation=2, test=3)
    with pytest.raises(ValueError, match="more than 12 photographs"):
        rendering.split_photographs(photo_folder, validation=6, test=6)


def rendered_clips(label: str, seed: int) -> camera_motion_clips.ClipBatch:
    shot, photo = clean_shot(label, seed)
    times = shot.duration_seconds / 2 + 0.03 * np.arange(camera_motion_clips.NUM_FRAMES)
    frames = rendering.render_frames(shot, photo, times, size=(64, 64))
    flow = rendering.patch_flow(shot, times, 4)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return camera_motion_clips.ClipBatch(
        pixels[None], torch.from_numpy(flow)[None], torch.tensor([rendering.LABELS.index(label)])
    )


@pytest.mark.parametrize("symmetry", ["mirror", "turn_upside_down", "transpose", "reverse"])
@pytest.mark.parametrize("label", CONTENT_MOTION)
def test_symmetries_change_label_and_flow_alike(symmetry, label):
    clips = getattr(camera_motion_clips, symmetry)(rendered_clips(label, 6))
    motion = training.clip_motion_targets(clips.flow)[0, :4]
    axis, sign = CONTENT_MOTION[rendering.LABELS[clips.labels[0]]]
    assert motion.abs().argmax() == axis
    assert motion[axis].sign() == sign


def test_single_patches_are_cut_where_the_table_says():
    clips = rendered_clips("pan_left", 7)
    pixels, places, motion = camera_motion_clips.random_patches(clips, 16)
    row, column = divmod(int(places[0]), 4)
    window = clips.pixels[0, :, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
    torch.testing.assert_close(pixels[0], window)
    torch.testing.assert_close(motion[0], clips.flow[0, :, row, column])


def run_training(python: WarmPython, photos: Path, output: Path, *options: str) -> str:
    settings = {
        "photos": photos, "output": output, "validation-photos": 2, "test-photos": 2, "evaluation-clips": 4,
        "image-size": 32, "hidden-size": 64, "num-layers": 2, "batch-size": 4, "patch-batch-size": 4, "patch-steps": 1,
        "buffer-clips": 16, "log-every": 1, "evaluate-every": 2, "checkpoint-every": 2,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    finished = python.run([EXAMPLES / "train.py", *arguments, *options], cwd=output)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_training_runs_from_end_to_end_and_resumes(warm_python, photo_folder, tmp_path):
    printed = run_training(warm_python, photo_folder, tmp_path, "--steps", "2")
    assert "roll_counterclockwise" in printed
    run_training(warm_python, photo_folder, tmp_path, "--steps", "3", "--resume")
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "seconds" in line] == [1, 2, 3]
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"config.json", "model.safetensors"}


def test_shipped_checkpoint_labels_rendered_files(tmp_path):
    labeler = VideoLabeler.from_pretrained()
    correct = []
    for seed, label in enumerate(rendering.LABELS):
        shot, photo = clean_shot(label, seed)
        times = np.arange(shot.num_frames) / shot.frame_rate
        frames = rendering.render_frames(shot, photo, times, size=rendering.frame_size(shot.aspect_ratio, 144))
        path = tmp_path / f"{label}.mp4"
        write_video(path, frames, frame_rate=shot.frame_rate, crf=23, preset="veryfast")
        correct.append(labeler(path).labels[0].label == label)
    assert np.mean(correct) >= 0.9
