"""The Ray engine on a cluster of this machine, beside the local one."""

import json
import pickle
import shutil

import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import Views
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.limits import DecodeLimits
from fal_hf.bulk.recorders import LabelRecorder
from fal_hf.cli import main
from fal_hf.labeling.labeler import VideoLabeler
from fal_hf.model import onednn
from fal_hf.model.onednn import CHOICE

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(10):
        write_video(folder / f"{number}.mp4", moving_frames(10 + 10 * number, seed=number))
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.mark.parametrize("options", [[], ["--timeline", "--window", "0.2", "--batch-size", "2"]])
def test_two_workers_on_ray_write_what_the_local_engine_writes(cluster, tiny_checkpoint, folder, tmp_path, options):
    run = ["label", str(folder), "--model", str(tiny_checkpoint), *options]
    assert main([*run, "--output", str(tmp_path / "local.parquet"), "--workers", "0"]) == 1
    assert main([*run, "--output", str(tmp_path / "ray.parquet"), "--engine", "ray", "--workers", "2"]) == 1
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()


def test_given_labels_go_to_the_cluster_without_the_text_tower(cluster, open_checkpoint, folder, tmp_path):
    from fal_hf.bulk.ray_engine import _copy_to_cpu

    labeler = VideoLabeler.from_pretrained(open_checkpoint, labels=["a dog runs", "猫が走る"])
    tower = labeler.model.text_encoder
    sent = pickle.loads(pickle.dumps(_copy_to_cpu(labeler)))
    assert sent.model._text_encoder is None and labeler.model.text_encoder is tower
    assert sent(folder / "0.mp4") == labeler(folder / "0.mp4")
    run = ["label", str(folder), "--model", str(open_checkpoint), "--labels", "a dog runs, 猫が走る"]
    assert main([*run, "--output", str(tmp_path / "local.jsonl"), "--workers", "0"]) == 1
    assert main([*run, "--output", str(tmp_path / "ray.jsonl"), "--engine", "ray", "--workers", "2"]) == 1
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()


def test_ray_goes_on_where_another_engine_was_stopped(cluster, tiny_checkpoint, folder, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    for number in range(3):
        shutil.copy(folder / f"{number}.mp4", part)
    output, journal = tmp_path / "labels.jsonl", tmp_path / "labels.jsonl.journal"
    run = ["label", str(part), "--model", str(tiny_checkpoint), "--output", str(output)]
    assert main([*run, "--workers", "0"]) == 0
    before = journal.read_bytes()
    shutil.copy(folder / "3.mp4", part)
    assert main([*run, "--engine", "ray", "--workers", "2"]) == 0
    (added,) = journal.read_bytes().removeprefix(before).splitlines()
    assert json.loads(added)["record"]["video"].endswith("3.mp4")
    assert len(output.read_text().splitlines()) == 4


def test_limits_hold_on_ray_too(cluster, tiny_checkpoint, folder, tmp_path):
    from fal_hf.bulk.ray_engine import record_on_ray

    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(num_clips=2))
    # Nothing at all can be decoded in no time.
    limits = DecodeLimits(timeout_seconds=1e-6)
    videos = find_videos([str(folder / "[0-2].mp4")])
    records = [record for _, record in record_on_ray(LabelRecorder(labeler), videos, num_workers=1, limits=limits)]
    assert len(records) == 3 and all("took longer" in record["error"] for record in records)


def test_a_model_on_ray_computes_with_the_threads_and_the_library_of_the_driver(cluster, tiny_checkpoint, monkeypatch):
    from fal_hf.bulk.ray_engine import _Scorer

    monkeypatch.setenv(CHOICE, "torch")
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1)
    num_threads = torch.get_num_threads()
    recorder = LabelRecorder(VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu"))
    scorer = _Scorer(ray.put(recorder), num_threads + 1, "onednn")
    try:
        assert torch.get_num_threads() == num_threads + 1
    finally:
        torch.set_num_threads(num_threads)
    expected = "torch" if torch.cuda.is_available() else "onednn"
    model = scorer.recorder.labeler.model
    assert onednn.choose_library(model.config, model.device, model.dtype) == expected
