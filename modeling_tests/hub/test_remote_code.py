"""A folder with its code works with `trust_remote_code=True` where `fal_hf` is missing."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from fresh_environment import make_environment
from media_files import moving_frames, write_video
from tiny_clip import write_open_checkpoint
from tiny_fal import random_clip
from transformers import AutoConfig, pipeline

import fal_hf
from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.hub.publish import add_code, code_files
from fal_hf.model.zero_shot_pipeline import ZeroShotVideoClassificationPipeline

# Loads the folder `checkpoint` in every way; run in its parent folder, where `clip.pt` and `video.mp4` are.
PROBE = """
import json, sys
from copy import deepcopy

try:
    import fal_hf
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("fal_hf can be imported")

import torch
from PIL import Image
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline
)

checkpoint, remote = "checkpoint", {"trust_remote_code": True}
clip = torch.load("clip.pt", weights_only=True)
classifier = AutoModelForVideoClassification.from_pretrained(checkpoint, **remote).eval()
base = AutoModel.from_pretrained(checkpoint, **remote).eval()
image_processors = {
    backend: AutoImageProcessor.from_pretrained(checkpoint, backend=backend, **remote)
    for backend in ("torchvision", "pil")
}
video_processor = AutoVideoProcessor.from_pretrained(checkpoint, **remote)
classify = pipeline("video-classification", model=checkpoint, **remote)
frames = [Image.new("RGB", (40, 30), (60 * index, 20, 90)) for index in range(4)]
with torch.inference_mode():
    torch.save(
        {
            "logits": classifier(clip).logits,
            "pooled": base(clip).pooler_output,
            "pixels": video_processor("video.mp4", return_tensors="pt")["pixel_values"],
            "frames": {
                name: processor(frames, return_tensors="pt")["pixel_values"]
                for name, processor in image_processors.items()
            },
        },
        "seen.pt",
    )
classifier.save_pretrained("again")
video_processor.save_pretrained("again")
again = AutoModelForVideoClassification.from_pretrained("again", **remote).eval()
AutoImageProcessor.from_pretrained("again", **remote)
AutoVideoProcessor.from_pretrained("again", **remote)
with torch.inference_mode():
    assert torch.equal(deepcopy(again)(clip).logits, deepcopy(classifier)(clip).logits)  # see tiny_fal.realigned
classify.save_pretrained("piped")
piped = pipeline("video-classification", model="piped", **remote)
assert type(piped.video_processor).__name__ == "FALVideoProcessor"
assert piped("video.mp4") == classify("video.mp4")
print(json.dumps({
    "classes": [type(part).__name__ for part in (
        AutoConfig.from_pretrained(checkpoint, **remote), classifier, base, *image_processors.values(), video_processor
    )],
    "labels": classify("video.mp4", top_k=2),
    "modules": sorted(name for name in sys.modules if name.startswith("fal_hf")),
}))
"""
WITHOUT_FAL = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fal_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    """What the probe needs: `checkpoint` with code, a clip, a video."""
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    add_code(tmp_path / "checkpoint")
    torch.save(random_clip(AutoConfig.from_pretrained(tiny_checkpoint)), tmp_path / "clip.pt")
    write_video(tmp_path / "video.mp4", moving_frames(20))
    return tmp_path


def printed(process: subprocess.CompletedProcess):
    """The value of the last line."""
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def check_probe(process: subprocess.CompletedProcess, folder: Path):
    """What was computed without the package is what the package computes."""
    seen = printed(process)
    assert seen["modules"] == []
    assert seen["classes"] == [
        "FALConfig",
        "FALVideoClassifierForVideoClassification",
        "FALModel",
        "FALImageProcessor",
        "FALImageProcessorPil",
        "FALVideoProcessor",
    ]
    assert len(seen["labels"]) == 2 and {entry["label"] for entry in seen["labels"]} <= set("abcde")
    tensors = torch.load(folder / "seen.pt", weights_only=True)
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder / "checkpoint").eval()
    clip = torch.load(folder / "clip.pt", weights_only=True)
    with torch.inference_mode():
        torch.testing.assert_close(tensors["logits"], model(clip).logits)
        torch.testing.assert_close(tensors["pooled"], model.fal(clip).pooler_output)
    processor = FALVideoProcessor.from_pretrained(folder / "checkpoint")
    pixels = processor(folder / "video.mp4", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(tensors["pixels"], pixels)
    assert tensors["frames"]["pil"].shape == tensors["frames"]["torchvision"].shape
    torch.testing.assert_close(tensors["frames"]["pil"], tensors["frames"]["torchvision"], atol=0.05, rtol=0)


def test_everything_loads_where_the_package_cannot_be_imported(warm_python, folder):
    check_probe(warm_python.run(["-c", WITHOUT_FAL + PROBE], cwd=folder), folder)


def test_everything_loads_from_the_hub_where_the_package_cannot_be_imported(warm_python, folder):
    push = "import fal_hf.hub.publish; print(len(fal_hf.hub.publish.push_folder('checkpoint', 'someone/remote').oid))"
    assert printed(warm_python.run(["-c", push], cwd=folder)) == 40
    probe = PROBE.replace('checkpoint, remote = "checkpoint"', 'checkpoint, remote = "someone/remote"')
    check_probe(warm_python.run(["-c", WITHOUT_FAL + probe], cwd=folder), folder)


# Run beside the folder `open`: other labels for a model that takes any, with the code that comes with it.
OTHER_LABELS = """
import torch
from transformers import AutoModelForVideoClassification

model = AutoModelForVideoClassification.from_pretrained("open", trust_remote_code=True).eval()
model.set_labels(["rain", "snow"])
model.save_pretrained("again")
again = AutoModelForVideoClassification.from_pretrained("again", trust_remote_code=True).eval()
again.set_labels(["rain", "snow", "hail"])
with torch.inference_mode():
    torch.save([one(torch.load("clip.pt", weights_only=True)).logits for one in (model, again)], "seen.pt")
"""


def test_other_labels_are_given_where_the_package_cannot_be_imported(warm_python, tmp_path):
    folder = write_open_checkpoint(tmp_path / "open", ["a dog runs", "a car turns"])
    add_code(folder)
    assert (folder / "text_encoder.py").is_file()
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder).eval()
    clip = random_clip(model.config)
    torch.save(clip, tmp_path / "clip.pt")
    process = warm_python.run(["-c", WITHOUT_FAL + OTHER_LABELS], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    for names, seen in zip(
        (["rain", "snow"], ["rain", "snow", "hail"]), torch.load(tmp_path / "seen.pt"), strict=True
    ):
        model.set_labels(names)
        with torch.inference_mode():
            torch.testing.assert_close(seen, model(clip).logits)


@pytest.mark.slow
def test_everything_loads_in_a_fresh_environment_without_the_package(folder, tmp_path_factory):
    """A new virtual environment that sees all packages of this one but `fal_hf`."""
    python = make_environment(tmp_path_factory.mktemp("environment"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_HOME"] = str(folder / "home")
    process = subprocess.run([python, "-c", PROBE], cwd=folder, env=environment, capture_output=True, text=True)
    check_probe(process, folder)


# The same with `model`, which takes any labels; then with the pipeline that was saved.
OPEN_PROBE = """
import json
from transformers import pipeline

results = []
for model in ("model", "again"):
    pipe = pipeline("zero-shot-video-classification", model=model, trust_remote_code=True)
    assert type(pipe).__module__.startswith("transformers_modules"), type(pipe)
    results.append(pipe("video.mp4", candidate_labels="a dog runs, a car turns"))
    pipe.save_pretrained("again")
assert results[0] == results[1]
print(json.dumps(results[0]))
"""


def test_any_labels_are_scored_where_the_package_cannot_be_imported(warm_python, open_checkpoint, tmp_path):
    shutil.copytree(open_checkpoint, tmp_path / "model")
    add_code(tmp_path / "model")
    video = write_video(tmp_path / "video.mp4", moving_frames(20))
    seen = printed(warm_python.run(["-c", WITHOUT_FAL + OPEN_PROBE], cwd=tmp_path))
    task = "zero-shot-video-classification"
    for model in (open_checkpoint, tmp_path / "model", tmp_path / "again"):  # which nobody need trust
        pipe = pipeline(task, model=str(model))
        assert type(pipe) is ZeroShotVideoClassificationPipeline
        result = pipe(video, candidate_labels=["a dog runs", "a car turns"])
        assert [entry["label"] for entry in result] == [entry["label"] for entry in seen]
        scores = [entry["score"] for entry in seen]
        assert [entry["score"] for entry in result] == pytest.approx(scores, abs=1e-5)


def test_the_code_is_complete_and_imports_its_own_modules_flat(folder):
    modules = code_files()
    assert {"configuration_fal.py", "modeling_fal.py", "zero_shot_pipeline.py", "clip_sampling.py"} <= {
        m.name for m in modules
    }
    for module in modules:
        assert (folder / "checkpoint" / module.name).read_bytes() == module.read_bytes()
        lines = module.read_text(encoding="utf-8").splitlines()
        imports = [line.strip() for line in lines if line.strip().startswith(("from .", "import ", "from fal_hf"))]
        assert not any(line.startswith(("from . ", "from ..", "from fal_hf", "import fal_hf")) for line in imports)


def test_the_package_s_own_classes_win_where_it_is_installed(folder):
    loaded = FALVideoClassifierForVideoClassification.from_pretrained(folder / "checkpoint")
    assert type(AutoConfig.from_pretrained(folder / "checkpoint")) is fal_hf.FALConfig
    assert loaded.config.num_labels == 5


def test_adding_code_twice_changes_nothing(folder):
    before = {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}
    add_code(folder / "checkpoint")
    assert {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "expected a JSON file"),
        ("config.json", None, "save_pretrained"),
        ("video_preprocessor_config.json", None, "FALVideoProcessor"),
        ("config.json", '{"model_type": "timesformer"}', "got model_type='timesformer'"),
    ],
)
def test_a_folder_that_is_not_complete_is_refused_and_left_as_it_is(tiny_checkpoint, tmp_path, name, content, message):
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    files = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=message):
        add_code(folder)
    assert sorted(folder.iterdir()) == files
