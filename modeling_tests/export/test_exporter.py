"""Exports of a tiny model: what is written runs like any other model, and nothing is kept unchecked."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from tiny_fal import random_clip, tiny_model

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoLabeler, Views
from fal_hf.bulk.run_description import describe_run
from fal_hf.cli import main
from fal_hf.export import ExportError, ExportOptions, NotCloseEnough, agreement, export_model, exporter
from fal_hf.export.card import describe_origin, describe_usage
from fal_hf.export.writers import WRITERS, has_fixed_cells, list_calls
from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.runtimes.exported_classifier import ExportedClassifier
from fal_hf.runtimes.frozen_model import list_linears
from fal_hf.runtimes.loading import load_runtime
from fal_hf.runtimes.runtime_folder import RuntimeFolder, RuntimeRecord

NUM_VIDEOS = 3


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    return [str(write_video(folder / f"{seed}.mp4", moving_frames(20, seed=seed))) for seed in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def torch_export(tiny_checkpoint, videos, tmp_path_factory):
    """The tiny checkpoint for torch in each precision."""
    options = ExportOptions(
        formats=("torch",), precisions=("float32", "bfloat16", "int8"), calibrate=tuple(videos), force=True
    )
    attempts = []
    output = tmp_path_factory.mktemp("exports") / "torch"
    return export_model(tiny_checkpoint, output, options, on_attempt=attempts.append), attempts


@pytest.fixture(scope="module")
def onnx_export(tiny_checkpoint, videos, tmp_path_factory):
    """The tiny checkpoint for ONNX Runtime, in float32 and, whatever comes of it, in int8."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    options = ExportOptions(formats=("onnx",), precisions=("float32", "int8"), calibrate=tuple(videos), force=True)
    return export_model(tiny_checkpoint, tmp_path_factory.mktemp("exports") / "onnx", options)


def test_each_precision_is_compared_and_the_folder_says_how_it_did(torch_export, tiny_checkpoint):
    result, attempts = torch_export
    assert list(result.attempts) == attempts
    assert [record.name for record in result.folder.records] == ["torch-float32", "torch-bfloat16", "torch-int8"]
    assert RuntimeFolder.read(result.folder.path) == result.folder
    exact, *others = (record.check for record in result.folder.records)
    assert (exact["num_videos"], exact["num_equal"], exact["largest_difference"]) == (NUM_VIDEOS, NUM_VIDEOS, 0)
    assert all(0 < check["largest_difference"] < 1 for check in others)
    card = (result.folder.path / "README.md").read_text()
    assert "| `torch-float32` | torch | 3 of 3 | 0 |" in card and "fal label video.mp4 --model torch -v" in card


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_runtime_labels_as_its_check_says(torch_export, tiny_checkpoint, videos, precision):
    result, _ = torch_export
    expected = VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu")
    labeler = VideoLabeler.from_pretrained(result.folder.path, runtime=f"torch-{precision}", device="cpu")
    record = result.folder.find(f"torch-{precision}")
    assert labeler.runtime == (result.folder, record)
    worst = max(
        abs(scores[label.label] - label.score)
        for video in videos
        for scores in [{label.label: label.score for label in expected(video).labels}]
        for label in labeler(video).labels
    )
    assert worst == pytest.approx(record.check["largest_difference"], rel=1e-3, abs=1e-7)


def test_onnx_runtime_labels_like_the_model(onnx_export, tiny_checkpoint, videos):
    labeler = VideoLabeler.from_pretrained(onnx_export.folder.path, runtime="onnx-float32")
    assert isinstance(labeler.model, ExportedClassifier)
    expected = VideoLabeler.from_pretrained(tiny_checkpoint)
    for video in videos:
        labels, others = labeler(video).labels, expected(video).labels
        assert [label.label for label in labels] == [label.label for label in others]
        assert [label.score for label in labels] == pytest.approx([label.score for label in others], abs=1e-5)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_an_export_of_a_calibrated_model_is_calibrated(tiny_checkpoint, videos, tmp_path, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model.config.temperature = 3.0
    model.save_pretrained(tmp_path / "calibrated")
    FALVideoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "calibrated")
    options = ExportOptions(formats=(format,), precisions=("float32",), check=tuple(videos))
    folder = export_model(tmp_path / "calibrated", tmp_path / "export", options).folder.path
    exported, calibrated, plain = (
        VideoLabeler.from_pretrained(path, device="cpu")(videos[0]).labels
        for path in (folder, tmp_path / "calibrated", tiny_checkpoint)
    )
    assert [label.score for label in exported] == pytest.approx([label.score for label in calibrated], abs=1e-6)
    assert exported[0].score < plain[0].score - 0.01


def test_int8_keeps_what_reads_pixels_and_what_scores(onnx_export):
    int8 = onnx_export.folder.find("onnx-int8")
    assert {"fal.embeddings.patch_embeddings.projection", "classifier"} <= set(int8.float_linears)
    onnx = pytest.importorskip("onnx")
    graphs = {
        record.name: onnx.load(onnx_export.folder.path / record.name / "model.onnx").graph
        for record in onnx_export.folder.records
    }
    kinds = {name: [node.op_type for node in graph.node] for name, graph in graphs.items()}
    num_linears = len(list_calls(composed_model())) - len(int8.float_linears)
    assert "MatMulInteger" not in kinds["onnx-float32"]
    assert kinds["onnx-int8"].count("MatMulInteger") == num_linears
    check = int8.check
    assert 0 < check["largest_difference"] < 1 and check["num_videos"] == NUM_VIDEOS


def composed_model():
    return WRITERS["onnx"](tiny_model(), []).model


def test_a_runtime_takes_clips_of_other_lengths_and_sizes(onnx_export, tiny_checkpoint):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint)
    exported = load_runtime(onnx_export.folder, onnx_export.folder.find("onnx-float32"))
    for batch, frames, rows, columns in ((1, 4, 4, 4), (3, 4, 4, 4), (2, 7, 4, 4), (1, 1, 3, 5)):
        clip = torch.randn(batch, frames, 3, 4 * rows, 4 * columns)
        torch.testing.assert_close(exported(clip).logits, labeler.model(clip).logits, atol=1e-4, rtol=1e-4)


def test_views_of_several_sizes_and_windows_run(onnx_export, tiny_checkpoint, videos):
    views = {"views": Views(num_crops=3, scales=(1.0, 1.5), windows=True, window_seconds=0.4)}
    labeler = VideoLabeler.from_pretrained(onnx_export.folder.path, runtime="onnx-float32", **views)
    expected = VideoLabeler.from_pretrained(tiny_checkpoint, **views)
    for window, other in zip(labeler(videos[0]).windows, expected(videos[0]).windows, strict=True):
        assert [label.label for label in window.labels] == [label.label for label in other.labels]


@pytest.mark.parametrize("name", ["onnx-float32", "onnx-int8", "torch-int8"])
def test_scores_do_not_depend_on_the_clips_beside(torch_export, onnx_export, name):
    folder = (torch_export[0] if name.startswith("torch") else onnx_export).folder
    exported, clips = load_runtime(folder, folder.find(name)), random_clip(tiny_model().config, batch=4)
    clips[3] *= 10
    apart = torch.cat([exported(clip[None]).logits for clip in clips])
    torch.testing.assert_close(exported(clips).logits, apart, atol=1e-5, rtol=1e-5)


def test_an_exported_classifier_is_pickled_by_its_folder(onnx_export):
    exported = load_runtime(onnx_export.folder, onnx_export.folder.find("onnx-float32"))
    clip = random_clip(tiny_model().config)
    again = pickle.loads(pickle.dumps(exported))
    assert torch.equal(again(clip).logits, exported(clip).logits)
    assert copy.deepcopy(exported) is exported
    assert not list(exported.parameters())


def test_a_journal_does_not_go_on_with_another_runtime(torch_export, onnx_export, videos, tmp_path, capsys):
    output = tmp_path / "labels.jsonl"
    command = ["label", *videos, "--output", str(output), "--workers", "0", "--model"]
    assert main([*command, str(torch_export[0].folder.path), "--runtime", "torch-int8"]) == 0
    output.unlink()
    assert main([*command, str(torch_export[0].folder.path), "--runtime", "torch-int8"]) == 0
    assert main([*command, str(torch_export[0].folder.path), "--runtime", "torch-bfloat16"]) == 2
    assert "weights" in capsys.readouterr().err
    described = [
        describe_run(VideoLabeler.from_pretrained(onnx_export.folder.path, runtime=name), top_k=5)
        for name in ("onnx-float32", "onnx-int8")
    ]
    assert [run["runtime"] for run in described] == ["onnx-float32", "onnx-int8"]
    assert described[0]["weights"] != described[1]["weights"]


def test_a_runtime_that_has_scores_alone_embeds_nothing(onnx_export, torch_export, videos, tmp_path, capsys):
    labeler = VideoLabeler.from_pretrained(onnx_export.folder.path, runtime="onnx-int8")
    message = "expected a model that embeds clips, got the runtime onnx-int8 of an export, which has scores alone"
    with pytest.raises(ValueError, match=message):
        labeler.embed("gone.mp4")
    output = tmp_path / "embeddings.parquet"
    command = ["embed", *videos, "--output", str(output), "--workers", "0", "--model"]
    assert main([*command, str(onnx_export.folder.path), "--runtime", "onnx-int8"]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main([*command, str(torch_export[0].folder.path), "--runtime", "torch-bfloat16"]) == 0
    assert main(["similar", videos[0], "--in", str(output), "--top-k", "1", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"   1.000  {videos[0]}"


def test_label_takes_the_fastest_runtime_and_says_so(onnx_export, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    monkeypatch.setattr("fal_hf.runtimes.trial.TRIAL_SECONDS", 0.1)
    assert main(["label", videos[0], "--model", str(onnx_export.folder.path), "-v"]) == 0
    output = capsys.readouterr()
    assert "fal: onnx-float32: " in output.err and ", the fastest\n" in output.err
    assert output.out.startswith(videos[0])
    assert main(["label", videos[0], "--model", str(onnx_export.folder.path)]) == 0
    assert "fal:" not in capsys.readouterr().err


def test_watch_takes_a_runtime_of_an_export(torch_export, videos, capsys):
    folder = str(torch_export[0].folder.path)
    assert main(["watch", videos[0], "--model", folder, "--runtime", "torch-int8", "--window", "0.4"]) == 0
    *windows, end = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert end["error"] is None and len(windows) >= 2
    assert all(sum(label["score"] for label in window["labels"]) == pytest.approx(1, abs=1e-4) for window in windows)


def test_an_export_gets_more_runtimes_and_keeps_those_it_has(tiny_checkpoint, videos, tmp_path, torch_export):
    output = shutil.copytree(torch_export[0].folder.path, tmp_path / "export")
    before = (output / "torch-int8" / "model.safetensors").stat().st_mtime_ns
    options = ExportOptions(formats=("torch",), precisions=("float32",))
    result = export_model(tiny_checkpoint, output, options)
    assert [record.name for record in result.folder.records] == ["torch-float32", "torch-bfloat16", "torch-int8"]
    assert (output / "torch-int8" / "model.safetensors").stat().st_mtime_ns == before
    card = (output / "README.md").read_text()
    assert "| `torch-int8` |" in card and "| `torch-float32` | torch | 1 of 1 | 0 |" in card
    assert [path.name for path in tmp_path.iterdir()] == ["export"], "expected no folder of work left behind"


def test_another_model_and_other_folders_are_not_written_over(tiny_checkpoint, tmp_path, torch_export):
    options = ExportOptions(formats=("torch",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    with pytest.raises(ExportError, match="expected a new folder, or an export to add to"):
        export_model(tiny_checkpoint, tmp_path / "full", options)
    with pytest.raises(ExportError, match="expected a checkpoint, got an export"):
        export_model(torch_export[0].folder.path, tmp_path / "again", options)
    changed = shutil.copytree(tiny_checkpoint, tmp_path / "changed")
    model = VideoLabeler.from_pretrained(changed).model
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(changed)
    with pytest.raises(ExportError, match="got that of another one"):
        export_model(changed, torch_export[0].folder.path, options)


def test_what_is_too_far_off_is_not_kept_but_by_force(tiny_checkpoint, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "MOST_DIFFERENCE", 1e-9)
    options = {"formats": ("torch",), "precisions": ("float32", "int8"), "check": tuple(videos)}
    attempts = []
    with pytest.raises(NotCloseEnough, match=r"got no such torch-int8; .* --force"):
        export_model(tiny_checkpoint, tmp_path / "export", ExportOptions(**options), on_attempt=attempts.append)
    assert [attempt.candidate.name for attempt in attempts] == ["torch-float32", "torch-int8", "torch-int8"]
    assert "not enough" in str(attempts[1])
    assert [record.name for record in RuntimeFolder.read(tmp_path / "export").records] == ["torch-float32"]
    result = export_model(tiny_checkpoint, tmp_path / "forced", ExportOptions(**options, force=True))
    nearest = min(attempt.agreement.largest_difference for attempt in attempts[1:])
    assert result.folder.find("torch-int8").check["largest_difference"] == nearest


def test_where_none_is_kept_nothing_is_written(tiny_checkpoint, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(NotCloseEnough):
        export_model(tiny_checkpoint, tmp_path / "export", ExportOptions(formats=("torch",), check=(videos[0],)))
    assert not list(tmp_path.iterdir())


def test_videos_that_cannot_be_read_are_told_and_left_out(tiny_checkpoint, videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    options = ExportOptions(formats=("torch",), check=(str(broken), videos[0]))
    result = export_model(tiny_checkpoint, tmp_path / "export", options)
    assert len(result.unreadable) == 1 and "broken.mp4" in result.unreadable[0]
    assert result.attempts[0].agreement.num_videos == 1
    with pytest.raises(ExportError, match="expected videos, none of 1 can be read"):
        export_model(tiny_checkpoint, tmp_path / "other", ExportOptions(formats=("torch",), check=(str(broken),)))


def test_clips_are_read_as_far_as_memory_is_meant_for_them(tiny_checkpoint, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "MOST_CLIP_BYTES", 3 * 4 * 3 * 16 * 16 * 4)  # of the three clips of a video
    result = export_model(tiny_checkpoint, tmp_path / "export", ExportOptions(formats=("torch",), check=tuple(videos)))
    assert result.attempts[0].agreement.num_videos == 1
    assert "left out" in result.unreadable[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dtype": "bfloat16"}, "dtype: expected auto with"),
        ({"compile": True}, "compile: expected a checkpoint with it"),
        ({"runtime": "onnx-int4"}, "runtime: expected auto or one of torch-float32"),
        ({"runtime": "torch-int8", "device": "meta"}, "device: expected"),
        ({"runtime": "torch-float32", "labels": ["a", "b"]}, "expected a model with label embeddings"),
        ({"runtime": "torch-int8", "labels": ["a", "b"]}, "expected a model that takes others, got torch-int8"),
    ],
)
def test_what_an_export_does_not_do_is_refused(torch_export, options, expected):
    with pytest.raises(ValueError, match=expected):
        VideoLabeler.from_pretrained(torch_export[0].folder.path, **options)


def test_a_checkpoint_has_no_runtimes_and_onnx_its_own_labels_alone(tiny_checkpoint, onnx_export):
    with pytest.raises(ValueError, match="runtime: expected a folder that `fal export` has written"):
        VideoLabeler.from_pretrained(tiny_checkpoint, runtime="onnx-int8")
    with pytest.raises(ValueError, match="expected a model that takes others, got onnx-int8"):
        VideoLabeler.from_pretrained(onnx_export.folder.path, runtime="onnx-int8", labels=["a", "b"])
    with pytest.raises(ValueError, match="expected cpu with the runtime onnx-int8, got meta"):
        load_runtime(onnx_export.folder, onnx_export.folder.find("onnx-int8"), "meta")


def test_the_command_exports_and_ends_with_1_where_something_is_not_close(
    tiny_checkpoint, videos, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "export"
    command = ["export", str(tiny_checkpoint), "--to", "torch", "--output", str(output)]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("torch-float32: ") and printed[0].endswith(": enough")
    assert printed[1].startswith(f"{output}: torch-float32; the float32 model takes ")
    monkeypatch.setattr(agreement, "MOST_DIFFERENCE", 1e-9)
    assert main([*command, "--precision", "int8", "--check", videos[0]]) == 1
    output = capsys.readouterr()
    assert "not enough" in output.out and output.err.startswith("fal: expected 99% of the videos")


@pytest.mark.parametrize("scheme", ATTENTION_TYPES)
def test_what_is_cut_into_fixed_cells_is_known(scheme):
    assert has_fixed_cells(tiny_model(attention_type=scheme)) == (scheme == "sparse_local_global")


def test_a_size_that_a_runtime_does_not_take_is_refused(onnx_export, tmp_path):
    folder = shutil.copytree(onnx_export.folder.path, tmp_path / "export")
    fixed = RuntimeRecord(format="onnx", precision="float32", fixed_size=(4, 3, 16, 16))
    exported = ExportedClassifier(RuntimeFolder(folder, "", (fixed,)), fixed)
    assert exported(torch.zeros(5, 4, 3, 16, 16)).logits.shape == (5, 5)
    with pytest.raises(ValueError, match=r"= \(4, 3, 16, 16\), the only size that this export takes, got \(3, 3,"):
        exported(torch.zeros(1, 3, 3, 16, 16))
    assert "in any number" in describe_usage("me/export", [fixed])


def test_the_card_lists_the_runtimes():
    check = {"num_videos": 40, "num_equal": 40, "largest_difference": 0.0123, "seconds": 0.25}
    record = RuntimeRecord(format="openvino", precision="int8", settings={"SmoothQuant alpha": 0.15}, check=check)
    text = describe_origin("me/model", [record], float_seconds=1.5)
    assert "| `openvino-int8` | OpenVINO; SmoothQuant alpha: 0.15 | 40 of 40 | 0.012 | 0.250 |" in text
    assert "`me/model`, which in float32 took 1.500 s a clip" in text
    assert "any number of frames" in describe_usage("me/export", [record])


def test_calibration_takes_clips_evenly():
    clips = [torch.full((1,), float(number)) for number in range(300)]
    taken = WRITERS["onnx"](tiny_model(), clips).clips
    assert [int(clip) for clip in taken] == list(range(0, 300, 3))
    assert len(WRITERS["onnx"](tiny_model(), clips[:128]).clips) == 128


def test_linears_are_listed_as_they_are_called():
    model = tiny_model(num_hidden_layers=1)
    calls = list_calls(model)
    assert sorted(calls) == sorted(list_linears(model))
    assert calls[0] == "fal.embeddings.patch_embeddings.projection" and calls[-1] == "classifier"


def test_a_folder_with_a_missing_file_is_refused(onnx_export, tmp_path):
    folder = shutil.copytree(onnx_export.folder.path, tmp_path / "export")
    (folder / "onnx-float32" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception):  # noqa: B017 (of a library, which `fal label` tells in a line)
        VideoLabeler.from_pretrained(folder, runtime="onnx-float32")
    assert main(["label", "nothing.mp4", "--model", str(folder)]) == 1
    (folder / "runtimes.json").write_text("{")
    with pytest.raises(ValueError, match="expected what `fal export` writes"):
        VideoLabeler.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["divided_space_time", "sparse_local_global"])
def test_openvino_runs_each_precision(scheme, videos, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    model = tiny_model(attention_type=scheme, hidden_size=32, intermediate_size=64, std=0.1)
    model.save_pretrained(tmp_path / "model")
    size = {"height": 16, "width": 16}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size=size).save_pretrained(tmp_path / "model")
    options = ExportOptions(
        formats=("openvino",), precisions=("float32", "bfloat16", "int8"), calibrate=tuple(videos), force=True
    )
    result = export_model(tmp_path / "model", tmp_path / "export", options)
    exact, half, int8 = (record.check["largest_difference"] for record in result.folder.records)
    assert exact < 1e-5 < half < 0.2 and 1e-5 < int8 < 0.2
    assert {record.fixed_size for record in result.folder.records} == {
        (4, 3, 16, 16) if scheme == "sparse_local_global" else None
    }
    for record in result.folder.records:
        labeler = VideoLabeler.from_pretrained(result.folder.path, runtime=record.name)
        scores = labeler(videos[0]).labels
        assert sum(label.score for label in scores) == pytest.approx(1, abs=1e-4)
    xml = (result.folder.path / "openvino-int8" / "openvino_model.xml").read_text()
    assert "FakeQuantize" in xml
    assert json.loads((result.folder.path / "runtimes.json").read_text())["schema_version"] == 1
    assert np.isfinite([label.score for label in scores]).all()
