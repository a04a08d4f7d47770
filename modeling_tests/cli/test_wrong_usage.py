"""Wrong usage of every sub-command: a line, status 2, nothing written, and no video opened.

A case is what stands behind the name of the command. It is run in a folder of videos, manifests, hierarchies, models
and clips that fit it but for what the case is about.
"""

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from safetensors.torch import save
from tiny_fal import tiny_model

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from fal_hf.cli import main

# A length beyond which JSON is nested too deeply for Python.
DEEP = "[" * 100_000
FILES = {
    "file": "text",
    "circle.json": '{"a": "b", "b": "a"}',
    "circle_above.json": '{"a": "x", "x": "y", "y": "x"}',
    "own_parent.json": '{"a": "a"}',
    "strange.json": '{"zebra": "animal"}',
    "nobody.json": "{}",
    "numbers.json": '{"a": 1}',
    "nameless.json": '{"a": ""}',
    "list.json": '["a"]',
    "null.json": "null",
    "cut.json": "{",
    "deep.json": DEEP,
    "binary.json": b"\xff\xfe\x00\x01",
    "good.json": '{"a": "vowel"}',
    "twice.txt": "a\nb\na\n",
    "twice.json": '["a", "a"]',
    "cut_list.json": "[",
    "number.json": "7",
    "wide.csv": "1,2,3\n",
    "empty.txt": "\n\n",
    "empty.csv": "",
    "empty.jsonl": "",
    "header.csv": "video\n",
    "column.csv": "clip\na.mp4\n",
    "binary.txt": b"\x00\x01\xff\xfe\n\x00",
    "binary.csv": b"\x00\x01\xff\xfe\n\x00",
    "binary.jsonl": b"\x00\x01\xff\xfe\n\x00",
    "utf16.txt": "a.mp4\n".encode("utf-16"),
    "utf16.csv": "video\na.mp4\n".encode("utf-16"),
    "cut.csv": 'video\n"a.mp4\n',
    "deep.jsonl": f"{DEEP}\n",
    "number.jsonl": '{"video": 1}\n',
    "zero.jsonl": '{"video": "a\\u0000.mp4"}\n',
    "surrogate.jsonl": '{"video": "\\ud800.mp4"}\n',
    "soon.csv": "video,start_seconds\na.mp4,soon\n",
    "backwards.csv": "video,start_seconds,end_seconds\na.mp4,2,1\n",
    "times.jsonl": '{"video": "a.mp4", "start_seconds": [1]}\n',
    "good.jsonl": '{"video": "a.mp4"}\n',
    "good.csv": "video\na.mp4\n",
    "foreign.jsonl.journal": "shopping list\n",
    "leak.csv": "path,label,split\na.mp4,a,train\na.mp4,a,test\n",
    "split.csv": "path,label,split\na.mp4,a,dev\n",
    "path.jsonl": '{"path": 1, "label": "a"}\n',
    "label.jsonl": '{"path": "a.mp4", "label": ["a"]}\n',
    "unknown_argument.json": '{"zebra": 1}',
    "two_rows.safetensors": save({"embeddings": torch.zeros(2, 4)}),
    "three_rows.safetensors": save({"embeddings": torch.zeros(3, 4)}),
    "vector.safetensors": save({"embeddings": torch.zeros(2)}),
    "not_a_number.safetensors": save({"embeddings": torch.full((2, 4), float("nan"))}),
    "infinite.safetensors": save({"embeddings": torch.full((2, 4), float("inf"))}),
    "cut.safetensors": save({"embeddings": torch.zeros(2, 4)})[:-1],
    "text.safetensors": "text",
    "text.npy": "text",
    "text.parquet": "text",
}


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, open_checkpoint, vit_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    write_video(folder / "a.mp4", moving_frames(5))
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    np.save(folder / "two.npy", np.eye(2, dtype=np.float32))
    (folder / "two.npy.csv").write_text("video,start_seconds,end_seconds\na.mp4,,\nb.mp4,,\n")
    for name in ("empty", "folder.txt", "folder.html", "folder.jsonl", "folder_journal.jsonl.journal"):
        (folder / name).mkdir()
    for name in ("clips/a/1.mp4", "clips/a/2.mp4", "clips/b/1.mp4", "clips/b/2.mp4", "zebra/zebra/1.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "a.mp4", folder / name)
    shutil.copytree(vit_folder, folder / "vit")
    shutil.copytree(tiny_checkpoint, folder / "model")
    shutil.copytree(tiny_checkpoint, folder / "axial")
    tiny_model(attention_type="axial").save_pretrained(folder / "axial")
    for name, file, content in (
        ("cut_config", "config.json", "{"),
        ("list_config", "config.json", "[]"),
        ("cut_weights", "model.safetensors", "\xff" * 100),
        ("no_weights", "model.safetensors", None),
        ("no_processor", "*preprocessor_config.json", None),
        ("cut_processor", "*preprocessor_config.json", "{"),
        ("regression", "config.json", {"problem_type": "regression"}),
        ("bert", "config.json", {"model_type": "bert"}),
        ("two_labels", "config.json", {"id2label": {"0": "a", "7": "b"}}),
    ):
        change_model(shutil.copytree(tiny_checkpoint, folder / name), file, content)
    for name, file, content in (
        ("open", "nothing", None),
        ("no_tower", "text/*", None),
        ("cut_tower", "text/model.safetensors", "\xff" * 100),
        ("no_tokens", "text/tokenizer*", "{"),
    ):
        change_model(shutil.copytree(open_checkpoint, folder / name), file, content)
    return folder


def change_model(model: Path, pattern: str, content: str | dict | None) -> None:
    """Writes some files of a model anew, changes values in them or, for None, removes them."""
    for path in model.glob(pattern):
        if content is None:
            path.unlink()
        else:
            is_change = isinstance(content, dict)
            path.write_text(json.dumps({**json.loads(path.read_text()), **content}) if is_change else content)


@pytest.fixture
def refuse(folder, monkeypatch, capfd):
    """Runs a command that is to be refused."""
    monkeypatch.chdir(folder)
    opened = []
    monkeypatch.setattr(av, "open", lambda *args, **kwargs: opened.append(args))

    def run(*arguments: str) -> None:
        before = contents(folder)
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = exit_.code
        output, errors = capfd.readouterr()
        *usage, line = errors.splitlines()
        assert (status, output, opened) == (2, "", []), errors
        assert contents(folder) == before
        assert line.startswith("fal"), errors
        # The parsers of Python show the options before the error.
        assert not usage or (": error: " in line and usage[0].startswith("usage: fal")), errors
        assert all(further.startswith(" ") for further in usage[1:]), errors
        option, value = arguments[-2:] if len(arguments) > 1 else ("", "")
        if option.startswith("--") and [option, value] != MODEL[-2:]:
            assert names(line, option, value), errors

    return run


def names(line: str, option: str, value: str) -> bool:
    """Whether a message has the name of an option, its value or, of a path, the folder."""
    option = option.strip("-").replace("-", "_")
    return any(
        text and text in line.replace("-", "_") for text in (option, value.replace("-", "_"), os.path.dirname(value))
    )


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def each(option: str, *values: str) -> list[list[str]]:
    return [[option, value] for value in values]


def named(cases: list[list[str]]) -> dict:
    return {"argvalues": cases, "ids": [" ".join(case) or "nothing" for case in cases]}


MODEL = ["--model", "model", "--device", "cpu"]
NO_NUMBERS = ("nan", "inf", "-1", "0", "x", "")
UNUSABLE_MODELS = ("empty", "a.mp4", "gone", "./gone", "a/b/c/d", "cut_config", "list_config", "cut_weights")
UNUSABLE_MODELS += ("no_weights", "no_processor", "cut_processor", "regression", "bert", "two_labels")
OF_A_MODEL = [
    *each("--model", "", *UNUSABLE_MODELS),
    *each("--device", "", "gpu", "cpu:x", "meta", "cuda:99"),
    *each("--dtype", "", "int8", "float64"),
    *each("--top-k", "1.5", *NO_NUMBERS),
    *each("--runtime", "", "onnx-int8", "auto,torch"),
    *each("--adaptive-patches", "0.2", "1.1", *NO_NUMBERS),
    ["--adaptive-patches", "0.5", "--model", "axial"],
    *each("--static-patches", "0.1", "0", "nan", "inf", "-1", "x", ""),  # of divided attention
    ["--static-patches", "0.1", "--adaptive-patches", "0.5"],
]
HIERARCHIES = [f"{name}.json" for name in ("circle", "circle_above", "own_parent", "strange", "nobody", "numbers")]
HIERARCHIES += [f"{name}.json" for name in ("nameless", "list", "null", "cut", "deep", "binary")]
HIERARCHIES += ["", "gone.json", "empty", "a.mp4"]
EMBEDDINGS = [f"{name}.safetensors" for name in ("three_rows", "vector", "not_a_number", "infinite", "cut", "text")]
EMBEDDINGS += ["", "gone.safetensors", "empty", "a.mp4"]
# Behind `fal label a.mp4` and `fal watch a.mp4`.
GIVEN_LABELS = [
    *each("--labels", "", " ", ",", "a,,b", "a,", "a, a", "gone.txt", "a, gone.csv", "gone.json", "empty.txt"),
    *each("--labels", "empty.csv", "twice.txt", "twice.json", "cut_list.json", "number.json", "wide.csv"),
    *each(
        "--labels", "binary.txt", "deep.json", "folder.txt", "a,b"
    ),  # the last to a model that knows its own labels only
    *(["--labels", "a,b", *case] for case in each("--prompt", "", " ", "a video", "{} or {}")),
    *(["--labels", "a,b", "--model", model] for model in ("no_tower", "cut_tower", "no_tokens", *UNUSABLE_MODELS)),
    ["--prompt", "{}"],
    ["--multi-label"],
]
# Behind `fal label a.mp4 --timeline` and `fal watch a.mp4`.
STATIC_LEVELS = [
    ["--static-levels", "6"],
    *(["--reuse-static", *case] for case in each("--static-levels", "256", *NO_NUMBERS)),
]
# Behind `fal label a.mp4 --labels "one, two"`.
HIERARCHIES_OF_LABELS = [*HIERARCHIES, "good.json"]
# Behind `fal label a.mp4`.
LABEL = [
    *OF_A_MODEL,
    *GIVEN_LABELS,
    ["--nonsense"],
    *each("--batch-size", *NO_NUMBERS),
    *each("--num-clips", *NO_NUMBERS),
    *each("--crops", "2", *NO_NUMBERS),
    *each("--scales", "5", "1,,2", "papers", *NO_NUMBERS),
    *each("--workers", "nan", "inf", "-1", "x", "", "1.5"),
    *each("--timeout", *NO_NUMBERS),
    *each("--max-memory", "1e-10", *NO_NUMBERS),
    *each("--engine", "", "slurm"),
    *(["--timeline", *case] for case in each("--window", *NO_NUMBERS)),
    *(["--timeline", *case] for case in each("--hop", "20", *NO_NUMBERS)),
    *(["--timeline", *case] for case in each("--threshold", "1.5", *NO_NUMBERS)),
    *(["--timeline", *case] for case in each("--hysteresis", "0.5", "nan", "inf", "-1", "x", "")),
    *(["--timeline", *case] for case in each("--min-length", "nan", "inf", "-1", "x", "")),
    ["--timeline", "--window", "1", "--hop", "2"],
    *([name, "0.1"] for name in ("--window", "--hop", "--threshold", "--hysteresis", "--min-length")),
    ["--reuse-static"],
    *(["--timeline", *case] for case in STATIC_LEVELS),
    *each("--hierarchy", *HIERARCHIES),
    *each("--output", "", ".", "empty", "empty/", "gone/", "labels", "labels.xlsx", ".jsonl", os.devnull),
    *each("--output", "folder.jsonl", "file/labels.jsonl", "labels.jsonl/", "{name}.jsonl", "folder_journal.jsonl"),
    *each("--output", "foreign.jsonl", f"{'long' * 80}.jsonl"),
    ["--output", "labels.jsonl", "--json"],
    ["--output", "good.json", "--hierarchy", "./good.json"],
    ["--output", "twice.json", "--labels", "./twice.json"],
    ["--retry-failed"],
    ["b.mp4", "--output", "labels.vtt"],
    ["b.mp4", "--output", "{nam}.vtt"],
    [""],
    ["empty"],
    ["nothing/*.mp4"],
    ["nothing://x.mp4"],
    ["nothing://x/"],
    ["rtsp://camera/1"],
]
# Behind `fal explain a.mp4 -o new.png`.
EXPLAIN = [
    *(case for case in OF_A_MODEL if case[0] not in ("--top-k", "--runtime")),
    *GIVEN_LABELS,
    *each("--label", "", "zebra"),
    *each("--method", "", "saliency"),
    *each("--output", "", ".", "empty", "empty/", "new", "new.avi", ".png", os.devnull, "file/new.png"),
    *each("-o", "./a.mp4"),
    ["--output", "clips/a/../../a.mp4"],
    ["--top-k", "1"],
    ["b.mp4"],
    ["--nonsense"],
]
# Behind `fal label`.
INPUTS = [
    [],
    [""],
    ["-"],
    *each(
        "--manifest", "", "gone.txt", "empty", "folder.jsonl", "empty.txt", "empty.csv", "empty.jsonl", "header.csv"
    ),
    *each("--manifest", "column.csv", "binary.txt", "binary.csv", "binary.jsonl", "utf16.txt", "utf16.csv", "cut.csv"),
    *each("--manifest", "deep.jsonl", "number.jsonl", "zero.jsonl", "surrogate.jsonl", "soon.csv", "backwards.csv"),
    *each("--manifest", "times.jsonl"),
    ["--manifest", "good.jsonl", "--output", "good.jsonl"],
    ["--manifest", "good.csv", "--output", "./good.csv"],
]
# Behind `fal embed --output new.parquet a.mp4`.
EMBED = [
    *(case for case in OF_A_MODEL if "--top-k" not in case),
    ["--nonsense"],
    ["--labels", "a, b"],
    ["--top-k", "5"],
    *each("--batch-size", *NO_NUMBERS),
    *each("--num-clips", *NO_NUMBERS),
    *each("--crops", "2", *NO_NUMBERS),
    *each("--scales", "5", "1,,2", "papers", *NO_NUMBERS),
    *each("--workers", "nan", "inf", "-1", "x", "", "1.5"),
    *each("--timeout", *NO_NUMBERS),
    *each("--max-memory", "1e-10", *NO_NUMBERS),
    *each("--engine", "", "slurm"),
    *(["--windows", *case] for case in each("--window", *NO_NUMBERS)),
    *(["--windows", *case] for case in each("--hop", "20", *NO_NUMBERS)),
    ["--windows", "--window", "1", "--hop", "2"],
    *([name, "0.1"] for name in ("--window", "--hop")),
    *each("--output", "", ".", "empty", "empty/", "gone/", "embeddings", "e.xlsx", "e.csv", ".npy", os.devnull),
    *each("--output", "folder.jsonl", "file/e.npy", "e.npy/", f"{'long' * 80}.npy"),
    ["--manifest", "good.jsonl", "--output", "good.jsonl"],
    ["--manifest", "gone.txt"],
    [""],
    ["empty"],
    ["nothing/*.mp4"],
    ["nothing://x.mp4"],
]
# Behind `fal similar`.
SIMILAR = [
    [],
    ["a.mp4"],
    ["--in", "two.npy", "a.mp4", "b.mp4"],
    *(["a.mp4", *case] for case in each("--in", "", "gone.parquet", "gone.npy", "empty", "a.mp4", "good.csv")),
    *(["a.mp4", *case] for case in each("--in", "text.parquet", "text.npy", "text.safetensors", "cut.safetensors")),
    *(["a.mp4", *case] for case in each("--in", "two_rows.safetensors", "vector.safetensors", "two.npy")),
    ["--in", "two.npy", "--json"],
    ["a.mp4", "--in", "two.npy", "--duplicates"],
    ["a.mp4", "--in", "two.npy", "--threshold", "0.9"],
    *(["a.mp4", "--in", "two.npy", *case] for case in each("--top-k", "1.5", *NO_NUMBERS)),
    *(["a.mp4", "--in", "two.npy", *case] for case in each("--model", "", *UNUSABLE_MODELS)),
    *(["a.mp4", "--in", "two.npy", "--model", "model", *case] for case in each("--device", "", "gpu", "cuda:99")),
    *(["--duplicates", "--in", "two.npy", *case] for case in each("--threshold", "1.1", *NO_NUMBERS)),
    *(["--duplicates", "--in", "two.npy", *case] for case in each("--top-k", "5")),
    *(["--duplicates", "--in", "two.npy", *case] for case in each("--model", "model")),
    *(["--duplicates", "--in", "two.npy", *case] for case in each("--device", "cpu")),
]
# Behind `fal map`.
MAP = [
    [],
    ["two.npy"],
    *(["two.npy", *case] for case in each("--output", "", ".", "empty", "empty/", "m.pdf", "m", ".html")),
    ["two.npy", "--output", "file/m.html"],
    *(["two.npy", "--output", "m.html", *case] for case in each("--method", "", "umap")),
    *(["two.npy", "--output", "m.html", *case] for case in each("--labels", "", "gone.csv", "good.txt", "empty")),
    *(["two.npy", "--output", "m.html", *case] for case in each("--pictures", "-1", "1.5", "nan")),
    *(["two.npy", "--output", "m.html", *case] for case in each("--seed", "-1", "x")),
    *(["--output", "m.html", name] for name in ("", "gone.npy", "a.mp4", "text.parquet", "text.npy")),
]
# Behind `fal watch a.mp4`.
WATCH = [
    *OF_A_MODEL,
    *GIVEN_LABELS,
    *each("--window", *NO_NUMBERS),
    *each("--hop", *NO_NUMBERS),
    *each("--reconnect", "1e300", *NO_NUMBERS),
    *STATIC_LEVELS,
    [""],
    ["nothing://x"],
    ["a.mp4"] * 8,
]


def test_a_command_is_needed(refuse):
    for words in ([], ["--nonsense"], ["labels", "a.mp4"], [""]):
        refuse(*words)


@pytest.mark.parametrize("case", **named(LABEL))
def test_label_refuses(refuse, case):
    refuse("label", *MODEL, "a.mp4", *case)


@pytest.mark.parametrize("hierarchy", HIERARCHIES_OF_LABELS)
def test_label_refuses_hierarchies_of_given_labels(refuse, hierarchy):
    refuse("label", "--model", "open", "a.mp4", "--labels", "one, two", "--hierarchy", hierarchy)


def test_labels_need_a_model_that_takes_them(refuse):
    refuse("label", "a.mp4", "--labels", "a, b")
    refuse("watch", "a.mp4", "--labels", "a, b")


@pytest.mark.parametrize("case", **named(INPUTS))
def test_label_refuses_inputs(refuse, case, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        refuse("label", *MODEL, *case)


@pytest.mark.parametrize("case", **named(EMBED))
def test_embed_refuses(refuse, case):
    refuse("embed", *MODEL, "--output", "new.parquet", "a.mp4", *case)


def test_embed_needs_videos_and_an_output(refuse):
    refuse("embed", "a.mp4")
    refuse("embed", "--output", "new.parquet", "--device", "cpu")


@pytest.mark.parametrize("case", **named(SIMILAR))
def test_similar_refuses(refuse, case):
    refuse("similar", *case)


@pytest.mark.parametrize("case", **named(MAP))
def test_map_refuses(refuse, case):
    refuse("map", *case)


@pytest.mark.parametrize("case", **named(WATCH))
def test_watch_refuses(refuse, case):
    refuse("watch", *MODEL, "a.mp4", *case)


@pytest.mark.parametrize("case", **named(EXPLAIN))
def test_explain_refuses(refuse, case):
    refuse("explain", *MODEL, "a.mp4", "-o", "new.png", *case)


@pytest.mark.parametrize("video", ["", "clips", "nothing/*.mp4", "nothing://x.mp4", "rtsp://camera/1"])
def test_explain_refuses_what_is_not_one_video(refuse, video):
    refuse("explain", *MODEL, "-o", "new.png", video)


def test_explain_needs_an_output(refuse):
    refuse("explain", *MODEL, "a.mp4")


# Labels as tokens of a model of two blocks.
TOKENS = ["--label_attention", "label", "--label_integration_layer", "1"]
# Behind `fal train` with all that it needs.
TRAIN = [
    *each("--model_name_or_path", "", *(name for name in UNUSABLE_MODELS if name not in ("regression", "two_labels"))),
    *each("--train_dir", "", "gone", "empty", "a.mp4"),
    *each("--train_file", "", "gone.csv", "good.csv"),
    *each("--output_dir", "", "file", "file/run"),
    *each("--dataset_name", "", "gone/gone"),
    *each("--train_val_split", "nan", "1", "-1", "x"),
    *each("--max_unreadable_share", "nan", "1", "-1", "x"),
    *each("--num_frames", *NO_NUMBERS),
    *each("--image_size", "7", *NO_NUMBERS),
    *each("--frame_interval_seconds", *NO_NUMBERS),
    *each("--frame_stride", *NO_NUMBERS),
    *each("--problem_type", "", "regression"),
    *each("--drop_path_rate", "nan", "1", "-1", "x"),
    *each("--adaptive_patches", "0.2", "1.1", *NO_NUMBERS),
    *each("--label_attention", "", "zebra", "divided"),
    *each("--label_integration_layer", "0", "1", "x", ""),
    *(["--label_attention", "label", *case] for case in each("--label_integration_layer", "2", "-1")),
    *each("--hierarchy", *HIERARCHIES),
    *each("--label_embeddings", "two_rows.safetensors"),
    *([*TOKENS, *case] for case in each("--label_embeddings", *EMBEDDINGS)),
    *each("--label_prompt", "", "a video", "a video of {}"),
    *each("--freeze", "99", "-1", "x", "1.5", ""),
    *each("--lora_rank", "-1", "x"),
    *each("--lora_alpha", "0", "-1", "x"),
    *each("--eval_num_clips", "0", "-1", "x"),
    *each("--eval_num_crops", "0", "2", "x"),
    *each("--license", "", "mine"),
    *each("--config_name", "", "gone", "cut_config"),
    *each("--config_overrides", "", "hidden_size=1"),
    *each("--short_side_min", *NO_NUMBERS),
    *each("--short_side_max", "1", *NO_NUMBERS),
    *each("--horizontal_flip", "nan", "2", "-1", "x"),
    *each("--flip_label_pairs", "a", "a=zebra", "a="),
    *each("--colour_ops", "-1", "x"),
    *each("--colour_magnitude", "31", "-1", "x"),
    *each("--random_erasing", "nan", "2", "-1", "x"),
    *each("--mixup_alpha", "nan", "inf", "-1", "x"),
    *each("--cutmix_alpha", "nan", "inf", "-1", "x"),
    *each("--layer_decay", "2", *NO_NUMBERS),
    *each("--lr_drop_epochs", *NO_NUMBERS),
    *each("--ema_decay", "nan", "1", "-1", "x"),
    *each("--early_stopping_patience", "3", "x"),
    *each("--learning_rate", "nan", "inf", "-1", "x"),
    *each("--weight_decay", "nan", "-1"),
    *each("--max_grad_norm", "nan", "-1"),
    *each("--num_train_epochs", "nan", "-1", "x"),
    *each("--warmup_steps", "nan", "-1", "x"),
    *each("--label_smoothing_factor", "nan", "2", "-1"),
    *each("--per_device_train_batch_size", *NO_NUMBERS),
    *each("--per_device_eval_batch_size", *NO_NUMBERS),
    *each("--gradient_accumulation_steps", *NO_NUMBERS),
    *each("--dataloader_num_workers", "-1", "x"),
    *each("--eval_strategy", "sometimes", "epoch"),
    *each("--lr_scheduler_type", "zebra"),
    *each("--optim", "zebra"),
    *each("--report_to", "zebra"),
    *each("--resume_from_checkpoint", "", "gone", "file"),
    ["--frame_stride", "2", "--spread_frames"],
    ["--class_weights", "--balanced_sampling"],
    ["--lora_rank", "2", "--freeze", "backbone"],
    ["--freeze", "features", "--colour_ops", "1"],
    ["--config_name", "fal-tiny"],
    ["--load_best_model_at_end"],
    ["--nonsense", "1"],
]
# Behind `fal train`: recipes, and manifests in the place of folders.
RECIPES = [
    *([name] for name in ("", "zebra", "gone.json", "empty", "a.mp4")),
    *([f"{name}.json"] for name in ("cut", "list", "null", "deep", "binary", "unknown_argument")),
    *each("--train_file", "header.csv", "column.csv", "binary.csv", "binary.jsonl", "deep.jsonl", "leak.csv"),
    *each("--train_file", "split.csv", "path.jsonl", "label.jsonl", "times.jsonl", "empty", "folder.jsonl", "a.mp4"),
]
# Behind `fal evaluate` with all that it needs.
EVALUATE = [
    *each("--model_name_or_path", "", *UNUSABLE_MODELS),
    *each("--test_dir", "", "gone", "empty", "a.mp4", "zebra"),
    *each("--test_file", "", "gone.csv", "header.csv"),
    *each("--split", "", "dev", "train"),
    *each("--labels", "", "a,", "a, a", "gone.txt", "dark, bright"),
    *each("--label_prompt", "", "a video", "a video of {}"),
    *each("--num_clips", *NO_NUMBERS),
    *each("--num_crops", "2", *NO_NUMBERS),
    *each("--batch_size", *NO_NUMBERS),
    *each("--num_workers", "-1", "x"),
    *each("--seed", "-1", "x"),
    *each("--adaptive_patches", "0.2", "1.1", *NO_NUMBERS),
    *each("--static_patches", "0.1", "0", "nan", "inf", "-1", "x", ""),  # of divided attention
    ["--static_patches", "0.1", "--adaptive_patches", "0.5"],
    *each("--device", "", "gpu", "meta", "cuda:99"),
    *each("--dtype", "", "int8", "zebra"),
    *each("--output_dir", "", "file", "file/run"),
    *each("--calibrate", "", "file", "file/new", "model", "clips"),
    ["--calibrate", "new", "--dtype", "bfloat16"],
    ["--calibrate", "new", "--adaptive_patches", "0.5"],
    *each("--report", "", "report", "report.pdf", "folder.html", "file/report.html", ".html"),
    *each("--report_mistakes", "-1", "x", "1.5", ""),
    *each("--max_unreadable_share", "nan", "1", "-1", "x"),
    ["--num_clips"],
    ["--calibrate"],
    ["--report"],
    ["extra"],
]
# Behind `fal convert vit --output new`.
CONVERT = [
    *each("--output", ""),
    *each("--attention-type", "", "zebra"),
    *each("--num-frames", *NO_NUMBERS),
    *each("--image-size", "1x2x3", "x32", *NO_NUMBERS),
    *each("--resize", "", "zebra"),
    *each("--time-table", "", "zebra"),
    *each("--num-attention-heads", *NO_NUMBERS),
    *each("--labels", ""),
    *each("--prompt", "", "a video", "{} and {}"),
    *each("--label-attention", "", "zebra"),
    *each("--label-integration-layer", "1.5", "-1", "x", ""),
    *each("--hierarchy", *(name for name in HIERARCHIES if name != "strange.json")),
    *each("--label-embeddings", *(name for name in EMBEDDINGS if name != "three_rows.safetensors")),
    *each("--preprocessing", "", "zebra"),
    *each("--dtype", "", "int8"),
    *each("--max-shard-size", "GB", "5", *NO_NUMBERS),
    *each("--tolerance", "nan", "-1", "x", ""),
    *each("--license", "", "mine"),
    *each("--base-model", ""),
    *each("--source-revision", ""),
    *each("--push-to-hub", "", "a/b/c", "-"),
    *each("--revision", "", "dev"),
    ["--private"],
    ["--create-pr"],
    ["extra"],
]


# Behind `fal export --output new`.
EXPORT = [
    ["model"],
    ["model", "--to"],
    *(["model", *case] for case in each("--to", "", "tflite", "onnx,torch")),
    *(["model", "--to", "torch", *case] for case in each("--precision", "", "int4", "int8", "bfloat16")),
    ["model", "--to", "onnx", "--check", "a.mp4", "--precision", "bfloat16"],
    ["model", "--to", "openvino", "--check", "a.mp4", "--precision", "int8"],
    *(["model", "--to", "torch", *case] for case in each("--calibrate", "", "gone/", "empty", "nothing*.mp4")),
    *(["model", "--to", "torch", *case] for case in each("--check", "", "gone/", "empty", "gone.mp4")),
    *(["model", "--to", "torch", *case] for case in each("--license", "", "mine")),
    *(["model", "--to", "torch", *case] for case in each("--output", "", "model", "file", "file/new")),
]


@pytest.mark.parametrize("case", **named(EXPORT))
def test_export_refuses(refuse, case):
    refuse("export", "--output", "new", *case)


@pytest.mark.parametrize("model", ["", *UNUSABLE_MODELS])
def test_export_needs_a_model(refuse, model):
    refuse("export", "--to", "torch", "--output", "new", model)
    refuse("export")


@pytest.mark.parametrize("case", **named(TRAIN))
def test_train_refuses(refuse, case):
    clips = ["--train_dir", "clips", "--train_val_split", "0"]
    refuse("train", *clips, "--output_dir", "run", "--model_name_or_path", "model", "--use_cpu", *case)


@pytest.mark.parametrize("case", **named(RECIPES))
def test_train_refuses_recipes_and_manifests(refuse, case):
    refuse("train", *case, "--output_dir", "run", "--model_name_or_path", "model", "--use_cpu")


@pytest.mark.parametrize("case", **named(EVALUATE))
def test_evaluate_refuses(refuse, case):
    clips = ["--test_dir", "clips", "--output_dir", "run"]
    refuse("evaluate", "--model_name_or_path", "model", *clips, "--device", "cpu", *case)


@pytest.mark.parametrize("case", **named(CONVERT))
def test_convert_refuses(refuse, case):
    refuse("convert", "--output", "new", "vit", *case)


def test_convert_needs_a_source(refuse):
    refuse("convert", "--output", "new", "")
    refuse("convert")
    refuse("convert", "vit")
