"""The names that users import, and what importing does."""

import subprocess
import sys

import pytest


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter and returns what it prints, standard error included."""
    result = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:fal_hf", "-c", code], capture_output=True
    )
    assert result.returncode == 0, result.stderr.decode()
    return (result.stdout + result.stderr).decode()


def test_importing_registers_the_classes_and_prints_nothing():
    output = run_python(
        "import fal_hf\n"
        "from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification\n"
        "from transformers import FALVideoClassifierForVideoClassification, FALConfig, FALModel\n"
        "assert FALVideoClassifierForVideoClassification is fal_hf.FALVideoClassifierForVideoClassification\n"
        "config = AutoConfig.for_model('fal', hidden_size=16, num_hidden_layers=1, num_attention_heads=2)\n"
        "assert type(config) is FALConfig\n"
        "assert type(AutoModel.from_config(config)) is FALModel\n"
        "model = AutoModelForVideoClassification.from_config(config)\n"
        "assert type(model) is FALVideoClassifierForVideoClassification\n"
    )
    assert output == ""


@pytest.mark.parametrize("first", ["import fal_hf, transformers", "import transformers, fal_hf"])
def test_the_names_are_in_transformers_whichever_is_imported_first(first):
    assert run_python(f"{first}\nfrom transformers import FALVideoClassifierForVideoClassification") == ""


def test_importing_twice_and_reloading_does_no_harm():
    assert run_python("import importlib, fal_hf\nimportlib.reload(fal_hf)\nfal_hf.FALConfig()") == ""


def test_importing_loads_neither_a_decoder_nor_training_libraries():
    unwanted = ("matplotlib", "pandas", "datasets", "sklearn", "cv2", "onnx", "openvino")
    loaded = run_python(
        "import sys, transformers\nfrom transformers import PreTrainedModel\nbefore = set(sys.modules)\n"
        f"import fal_hf\nprint([name for name in {unwanted!r} if name in set(sys.modules) - before])"
    )
    assert loaded.strip() == "[]"


def test_importing_costs_little_more_than_transformers_itself():
    seconds = run_python(
        "import time, torch, torchvision\nfrom transformers import PreTrainedModel, AutoModelForVideoClassification\n"
        "from transformers.modeling_layers import GradientCheckpointingLayer\nfrom transformers import AutoConfig\n"
        "import transformers.conversion_mapping\n"
        "start = time.process_time()\nimport fal_hf\nprint(time.process_time() - start)"
    )
    assert float(seconds) < 5


def test_importing_leaves_no_file_and_no_thread_behind(tmp_path):
    code = (
        f"import os, threading\nos.chdir({str(tmp_path)!r})\nimport fal_hf\n"
        "print(threading.active_count(), os.listdir('.'))"
    )
    assert run_python(code).strip() == "1 []"


def test_all_names_in_the_public_list_exist():
    import fal_hf

    assert {"FALConfig", "FALModel", "FALVideoClassifierForVideoClassification"} <= set(fal_hf.__all__)
    for name in fal_hf.__all__:
        assert getattr(fal_hf, name).__module__.startswith("fal_hf"), name


def test_public_classes_and_their_forward_say_what_they_do():
    import fal_hf

    for name in fal_hf.__all__:
        assert getattr(fal_hf, name).__doc__, name
    for model_class in (fal_hf.FALModel, fal_hf.FALVideoClassifierForVideoClassification):
        assert "pixel_values" in model_class.forward.__doc__
