"""Runs from end to end on tiny clips, with Trainer and with the loop on Accelerate, which end up the same."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import write_open_checkpoint
from tiny_fal import random_clip, tiny_config, tiny_model
from video_classification_files import CLASSES, EXAMPLES, write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(EXAMPLES))

import run_video_classification_no_trainer as accelerate_script

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoLabeler
from fal_hf.cli import main
from fal_hf.training import result as result_module
from fal_hf.training import train as train_with_trainer
from fal_hf.training.arguments import RECIPES, parse_arguments
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL
from fal_hf.training.run import make_loss


def run_trainer(argv: list[str]) -> None:
    train_with_trainer(**vars(parse_arguments(argv)))


RUNS = {"trainer": run_trainer, "accelerate": accelerate_script.main}


def test_the_loop_refuses_what_it_does_not_do(tmp_path):
    arguments = parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", "--neftune_noise_alpha", "1"])
    with pytest.raises(ValueError, match="--neftune_noise_alpha: `fal train` does that"):
        accelerate_script.refuse_what_is_not_done(arguments.training)
    options = ["--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "epoch"]
    arguments = parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *options])
    with pytest.raises(ValueError, match="reduce_lr_on_plateau: `fal train` does that"):
        accelerate_script.refuse_what_is_not_done(arguments.training)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_the_loop_does_every_recipe(path, tmp_path):
    options = ["--bf16", "false"] if "bf16" in path.read_text() else []
    arguments = parse_arguments([str(path), "--output_dir", str(tmp_path), "--use_cpu", *options])
    accelerate_script.refuse_what_is_not_done(arguments.training)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A tiny model to start from, with drop path, so that a run depends on torch's randomness."""
    folder = tmp_path_factory.mktemp("start")
    model = tiny_model(tiny_config(drop_path_rate=0.2), std=0.02)
    model.save_pretrained(folder)
    size = model.config.image_size[0]
    crop = {"height": size, "width": size}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": size}, crop_size=crop).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("clips"), per_class=8)


@pytest.fixture
def train(start, clips, tmp_path):
    """Runs a script and returns its output folder."""

    def run(script: str, name: str, *options: str, folder: Path | None = None) -> Path:
        output = tmp_path / name
        is_named = {"--train_file", "--dataset_name"} & set(options)
        source = [] if is_named else ["--train_dir", str(folder or clips)]
        usual = ["--per_device_train_batch_size", "3", "--learning_rate", "1e-3", "--logging_steps", "1"]
        arguments = ["--model_name_or_path", str(start), *source, "--train_val_split", "0.25", *usual]
        common = ["--output_dir", str(output), "--use_cpu", "--report_to", "none", "--disable_tqdm", "true"]
        RUNS[script]([*arguments, *common, *options])
        return output

    return run


def final_weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def losses(output: Path) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [float(entry["loss"]) for entry in history if "loss" in entry]


def assert_same_weights(first: Path, second: Path, *, tolerance: float = 0.0):
    weights, others = final_weights(first), final_weights(second)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(
            weight, others[name], atol=tolerance, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


# What both scripts are run with to be compared. Drop path is off: they draw from torch's randomness in another order.
EVERYTHING = (
    "--drop_path_rate=0 "
    "--num_train_epochs=2 --gradient_accumulation_steps=2 --ema_decay=0.5 --layer_decay=0.8 --class_weights "
    "--label_smoothing_factor=0.1 --lr_scheduler_type=cosine --warmup_steps=1 --weight_decay=0.05 --mixup_alpha=0.8 "
    "--cutmix_alpha=1.0 --colour_ops=1 --random_erasing=0.3 --horizontal_flip=0.5 --gradient_checkpointing "
    "--eval_strategy=epoch --eval_num_clips=2 --eval_num_crops=3 --save_strategy=no"
)
LORA = "--drop_path_rate=0 --max_steps=4 --lora_rank=2 --ema_decay=0.5 --gradient_checkpointing --save_strategy=no"
SGD = (
    "--drop_path_rate=0 "
    "--max_steps=5 --optim=sgd --optim_args=momentum=0.9 --lr_drop_epochs 1 --balanced_sampling --freeze=1 "
    "--max_grad_norm=0 --save_strategy=no"
)


@pytest.mark.parametrize("options", [EVERYTHING, SGD, LORA], ids=["adamw", "sgd", "lora"])
def test_both_scripts_train_the_same(train, options):
    outputs = [train(script, script, *options.split()) for script in RUNS]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), rel=1e-4)
    assert len(losses(outputs[0])) == (5 if options is SGD else 4)
    assert_same_weights(*outputs, tolerance=1e-5)
    first, second = (json.loads((output / "all_results.json").read_text()) for output in outputs)
    for name in ("validation_loss", "train_loss"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)
    for results in (first, second):
        num_steps = results["train_steps_per_second"] * results["train_runtime"]
        assert num_steps == pytest.approx(len(losses(outputs[0])), rel=0.01)
        num_clips = results["train_samples_per_second"] * results["train_runtime"]
        assert num_clips == pytest.approx(num_steps * (6 if options is EVERYTHING else 3), rel=0.01)


def test_both_scripts_train_labels_as_tokens_the_same(train, tmp_path):
    """With a part of the loss for each level, of mixed labels as well; and a run goes on from what comes out."""
    (tmp_path / "hierarchy.json").write_text('{"dark": "gray"}')
    save_file({"embeddings": torch.eye(3, 4)}, tmp_path / "embeddings.safetensors")
    tokens = ["--label_attention=divided", "--label_integration_layer=1", f"--hierarchy={tmp_path / 'hierarchy.json'}"]
    options = [*tokens, f"--label_embeddings={tmp_path / 'embeddings.safetensors'}", *EVERYTHING.split()]
    outputs = [train(script, script, *options) for script in RUNS]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), rel=1e-4)
    assert_same_weights(*outputs, tolerance=1e-5)
    model = FALVideoClassifierForVideoClassification.from_pretrained(outputs[0] / "model")
    assert model.config.label_space.names == ("bright", "dark", "gray")
    assert model.fal.label_layers[0].steps["features"].gate.scale.abs().max() > 0
    assert "accuracy level 0 " in (outputs[0] / "model" / "README.md").read_text()
    flat = train("trainer", "flat", *tokens[:2], *EVERYTHING.split())
    assert losses(outputs[0])[0] > losses(flat)[0] + 0.1
    further = train("trainer", "further", "--model_name_or_path", str(outputs[0] / "model"), "--max_steps=1")
    assert final_weights(further).keys() == final_weights(outputs[0]).keys()


def test_both_scripts_train_a_model_that_takes_any_labels_the_same_and_it_still_takes_any(train, tmp_path):
    start = write_open_checkpoint(tmp_path / "open", ["x", "y", "z"])
    kept = ["--save_strategy=epoch", "--load_best_model_at_end"]
    outputs = [
        train(script, script, "--model_name_or_path", str(start), *EVERYTHING.split(), *kept) for script in RUNS
    ]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), rel=1e-4)
    assert_same_weights(*outputs, tolerance=1e-5)
    checkpoint = ["--resume_from_checkpoint", str(outputs[0] / "checkpoint-2")]
    resumed = train("trainer", "resumed", "--model_name_or_path", str(start), *EVERYTHING.split(), *kept, *checkpoint)
    assert_same_weights(outputs[0], resumed)
    before = load_file(start / "model.safetensors")
    for folder in (outputs[0] / "model", outputs[1] / "model", outputs[0] / "checkpoint-4"):
        model = FALVideoClassifierForVideoClassification.from_pretrained(folder)
        assert model.config.id2label == {0: "bright", 1: "dark"}
        assert not torch.equal(model.classifier.projection.weight, before["classifier.projection.weight"])
        embeddings = model.text_encoder(["a video of bright", "a video of dark"])
        assert torch.equal(model.fal.label_embeddings.embeddings.weight, embeddings)
        model.set_labels(["one", "two", "three"])
        assert model(random_clip(model.config)).logits.shape == (2, 3)


def test_class_weights_of_several_labels_are_those_of_the_labels_above_as_well(tmp_path):
    arguments = parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", "--class_weights"])
    fields = {"label_attention": "label", "label_integration_layer": 1, "label_hierarchy": {"a": "x", "b": "x"}}
    config = tiny_config(num_labels=3, id2label=dict(enumerate("abc")), **fields)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert make_loss(arguments, config, labels, MULTI_LABEL).class_weights.tolist() == pytest.approx([1, 1, 3, 1 / 3])
    assert make_loss(arguments, config, labels.argmax(dim=1), SINGLE_LABEL).class_weights.shape == (3,)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every curve in the event files of a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = {}
    for path in sorted(folder.rglob("*.tfevents.*")):
        events = accumulator.EventAccumulator(str(path)).Reload()
        for name in events.Tags()["scalars"]:
            curves.setdefault(name, []).extend((event.step, event.value) for event in events.Scalars(name))
    return curves


def test_tensorboard_shows_the_same_curves_of_both_scripts(train):
    options = "--max_steps=4 --logging_steps=2 --eval_strategy=steps --eval_steps=2 --drop_path_rate=0"
    outputs = [train(script, script, *options.split(), "--report_to", "tensorboard") for script in RUNS]
    first, second = map(read_curves, outputs)
    for name in ("train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/accuracy"):
        assert [step for step, _ in second[name]] == [2, 4], name
    for name in second.keys() - {"train/train_runtime"}:
        if not name.endswith("_per_second"):
            torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(second[name]), atol=0, rtol=1e-3)
    assert {"train/train_runtime", "train/train_loss", "train/validation_accuracy"} <= second.keys()
    shown = json.loads((outputs[1] / "all_results.json").read_text())["validation_loss"]
    assert second["train/validation_loss"] == [(4, pytest.approx(shown))]


def test_a_tracker_that_is_not_installed_is_named(train, monkeypatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(ImportError, match="--report_to: tensorboard is not installed"):
        train("accelerate", "run", "--report_to", "tensorboard")


@pytest.mark.parametrize("script", RUNS)
@pytest.mark.parametrize("step", [2, 4], ids=["inside an epoch", "between epochs"])
def test_a_resumed_run_ends_as_an_unbroken_one(train, script, step):
    """An epoch has 4 steps of 3 clips; the run has 6, and evaluates now and then."""
    options = "--max_steps=6 --save_strategy=steps --save_steps=2 --eval_strategy=steps --eval_steps=2 --ema_decay=0.5"
    options = [*options.split(), "--dataloader_num_workers", "1", "--horizontal_flip", "0.5", "--mixup_alpha", "0.8"]
    unbroken = train(script, "unbroken", *options)
    checkpoint = unbroken / f"checkpoint-{step}"
    resumed = train(script, "resumed", *options, "--resume_from_checkpoint", str(checkpoint))
    assert losses(unbroken) == losses(resumed)
    assert_same_weights(unbroken, resumed)


@pytest.mark.parametrize("script", RUNS)
def test_the_best_weights_are_kept_by_a_run_that_goes_on_elsewhere(train, script):
    """The learning rate lets every later evaluation be worse than the first."""
    options = "--save_strategy=steps --save_steps=1 --eval_strategy=steps --eval_steps=1 --load_best_model_at_end"
    options = [*options.split(), "--learning_rate", "1", "--max_grad_norm", "0", "--max_steps", "3"]
    first = train(script, "first", *options)
    history = json.loads((first / "trainer_state.json").read_text())["log_history"]
    evaluations = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert min(evaluations) == evaluations[0] < evaluations[-1]
    second = train(script, "second", *options, "--resume_from_checkpoint", str(first / "checkpoint-2"))
    assert_same_weights(first, second)
    for output in (first, second):
        results = json.loads((output / "all_results.json").read_text())
        assert results["validation_loss"] == pytest.approx(evaluations[0])


@pytest.mark.parametrize("script", RUNS)
def test_evaluations_that_cannot_be_are_refused(train, script):
    options = ["--max_steps", "1", "--eval_strategy", "epoch"]
    with pytest.raises(ValueError, match="--eval_strategy: expected validation clips"):
        train(script, "no clips", *options, "--train_val_split", "0")
    best = ["--save_strategy", "epoch", "--load_best_model_at_end", "--metric_for_best_model", "beauty"]
    with pytest.raises((ValueError, KeyError), match="beauty"):
        train(script, "no metric", *options, *best)


@pytest.mark.parametrize("script", RUNS)
def test_a_checkpoint_that_is_not_whole_is_not_the_last_one(train, script, monkeypatch):
    options = ["--save_strategy", "steps", "--save_steps", "1", "--max_steps", "3"]
    unbroken = train(script, "unbroken", *options)
    torch_save = torch.save

    def killed_in_the_second_checkpoint(content, path, *arguments, **keywords):
        if "checkpoint-2" in str(path):
            raise KeyboardInterrupt
        torch_save(content, path, *arguments, **keywords)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", killed_in_the_second_checkpoint)
        train(script, "killed", *options)
    output = unbroken.with_name("killed")
    assert (output / "checkpoint-2" / "model.safetensors").exists()
    train(script, "killed", *options, "--resume_from_checkpoint", "last")
    assert_same_weights(unbroken, output)


def test_going_on_from_the_last_checkpoint(train):
    options = ["--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "2"]
    options += ["--resume_from_checkpoint", "last"]
    output = train("accelerate", "run", *options, "--max_steps", "3")
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    train("accelerate", "run", *options, "--max_steps", "4")
    assert len(losses(output)) == 4 and (output / "checkpoint-4").is_dir()
    assert json.loads((output / "labels.json").read_text()) == list(CLASSES)
    (output / "labels.json").write_text(json.dumps(CLASSES[::-1]))
    with pytest.raises(ValueError, match="expected its labels, dark, bright; the clips have bright, dark"):
        train("accelerate", "run", *options, "--max_steps", "5")


@pytest.mark.parametrize("script", RUNS)
def test_the_result_labels_videos_and_has_a_card(train, script, clips):
    """30 epochs: bright and dark clips are told apart."""
    options = "--num_train_epochs=30 --learning_rate=5e-3 --eval_strategy=epoch --save_strategy=epoch"
    best = "--load_best_model_at_end --metric_for_best_model=accuracy --early_stopping_patience=3 --license=mit"
    output = train(script, "run", *options.split(), *best.split(), "--train_test_split", "0.25")
    results = json.loads((output / "all_results.json").read_text())
    assert results["validation_accuracy"] == results["test_accuracy"] == 1.0
    assert len(losses(output)) < 30 * 3  # stopped early
    labeler = VideoLabeler.from_pretrained(output / "model")
    for name in CLASSES:
        assert labeler(clips / name / "0.mp4").labels[0].label == name
    card = (output / "model" / "README.md").read_text()
    assert "runtime" not in card
    assert "license: mit" in card and "accuracy (test, video level)" in card and "fal evaluate" in card
    splits = [json.loads(line)["split"] for line in (output / "clips.jsonl").read_text().splitlines()]
    assert {name: splits.count(name) for name in set(splits)} == {"train": 8, "validation": 4, "test": 4}


@pytest.mark.parametrize("as_dataset", [False, True], ids=["folder", "data set"])
def test_the_command_on_the_card_prints_the_figure_on_the_card(train, clips, monkeypatch, as_dataset):
    source = ["--dataset_name", str(clips)] if as_dataset else []
    output = train("trainer", "run", "--max_steps", "2", *source, "--seed", "7")
    card = (output / "model" / "README.md").read_text()
    assert "2 steps in batches of 3" in card
    (command,) = re.findall("fal evaluate .*", card)
    monkeypatch.chdir(output)
    (output / clips.name).symlink_to(clips)
    assert main([*shlex.split(command)[1:], "--output_dir", "evaluation", "--device", "cpu"]) == 0
    (figures,) = json.loads(Path("evaluation/evaluation.json").read_text())["results"]
    results = json.loads((output / "all_results.json").read_text())
    assert figures["num_videos"] == 4
    assert figures["accuracy"] == results["validation_accuracy"]


@pytest.mark.parametrize("script", RUNS)
def test_real_clips_from_the_default_checkpoint(script, media, tmp_path):
    rows = ["path,label,group"]
    for index, path in enumerate(sorted((media / "surveillance").glob("*/*01?.mp4"))):
        rows.append(f"{path},{path.parent.name},film {index // 3}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    options = [
        "--train_file",
        str(tmp_path / "clips.csv"),
        "--output_dir",
        str(tmp_path),
        "--max_steps",
        "2",
        "--use_cpu",
    ]
    RUNS[script]([*options, "--train_val_split", "0.3", "--report_to", "none", "--eval_num_clips", "2"])
    results = json.loads((tmp_path / "all_results.json").read_text())
    assert 0 <= results["validation_accuracy"] <= 1 and results["validation_unreadable"] == 0
    assert VideoLabeler.from_pretrained(tmp_path / "model").names == ["fight", "no_fight"]


@pytest.mark.parametrize("script", RUNS)
def test_several_labels(train, script, clips, tmp_path):
    rows = [
        {"path": str(path), "labels": [path.parent.name, "first"] if path.stem < "4" else [path.parent.name]}
        for path in sorted(clips.glob("*/*.mp4"))
    ]
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = train(script, script, "--train_file", str(manifest), "--max_steps", "2", "--mixup_alpha", "0.5")
    config = json.loads((output / "model" / "config.json").read_text())
    assert config["problem_type"] == MULTI_LABEL and sorted(config["label2id"]) == ["bright", "dark", "first"]
    results = json.loads((output / "all_results.json").read_text())
    assert 0 <= results["validation_mean_average_precision"] <= 1


def test_unreadable_clips_are_counted_and_too_many_stop_the_run(train, tmp_path):
    folder = write_class_folders(tmp_path / "clips", per_class=4)
    (folder / "dark" / "text.mp4").write_text("no video")
    output = train("trainer", "run", "--max_steps", "1", "--max_unreadable_share", "0.2", folder=folder)
    assert "1 of 9 clips left out as unreadable" in (output / "model" / "README.md").read_text()
    (line,) = (output / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(line)["path"].endswith("text.mp4") and json.loads(line)["reason"]
    with pytest.raises(RuntimeError, match="1 of 9 clips cannot be read"):
        train("trainer", "other", "--max_steps", "1", folder=folder)


@pytest.mark.parametrize("script", RUNS)
def test_bfloat16_and_workers(train, script):
    options = ["--max_steps", "2", "--dataloader_num_workers", "2"]
    whole, half = train(script, "float32", *options), train(script, "bfloat16", *options, "--bf16")
    assert losses(half) == pytest.approx(losses(whole), rel=0.01) and losses(half) != losses(whole)
    assert all(weight.dtype == torch.float32 for weight in final_weights(half).values())


@pytest.mark.parametrize("script", RUNS)
def test_lora_adapters_are_merged_into_the_result(train, script, start):
    pytest.importorskip("peft")
    output = train(script, script, "--max_steps", "2", "--lora_rank", "2", "--learning_rate", "0.1")
    before, after = load_file(start / "model.safetensors"), final_weights(output)
    assert before.keys() == after.keys()
    changed = {
        name
        for name in before
        if before[name].shape != after[name].shape or not torch.equal(before[name], after[name])
    }
    assert all("qkv.weight" in name or "o_proj.weight" in name or name.startswith("classifier") for name in changed)
    assert any("qkv" in name for name in changed)


@pytest.mark.parametrize("script", RUNS)
def test_the_result_is_pushed_once_with_its_card(train, script, monkeypatch):
    pushed = []

    def push(folder, repo_id, **options):
        pushed.append((repo_id, options, sorted(path.name for path in folder.iterdir())))

    monkeypatch.setattr(result_module, "push_folder", push)
    options = ["--push_to_hub", "--hub_model_id", "me/clips", "--hub_private_repo", "true", "--save_strategy", "steps"]
    train(script, script, "--max_steps", "2", "--save_steps", "1", *options)
    ((repo_id, settings, files),) = pushed
    assert repo_id == "me/clips" and settings["private"] is True
    assert {"README.md", "config.json", "model.safetensors", "video_preprocessor_config.json"} <= set(files)


@pytest.mark.slow
@pytest.mark.parametrize("script", RUNS)
def test_a_compiled_model_trains_the_same(train, script):
    options = ["--max_steps", "2", "--drop_path_rate", "0", "--save_strategy", "no"]
    assert_same_weights(
        train(script, "eager", *options), train(script, "compiled", *options, "--torch_compile"), tolerance=1e-5
    )
