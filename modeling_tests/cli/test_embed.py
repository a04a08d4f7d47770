"""`fal embed`, run as a user runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import VideoLabeler, Views
from fal_hf.cli import main
from fal_hf.labeling.embedding_files import read_embeddings


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    good = [write_video(folder / name, moving_frames(20, seed=seed)) for seed, name in enumerate(["a.mp4", "b.mkv"])]
    broken = folder / "broken.mp4"
    broken.write_text("no video")
    return [str(good[0]), str(broken), str(good[1])]


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("suffix", [".parquet", ".safetensors", ".npy"])
def test_all_that_can_be_read_is_embedded_and_the_rest_is_told(
    tiny_checkpoint, videos, tmp_path, capsys, suffix, workers
):
    output = tmp_path / f"e{suffix}"
    command = ["embed", *videos, "--model", str(tiny_checkpoint), "--output", str(output), "--workers", workers]
    assert main([*command, "--num-clips", "2", "--crops", "3"]) == 1
    printed = capsys.readouterr()
    assert "2 videos embedded, 1 failed" in printed.err and printed.out == ""
    found = read_embeddings(output)
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(num_clips=2, num_crops=3))
    assert found.names == [videos[0], videos[2]]
    np.testing.assert_array_equal(found.embeddings, [labeler.embed(name).embedding for name in found.names])


def test_windows_and_stretches_of_a_manifest_have_their_times(tiny_checkpoint, videos, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"video,start_seconds,end_seconds\n{videos[0]},0.2,0.6\n{videos[2]},,\n")
    command = ["embed", "--manifest", str(manifest), "--model", str(tiny_checkpoint), "--workers", "0", "--output"]
    assert main([*command, str(tmp_path / "e.parquet")]) == 0
    whole = read_embeddings(tmp_path / "e.parquet")
    np.testing.assert_allclose(whole.windows, [[0.2, 0.6], [np.nan, np.nan]])
    assert main([*command, str(tmp_path / "w.npy"), "--windows", "--window", "0.2", "--hop", "0.1"]) == 0
    windows = read_embeddings(tmp_path / "w.npy")
    assert windows.names == [videos[0]] * 3 + [videos[2]] * 7
    np.testing.assert_allclose(windows.windows[:3], [[0.2, 0.4], [0.3, 0.5], [0.4, 0.6]])


def test_the_same_command_goes_on_and_another_one_is_refused(tiny_checkpoint, videos, tmp_path, capsys):
    output = tmp_path / "e.parquet"
    command = ["embed", "--model", str(tiny_checkpoint), "--output", str(output), "--workers", "0"]
    assert main([*command, videos[0]]) == 0
    before = (tmp_path / "e.parquet.journal").read_text()
    assert main([*command, videos[0], videos[1], videos[2]]) == 1
    journal = (tmp_path / "e.parquet.journal").read_text()
    assert journal.startswith(before) and len(journal.splitlines()) == 4
    assert main([*command, *videos, "--retry-failed"]) == 1
    assert json.loads((tmp_path / "e.parquet.journal").read_text().splitlines()[4])["key"].endswith("broken.mp4")
    capsys.readouterr()
    for other in (["embed", *command[1:], "--crops", "3"], ["label", *command[1:]]):
        assert main([*other, videos[0]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "made with another model or other options" in line
    assert read_embeddings(output).names == [videos[0], videos[2]]


@pytest.mark.slow
def test_processes_of_a_launcher_share_a_collection(tiny_checkpoint, videos, tmp_path):
    run = ["embed", *videos, "--model", str(tiny_checkpoint), "--device", "cpu", "--workers", "0", "--output"]
    assert main([*run, str(tmp_path / "alone.parquet")]) == 1
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "fal_hf.cli"]
    # It would set one thread for each process, and by that the rounding of matrix products on some processors.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    shared = [*launch, *run, str(tmp_path / "shared.parquet")]
    process = subprocess.run(shared, capture_output=True, text=True, check=False, env=environment)
    assert "2 videos embedded, 1 failed" in process.stderr, process.stderr
    assert (tmp_path / "shared.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()
