"""The arguments of a run: the command line, recipes, what contradicts what."""

import json

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from transformers import TrainingArguments

from fal_hf.training import read_recipe, recipe_names
from fal_hf.training.arguments import RECIPES, Arguments, parse_arguments
from fal_hf.training.data import DataArguments
from fal_hf.training.start import ModelArguments


def test_an_argument_file_gives_what_the_command_line_overrules(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"learning_rate": 0.5, "num_train_epochs": 7, "lr_drop_epochs": [3]}))
    arguments = parse_arguments([str(path), "--output_dir", str(tmp_path), "--num_train_epochs", "2", "--use_cpu"])
    assert arguments.training.learning_rate == 0.5 and arguments.training.num_train_epochs == 2
    assert arguments.recipe.lr_drop_epochs == [3]
    path.write_text(json.dumps({"learningrate": 0.5}))
    with pytest.raises(ValueError, match=r"recipe\.json: expected names of arguments, got learningrate"):
        parse_arguments([str(path), "--output_dir", str(tmp_path)])


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_understood(name, tmp_path):
    """By its name on the command line, by its path, and in Python."""
    options = ["--bf16", "false"] if "bf16" in (RECIPES / f"{name}.json").read_text() else []
    path = RECIPES / f"{name}.json"
    by_name, by_path = (
        parse_arguments([str(recipe), "--output_dir", str(tmp_path), "--use_cpu", *options]) for recipe in (name, path)
    )
    in_python = read_recipe(name, output_dir=str(tmp_path), use_cpu=True, **({"bf16": False} if options else {}))
    for name, value in json.loads(path.read_text()).items():
        (kind,) = [key for key, one in vars(by_name).items() if name in one.__dataclass_fields__]
        if name != "bf16":
            for arguments in (vars(by_name), vars(by_path), in_python):
                assert getattr(arguments[kind], name) == value, name


def test_the_recipes_are_those_of_the_documents():
    assert recipe_names() == ["few_shots", "kinetics", "long_video", "small_set", "something_something_v2"]


def test_changes_overrule_a_recipe_in_python(tmp_path):
    arguments = read_recipe("small_set", output_dir=str(tmp_path), learning_rate=0.5, train_dir="clips", use_cpu=True)
    assert arguments["training"].learning_rate == 0.5 and arguments["data"].train_dir == "clips"
    assert arguments["recipe"].layer_decay == 0.75
    with pytest.raises(ValueError, match="expected names of arguments, got learningrate"):
        read_recipe("small_set", learningrate=0.5)


@pytest.mark.parametrize("name", ["kinetix", "nowhere.json", "clips.csv"])
def test_a_recipe_that_does_not_exist_is_named(name, tmp_path):
    with pytest.raises(ValueError, match=f"kinetics, .* or a JSON file that exists, got {name}"):
        parse_arguments([name, "--output_dir", str(tmp_path)])


def test_the_arguments_that_are_given_are_left_alone(tmp_path):
    training = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments = Arguments(data=DataArguments(), training=training)
    assert training.remove_unused_columns and not arguments.training.remove_unused_columns


def test_features_are_trained_on_one_gpu_of_a_process(tmp_path):
    training = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    training._n_gpu = 2
    for freeze, expected in (("backbone", 2), ("features", 1)):
        arguments = Arguments(data=DataArguments(), model=ModelArguments(freeze=freeze), training=training)
        assert arguments.training.n_gpu == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model_name_or_path", "a", "--config_name", "fal"], "got both"),
        (["--config_overrides", "hidden_size=8"], "expected --config_name"),
        (["--frame_stride", "2", "--spread_frames"], "expected one of"),
        (["--layer_decay", "1.5"], "--layer_decay"),
        (["--class_weights", "--balanced_sampling"], "got both"),
        (["--early_stopping_patience", "2"], "--load_best_model_at_end"),
        (["--lr_drop_epochs", "2", "--warmup_steps", "3"], "got both"),
        (["--license", "mine"], "--license"),
        (["--eval_num_crops", "2"], "expected 1 or 3"),
        (["--fp16"], "--fp16: expected a GPU"),
        (["--lora_rank", "2", "--freeze", "1"], "--lora_rank: expected it without --freeze"),
        (["--lora_rank", "-1"], "--lora_rank: expected at least 0, got -1"),
        (["--freeze", "-1"], "--freeze: expected features, backbone or a number of blocks, got '-1'"),
        (["--freeze", "head"], "--freeze: expected features, backbone or a number of blocks, got 'head'"),
        (["--label_prompt", "a video"], "--label_prompt: expected a prompt with {}"),
        (
            ["--freeze", "features", "--horizontal_flip", "0.5", "--drop_path_rate", "0", "--gradient_checkpointing"],
            "--horizontal_flip, --drop_path_rate, --gradient_checkpointing: expected none with --freeze features",
        ),
        (["--lr_drop_epochs", "2", "--lr_scheduler_type", "cosine"], "got both"),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *options])


@pytest.mark.parametrize("options", [["--ema_decay", "0.9"], ["--lora_rank", "2"], ["--freeze", "features"]])
def test_what_needs_whole_weights_is_refused_with_fsdp(options, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="expected FSDP without them"):
        parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *options])
