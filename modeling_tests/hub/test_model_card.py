"""Model cards: what is read from the folder, what the Hub checks, and the snippets."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_stand_in import HubStandIn, card_problems
from huggingface_hub import EvalResult, ModelCard, constants
from media_files import moving_frames, write_video
from tiny_clip import write_open_checkpoint
from tiny_fal import tiny_config, tiny_model
from warm_python import WarmPython

from fal_hf import FALConfig, FALVideoProcessor
from fal_hf.hub.model_card import (
    Evaluation,
    build_model_card,
    count_parameters_and_gflop,
    describe_model,
    write_model_card,
)
from fal_hf.hub.publish import add_code
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.attention_schemes import ATTENTION_TYPES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "camera_motion"
sys.path.insert(0, str(EXAMPLES))

import card as camera_motion_card  # noqa: E402

EVALUATION = Evaluation(
    EvalResult(
        task_type="video-classification",
        dataset_type="tiny-videos",
        dataset_name="Tiny videos",
        metric_type="accuracy",
        metric_value=0.75,
        metric_name="top-1",
    ),
    command="python evaluate.py --files videos",
    details="Between 0.6 and 0.9 with 95 % probability.",
)
FACTS = {
    "license": "cc-by-nc-4.0",
    "repo_id": "someone/fal-tiny",
    "base_model": "facebook/timesformer-base-finetuned-k400",
    "datasets": ["someone/videos"],
    "tags": ["tiny"],
    "origin": "Converted from nothing.",
    "evaluations": [EVALUATION],
    "limits": "Its weights are random.",
}


def metadata(card: ModelCard | str) -> dict:
    return yaml.safe_load(str(card).split("---\n")[1])


def section(card: ModelCard, title: str) -> str:
    return str(card).split(f"## {title}\n\n")[1].split("\n\n## ")[0].strip()


def test_the_metadata_is_what_the_hub_expects(tiny_checkpoint):
    card = build_model_card(tiny_checkpoint, **FACTS)
    assert card_problems(str(card)) == ([], [])
    data = metadata(card)
    assert data["pipeline_tag"] == "video-classification" and data["library_name"] == "transformers"
    assert data["license"] == "cc-by-nc-4.0" and data["metrics"] == ["accuracy"]
    assert data["base_model"] == FACTS["base_model"] and data["datasets"] == FACTS["datasets"]
    assert data["tags"] == ["video-classification", "fal", "tiny"]
    (model,) = data["model-index"]
    assert model["name"] == "fal-tiny"
    assert model["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.75, "name": "top-1"}]


def test_the_card_passes_the_client_s_validation(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubStandIn({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        build_model_card(tiny_checkpoint, **FACTS).validate()
        build_model_card(tiny_checkpoint, license="other", license_name="my-own", license_link="LICENSE").validate()
        for line in ("license: mine", "pipeline_tag: videos", "base_model: a/b/c", "tags: [1]"):
            with pytest.raises(ValueError, match=line.split(":")[0]):
                ModelCard(f"---\n{line}\n---\n").validate()


def test_what_the_maker_says_is_in_the_card(tiny_checkpoint):
    card = build_model_card(tiny_checkpoint, **FACTS, summary="A *tiny* model.")
    assert "# fal-tiny\n\nA *tiny* model.\n" in card.text
    assert section(card, "Origin") == FACTS["origin"] and section(card, "Limits") == FACTS["limits"]
    evaluation = section(card, "Evaluation")
    assert "| Tiny videos | top-1 | 0.75 |" in evaluation
    assert f"```bash\n{EVALUATION.command}\n```\n\n{EVALUATION.details}" in evaluation


def test_what_nobody_says_is_not_made_up(tiny_checkpoint):
    card = build_model_card(tiny_checkpoint, license="mit")
    assert section(card, "Evaluation") == "Not evaluated." and section(card, "Origin") == "Not stated."
    assert {"base_model", "datasets", "metrics", "model-index"}.isdisjoint(metadata(card))
    assert "facebook/x" in section(build_model_card(tiny_checkpoint, license="mit", base_model="facebook/x"), "Origin")


def test_labels_stand_in_the_order_of_the_logits_and_many_are_folded(tmp_path, tiny_checkpoint):
    assert section(build_model_card(tiny_checkpoint, license="mit"), "Labels") == "`a`, `b`, `c`, `d`, `e`"
    names = {index: f"label {99 - index}" for index in range(100)} | {3: "tick ` and\nline"}
    tiny_model(num_labels=100, id2label=names).save_pretrained(tmp_path)
    FALVideoProcessor().save_pretrained(tmp_path)
    labels = section(build_model_card(tmp_path, license="mit"), "Labels")
    assert "<summary>100 labels</summary>" in labels and "`label 99`, `label 98`, `label 97`, `` tick ` and" in labels


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_parameters_and_gflop_are_the_model_s(attention_type):
    config = tiny_config(attention_type=attention_type, classifier_hidden_size=7)
    parameters, gflop = count_parameters_and_gflop(config)
    assert parameters == sum(parameter.numel() for parameter in tiny_model(config).parameters())
    assert gflop > 0


def test_counting_leaves_the_configuration_as_it_is():
    config = tiny_config()
    count_parameters_and_gflop(config)
    assert config._attn_implementation == tiny_config()._attn_implementation


@pytest.mark.parametrize(("prompt", "code"), [("a video of {}", "`a video of {}`"), ("a `{}`", "`` a `{}` ``")])
def test_what_scores_is_a_row_where_it_is_no_head_of_its_own(prompt, code):
    config = tiny_config(classifier_type="similarity", label_embedding_size=12, label_prompt=prompt)
    row = f"| scores | similarity to 5 label embeddings of size 12, prompt {code} |"
    assert row in describe_model(config) and "| scores |" not in describe_model(tiny_config())


@pytest.mark.parametrize("has_texts", [True, False])
def test_other_labels_are_shown_where_texts_can_be_embedded(tmp_path, has_texts):
    folder = write_open_checkpoint(tmp_path / "open", ["a", "b"])
    if not has_texts:
        shutil.rmtree(folder / "text")
    card = build_model_card(folder, license="mit")
    assert ("model.set_labels([" in section(card, "Use")) == has_texts
    assert ("2 labels of videos apart, or any others" in str(card)) == has_texts


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({}, None),
        ({"label_hierarchy": {"LABEL_0": "x"}}, "5 labels and 1 above them, levels: 2"),
        (
            {"label_attention": "unified", "label_integration_layer": 1},
            "5 labels and 0 above them, levels: 1; tokens (`unified`) from block 2 on",
        ),
        (
            {"label_attention": "divided", "label_integration_layer": 1, "label_gates": False},
            "5 labels and 0 above them, levels: 1; tokens (`divided`) from block 2 on, without gates",
        ),
    ],
)
def test_the_label_space_is_a_row_where_it_is_more_than_labels(fields, row):
    text = describe_model(tiny_config(**fields))
    assert f"| label space | {row} |" in text if row else "label space" not in text


def test_a_temperature_is_a_row_where_there_is_one():
    assert "| temperature | scores are divided by 1.234 |" in describe_model(tiny_config(temperature=1.23411))
    assert "temperature" not in describe_model(tiny_config())


@pytest.mark.parametrize(
    ("fields", "row", "cost"),
    [
        ({}, None, "| cost | 0"),
        ({"patch_share": 0.6}, "in 60% of the tokens; elsewhere patches of 8 × 8", "| cost | 0"),
        ({"patch_threshold": 0.2}, "above 0.2; elsewhere patches of 8 × 8", "| cost | at most 0"),
        (
            {"patch_layout": "static", "patch_threshold": 0.2, "attention_type": "joint_space_time"},
            "that change by less than 0.2 from frame to frame are left out",
            "| cost | at most 0",
        ),
    ],
)
def test_patches_that_adapt_are_a_row(fields, row, cost):
    text = describe_model(tiny_config(**{"patch_layout": "adaptive" if fields else "uniform"} | fields))
    assert (row in text) if row else ("adaptive patches" not in text)
    assert cost in text


def test_fewer_tokens_cost_less():
    def gflop(**fields) -> float:
        return count_parameters_and_gflop(tiny_config(**fields))[1]

    shares = [gflop(patch_layout="adaptive", patch_share=share) for share in (0.25, 0.5, 0.75, 1.0)]
    assert shares == sorted(shares) and len(set(shares)) == 4
    assert gflop(patch_layout="adaptive", patch_threshold=0.5) == shares[-1] > gflop()
    joint = {"attention_type": "joint_space_time"}
    assert gflop(patch_layout="static", patch_threshold=0.5, **joint) == gflop(**joint)


def test_gflop_are_two_for_a_multiply_add():
    """Of space-only attention every product can be written down, but for the last block, which CLS alone leaves."""
    config = FALConfig(attention_type="space_only", num_hidden_layers=13, num_labels=1)
    shorter = FALConfig(attention_type="space_only", num_hidden_layers=12, num_labels=1)
    block = count_parameters_and_gflop(config)[1] - count_parameters_and_gflop(shorter)[1]
    tokens, width = 8 * 197, 768
    linears = 2 * tokens * (4 * width**2 + 2 * width * 3072)
    attention = 8 * 2 * 2 * 197**2 * width
    assert block * 1e9 == pytest.approx(linears + attention, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({}, "| frames of a clip | 8, spread evenly over the video |"),
        ({"frame_stride": 4, "start_seconds": 0.5}, "| frames of a clip | 8, 4 frames apart, from 0.5 s on |"),
        ({"frame_interval_seconds": 0.125}, "| frames of a clip | 8, 0.125 s apart |"),
        ({"fps": 2, "num_frames": None}, "| frames of a clip | as many as 2 a second make, spread evenly |"),
        ({"num_clips": 3}, "| clips of a video | 3, spread over the video; `VideoLabeler` averages them |"),
        ({"size": {"height": 32, "width": 48}}, "| resize | 32 × 48, bilinear |"),
        ({"do_flip_channel_order": True}, "| channels | blue, green, red |"),
        ({"image_mean": [0.5, 0.4, 0.3]}, "| normalization | mean 0.5, 0.4, 0.3; standard deviation"),
        ({"rescale_factor": 1 / 128}, "| values | divided by 128 |"),
    ],
)
def test_preprocessing_is_read_from_the_processor(tmp_path, settings, row):
    tiny_model().save_pretrained(tmp_path)
    FALVideoProcessor(**settings).save_pretrained(tmp_path)
    assert row in section(build_model_card(tmp_path, license="mit"), "Preprocessing")


def test_steps_that_are_switched_off_are_not_in_the_card(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    off = dict.fromkeys(["do_resize", "do_center_crop", "do_rescale", "do_normalize"], False)
    FALVideoProcessor(**off).save_pretrained(tmp_path)
    text = section(build_model_card(tmp_path, license="mit"), "Preprocessing")
    assert not any(row in text for row in ("resize", "crop", "values", "normalization"))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"license": "MIT"}, "identifier of the Hub"),
        ({"license": "other"}, "license_name"),
        ({"license": "mit", "base_model": "a/b/c"}, "a/b/c"),
        ({"license": "mit", "datasets": ["no spaces please"]}, "no spaces"),
    ],
)
def test_what_the_hub_would_refuse_is_refused(tiny_checkpoint, facts, message):
    with pytest.raises(ValueError, match=message):
        build_model_card(tiny_checkpoint, **facts)


def test_a_folder_without_a_model_gets_no_card(tmp_path):
    with pytest.raises(ValueError, match=r"without config\.json"):
        write_model_card(tmp_path, license="mit")
    assert list(tmp_path.iterdir()) == []


def test_the_snippets_of_a_written_card_run(warm_python, tmp_path):
    """In the folder where the id of the repository is a folder, with the package and, the last one, without it."""
    folder = tmp_path / "someone" / "fal-tiny"
    tiny_model(grid=(8, 2, 2), patch_size=16).save_pretrained(folder)
    FALVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    add_code(folder)
    write_video(tmp_path / "video.mp4", moving_frames(20))
    path = write_model_card(folder, **FACTS)
    assert path == folder / "README.md" and ModelCard.load(path).data.license == "cc-by-nc-4.0"
    snippets = python_snippets(path)
    assert len(snippets) == 3 and "trust_remote_code=True" in snippets[2]
    for snippet in snippets:
        hidden = "" if "fal_hf" in snippet else "import sys; sys.modules['fal_hf'] = None\n"
        assert "LABEL_" in run_code(warm_python, hidden + snippet, tmp_path)


def python_snippets(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_code(python: WarmPython, code: str, folder: Path) -> str:
    process = python.run(["-c", code], cwd=folder)
    assert process.returncode == 0, process.stderr
    return process.stdout


# The card of the checkpoint that comes with the package


def test_the_card_of_the_camera_motion_checkpoint_is_made_from_its_files(warm_python, tmp_path):
    """`examples/camera_motion/card.py` writes it again; its docstring says how the figures are measured."""
    path = DEFAULT_CHECKPOINT / "README.md"
    card = camera_motion_card.build_card(DEFAULT_CHECKPOINT)
    assert path.read_text(encoding="utf-8") == str(card)
    assert card_problems(str(card)) == ([], [])
    write_video(tmp_path / "video.mp4", moving_frames(20))
    (snippet,) = python_snippets(path)
    assert "Label(" in run_code(warm_python, snippet, tmp_path)


def test_the_figures_of_the_camera_motion_card_are_those_of_its_evaluation(tmp_path):
    checkpoint = tmp_path / "camera_motion"
    shutil.copytree(DEFAULT_CHECKPOINT, checkpoint)
    figures = json.loads((checkpoint / "evaluation.json").read_text())
    figures["fal"] |= {"correct": 123, "interval": [0.25, 0.5]}
    figures["fal"]["by_label"]["shake"] = 0.125
    (checkpoint / "evaluation.json").write_text(json.dumps(figures))
    card = camera_motion_card.build_card(checkpoint)
    share = 123 / figures["fal"]["total"]
    assert metadata(card)["model-index"][0]["results"][0]["metrics"][0]["value"] == round(share, 3)
    evaluation = section(card, "Evaluation")
    assert f"| this checkpoint | {share:.3f} (123 of {figures['fal']['total']}) | 0.250 to 0.500 |" in evaluation
    assert "| shake | 0.12 |" in evaluation


@pytest.mark.slow
def test_the_evaluation_writes_the_figures_that_it_prints(tmp_path):
    pytest.importorskip("cv2")
    photos = EXAMPLES.parents[2] / "shared" / "photos"
    if not photos.is_dir():
        pytest.skip(f"no photographs at {photos}")
    settings = {"photos": photos, "files": tmp_path / "files", "per-label": 2, "json": tmp_path / "figures.json"}
    command = [sys.executable, EXAMPLES / "compare.py", *(f"--{k}={v}" for k, v in settings.items())]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"fal", "baseline"}
    for part in figures.values():
        assert f"top-1 {part['correct'] / 20:.3f} ({part['correct']} of 20 files)" in process.stdout
        assert sum(part["by_label"].values()) == pytest.approx(part["correct"] / 2)
