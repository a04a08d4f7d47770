"""`fal similar`, run as a user runs it."""

import importlib.util
import json
import shutil
import sys

import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import FALVideoClassifierForVideoClassification
from fal_hf.cli import main

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        write_video(folder / f"{number}.mp4", moving_frames(20, seed=number))
    write_video(folder / "again.mp4", moving_frames(20, seed=3), options={"crf": "30"})
    return folder


@pytest.fixture(scope="module")
def collection(folder, tiny_checkpoint, tmp_path_factory):
    """A collection in each format, and one of windows."""
    made = tmp_path_factory.mktemp("collection")
    videos = [str(folder / f"{number}.mp4") for number in range(5)]
    for name in ("e.parquet", "e.safetensors", "e.npy"):
        command = ["embed", *videos, "--model", str(tiny_checkpoint), "--workers", "0", "--output", str(made / name)]
        assert main(command) == 0
    assert main([*command[:-1], str(made / "w.parquet"), "--windows", "--window", "0.2"]) == 0
    return made


@pytest.mark.parametrize("name", ["e.parquet", "e.safetensors", "e.npy"])
def test_a_copy_of_a_video_is_most_like_it(collection, folder, tiny_checkpoint, capsys, name):
    command = ["similar", str(folder / "again.mp4"), "--in", str(collection / name), "--top-k", "2"]
    command += ["--model", str(tiny_checkpoint)] if name == "e.npy" else []
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(folder / "again.mp4") and len(lines) == 3
    assert lines[1].endswith(f"  {folder / '3.mp4'}")
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["video"] == str(folder / "again.mp4") and printed["schema_version"] == 1
    first, second = printed["similar"]
    assert first.keys() == {"video", "score"} and 1 > first["score"] > second["score"]


def test_a_video_is_found_in_itself_with_the_score_of_the_same(collection, folder, capsys):
    assert main(["similar", str(folder / "2.mp4"), "--in", str(collection / "e.parquet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[1] == f"   1.000  {folder / '2.mp4'}"


def test_windows_are_told_with_their_times(collection, folder, capsys):
    command = ["similar", str(folder / "again.mp4"), "--in", str(collection / "w.parquet"), "--top-k", "3"]
    assert main(command) == 0
    assert "  0:00:00." in capsys.readouterr().out.splitlines()[1]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["similar"][0]
    assert row["end_seconds"] - row["start_seconds"] == pytest.approx(0.2)


def test_duplicates_are_pairs_of_files(folder, tiny_checkpoint, tmp_path, capsys):
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(folder / "1.mp4", tmp_path / name)
    shutil.copy(folder / "2.mp4", tmp_path / "c.mp4")
    output = str(tmp_path / "e.parquet")
    assert main(["embed", str(tmp_path), "--model", str(tiny_checkpoint), "--output", output, "--workers", "0"]) == 0
    command = ["similar", "--in", output, "--duplicates", "--threshold", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out == f" 1.000  {tmp_path / 'a.mp4'}  {tmp_path / 'b.mp4'}\n"
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["score"] == pytest.approx(1, abs=1e-6)
    assert printed["videos"] == [{"video": str(tmp_path / name)} for name in ("a.mp4", "b.mp4")]


def test_a_video_that_cannot_be_read_is_one_line_and_status_1(collection, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_text("no video")
    for name in ("broken.mp4", "gone.mp4"):
        assert main(["similar", str(tmp_path / name), "--in", str(collection / "e.parquet")]) == 1
        output = capsys.readouterr()
        (line,) = output.err.splitlines()
        assert line.startswith("fal: ") and name in line and output.out == ""


def test_another_model_than_that_of_the_collection_is_refused(collection, folder, tiny_checkpoint, tmp_path, capsys):
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        model.fal.layernorm.weight += 1e-3
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    model.save_pretrained(other)
    command = ["similar", str(folder / "1.mp4"), "--in", str(collection / "e.parquet"), "--model"]
    assert main([*command, str(other)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected the model that it was made with by --model, got {other}, which differs in weights" in line
    moved = shutil.copytree(tiny_checkpoint, tmp_path / "moved")
    assert main([*command, str(moved)]) == 0


def test_the_model_of_a_collection_that_is_gone_can_be_named(folder, tiny_checkpoint, tmp_path, capsys):
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    output = str(tmp_path / "e.parquet")
    command = ["embed", str(folder / "1.mp4"), "--model", str(model), "--output", output, "--workers", "0"]
    assert main(command) == 0
    shutil.move(model, tmp_path / "moved")
    capsys.readouterr()
    command = ["similar", str(folder / "1.mp4"), "--in", output]
    assert main(command) == 2
    assert "cannot load the model" in capsys.readouterr().err
    assert main([*command, "--model", str(tmp_path / "moved")]) == 0


def test_a_missing_package_is_named(collection, monkeypatch, capsys):
    command = ["similar", "--duplicates", "--in", str(collection / "e.parquet")]
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "sklearn", None)
        assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fal: expected scikit-learn to be installed, run `pip install fal-hf[similar]`"
    find_spec = importlib.util.find_spec
    missing = lambda name: None if name == "pyarrow" else find_spec(name)  # noqa: E731
    monkeypatch.setattr("fal_hf.labeling.label_files.find_spec", missing)
    assert main(command) == 2
    assert "expected pyarrow to be installed" in capsys.readouterr().err
