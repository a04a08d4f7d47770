"""Labels in one's own words, all the way through the command: every format, journals, workers, processes, streams."""

import csv
import html
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from media_files import moving_frames, write_video
from safetensors.torch import load_file, save_file

from fal_hf import VideoLabeler
from fal_hf.bulk.decoding import decoding_context
from fal_hf.cli import main

# Commas, quotes, line ends and marks of the formats, in several scripts.
LABELS = ["a dog, running", '"猫"が\n走る', "машина\r\nпово-->рот", "<b>&amp;", "يقفز كلب"]
SHOWN = [" ".join(label.split()) for label in LABELS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three videos, and what is none."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        write_video(folder / f"{seed}.mp4", moving_frames(20, seed=seed))
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def label_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(LABELS), encoding="utf-8")
    return str(path)


@pytest.fixture
def run(open_checkpoint, folder):
    """Runs `fal label` on the videos with the model that takes any labels."""

    def label(*options: str) -> int:
        return main(["label", str(folder), "--model", str(open_checkpoint), *options])

    return label


def expected_scores(open_checkpoint, video, **options) -> dict[str, float]:
    labeler = VideoLabeler.from_pretrained(open_checkpoint, labels=LABELS, **options)
    return {label.label: label.score for label in labeler(video).labels}


# ---- what is printed ----


def test_labels_of_the_command_are_scored(open_checkpoint, folder, capsys):
    run = ["label", str(folder / "0.mp4"), "--model", str(open_checkpoint)]
    assert main([*run, "--labels", " a dog runs ,猫が走る"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert {line.split("  ")[1] for line in lines} == {"a dog runs", "猫が走る"}
    assert sum(float(line.split()[-1].rstrip("%")) for line in lines) == pytest.approx(100, abs=0.2)


def test_a_prompt_and_independent_scores_change_the_scores(open_checkpoint, folder, label_file, capsys):
    video = str(folder / "0.mp4")
    seen = []
    for words, options in (
        ([], {}),
        (["--prompt", "{}!"], {"prompt": "{}!"}),
        (["--multi-label"], {"multi_label": True}),
    ):
        run = ["label", video, "--model", str(open_checkpoint), "--labels", label_file, "--json", *words]
        assert main(run) == 0
        output = capsys.readouterr()
        assert output.err == ""
        seen.append({label["label"]: label["score"] for label in json.loads(output.out)["labels"]})
        assert seen[-1] == pytest.approx(expected_scores(open_checkpoint, video, **options), abs=1e-6)
    assert seen[0] != pytest.approx(seen[1], abs=1e-4) and sum(seen[0].values()) == pytest.approx(1)
    assert sum(seen[2].values()) != pytest.approx(1, abs=0.1)


def test_parents_of_given_labels_are_in_the_table_and_in_the_timeline(
    open_checkpoint, folder, label_file, tmp_path, capsys
):
    hierarchy = tmp_path / "parents.json"
    hierarchy.write_text(json.dumps(dict.fromkeys(LABELS[:3], "живот\nное") | {LABELS[3]: "tag"}))
    options = ["--labels", label_file, "--hierarchy", str(hierarchy), "--timeline", "--window", "0.2"]
    options += ["--threshold", "0.02", "--hysteresis", "0"]
    assert main(["label", str(folder / "0.mp4"), "--model", str(open_checkpoint), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line[2:].rsplit(maxsplit=1)[0].strip() for line in lines[1:8]} == {*SHOWN, "живот ное", "tag"}
    assert any(line.startswith("  0:00:00.0 - ") and "живот ное" in line for line in lines[8:])


def test_a_model_that_never_learned_independent_scores_is_told_of_in_a_line(open_checkpoint, folder, tmp_path, capsys):
    shutil.copytree(open_checkpoint, tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    weights["classifier.logit_bias"] = torch.zeros(())
    save_file(weights, tmp_path / "clip" / "model.safetensors", metadata={"format": "pt"})
    run = ["label", str(folder / "0.mp4"), str(folder / "1.mp4"), "--model", str(tmp_path / "clip"), "--labels", "a,b"]
    assert main([*run, "--multi-label"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fal: multi_label: this model has never been trained for scores that are independent")
    assert line.endswith("fine-tune it with --problem_type multi_label_classification")
    assert main(run) == 0 and capsys.readouterr().err == ""


def test_of_ten_thousand_labels_the_best_are_told(open_checkpoint, folder, tmp_path, capsys):
    labels = [f"движение {number}" for number in range(10_000)]
    (tmp_path / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    (tmp_path / "parents.json").write_text(json.dumps({label: label[:-3] + "ххх" for label in labels[1000:]}))
    run = ["label", str(folder / "0.mp4"), "--model", str(open_checkpoint), "--labels", str(tmp_path / "labels.txt")]
    options = ["--timeline", "--window", "0.2", "--hierarchy", str(tmp_path / "parents.json"), "--multi-label"]
    assert main([*run, *options, "--top-k", "3", "--json", "--threshold", "1"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["labels"]) == 3 and {label["label"] for label in record["labels"]} <= set(labels)
    assert len(record["parents"]) == 9 and all(len(window["labels"]) == 3 for window in record["windows"])


# ---- files of labels ----


def test_labels_in_any_script_are_whole_in_every_format(run, label_file, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    for name in ("labels.jsonl", "labels.csv", "labels.parquet", "labels.json", "{name}.vtt"):
        assert run("--labels", label_file, "--output", str(tmp_path / name), "--workers", "0") == 1
    records = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    labeled = [record for record in records if "labels" in record]
    assert len(labeled) == 3 and all({one["label"] for one in record["labels"]} == set(LABELS) for record in labeled)
    expected = [(record["video"], one["label"], one["score"]) for record in labeled for one in record["labels"]]
    with open(tmp_path / "labels.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "label"]
    assert [(row["video"], row["label"], float(row["score"])) for row in rows] == expected
    table = [row for row in pyarrow.read_table(tmp_path / "labels.parquet").to_pylist() if row["kind"] == "label"]
    assert [(row["video"], row["label"], row["score"]) for row in table] == expected
    tasks = json.loads((tmp_path / "labels.json").read_text())
    best = {record["video"]: record["labels"][0]["label"] for record in labeled}
    for task in tasks:
        if task["predictions"]:
            (region,) = task["predictions"][0]["result"]
            assert region["value"]["timelinelabels"] == [best[task["data"]["video"]]]
    shown = {label: html.escape(text, quote=False) for label, text in zip(LABELS, SHOWN, strict=True)}
    for video, label in best.items():
        lines = (tmp_path / f"{Path(video).stem}.vtt").read_text(encoding="utf-8").splitlines()
        assert lines[:2] == ["WEBVTT", ""] and " --> " in lines[2]
        assert lines[3].rsplit(maxsplit=1)[0] == shown[label] and len(lines) == 4


def test_a_run_goes_on_with_the_same_labels_and_is_refused_with_others(run, label_file, tmp_path, capsys):
    output, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    options = ["--output", str(output), "--workers", "0"]
    assert run("--labels", "a dog runs, a car turns", *options) == 1
    unbroken, lines = output.read_bytes(), journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # as a kill leaves it
    for others, told in (
        (["--labels", "a dog runs, a cat"], 'config.id2label was {"0": "a dog runs", "1": "a car turns"}, is {"0"'),
        (["--labels", "a car turns, a dog runs"], "config.id2label was"),
        (["--labels", "a dog runs, a car turns", "--prompt", "{}!"], 'label_prompt was "a video of {}", is "{}!"'),
        (["--labels", "a dog runs, a car turns", "--multi-label"], "config.problem_type was null, is"),
        ([], "config.id2label was"),
    ):
        capsys.readouterr()
        before = journal.read_bytes()
        assert run(*others, *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "made with another model or other options" in line and told in line
        assert "Take the same ones to go on, another output to keep both, or delete the journal" in line
        assert journal.read_bytes() == before
    (tmp_path / "labels.csv").write_text("a dog runs\na car turns\n")
    assert run("--labels", str(tmp_path / "labels.csv"), *options) == 1  # the same ones, otherwise written
    assert output.read_bytes() == unbroken and len(journal.read_bytes().splitlines()) == 5


def test_another_text_tower_is_another_run(open_checkpoint, folder, tmp_path, capsys):
    shutil.copytree(open_checkpoint, tmp_path / "model")
    run = ["label", str(folder / "0.mp4"), "--model", str(tmp_path / "model"), "--labels", "a,b"]
    run += ["--output", str(tmp_path / "out.jsonl"), "--workers", "0"]
    assert main(run) == 0
    tower = tmp_path / "model" / "text" / "model.safetensors"
    weights = load_file(tower)
    save_file({name: value * 1.01 for name, value in weights.items()}, tower, metadata={"format": "pt"})
    assert main(run) == 2
    assert "(text_weights was" in capsys.readouterr().err


def test_workers_write_what_one_process_writes(run, label_file, tmp_path):
    options = ["--labels", label_file, "--timeline", "--window", "0.2"]
    assert run(*options, "--output", str(tmp_path / "alone.jsonl"), "--workers", "0") == 1
    assert run(*options, "--output", str(tmp_path / "shared.jsonl"), "--workers", "2") == 1
    assert (tmp_path / "shared.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


def label_share(index: int, port: int, command: list[str]) -> None:
    """One of two processes of a launcher."""
    place = {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place)
    main(command)


def test_two_processes_share_a_run_with_given_labels(run, open_checkpoint, folder, label_file, tmp_path):
    assert run("--labels", label_file, "--output", str(tmp_path / "alone.jsonl"), "--workers", "0") == 1
    command = ["label", str(folder), "--model", str(open_checkpoint), "--labels", label_file, "--workers", "0"]
    command += ["--output", str(tmp_path / "shared.jsonl")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    context = decoding_context()
    processes = [context.Process(target=label_share, args=(index, port, command)) for index in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "shared.jsonl.journal.1").exists()
    assert (tmp_path / "shared.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


# ---- streams ----


def test_streams_are_labeled_with_given_labels(open_checkpoint, folder, label_file, capsys):
    run = ["watch", str(folder / "0.mp4"), "--model", str(open_checkpoint), "--window", "0.4", "--labels", label_file]
    assert main([*run, "--prompt", "{}!", "--multi-label"]) == 0
    window, *_, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert {label["label"] for label in window["labels"]} == set(LABELS)
    assert sum(label["score"] for label in window["labels"]) != pytest.approx(1, abs=0.1)
    assert end["error"] is None


# ---- models that cannot take them ----


@pytest.mark.parametrize("command", ["label", "watch"])
def test_a_model_that_cannot_take_labels_is_refused_in_a_line(
    command, open_checkpoint, tiny_checkpoint, folder, tmp_path, capsys
):
    for name in ("missing", "cut", "no_tokenizer"):
        shutil.copytree(open_checkpoint, tmp_path / name)
    shutil.rmtree(tmp_path / "missing" / "text")
    (tmp_path / "cut" / "text" / "model.safetensors").write_text("text")
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (tmp_path / "no_tokenizer" / "text" / file).unlink()
    for model, message in (
        (tiny_checkpoint, "expected a model with label embeddings, got one with a head that is trained for 5 labels"),
        (tmp_path / "missing", "expected a model that came with a text tower, or the embeddings of the labels"),
        (tmp_path / "cut", "expected a text tower of CLIP and its tokenizer in text, got"),
        (tmp_path / "no_tokenizer", "expected a text tower of CLIP and its tokenizer in text, got"),
    ):
        assert main([command, str(folder / "0.mp4"), "--model", str(model), "--labels", "a,b"]) == 2
        output = capsys.readouterr()
        (line,) = output.err.splitlines()
        assert line.startswith(f"fal: cannot load the model {model}: ") and message in line and output.out == ""


def test_a_label_that_is_too_long_is_named(run, capsys):
    assert run("--labels", f"short,{'long ' * 100}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected labels of at most 77 tokens, got" in line and "a video of long long" in line
