"""Labeled clips to tensors: what is random and what is not, what all frames share, what is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from torch.utils.data import DataLoader
from video_classification_files import CLASSES, write_class_folders

pytest.importorskip("sklearn")

import fal_hf.training.clips as clips_module
from fal_hf import FALVideoProcessor, VideoError
from fal_hf.labeling.views import three_crops
from fal_hf.training.clips import (
    IGNORED,
    AugmentationArguments,
    ClipCollator,
    ClipSampler,
    EvaluationClips,
    TrainingClips,
    UnreadableClips,
)
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL, LabeledClip, read_class_folders

LABEL2ID = {name: index for index, name in enumerate(CLASSES)}
ALL_AUGMENTATIONS = AugmentationArguments(horizontal_flip=0.5, colour_ops=2, random_erasing=0.5)


def make_processor(**settings) -> FALVideoProcessor:
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return FALVideoProcessor(**{**size, "num_frames": 4, **settings})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[LabeledClip]:
    return read_class_folders(write_class_folders(tmp_path_factory.mktemp("clips"), per_class=3))


@pytest.fixture
def build(clips, tmp_path):
    """A dataset of one of the classes over the clips, or over others."""

    def build_dataset(kind, *, chosen=None, max_share=0.5, processor=None, problem_type=SINGLE_LABEL, **options):
        chosen = clips if chosen is None else chosen
        unreadable = UnreadableClips(tmp_path / "unreadable.jsonl", num_clips=len(chosen), max_share=max_share)
        return kind(
            chosen,
            clips_module.probe_clips(chosen, num_threads=2),
            processor or make_processor(),
            label2id=LABEL2ID,
            problem_type=problem_type,
            unreadable=unreadable,
            **options,
        )

    return build_dataset


@pytest.fixture
def build_training(build):
    def build_dataset(augmentation=ALL_AUGMENTATIONS, seed=0, **options):
        return build(TrainingClips, augmentation=augmentation, seed=seed, **options)

    return build_dataset


def load_epochs(dataset, *, num_workers: int, epochs: int = 2, collator=None) -> list[torch.Tensor]:
    sampler = ClipSampler(len(dataset), seed=0)
    workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    loader = DataLoader(
        dataset, 4, sampler=sampler, collate_fn=collator or ClipCollator(2, AugmentationArguments()), **workers
    )
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += [tensor for batch in loader for tensor in (batch["pixel_values"], batch["labels"])]
    return batches


def test_training_clips_have_the_shape_of_the_processor(build_training):
    item = build_training()[0, 0]
    assert item["pixel_values"].shape == (4, 3, 16, 16) and item["pixel_values"].dtype == torch.float32
    assert item["labels"].item() == 0


def test_any_number_of_workers_gives_the_same_clips(build_training):
    torch.manual_seed(1)
    collator = ClipCollator(2, AugmentationArguments(mixup_alpha=0.8, cutmix_alpha=1.0))
    without = load_epochs(build_training(), num_workers=0, collator=collator)
    torch.manual_seed(2)
    assert all(map(torch.equal, without, load_epochs(build_training(), num_workers=2, collator=collator)))


def test_epochs_and_seeds_differ(build_training):
    first, second = build_training(), build_training(seed=1)
    assert torch.equal(first[3, 0]["pixel_values"], first[3, 0]["pixel_values"])
    assert not torch.equal(first[3, 0]["pixel_values"], first[4, 0]["pixel_values"])
    assert not torch.equal(first[3, 0]["pixel_values"], second[3, 0]["pixel_values"])


def test_reading_a_clip_leaves_torchs_randomness_alone(build_training):
    dataset = build_training()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dataset[0, 0]
    assert torch.equal(torch.rand(3), expected)


def test_every_frame_of_a_clip_is_changed_alike(build_training, tmp_path):
    """Of a video whose frames are all the same picture, every frame of a training clip is the same as well."""
    still = moving_frames(1, height=48, width=64).repeat(8, axis=0)
    path = write_video(tmp_path / "still.mkv", still, codec="ffv1", pixel_format="bgr0")
    dataset = build_training(chosen=[LabeledClip(path=str(path), labels=(CLASSES[0],))])
    seen = [dataset[epoch, 0]["pixel_values"] for epoch in range(8)]
    assert all(torch.equal(frame, clip[0]) for clip in seen for frame in clip)
    assert len({clip.sum().item() for clip in seen}) == 8


def test_a_flip_swaps_the_labels_of_a_pair():
    label2id = {"pan_left": 0, "still": 1, "pan_right": 2}
    with pytest.raises(ValueError, match="pan_left, pan_right may change"):
        clips_module.mirrored_labels(AugmentationArguments(horizontal_flip=0.5), label2id)
    with pytest.raises(ValueError, match="expected label=label"):
        clips_module.mirrored_labels(AugmentationArguments(flip_label_pairs="pan_left=right"), label2id)
    arguments = AugmentationArguments(horizontal_flip=1.0, flip_label_pairs="pan_left=pan_right")
    augment = clips_module.ClipAugmentation(make_processor(), arguments, label2id)
    frames = np.zeros((4, 20, 20, 3), np.uint8)
    assert [augment(frames, torch.tensor(index))[1].item() for index in range(3)] == [2, 1, 0]
    assert augment(frames, torch.tensor([1.0, 1.0, 0.0]))[1].tolist() == [0.0, 1.0, 1.0]


def test_a_flip_mirrors_the_pixels():
    frames = moving_frames(4, height=16, width=16)
    mirror = AugmentationArguments(horizontal_flip=1.0, short_side_min=16, short_side_max=16)
    keep = replace(mirror, horizontal_flip=0.0)
    flipped, kept = (
        clips_module.ClipAugmentation(make_processor(), arguments, LABEL2ID)(frames, torch.tensor(0))[0]
        for arguments in (mirror, keep)
    )
    assert torch.equal(flipped, kept.flip(-1)) and not torch.equal(flipped, kept)


def test_a_training_clip_without_changes_is_what_the_processor_makes(clips):
    frames = moving_frames(4, height=16, width=16)
    arguments = AugmentationArguments(short_side_min=16, short_side_max=16)
    made, _ = clips_module.ClipAugmentation(make_processor(), arguments, LABEL2ID)(frames, torch.tensor(0))
    torch.testing.assert_close(made, make_processor()(frames, return_tensors="pt")["pixel_values"][0])


def frame_numbers(dataset, monkeypatch, *, draws: int = 40) -> np.ndarray:
    """The instants, in frames, that training clips are read at."""
    plans = []
    original = clips_module.read_all_clips

    def read_and_note(video, plan):
        plans.append(plan.positions[0])
        return original(video, plan)

    monkeypatch.setattr(clips_module, "read_all_clips", read_and_note)
    for epoch in range(draws):
        dataset[epoch, 0]
    return 25 * np.array(plans)


def test_segments_are_random_and_stay_within_the_clip(build_training, clips, monkeypatch):
    """The files have 12 frames at 25 a second; the clip is the part from frame 2 to frame 10."""
    part = replace(clips[0], start_seconds=2 / 25, end_seconds=10 / 25)
    processor = make_processor(frame_interval_seconds=1 / 25)
    positions = frame_numbers(build_training(chosen=[part], processor=processor), monkeypatch)
    np.testing.assert_allclose(np.diff(positions, axis=1), 1.0)
    assert positions.min() >= 2 and positions[:, -1].max() <= 9 and np.ptp(positions[:, 0]) > 3
    monkeypatch.undo()
    spread = frame_numbers(build_training(chosen=[part]), monkeypatch)
    assert spread.min() >= 2 and spread.max() < 10 and np.ptp(spread, axis=0).min() > 1.5


@pytest.mark.parametrize("settings", [{}, {"frame_interval_seconds": 0.08}, {"frame_stride": 2}])
@pytest.mark.parametrize(("num_clips", "num_crops"), [(1, 1), (3, 1), (2, 3)])
def test_the_views_of_an_evaluation_are_those_of_the_labeler(build, clips, settings, num_clips, num_crops):
    processor = make_processor(**settings)
    dataset = build(EvaluationClips, num_clips=num_clips, num_crops=num_crops, processor=processor)
    views = dataset[1]["pixel_values"]
    assert views.shape == (num_clips * num_crops, 4, 3, 16, 16)
    for number, clip in enumerate(processor.sample_clips(clips[1].path, num_clips=num_clips)):
        options = {"do_sample_frames": False, "do_center_crop": num_crops == 1, "return_tensors": "pt"}
        pixels = processor(clip.frames, **options)["pixel_values"][0]  # (T, C, H, W)
        crops = three_crops(pixels, height=16, width=16).transpose(0, 1) if num_crops == 3 else pixels[None]
        made = views[number * num_crops : (number + 1) * num_crops]
        torch.testing.assert_close(made, crops, rtol=0, atol=1e-6)


def test_a_clip_too_short_for_its_checkpoint_is_left_out_of_evaluation_and_training(build, build_training, clips):
    """As labeling refuses it: a clip of 12 frames, of which 4 are wanted half a second apart."""
    processor = make_processor(frame_interval_seconds=0.5, short_clip="error")
    for dataset, key in (
        (build(EvaluationClips, processor=processor), 0),
        (build_training(processor=processor), (0, 0)),
    ):
        assert dataset[key]["labels"] == IGNORED
        assert "short_clip" in str(dataset.unreadable.reasons())


def test_a_stretch_is_evaluated_as_if_it_were_the_video(build, tmp_path):
    frames = moving_frames(20, height=16, width=16)
    options = {"codec": "ffv1", "pixel_format": "bgr0"}
    whole = write_video(tmp_path / "whole.mkv", frames, **options)
    part = write_video(tmp_path / "part.mkv", frames[5:15], **options)
    stretch = LabeledClip(path=str(whole), labels=(CLASSES[0],), start_seconds=5 / 25, end_seconds=15 / 25)
    dataset = build(EvaluationClips, num_clips=2, chosen=[stretch, LabeledClip(path=str(part), labels=(CLASSES[0],))])
    assert torch.equal(dataset[0]["pixel_values"], dataset[1]["pixel_values"])


def broken_after_its_start(tmp_path, clips) -> LabeledClip:
    """A clip whose file is replaced by noise after it was probed."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(Path(clips[0].path).read_bytes())
    return LabeledClip(path=str(path), labels=clips[0].labels)


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
def test_a_clip_that_proves_unreadable_is_recorded_and_left_out(build_training, clips, tmp_path, problem_type):
    broken = broken_after_its_start(tmp_path, clips)
    dataset = build_training(chosen=[broken, *clips], problem_type=problem_type)
    (tmp_path / "broken.mp4").write_bytes(b"noise" * 100)
    collate = ClipCollator(2, AugmentationArguments(mixup_alpha=0.8))
    batch = collate([dataset[0, index] for index in (0, 1, 4)])
    assert (batch["labels"][0] == IGNORED).all() and not batch["pixel_values"][0].any()
    assert batch["labels"].shape == (3, 2) and batch["labels"][1:].sum(-1).tolist() == pytest.approx([1.0, 1.0])
    (reason,) = dataset.unreadable.reasons().values()
    assert "broken.mp4" in reason
    assert str(dataset.unreadable) == "1 of 7 clips left out as unreadable"
    alone = collate([dataset[0, 0]])
    assert (alone["labels"] == IGNORED).all()


def test_too_many_unreadable_clips_stop_the_run_in_a_worker_too(build_training, clips, tmp_path):
    broken = broken_after_its_start(tmp_path, clips)
    dataset = build_training(chosen=[broken, *clips], max_share=0.1)
    (tmp_path / "broken.mp4").write_bytes(b"noise" * 100)
    with pytest.raises(RuntimeError, match=r"1 of 7 clips cannot be read, more than the share of 0\.1"):
        load_epochs(dataset, num_workers=1, epochs=1)


def test_probing_says_why_a_clip_cannot_be_read(clips, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    late = replace(clips[0], start_seconds=60.0)
    infos = clips_module.probe_clips([clips[0], LabeledClip(path=str(tmp_path / "text.mp4"), labels=("a",)), late])
    assert infos[0].duration_seconds == pytest.approx(12 / 25)
    assert all(isinstance(info, VideoError) for info in infos[1:])
    assert "the clip begins at 60.0 s" in str(infos[2])


def test_the_sampler_draws_each_clip_once_or_by_weight():
    sampler = ClipSampler(50, seed=0)
    assert sorted(sampler) == [(0, index) for index in range(50)]
    sampler.set_epoch(1)
    assert {epoch for epoch, _ in sampler} == {1}
    weighted = ClipSampler(1000, seed=0, weights=torch.tensor([1.0] * 500 + [3.0] * 500))
    assert 700 <= sum(index >= 500 for _, index in weighted) <= 800


def test_mixing_keeps_the_shares_of_the_labels():
    items = [
        {"pixel_values": torch.full((2, 3, 8, 8), float(i)), "labels": torch.tensor(i), "seed": 3} for i in (0, 1)
    ]
    for arguments in (AugmentationArguments(mixup_alpha=1.0), AugmentationArguments(cutmix_alpha=1.0)):
        batch = ClipCollator(2, arguments)(items)
        shares = batch["labels"][:, 1]
        torch.testing.assert_close(batch["pixel_values"].mean(dim=(1, 2, 3, 4)), shares, atol=0.02, rtol=0)
        assert all(torch.equal(frame, clip[0]) for clip in batch["pixel_values"] for frame in clip)


@pytest.mark.parametrize(
    "settings", [{"horizontal_flip": 2.0}, {"mixup_alpha": -1.0}, {"colour_magnitude": 31}, {"random_erasing": -0.1}]
)
def test_bad_augmentations_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        AugmentationArguments(**settings)


def test_processors_whose_clips_differ_in_shape_are_refused(build):
    with pytest.raises(ValueError, match="of one shape"):
        build(EvaluationClips, processor=make_processor(do_center_crop=False))
    with pytest.raises(ValueError, match="short_side_min"):
        clips_module.ClipAugmentation(make_processor(), AugmentationArguments(short_side_min=8), LABEL2ID)
