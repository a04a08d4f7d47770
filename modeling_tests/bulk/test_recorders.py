"""Runs of embeddings: journals, workers and processes are those of labels, and the two do not mix."""

import json

import numpy as np
import pytest
from media_files import moving_frames, write_collection, write_video

from fal_hf import VideoLabeler, Views
from fal_hf.bulk.collection import record_collection
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.journal import JournalError, journal_path
from fal_hf.bulk.labeling_run import LabelingResult, Progress, embed_to_file, label_to_file
from fal_hf.bulk.recorders import EmbeddingRecorder, LabelRecorder
from fal_hf.labeling.embedding_files import read_embeddings
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_records_are_those_of_the_labeler_whatever_the_workers(labeler, folder, num_workers):
    videos = find_videos([str(folder / "?_0.mp4"), str(folder / "broken.mp4")])
    for recorder, record_of in ((EmbeddingRecorder, labeler.embed), (LabelRecorder, labeler)):
        found = dict(record_collection(recorder(labeler), videos, num_workers=num_workers))
        assert len(found) == 7
        for video, record in found.items():
            assert recorder(labeler).is_record(json.loads(json.dumps(record)))
            assert record == (record if "broken" in video.name else record_of(video.name).to_dict())
        assert "broken.mp4: " in found[videos[-1]]["error"]


def test_a_file_has_the_embeddings_of_the_labeler_to_the_bit(labeler, folder, tmp_path):
    videos = find_videos(str(folder / name) for name in ("1_0.mp4", "broken.mp4", "0_0.mp4"))
    output, told = tmp_path / "e.parquet", []
    result = embed_to_file(labeler, videos, output, num_workers=0, on_progress=told.append)
    assert result == LabelingResult(num_labeled=2, num_failed=1, files=(output,))
    assert told == [Progress(num_videos=3, num_done=done, num_failed=done > 1) for done in range(4)]
    found = read_embeddings(output)
    assert found.names == [videos[0].name, videos[2].name]
    np.testing.assert_array_equal(found.embeddings, [labeler.embed(name).embedding for name in found.names])


def test_windows_are_rows_and_counted(tiny_checkpoint, folder, tmp_path):
    views = Views(windows=True, window_seconds=0.4)
    windowed, told = VideoLabeler.from_pretrained(tiny_checkpoint, views=views), []
    videos = find_videos([str(folder / "5_0.mp4"), str(folder / "4_0.mp4")])
    embed_to_file(windowed, videos, tmp_path / "e.safetensors", num_workers=0, on_progress=told.append)
    found = read_embeddings(tmp_path / "e.safetensors")
    expected = [windowed.embed(video.name).windows for video in videos]
    assert found.names == [
        video.name for video, windows in zip(videos, expected, strict=True) for _ in windows.start_seconds
    ]
    np.testing.assert_array_equal(found.embeddings, np.concatenate([windows.embeddings for windows in expected]))
    np.testing.assert_array_equal(found.windows[:, 0], np.concatenate([windows.start_seconds for windows in expected]))
    assert told[-1].num_windows == len(found.names) > 8


def test_a_run_that_was_stopped_goes_on_to_the_same_file(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "[0-3]_0.mp4")])
    embed_to_file(labeler, videos, tmp_path / "once.parquet", num_workers=0)

    def stop_after_two(progress: Progress) -> None:
        if progress.num_done == 2:
            raise KeyboardInterrupt

    output, told = tmp_path / "stopped.parquet", []
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(labeler, videos, output, num_workers=0, on_progress=stop_after_two)
    assert not output.exists()
    embed_to_file(labeler, videos, output, num_workers=0, on_progress=told.append)
    assert [progress.num_done for progress in told] == [2, 3, 4]
    assert output.read_bytes() == (tmp_path / "once.parquet").read_bytes()


def test_labels_and_embeddings_do_not_go_on_with_one_another(labeler, folder, tmp_path):
    videos, output = find_videos([str(folder / "0_0.mp4")]), tmp_path / "a.parquet"
    journal = journal_path(output)
    for run, other in ((label_to_file, embed_to_file), (embed_to_file, label_to_file)):
        run(labeler, videos, output, num_workers=0)
        before = journal.read_bytes(), output.read_bytes()
        with pytest.raises(JournalError, match=r'records was (null, is "embeddings"|"embeddings", is null)'):
            other(labeler, videos, output, num_workers=0)
        assert (journal.read_bytes(), output.read_bytes()) == before
        journal.unlink()


def test_a_journal_with_a_record_of_the_other_kind_is_damaged(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "0_0.mp4")])
    lines = {}
    for run, name in ((label_to_file, "labels.csv"), (embed_to_file, "embeddings.npy")):
        run(labeler, videos, tmp_path / name, num_workers=0)
        lines[run] = journal_path(tmp_path / name).read_text().splitlines()
    for run, other, name in (
        (label_to_file, embed_to_file, "labels.csv"),
        (embed_to_file, label_to_file, "embeddings.npy"),
    ):
        journal_path(tmp_path / name).write_text(f"{lines[run][0]}\n{lines[other][1]}\n")
        with pytest.raises(JournalError, match="damaged at byte"):
            run(labeler, videos, tmp_path / name, num_workers=0)


def test_another_checkpoint_or_other_views_are_another_run_but_labels_are_not_asked_for(labeler, tiny_checkpoint):
    described = EmbeddingRecorder(labeler).describe()
    assert described == EmbeddingRecorder(VideoLabeler.from_pretrained(tiny_checkpoint, batch_size=3)).describe()
    assert (
        described == EmbeddingRecorder(VideoLabeler.from_pretrained(tiny_checkpoint, hierarchy={"a": "x"})).describe()
    )
    crops = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(num_crops=3))
    assert EmbeddingRecorder(crops).describe() != described


def test_a_file_names_its_model_so_that_it_is_found_from_anywhere(labeler, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    nearby = VideoLabeler.from_pretrained(tiny_checkpoint.name)
    model = EmbeddingRecorder(nearby).describe_model()
    assert model == EmbeddingRecorder(labeler).describe_model()
    assert model.name == str(tiny_checkpoint.resolve()) and model.size == 16
    assert "config" not in model.made_by and len(model.made_by["weights"]) == 64
    assert EmbeddingRecorder(VideoLabeler.from_pretrained(DEFAULT_CHECKPOINT)).describe_model().name is None
    in_memory = VideoLabeler(
        labeler.model.__class__(labeler.model.config.__class__(hidden_size=12)), labeler.processor
    )
    assert EmbeddingRecorder(in_memory).describe_model().name is None


@pytest.mark.slow
def test_two_workers_on_ray_write_what_the_local_engine_writes(labeler, tmp_path):
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", moving_frames(10 + 10 * number, seed=number))
    (tmp_path / "broken.mp4").write_text("no video")
    videos = find_videos([str(tmp_path)])
    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        for engine, num_workers in (("local", 0), ("ray", 2)):
            output = tmp_path / f"{engine}.parquet"
            assert embed_to_file(labeler, videos, output, engine=engine, num_workers=num_workers).num_failed == 1
    finally:
        ray.shutdown()
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
