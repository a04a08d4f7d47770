"""`fal explain`, run as a user runs it."""

import numpy as np
import pytest
from media_files import moving_frames, write_video

from fal_hf import VideoLabeler
from fal_hf.cli import main


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("videos") / "a.mp4", moving_frames(20)))


def test_the_best_label_is_explained_and_said(tiny_checkpoint, video, tmp_path, capsys):
    output = tmp_path / "heat.npz"
    assert main(["explain", video, "-o", str(output), "--model", str(tiny_checkpoint), "--device", "cpu"]) == 0
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu")
    expected = labeler.explain(video)
    with np.load(output) as numbers:
        np.testing.assert_allclose(numbers["heat"], expected.heat, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(numbers["seconds"], expected.seconds)
        assert (str(numbers["label"]), str(numbers["method"])) == (labeler(video).labels[0].label, "gradient")
    printed = capsys.readouterr()
    hottest = expected.seconds[expected.by_frame.argmax()]
    assert printed.out == ""
    assert printed.err == f"fal: {output}: {expected.label} {expected.score:.1%}, hottest at {hottest:.2f} s\n"


def test_a_label_a_method_and_patches_are_taken(tiny_checkpoint, video, tmp_path):
    output = tmp_path / "heat.npz"
    command = ["explain", video, "-o", str(output), "--model", str(tiny_checkpoint), "--label", "b"]
    assert main([*command, "--method", "rollout", "--adaptive-patches", "0.25"]) == 0
    with np.load(output) as numbers:
        assert (str(numbers["label"]), str(numbers["method"])) == ("b", "rollout")
        cells = numbers["heat"].reshape(-1, 2, 2, 2, 2)
        assert (cells == cells[:, :, :1, :, :1]).all()


def test_labels_in_one_s_own_words_are_explained(open_checkpoint, video, tmp_path):
    heat = []
    for label in ("a dog", "a cat"):
        output = tmp_path / f"{label}.npz"
        command = ["explain", video, "-o", str(output), "--model", str(open_checkpoint), "--labels", "a dog, a cat"]
        assert main([*command, "--label", label]) == 0
        with np.load(output) as numbers:
            assert str(numbers["label"]) == label
            heat.append(numbers["heat"])
    assert not np.array_equal(*heat)


def test_a_video_that_cannot_be_read_is_said_and_leaves_no_file(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_text("no video")
    for name in ("broken.mp4", "gone.mp4"):
        output = tmp_path / "heat.png"
        command = ["explain", str(tmp_path / name), "-o", str(output), "--model", str(tiny_checkpoint)]
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"fal: {tmp_path / name}: ")
        assert not output.exists()
