"""VideoLabeler: one video to its labels."""

import json
import math
import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from media_files import moving_frames, repeat_video, write_video
from naive_fal import naive_similarity
from tiny_clip import write_open_checkpoint
from tiny_fal import model_scores, tiny_model

from fal_hf import (
    AdaptivePatches,
    FALVideoClassifierForVideoClassification,
    Timeline,
    VideoError,
    VideoLabeler,
    Views,
    read_frames,
)
from fal_hf.labeling import labeler as labeling
from fal_hf.labeling.views import PAPER_SCALES


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "moving.mp4", moving_frames(40))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


def test_scores_are_those_of_the_model_on_each_clip_averaged(labeler, video):
    result = labeler(str(video), top_k=5)
    frames = read_frames(video).frames
    # Three interleaved clips of four frames: the midpoints of twelfths, dealt out.
    indices = (40 * (2 * np.arange(12) + 1) // 24).reshape(4, 3).T
    inputs = labeler.processor([frames[clip] for clip in indices], return_tensors="pt")
    with torch.no_grad():
        expected = labeler.model(**inputs).logits.softmax(-1).mean(0)
    scores = {label.label: label.score for label in result.labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert result.num_clips == 3 and result.duration_seconds == pytest.approx(1.6, abs=0.01)


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_scores(labeler, tiny_checkpoint, video):
    compiled = VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu", compile=True)
    assert compiled.model._compiled_call_impl is not None
    expected = {label.label: label.score for label in labeler(video).labels}
    assert {label.label: label.score for label in compiled(video).labels} == pytest.approx(expected, abs=1e-5)


def test_labels_come_best_first_and_no_more_than_asked_for(labeler, video):
    labels = labeler(video, top_k=2).labels
    assert len(labels) == 2 and labels[0].score >= labels[1].score
    assert len(labeler(video, top_k=99).labels) == 5


def test_a_cpu_takes_no_more_patches_at_once_than_keep_it_busy(tiny_checkpoint, video, monkeypatch):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=5)
    together = labeler(video)
    sizes = []
    labeler.model.register_forward_pre_hook(lambda model, args, kwargs: sizes.append(len(args[0])), with_kwargs=True)
    monkeypatch.setattr(labeling, "CPU_PATCHES", 2 * math.prod(labeler.model.config.grid_size))
    apart = labeler(video)
    assert sizes == [2, 2, 1]
    assert [label.score for label in apart.labels] == pytest.approx([label.score for label in together.labels])


def test_scores_do_not_depend_on_where_weights_and_clips_lie(labeler, video):
    with labeler.reader.open(video) as file:
        (batch,) = next(labeler.reader.read(file, labeler.reader.plan(file)))
    expected = labeler.score([batch])
    shifted = np.empty(batch.nbytes + 64, np.uint8)
    for offset in (4, 16, 36):
        moved = shifted[offset : offset + batch.nbytes].view(np.float32).reshape(batch.shape)
        moved[:] = batch
        assert torch.equal(labeler.score([moved]), expected)
    again = pickle.loads(pickle.dumps(labeler))
    assert {weight.data_ptr() % 64 for weight in again.model.parameters()} == {0}
    assert {weight.data_ptr() % 64 for weight in labeler.model.parameters()} == {0}
    assert torch.equal(again.score([batch]), expected)


def test_the_number_of_clips_can_be_chosen(tiny_checkpoint, video):
    assert VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=7)(video).num_clips == 7


def test_views_are_averaged_over_clips_crops_and_weighted_scales(tiny_checkpoint, tmp_path):
    wide = write_video(tmp_path / "wide.mp4", moving_frames(30, height=48, width=96))
    views = Views(num_clips=2, num_crops=3, scales=(1.0, 1.5))
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=views)
    expected = torch.zeros(5)
    for clip in labeler.processor.sample_clips(wide, num_clips=2):
        for scale, weight in ((1.0, 1.0), (1.5, 2 / 3)):
            edge = round(16 * scale)
            inputs = labeler.processor(
                clip.frames,
                do_sample_frames=False,
                return_tensors="pt",
                size={"shortest_edge": edge},
                do_center_crop=False,
            )["pixel_values"]
            for left in (0, edge // 2, edge):
                with torch.no_grad():
                    logits = labeler.model(inputs[..., left : left + edge]).logits
                expected += logits.softmax(-1)[0] * weight / (1 + 2 / 3) / 6
    scores = {label.label: label.score for label in labeler(wide).labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_papers_five_scales_run(tiny_checkpoint, video):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(scales=PAPER_SCALES))
    assert sum(label.score for label in labeler(video).labels) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_size_of_a_batch_does_not_change_the_scores(tiny_checkpoint, labeler, video, batch_size):
    other = VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=3, batch_size=batch_size)
    expected = {label.label: label.score for label in labeler(video).labels}
    assert {label.label: label.score for label in other(video).labels} == pytest.approx(expected, abs=1e-6)


# ---- windows and timelines ----


def test_windows_are_scored_by_themselves_and_averaged_for_the_video(tiny_checkpoint, video):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(windows=True, window_seconds=0.5))
    result = labeler(video, top_k=5)
    starts = [window.start_seconds for window in result.windows]
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.1]) and result.num_clips == 4
    assert [window.end_seconds for window in result.windows] == pytest.approx([0.5, 1.0, 1.5, 1.6])
    total = torch.zeros(5)
    for window in result.windows:
        instants = window.start_seconds + 0.0625 + 0.125 * np.arange(4)
        expected = model_scores(labeler, read_frames(video, seconds=instants).frames)
        scores = {label.label: label.score for label in window.labels}
        assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)
        total += expected
    scores = {label.label: label.score for label in result.labels}
    assert [scores[name] for name in "abcde"] == pytest.approx((total / 4).tolist(), abs=1e-5)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """The camera stands for 3 s, pans to the right for 3 s and stands again for 2 s, over one picture."""
    rng = np.random.default_rng(0)
    octaves = [np.kron(rng.random((288 // size, 480 // size, 3)), np.ones((size, size, 1))) for size in (48, 16, 8, 4)]
    picture = (np.mean(octaves, axis=0) * 255).astype(np.uint8)
    lefts = [0] * 75 + list(range(0, 225, 3)) + [225] * 50
    frames = [picture[60:204, left : left + 192] for left in lefts]
    return write_video(tmp_path_factory.mktemp("films") / "film.mp4", frames)


def test_the_timeline_of_a_film_says_when_the_camera_moves(film):
    labeler = VideoLabeler.from_pretrained(views=Views(windows=True), timeline=Timeline(min_seconds=0.9))
    segments = labeler(film).segments
    assert [segment.label for segment in segments] == ["static", "pan_right", "static"]
    borders = [seconds for segment in segments for seconds in (segment.start_seconds, segment.end_seconds)]
    assert borders == pytest.approx([0.0, 3.0, 3.0, 6.0, 6.0, 8.0], abs=0.6)
    assert all(0.5 <= segment.score <= segment.peak <= 1 for segment in segments)


def test_overlapping_windows_find_the_borders_too(film):
    views = Views(windows=True, window_seconds=1.0, hop_seconds=0.25)
    labeler = VideoLabeler.from_pretrained(views=views, timeline=Timeline(min_seconds=0.5))
    (pan,) = [segment for segment in labeler(film).segments if segment.label == "pan_right"]
    assert (pan.start_seconds, pan.end_seconds) == pytest.approx((3.0, 6.0), abs=0.4)


def test_a_hierarchy_adds_scores_and_segments_of_parents(film):
    hierarchy = {"pan_left": "pan", "pan_right": "pan", "pan": "camera", "static": "camera"}
    labeler = VideoLabeler.from_pretrained(views=Views(windows=True), hierarchy=hierarchy)
    result = labeler(film, top_k=10)
    scores = {label.label: label.score for label in result.labels}
    parents = {label.label: label.score for label in result.parents}
    assert parents["pan"] == pytest.approx(scores["pan_left"] + scores["pan_right"], abs=1e-6)
    assert parents["camera"] == pytest.approx(parents["pan"] + scores["static"], abs=1e-6)
    spans = {segment.label: (segment.start_seconds, segment.end_seconds) for segment in result.segments}
    assert spans["camera"] == (0.0, 8.0) and spans["pan"] == pytest.approx((3.0, 6.0), abs=0.6)
    assert "pan_right" in spans and "parents" in result.to_dict()


def test_a_checkpoint_brings_its_hierarchy_unless_another_is_given(tiny_checkpoint, video, tmp_path):
    folder = tmp_path / "carries"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    hierarchy = {"a": "vowel", "e": "vowel"}
    (folder / "config.json").write_text(json.dumps({**config, "label_hierarchy": hierarchy}))
    carried = VideoLabeler.from_pretrained(folder)(video)
    assert [parent.label for parent in carried.parents] == ["vowel"]
    given = VideoLabeler.from_pretrained(tiny_checkpoint, hierarchy=hierarchy)(video)
    assert carried.parents == given.parents
    other = VideoLabeler.from_pretrained(folder, hierarchy={"b": "consonant"})(video)
    assert [parent.label for parent in other.parents] == ["consonant"]


def test_labels_that_are_independent_overlap_in_time(tiny_checkpoint, video, tmp_path):
    folder = tmp_path / "independent"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    views = Views(windows=True, window_seconds=0.4)
    result = VideoLabeler.from_pretrained(folder, views=views, timeline=Timeline(threshold=0.01, hysteresis=0))(video)
    assert [segment.label for segment in result.segments] == list("abcde")
    assert all(segment.start_seconds == 0.0 for segment in result.segments)
    assert [segment.end_seconds for segment in result.segments] == pytest.approx([1.6] * 5)


def test_patches_adapt_where_that_is_asked_for(tiny_checkpoint, labeler, video):
    patches = AdaptivePatches(share=0.3)
    adaptive = VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=1, adaptive_patches=patches)
    (clip,) = read_clips(adaptive, video)
    with torch.no_grad():
        expected = adaptive.model(clip).logits.softmax(-1)[0]
    assert adaptive.model.fal.embeddings.find_places(clip).shape == (1, 4, 3)
    scores = {label.label: label.score for label in adaptive(video).labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-6)
    uniform = VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=1)
    assert [label.score for label in uniform(video).labels] != pytest.approx(sorted(scores.values())[::-1], abs=1e-4)


def read_clips(labeler, video) -> list[torch.Tensor]:
    """The pixel values of each batch of a video's clips."""
    with labeler.reader.open(video) as file:
        batches = list(labeler.reader.read(file, labeler.reader.plan(file)))
    return [torch.from_numpy(pixels).flatten(0, 1) for (pixels,) in batches]


def test_a_timeline_needs_windows_and_num_clips_stands_once(labeler):
    with pytest.raises(ValueError, match=r"Views\(windows=True\)"):
        VideoLabeler(labeler.model, labeler.processor, timeline=Timeline())
    with pytest.raises(ValueError, match="num_clips or views, got both"):
        VideoLabeler(labeler.model, labeler.processor, num_clips=2, views=Views())


def test_an_environment_that_names_no_library_is_refused_before_any_video(labeler, monkeypatch):
    monkeypatch.setenv("FAL_LINEARS", "mkl")
    with pytest.raises(ValueError, match="FAL_LINEARS: expected torch or onednn"):
        VideoLabeler(labeler.model, labeler.processor)


PEAK_OF_LABELING = """
import resource, sys
from fal_hf import VideoLabeler, Views
labeler = VideoLabeler.from_pretrained(sys.argv[1], views=Views(windows=True, window_seconds=5.0))
result = labeler(sys.argv[2], top_k=1)
print(result.duration_seconds, len(result.windows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured as POSIX does")
def test_memory_does_not_grow_with_the_length_of_a_video(tiny_checkpoint, tmp_path):
    short = write_video(tmp_path / "minute.mp4", moving_frames(600, height=96, width=128), rate=10)
    long = repeat_video(short, tmp_path / "three_hours.mp4", repetitions=180)
    peaks = {}
    for path, seconds in ((short, 60), (long, 3 * 3600)):
        command = [sys.executable, "-c", PEAK_OF_LABELING, str(tiny_checkpoint), str(path)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        duration, windows, peaks[seconds] = (float(number) for number in process.stdout.split())
        assert duration == pytest.approx(seconds) and windows == seconds / 5
    # A decoded frame takes 36 KiB, so all frames of the windows would take 600 MiB.
    assert peaks[10800] - peaks[60] < 40 * 1024


def test_bytes_and_open_files_are_videos_too(labeler, video):
    expected = labeler(video).labels
    result = labeler(video.read_bytes())
    assert result.labels == expected and result.video == f"video of {video.stat().st_size} bytes"
    with open(video, "rb") as file:
        result = labeler(file)
    assert result.labels == expected and result.video == str(video)


def test_the_result_can_be_written_as_json(labeler, video):
    record = json.loads(json.dumps(labeler(video).to_dict()))
    assert record["video"] == str(video)
    assert set(record["labels"][0]) == {"label", "score"}


def test_half_precision_gives_nearly_the_same_scores(tiny_checkpoint, labeler, video):
    half = VideoLabeler.from_pretrained(tiny_checkpoint, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    scores = {label.label: label.score for label in labeler(video).labels}
    assert {label.label: label.score for label in half(video).labels} == pytest.approx(scores, abs=0.05)


def test_an_unreadable_video_is_one_clear_error(labeler, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        labeler(broken)


def test_a_wrong_top_k_is_refused(labeler, video):
    with pytest.raises(ValueError, match="expected top_k >= 1, got 0"):
        labeler(video, top_k=0)


def test_a_model_without_a_trained_head_is_refused(tiny_checkpoint, tmp_path):
    folder = tmp_path / "headless"
    shutil.copytree(tiny_checkpoint, folder)
    tiny_model().fal.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"classifier\.(weight|bias)"):
        VideoLabeler.from_pretrained(folder)


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    with pytest.raises(
        ValueError, match="expected the configuration of a FAL or TimeSformer model, got model_type='vit'"
    ):
        VideoLabeler.from_pretrained(tmp_path)


def test_a_regression_model_is_refused(labeler, tiny_checkpoint, tmp_path):
    tiny_model(problem_type="regression").save_pretrained(tmp_path)
    labeler.processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a model that classifies"):
        VideoLabeler.from_pretrained(tmp_path)


@pytest.mark.parametrize("device", ["meta", "gpu", "cpu:x"])
def test_a_device_that_computes_nothing_is_refused(tiny_checkpoint, device):
    with pytest.raises(ValueError, match=f"device: expected one of this machine, got {device}"):
        VideoLabeler.from_pretrained(tiny_checkpoint, device=device)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        VideoLabeler.from_pretrained(tmp_path / "nowhere")


# ---- labels in one's own words ----

OWN_LABELS = ["a dog runs", "猫が走る", "a car, turning"]


@pytest.mark.parametrize("options", [{}, {"prompt": "{}!"}, {"multi_label": True}], ids=str)
def test_given_labels_are_scored_by_the_likeness_of_clip_and_text(open_checkpoint, video, options):
    labeler = VideoLabeler.from_pretrained(open_checkpoint, labels=OWN_LABELS, **options)
    inputs = labeler.processor(video, return_tensors="pt")
    texts = [options.get("prompt", "a video of {}").replace("{}", label) for label in OWN_LABELS]
    with torch.no_grad():
        pooled = labeler.model.fal(**inputs).pooler_output
        logits = naive_similarity(labeler.model.classifier, pooled, labeler.model.text_encoder(texts))[0]
    expected = logits.sigmoid() if "multi_label" in options else logits.softmax(-1)
    scores = {label.label: label.score for label in labeler(video).labels}
    assert [scores[label] for label in OWN_LABELS] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_labeler_with_given_labels_is_pickled_with_them(open_checkpoint, video):
    labeler = VideoLabeler.from_pretrained(open_checkpoint, labels=OWN_LABELS, multi_label=True)
    assert pickle.loads(pickle.dumps(labeler))(video) == labeler(video)


def test_parents_stand_above_given_labels_and_those_of_the_checkpoint_do_not(open_checkpoint, video, tmp_path):
    own = VideoLabeler.from_pretrained(open_checkpoint, labels=["one", "two"], hierarchy={"one": "number"})
    own.model.save_pretrained(tmp_path / "model")
    own.processor.save_pretrained(tmp_path / "model")
    assert [parent.label for parent in VideoLabeler.from_pretrained(tmp_path / "model")(video).parents] == ["number"]
    given = {"labels": OWN_LABELS}
    assert VideoLabeler.from_pretrained(tmp_path / "model", **given)(video).parents is None
    parents = {"a dog runs": "animal", "猫が走る": "animal", "animal": "thing"}
    (tmp_path / "parents.json").write_text(json.dumps(parents), encoding="utf-8")
    result = VideoLabeler.from_pretrained(open_checkpoint, **given, hierarchy=parents)(video)
    scores = {label.label: label.score for label in result.labels}
    assert {label.label: label.score for label in result.parents} == pytest.approx(
        dict.fromkeys(("animal", "thing"), scores["a dog runs"] + scores["猫が走る"])
    )
    from_file = VideoLabeler.from_pretrained(open_checkpoint, **given, hierarchy=tmp_path / "parents.json")
    assert from_file(video) == result


def test_labels_as_tokens_are_given_with_a_hierarchy_where_they_were_trained_with_one(video, tmp_path):
    fields = {"label_attention": "divided", "label_integration_layer": 1}
    flat = write_open_checkpoint(tmp_path / "flat", ["one", "two"], **fields)
    with pytest.raises(ValueError, match="hierarchy: expected no hierarchy, as the labels as tokens were trained"):
        VideoLabeler.from_pretrained(flat, labels=OWN_LABELS, hierarchy={"a dog runs": "animal"})
    labeler = VideoLabeler.from_pretrained(flat, labels=OWN_LABELS)
    assert {label.label for label in labeler(video).labels} == set(OWN_LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "{}!"}, "prompt and multi_label: expected labels with them"),
        ({"multi_label": True}, "prompt and multi_label: expected labels with them"),
        ({"labels": "a, b"}, "expected a list of labels, .* got 'a, b'"),
        ({"labels": []}, "expected a list of labels, .* got an empty one"),
        ({"labels": ["a", "b", "a"]}, "that differ, got a more than once"),
        ({"labels": ["a", ""]}, "each a text, got '' among them"),
        ({"labels": ["a"], "prompt": "a video"}, r"expected a prompt with \{\} in the label's place"),
        ({"labels": ["a"], "hierarchy": {"a": "b", "b": "a"}}, "got a label that is its own ancestor"),
        ({"labels": ["a"], "hierarchy": {"one": "x"}}, r"one: expected labels of the model \(a\) or parents"),
    ],
)
def test_given_labels_that_cannot_be_are_refused(open_checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        VideoLabeler.from_pretrained(open_checkpoint, **options)


def test_a_model_with_labels_of_its_own_takes_no_others(tiny_checkpoint):
    with pytest.raises(ValueError, match="expected a model with label embeddings, got one with a head that is"):
        VideoLabeler.from_pretrained(tiny_checkpoint, labels=OWN_LABELS)


def test_who_asks_for_independent_scores_is_told_where_they_were_never_trained(open_checkpoint, labeler):
    model = FALVideoClassifierForVideoClassification.from_pretrained(open_checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        VideoLabeler(model, labeler.processor, labels=["a"], multi_label=True)
        with torch.no_grad():
            model.classifier.logit_bias.zero_()
        VideoLabeler(model, labeler.processor, labels=["a"])
    with pytest.warns(UserWarning, match="will all be near one; fine-tune it with --problem_type"):
        VideoLabeler(model, labeler.processor, labels=["a"], multi_label=True)
