"""The fastest runtime of a folder."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tiny_fal import tiny_model

from fal_hf.runtimes import trial
from fal_hf.runtimes.runtime_folder import RuntimeFolder, RuntimeRecord
from fal_hf.runtimes.trial import choose_runtime, clip_size, time_clip

SECONDS = {"onnx-int8": 0.2, "openvino-int8": 0.1, "torch-float32": 0.5, "torch-int8": 0.4}
FOLDER = RuntimeFolder(
    "/an/export",
    "abc",
    tuple(RuntimeRecord(format=name.split("-")[0], precision=name.split("-")[1]) for name in SECONDS),
)


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """The names of the runtimes that are tried, whose seconds are those of `SECONDS`; a cache of its own."""
    names = []

    def load(folder, record, device):
        names.append(record.name)
        if SECONDS[record.name] is None:
            raise ImportError(f"{record.name}: expected a package\nto be installed")
        return record.name

    monkeypatch.setattr(trial, "load_runtime", load)
    monkeypatch.setattr(trial, "time_clip", lambda model: SECONDS[model])
    monkeypatch.setattr(trial.constants, "HF_HOME", str(tmp_path))
    return names


def test_the_fastest_runtime_is_taken_and_remembered(trials, caplog):
    caplog.set_level(logging.INFO, "fal_hf")
    assert choose_runtime(FOLDER).name == "openvino-int8"
    assert trials == list(SECONDS)
    assert "openvino-int8: 0.100 s a clip" in caplog.messages
    assert caplog.messages[-1] == "runtime openvino-int8, the fastest"
    assert choose_runtime(FOLDER).name == "openvino-int8"
    assert trials == list(SECONDS), "expected no second trial"
    assert caplog.messages[-1] == "runtime openvino-int8, the fastest of an earlier trial"


def test_another_export_and_another_number_of_threads_are_tried_again(trials):
    choose_runtime(FOLDER)
    choose_runtime(replace(FOLDER, source="def"))
    assert len(trials) == 2 * len(SECONDS)
    choose_runtime(replace(FOLDER, records=FOLDER.records[:2]))
    assert len(trials) == 2 * len(SECONDS) + 2
    num_threads = torch.get_num_threads()
    torch.set_num_threads(num_threads + 1)
    try:
        choose_runtime(FOLDER)
    finally:
        torch.set_num_threads(num_threads)
    assert len(trials) == 3 * len(SECONDS) + 2


def test_of_processes_that_begin_at_once_one_tries(trials, monkeypatch):
    monkeypatch.setattr(trial, "time_clip", lambda model: time.sleep(0.05) or SECONDS[model])
    with ThreadPoolExecutor(4) as pool:  # a lock of each is one of its own, as in processes
        chosen = list(pool.map(lambda _: choose_runtime(FOLDER).name, range(4)))
    assert chosen == ["openvino-int8"] * 4
    assert trials == list(SECONDS)


def test_a_cache_that_cannot_be_written_keeps_nothing(trials, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(trial.constants, "HF_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert choose_runtime(FOLDER).name == "openvino-int8"
    assert trials == 2 * list(SECONDS)


def test_what_does_not_run_here_is_left_out_and_the_reason_is_told(trials, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "fal_hf")
    monkeypatch.setitem(SECONDS, "openvino-int8", None)
    assert choose_runtime(FOLDER).name == "onnx-int8"
    assert "openvino-int8 does not run here: openvino-int8: expected a package to be installed" in caplog.messages
    for name in SECONDS:
        monkeypatch.setitem(SECONDS, name, None)
    with pytest.raises(ImportError, match="expected a runtime for this machine; onnx-int8 does not run here"):
        choose_runtime(replace(FOLDER, source="def"))


def test_a_single_runtime_needs_no_trial_and_other_devices_have_those_of_torch(trials):
    assert choose_runtime(replace(FOLDER, records=FOLDER.records[:1])).name == "onnx-int8"
    assert choose_runtime(FOLDER, "cuda").name == "torch-float32"
    assert trials == []
    with pytest.raises(ImportError, match="expected a runtime for cuda, got onnx-int8; use device cpu"):
        choose_runtime(replace(FOLDER, records=FOLDER.records[:1]), "cuda")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_cache_that_is_damaged_is_no_cache(trials, content):
    trial.cache_file().parent.mkdir(parents=True)
    trial.cache_file().write_text(content)
    assert choose_runtime(FOLDER).name == "openvino-int8"
    assert "openvino-int8" in json.loads(trial.cache_file().read_text()).values()


def test_a_cache_that_cannot_be_written_costs_a_trial_alone(trials, tmp_path):
    (tmp_path / "fal").write_text("no folder")
    assert [choose_runtime(FOLDER).name for _ in range(2)] == ["openvino-int8"] * 2
    assert len(trials) == 2 * len(SECONDS)


def test_a_clip_of_the_configured_size_is_timed():
    model, sizes = tiny_model(grid=(3, 2, 4)), []
    model.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    assert 0 < time_clip(model, limit_seconds=0.0) < 60
    assert sizes == [(1, *clip_size(model.config))] * 2 == [(1, 3, 3, 8, 16)] * 2
