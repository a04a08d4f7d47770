"""Sources, labels and splits of the clips that the fine-tuning examples train on."""

import json
import os
from collections import Counter
from dataclasses import replace

import pytest
import torch
from video_classification_files import CLASSES, write_class_folders

pytest.importorskip("sklearn")

from fal_hf import FALConfig
from fal_hf.training import data
from fal_hf.training.data import DataArguments, LabeledClip


def make_clips(count: int, *, labels=("a", "b"), per_group: int = 1) -> list[LabeledClip]:
    return [
        LabeledClip(path=f"{index}.mp4", labels=(labels[index % len(labels)],), group=f"film {index // per_group}")
        for index in range(count)
    ]


def groups_of(clips) -> set[str]:
    return {clip.group for clip in clips}


def test_class_folders_give_their_names_as_labels(tmp_path, monkeypatch):
    write_class_folders(tmp_path, per_class=2)
    (tmp_path / "dark" / ".hidden").write_bytes(b"")
    clips = data.read_class_folders(tmp_path)
    assert Counter(clip.labels for clip in clips) == {(name,): 2 for name in CLASSES}
    monkeypatch.chdir(tmp_path.parent)
    assert data.read_class_folders(tmp_path.name) == clips
    with pytest.raises(ValueError, match="a folder of clips for each class"):
        data.read_class_folders(tmp_path / "dark")


def test_csv_and_json_lines_say_the_same(tmp_path):
    (tmp_path / "clips.csv").write_text(
        "path,labels,start_seconds,end_seconds,split,group\na.mp4,x;y,1.5,3,train,film\nhttps://host/b.mp4,y,,,,\n"
    )
    rows = [
        {"path": "a.mp4", "labels": ["x", "y"], "start_seconds": 1.5, "end_seconds": 3, "split": "train"}
        | {"group": "film"},
        {"path": "https://host/b.mp4", "labels": ["y"]},
    ]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = data.read_manifest(tmp_path / "clips.csv")
    assert [first, second] == data.read_manifest(tmp_path / "clips.jsonl")
    assert first.path == str(tmp_path / "a.mp4") and second.path == "https://host/b.mp4"
    assert (first.labels, first.start_seconds, first.end_seconds, first.group) == (("x", "y"), 1.5, 3.0, "film")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "a.mp4"}, "expected path, label or labels"),
        ({"path": "a.mp4", "label": "x", "labels": ["x"]}, "expected path, label or labels"),
        ({"path": "a.mp4", "label": "x", "lable": "y"}, "got path, label, lable"),
        ({"path": "a.mp4", "label": "x", "split": "dev"}, "train, validation, test, got 'dev'"),
        ({"path": "a.mp4", "label": "x", "start_seconds": 3, "end_seconds": 2}, "start_seconds < end_seconds"),
        ({"path": "a.mp4", "label": "x", "start_seconds": "soon"}, "soon"),
        ({"path": "a.mp4", "labels": "x"}, "names as labels"),
        ({"path": "a.mp4", "label": 3}, "names as labels"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path, row, message):
    path = tmp_path / "clips.jsonl"
    path.write_text(json.dumps({"path": "a.mp4", "label": "x"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=message) as caught:
        data.read_manifest(path)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("content", [b'path,label\na.mp4,"x\n', "path,label\na.mp4,café\n".encode("latin-1")])
def test_a_broken_manifest_is_named(tmp_path, content):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"clips\.csv: expected a \.csv file in UTF-8"):
        data.read_manifest(tmp_path / "clips.csv")


def test_a_clip_of_any_name_is_found_again(tmp_path):
    clip = LabeledClip(path="/clips/clip-\udcff.mp4", labels=("é",), split="train")
    data.write_manifest(tmp_path / "clips.jsonl", {"train": [clip]})
    assert data.read_manifest(tmp_path / "clips.jsonl") == [clip]


def test_a_class_folder_of_any_name_is_a_label_of_text(tmp_path):
    for name in ("é".encode(), b"c-\xff"):
        folder = tmp_path / os.fsdecode(name)
        try:
            folder.mkdir()
        except OSError as error:
            pytest.skip(f"a file system of text alone: {error}")
        (folder / os.fsdecode(b"\xff.mp4")).touch()
    clips = data.read_class_folders(tmp_path)
    assert {clip.labels for clip in clips} == {("é",), (r"c-\xff",)}
    assert all(os.path.exists(clip.path) for clip in clips)


def test_a_written_manifest_is_read_back(tmp_path):
    clips = [
        LabeledClip(path=str(tmp_path / "a.mp4"), labels=("x",), start_seconds=1.0, end_seconds=2.0, split="train"),
        LabeledClip(path=str(tmp_path / "b.mp4"), labels=("y", "z"), group="film", split="test"),
    ]
    splits = {"train": clips[:1], "test": clips[1:]}
    data.write_manifest(tmp_path / "clips.jsonl", splits)
    assert data.read_manifest(tmp_path / "clips.jsonl") == clips


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides_and_classes_stay_in_proportion(seed):
    clips = make_clips(200, per_group=4)
    splits = data.split_clips(clips, shares={"test": 0.2, "validation": 0.2}, seed=seed)
    assert sorted(clip.path for part in splits.values() for clip in part) == sorted(clip.path for clip in clips)
    assert not groups_of(splits["train"]) & (groups_of(splits["validation"]) | groups_of(splits["test"]))
    assert not groups_of(splits["validation"]) & groups_of(splits["test"])
    for part in (splits["validation"], splits["test"]):
        assert 32 <= len(part) <= 48
        assert 0.4 <= sum(clip.labels == ("a",) for clip in part) / len(part) <= 0.6


@pytest.mark.parametrize("share", [0.1, 0.15, 0.3, 0.4, 0.6, 0.75, 0.9])
def test_shares_are_met(share):
    splits = data.split_clips(make_clips(200), shares={"test": share}, seed=0)
    assert len(splits["test"]) / 200 == pytest.approx(share, abs=0.02)
    assert len(splits["train"]) + len(splits["test"]) == 200


def test_the_seed_decides_the_split():
    clips = make_clips(60)
    first, same, other = (data.split_clips(clips, shares={"validation": 0.2}, seed=seed) for seed in (1, 1, 2))
    assert first == same and first != other


def test_a_split_that_is_named_is_kept():
    clips = make_clips(10)
    named = [replace(clip, split="validation" if index < 3 else None) for index, clip in enumerate(clips)]
    splits = data.split_clips(named, shares={"validation": 0.5}, seed=0)
    assert splits["validation"] == named[:3] and splits["train"] == named[3:]


def test_too_few_groups_to_hold_out_are_refused():
    with pytest.raises(ValueError, match="at least 5 groups"):
        data.split_clips(make_clips(20, per_group=10), shares={"validation": 0.2}, seed=0)


@pytest.mark.parametrize(("per_class", "held_out"), [(2, 1), (3, 1), (6, 1), (8, 1)])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_small_sets_hold_out_a_clip_of_each_class(per_class, held_out, num_classes):
    labels = [f"class {number}" for number in range(num_classes)]
    clips = [replace(clip, group=None) for clip in make_clips(per_class * num_classes, labels=labels)]
    splits = data.split_clips(clips, shares={"validation": 0.15}, seed=0)
    counts = Counter(clip.labels[0] for clip in splits["validation"])
    assert set(counts) == set(labels) and max(counts.values()) <= held_out + 1
    assert {clip.labels[0] for clip in splits["train"]} == set(labels)


def test_a_single_clip_of_each_class_cannot_be_split():
    clips = [replace(clip, group=None) for clip in make_clips(5, labels="abcde")]
    with pytest.raises(ValueError, match="expected at least 2 clips of a class to hold some out"):
        data.split_clips(clips, shares={"validation": 0.15}, seed=0)


def test_files_of_class_folders_that_are_no_videos_are_left_out(tmp_path):
    write_class_folders(tmp_path, per_class=2)
    (tmp_path / CLASSES[0] / "thumbnail.jpg").write_bytes(b"")
    (tmp_path / CLASSES[0] / "notes.txt").write_text("")
    assert len(data.read_class_folders(tmp_path)) == 2 * len(CLASSES)
    (tmp_path / "only" / "class").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected videos in its folders, found none"):
        data.read_class_folders(tmp_path / "only")


def test_leaks_are_refused():
    clips = make_clips(4, per_group=2)
    with pytest.raises(ValueError, match="group film 0: expected it in one split"):
        data.check_leaks({"train": clips[:1], "validation": clips[1:]})
    same_file = [LabeledClip(path="a.mp4", labels=("a",))] * 2
    with pytest.raises(ValueError, match=r"clip a\.mp4"):
        data.check_leaks({"train": same_file[:1], "test": same_file[1:]})
    data.check_leaks({"train": clips[:2], "validation": clips[2:]})


def test_folders_for_each_split(tmp_path):
    for split in ("train", "validation"):
        write_class_folders(tmp_path / split, per_class=1)
    arguments = DataArguments(train_dir=str(tmp_path / "train"), validation_dir=str(tmp_path / "validation"))
    splits = data.load_clips(arguments, seed=0)
    assert {name: len(part) for name, part in splits.items()} == {"train": 2, "validation": 2}
    with pytest.raises(ValueError, match="got both"):
        data.load_clips(replace(arguments, train_file="clips.csv"), seed=0)
    with pytest.raises(ValueError, match="found none"):
        data.load_clips(DataArguments(), seed=0)
    with pytest.raises(ValueError, match="--dataset_name, or folders"):
        data.load_clips(replace(arguments, dataset_name="clips"), seed=0)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_data_set_with_a_column_of_videos(tmp_path, as_bytes):
    datasets = pytest.importorskip("datasets")
    write_class_folders(tmp_path, per_class=1)
    files = [tmp_path / name / "0.mp4" for name in CLASSES]
    videos = [{"bytes": file.read_bytes(), "path": None} if as_bytes else str(file) for file in files]
    features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = datasets.Dataset.from_dict({"video": videos, "label": [0, 1]}, features=features)
    rows = rows.add_column("film", ["a", "b"])
    clips = data.clips_of_dataset(rows, DataArguments(group_column_name="film"), split=None)
    assert [(clip.labels, clip.group) for clip in clips] == [((CLASSES[0],), "a"), ((CLASSES[1],), "b")]
    assert [clip.video for clip in clips] == (
        [file.read_bytes() for file in files] if as_bytes else list(map(str, files))
    )
    with pytest.raises(ValueError, match="expected the columns labels; the data set has video, label, film"):
        data.clips_of_dataset(rows, DataArguments(label_column_name="labels"), split=None)


@pytest.mark.parametrize("label2id", [{"b": 0, "a": 1}, {"b": "0", "a": "1"}])
def test_indices_of_labels_are_numbers_however_the_configuration_spells_them(label2id):
    config = FALConfig(id2label={0: "b", 1: "a"}, label2id=label2id)
    assert data.label_indices(config) == {"b": 0, "a": 1}


def test_labels_are_encoded_in_the_order_of_the_model():
    label2id = {"x": 1, "y": 0, "z": 2}
    clip = LabeledClip(path="a.mp4", labels=("x",))
    assert data.encode_labels(clip, label2id, data.SINGLE_LABEL).item() == 1
    several = replace(clip, labels=("z", "y"))
    assert data.encode_labels(several, label2id, data.MULTI_LABEL).tolist() == [1.0, 0.0, 1.0]
    assert data.find_problem_type([clip, several]) == data.MULTI_LABEL
    assert data.find_problem_type([clip, clip]) == data.SINGLE_LABEL
    with pytest.raises(ValueError, match="w: expected labels of the model, which are x, y, z"):
        data.check_labels([clip, replace(clip, labels=("w",))], label2id, data.SINGLE_LABEL)
    with pytest.raises(ValueError, match=r"a\.mp4: expected one label"):
        data.check_labels([clip, several], label2id, data.SINGLE_LABEL)
    data.check_labels([clip, several], label2id, data.MULTI_LABEL)


def test_balanced_weights_draw_rare_labels_as_often():
    labels = torch.tensor([0, 0, 0, 1])
    weights = data.balanced_weights(labels, 2)
    assert weights[:3].sum() == pytest.approx(weights[3].item())
    several = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0]])
    assert data.balanced_weights(several, 2).tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3])
