"""The list of runtimes in an exported folder."""

import json
from dataclasses import replace

import pytest

from fal_hf.runtimes.runtime_folder import RUNTIMES_FILE, RuntimeFolder, RuntimeRecord, find_runtimes

ONNX = RuntimeRecord(
    format="onnx", precision="int8", fixed_size=(8, 3, 224, 224), float_linears=("classifier",), settings={"a": 1}
)
TORCH = RuntimeRecord(format="torch", precision="bfloat16", check={"num_videos": 3})


def test_what_is_written_is_read_again(tmp_path):
    folder = RuntimeFolder(tmp_path, "abc", (ONNX, TORCH))
    folder.write()
    assert RuntimeFolder.read(tmp_path) == folder
    assert folder.find("onnx-int8") is ONNX
    with pytest.raises(ValueError, match=r"expected auto or one of onnx-int8, torch-bfloat16 of .*, got 'onnx'"):
        folder.find("onnx")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "expected what `fal export` writes"),
        ("[]", "expected what `fal export` writes"),
        ("[" * 100_000, "expected what `fal export` writes"),
        ({"runtimes": []}, "expected at least one runtime"),
        ({"schema_version": 2}, "expected version 1, got 2; update fal-hf"),
        ({"runtimes": 5}, "not iterable"),
        ({"runtimes": [5]}, "expected runtimes with"),
        ({"runtimes": [{"format": "onnx"}]}, "expected runtimes with"),
        ({"runtimes": [{"format": "../..", "precision": "int8"}]}, "expected a runtime of onnx, openvino, torch"),
        ({"runtimes": [{"format": "onnx", "precision": "int8", "float_linears": "all"}]}, "expected a list of names"),
        ({"runtimes": [{"format": "onnx", "precision": "int8", "fixed_size": ["8"]}]}, "expected whole numbers"),
    ],
)
def test_what_no_export_has_written_is_refused(tmp_path, content, expected):
    if isinstance(content, dict):
        content = json.dumps({"schema_version": 1, "source": "abc", "runtimes": [], **content})
    (tmp_path / RUNTIMES_FILE).write_text(content)
    with pytest.raises(ValueError, match=expected) as raised:
        RuntimeFolder.read(tmp_path)
    assert str(tmp_path) in str(raised.value) and len(str(raised.value)) < 1000


def test_files_are_known_again_by_name_and_content(tmp_path):
    folder = RuntimeFolder(tmp_path, "abc", (ONNX,))
    runtime = tmp_path / ONNX.name
    (runtime / "text").mkdir(parents=True)
    (runtime / "model").write_text("one")
    first = folder.hash_files(ONNX)
    (tmp_path / "README.md").write_text("a card")
    assert folder.hash_files(replace(ONNX, check={"num_videos": 1})) == first
    (runtime / "text" / "model").write_text("two")
    second = folder.hash_files(ONNX)
    (runtime / "text" / "model").write_text("six")
    third = folder.hash_files(ONNX)
    (runtime / "text" / "model").rename(runtime / "text" / "other")
    assert len({first, second, third, folder.hash_files(ONNX)}) == 4


def test_a_checkpoint_is_no_export_and_neither_is_what_does_not_exist(tiny_checkpoint, tmp_path):
    assert find_runtimes(tiny_checkpoint) is None
    assert find_runtimes(tmp_path / "nothing") is None
    assert find_runtimes("svector/nothing", local_files_only=True) is None
