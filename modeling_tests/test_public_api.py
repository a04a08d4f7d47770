"""The names that users import, and what importing does."""

import json
import subprocess
import sys

import fal_hf

# What a fresh interpreter sees: FAL is imported before transformers, in an empty folder.
PROBE = """
import sys
import fal_hf
from transformers import FALConfig, FALModel, FALVideoClassifierForVideoClassification
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification
import importlib, json, os, threading

sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
config = AutoConfig.for_model("fal", **sizes)
seen = {
    "same class": FALVideoClassifierForVideoClassification is fal_hf.FALVideoClassifierForVideoClassification,
    "auto classes": [
        type(config) is FALConfig,
        type(AutoModel.from_config(config)) is FALModel,
        type(AutoModelForVideoClassification.from_config(config)) is FALVideoClassifierForVideoClassification,
    ],
    "files": os.listdir("."),
    "threads": threading.active_count(),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}
importlib.reload(fal_hf)
print(json.dumps(seen))
"""


def run_python(code: str, folder) -> tuple[str, str]:
    """Runs code in a fresh interpreter and returns what it writes to standard output and standard error."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def test_importing_registers_the_classes_and_has_no_other_effect(tmp_path):
    output, errors = run_python(PROBE, tmp_path)
    seen = json.loads(output)  # nothing else was printed
    assert errors == ""
    assert seen["same class"]
    assert seen["auto classes"] == [True, True, True]
    assert seen["files"] == []
    assert seen["threads"] == 1
    unwanted = {"matplotlib", "datasets", "evaluate", "cv2", "onnx", "onnxruntime", "openvino"}
    assert unwanted.isdisjoint(seen["modules"])


def test_the_names_are_in_transformers_where_that_is_imported_first(tmp_path):
    code = "import transformers, fal_hf\nfrom transformers import FALVideoClassifierForVideoClassification"
    assert run_python(code, tmp_path) == ("", "")


def test_all_names_in_the_public_list_exist_and_say_what_they_are():
    assert {"FALConfig", "FALModel", "FALVideoClassifierForVideoClassification"} <= set(fal_hf.__all__)
    for name in fal_hf.__all__:
        member = getattr(fal_hf, name)
        assert member.__doc__, name
        assert member.__module__.startswith("fal_hf"), name


def test_the_documentation_of_forward_names_the_input():
    for model_class in (fal_hf.FALModel, fal_hf.FALVideoClassifierForVideoClassification):
        assert "pixel_values" in model_class.forward.__doc__
