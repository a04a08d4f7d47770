"""Videos that are alike: beside cosines by hand, and on copies of rendered clips."""

import json

import numpy as np
import pytest
import torch
from media_files import write_video

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoLabeler
from fal_hf.labeling.embedding_files import Embeddings
from fal_hf.labeling.similarity import find_duplicates, find_similar

pytest.importorskip("sklearn")
RNG = np.random.default_rng(0)


def make_embeddings(numbers: np.ndarray, names: list[str] | None = None) -> Embeddings:
    numbers = numbers.astype(np.float32)
    names = [f"{row}.mp4" for row in range(len(numbers))] if names is None else names
    return Embeddings(names, np.full((len(numbers), 2), np.nan), numbers)


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    one, two = one.astype(np.float64), two.astype(np.float64)
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


@pytest.mark.parametrize("top_k", [1, 4, 50])
def test_the_nearest_are_those_of_the_largest_cosines(top_k):
    numbers, query = RNG.normal(size=(30, 7)) * 5, RNG.normal(size=7).astype(np.float32)
    found = find_similar(make_embeddings(numbers), query, top_k=top_k)
    scores = {f"{row}.mp4": cosine(query, embedding) for row, embedding in enumerate(numbers)}
    expected = sorted(scores, key=scores.get, reverse=True)[:top_k]
    assert [row.video for row in found] == expected
    assert [row.score for row in found] == pytest.approx([scores[name] for name in expected], abs=1e-5)


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_duplicates_are_all_pairs_above_the_threshold_once(monkeypatch, rows_at_once):
    monkeypatch.setattr("fal_hf.labeling.similarity.ROWS_AT_ONCE", rows_at_once)
    numbers = RNG.normal(size=(20, 4))
    found = {
        (one.video, two.video): one.score for one, two in find_duplicates(make_embeddings(numbers), threshold=0.6)
    }
    expected = {
        (f"{one}.mp4", f"{two}.mp4"): cosine(numbers[one], numbers[two])
        for one in range(20)
        for two in range(one + 1, 20)
        if cosine(numbers[one], numbers[two]) >= 0.6
    }
    assert found == pytest.approx(expected, abs=1e-5) and len(found) > 3


def test_the_same_embedding_is_a_duplicate_at_the_highest_threshold_and_parts_of_one_video_are_none():
    numbers = RNG.normal(size=(500, 33))[np.arange(500).repeat(2)]
    names = [f"{row // 2}-{row % 2}.mp4" for row in range(1000)]
    pairs = list(find_duplicates(make_embeddings(numbers, names), threshold=1.0))
    assert [(one.video, two.video) for one, two in pairs] == [(f"{row}-0.mp4", f"{row}-1.mp4") for row in range(500)]
    assert all(one.score == two.score == pytest.approx(1, abs=1e-6) for one, two in pairs)
    assert not list(find_duplicates(make_embeddings(numbers, ["a.mp4"] * 1000), threshold=1.0))


def test_parts_have_their_times():
    windows = np.array([[0.0, 1.0], [1.0, 2.0]])
    embeddings = Embeddings(["a.mp4", "a.mp4"], windows, np.eye(2, dtype=np.float32))
    (found,) = find_similar(embeddings, np.float32([0.1, 1]), top_k=1)
    assert (found.video, found.start_seconds, found.end_seconds) == ("a.mp4", 1.0, 2.0)


def test_what_cannot_be_compared_is_refused():
    empty = make_embeddings(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="got an empty one"):
        find_similar(empty, np.ones(4, np.float32))
    with pytest.raises(ValueError, match="expected an embedding of 3 numbers"):
        find_similar(make_embeddings(np.eye(3)), np.ones(4, np.float32))
    for threshold in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"threshold: expected a number in \(0, 1\]"):
            list(find_duplicates(make_embeddings(np.eye(3)), threshold=threshold))


# ---- clips ----

HEIGHT, WIDTH, NUM_FRAMES = 96, 128, 24


def rendered_clip(seed: int) -> np.ndarray:
    """(T, H, W, 3) uint8: colored disks of their own sizes and ways on a shaded ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    slope = rng.uniform(-1, 1, (2, 3))
    ground = 128 + 80 * (rows[..., None] - 0.5) * slope[0] + 80 * (columns[..., None] - 0.67) * slope[1]
    disks = [(*rng.uniform(0.2, 1.1, 2), *rng.uniform(-0.3, 0.3, 2), rng.uniform(0.1, 0.35)) for _ in range(4)]
    colors = rng.uniform(0, 255, (4, 3))
    frames = []
    for time in np.linspace(0, 1, NUM_FRAMES):
        frame = ground.copy()
        for (top, left, down, right, radius), color in zip(disks, colors, strict=True):
            frame[(rows - top - down * time) ** 2 + (columns - left - right * time) ** 2 < radius**2] = color
        frames.append(frame)
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def labeler() -> VideoLabeler:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    model = FALVideoClassifierForVideoClassification(FALConfig(**sizes, image_size=64, patch_size=8, num_frames=8))
    with torch.no_grad():  # patches that are seen, rather than the small numbers that training starts from
        for parameter in model.fal.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    processor = FALVideoProcessor(
        num_frames=8, size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, num_clips=1
    )
    return VideoLabeler(model, processor)


COPIES = {
    "re-encoded": lambda path, clip: write_video(path, clip, options={"crf": "35"}),
    "cropped": lambda path, clip: write_video(path, clip[:, 2:-2, 4:-4]),
    "smaller": lambda path, clip: write_video(path, clip[:, ::2, ::2]),
    "larger": lambda path, clip: write_video(path, clip.repeat(2, axis=1).repeat(2, axis=2)),
    "slower": lambda path, clip: write_video(path, clip, rate=15),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_a_clip_are_nearest_to_it(labeler, tmp_path, copy):
    clips = [rendered_clip(seed) for seed in range(8)]
    originals = [write_video(tmp_path / f"{number}.mp4", clip) for number, clip in enumerate(clips)]
    embeddings = make_embeddings(
        np.stack([labeler.embed(path).embedding for path in originals]), [path.name for path in originals]
    )
    for number, clip in enumerate(clips):
        made = COPIES[copy](tmp_path / "copy.mp4", clip)
        first, second = find_similar(embeddings, labeler.embed(made).embedding, top_k=2)
        assert first.video == f"{number}.mp4" and first.score > second.score, json.dumps([copy, number])
