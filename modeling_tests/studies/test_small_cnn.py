"""The convolutional networks that stand in FAL's place: what they cost, see and learn."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import data_sets
import small_cnn
import small_training

from fal_hf.training.clips import ClipCollator


@pytest.mark.parametrize("name", data_sets.DATA_SETS)
def test_the_small_network_costs_what_fal_costs(name):
    config = small_training.small_config(name)
    fal, cnn = (small_cnn.count_gflop(network, config) for network in (None, small_cnn.small_cnn))
    assert cnn == pytest.approx(fal, rel=0.1)


def test_operations_are_those_of_the_convolutions_and_the_linear():
    config = small_training.small_config("order")
    frames, side, channels, expected = 8, 32, 3, 0
    for width, (step, *_, stride) in small_cnn.LAYERS:
        frames, side = frames // step, side // stride
        expected += 2 * frames * side**2 * width * channels * 27
        channels = width
    expected += 2 * channels * config.num_labels
    assert small_cnn.count_gflop(small_cnn.small_cnn, config) == pytest.approx(expected / 1e9)


@pytest.mark.parametrize("kind", [kind for kind in small_cnn.NETWORKS if kind != small_cnn.FAL])
def test_networks_take_clips_as_fal_does(kind):
    config = small_training.small_config("order", num_labels=4)
    torch.manual_seed(0)
    model = small_cnn.VideoNetwork(small_cnn.NETWORKS[kind], config).eval()
    clips = torch.rand(2, 8, 3, 32, 32)
    with torch.no_grad():
        logits, reversed_in_time = model(clips).logits, model(clips.flip(1)).logits
    assert logits.shape == (2, 4)
    assert not torch.allclose(logits, reversed_in_time), "expected the order of frames to matter"


def train(files, kind, *, seed=0, percent=100):
    return small_training.train_network(kind, "order", files, "toy", seed=seed, percent=percent)


def test_fal_and_a_network_see_the_same_clips(tmp_path, monkeypatch):
    """In the same order, changed alike: the weights of a network are no part of what their randomness is."""
    seen = []

    def spy(collator, items):
        batch = collate(collator, items)
        seen.append(batch["pixel_values"].clone())
        return batch

    collate = ClipCollator.__call__
    monkeypatch.setattr(ClipCollator, "__call__", spy)
    train(tmp_path / "study", small_cnn.FAL)
    of_fal = list(seen)
    seen.clear()
    train(tmp_path / "study", small_cnn.SMALL_CNN)
    assert len(of_fal) > 1 and len(seen) == len(of_fal)
    assert all(torch.equal(*pair) for pair in zip(of_fal, seen, strict=True))


def test_fal_is_trained_as_the_other_studies_train_it(tmp_path):
    other = small_training.train_on("order", tmp_path / "study", "toy", seed=1)
    trained = train(tmp_path / "study", small_cnn.FAL, seed=1)
    assert trained.figures == other.figures["test"]
    assert trained.num_clips == 4 * data_sets.CLIPS["toy"][0]


def test_studies_share_what_they_train_with_the_same_code(tmp_path, monkeypatch):
    monkeypatch.setattr(small_training, "current_commit", lambda: "0123456789")
    trained = train(tmp_path / "one", small_cnn.SMALL_CNN, percent=50)
    assert trained.num_clips == 4 * data_sets.CLIPS["toy"][0] // 2
    with monkeypatch.context() as patch:
        patch.setattr(small_training, "ClipTrainer", None)
        assert train(tmp_path / "two", small_cnn.SMALL_CNN, percent=50) == trained


@pytest.mark.parametrize("commit", ["0123456789+", ""])
def test_what_no_commit_has_made_is_trained_again(tmp_path, monkeypatch, commit):
    monkeypatch.setattr(small_training, "current_commit", lambda: commit)
    first, again = (train(tmp_path / "study", small_cnn.SMALL_CNN) for _ in range(2))
    assert first.processor_seconds != again.processor_seconds
    assert replace(first, processor_seconds=0) == replace(again, processor_seconds=0), "expected the same for a seed"


def test_a_network_learns_what_a_few_steps_can_tell(tmp_path, monkeypatch):
    """Squares at four places, instead of the disc's orders."""
    places = {label: divmod(index, 2) for index, label in enumerate(data_sets.ORDERS)}

    def draw_square(rng, label):
        row, column = places[label]
        frames = rng.normal(40, 12, (8, data_sets.SIDE, data_sets.SIDE, 3))
        frames[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 150
        return np.clip(frames, 0, 255).astype(np.uint8)

    monkeypatch.setattr(data_sets, "draw_disc", draw_square)
    monkeypatch.setitem(small_training.EPOCHS, "toy", 15)
    trained = train(tmp_path / "study", small_cnn.SMALL_CNN)
    assert trained.figures["accuracy"] == 1.0
    assert trained.processor_seconds > 0
    model = small_cnn.VideoNetwork(small_cnn.small_cnn, small_training.small_config("order", num_labels=4))
    assert trained.num_parameters == sum(parameter.numel() for parameter in model.parameters())
