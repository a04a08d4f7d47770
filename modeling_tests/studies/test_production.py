"""What the study of production says of claims, and how power is measured."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import pandas
import power
import production
import torch


def make_rows(**changes):
    """Rows of three rounds in which divided label attention is better in every figure."""
    better = {"frames_per_second": 40.0, "memory_mib": 10.0, "watts": 5.0, "files_mib": 20.0}
    worse = {"frames_per_second": 20.0, "memory_mib": 30.0, "watts": 9.0, "files_mib": 60.0}
    about = {"batch": 1, "device": "cpu", "machine": "one", "versions": "1", "date": "today"}
    return pandas.DataFrame(
        [
            {**case, **about, **(better if case["model"] == production.DIVIDED else worse), **changes}
            for case in production.cases("small")
        ]
    )


def verdicts(table: pandas.DataFrame) -> list[str]:
    return [line.split(" | ")[-1].removesuffix(" |") for line in production.claim_lines(table)[2:]]


def test_a_case_is_measured_once_a_round_in_turn():
    cases = production.cases("small")
    keys = [tuple(case.values()) for case in cases]
    assert len(keys) == len(set(keys))
    assert [case["seed"] for case in cases] == sorted(case["seed"] for case in cases)
    assert {case["model"] for case in cases} == {*production.MODELS, *production.CONVOLUTIONAL}


def test_more_frames_and_less_of_the_rest_is_better():
    table = make_rows()
    assert set(verdicts(table)) == {"holds"}
    assert "20.0 ± 0.0" in "\n".join(production.claim_lines(table))
    swapped = table.assign(
        model=table["model"].replace({"divided labels": "unified labels", "unified labels": "divided labels"})
    )
    assert verdicts(swapped)[:4] == ["the opposite"] * 4


def test_power_that_is_not_told_is_said_so():
    table = make_rows(watts=None)
    assert [verdict for verdict in verdicts(table) if verdict == "not measured"] == ["not measured"] * 3
    assert "This machine does not say how much power it takes." in production.tell(table)
    assert "of the processors by their counters" in production.tell(make_rows())


def test_convolutional_networks_take_the_clips_of_fal():
    model = production.build_convolutional("R3D-18", "toy").eval()
    assert model(torch.zeros(1, 4, 3, 32, 32)).shape == (1, 10)


def write_counters(folder, **values):
    for name, value in values.items():
        (folder / name.replace("_", ":")).mkdir(parents=True, exist_ok=True)
        (folder / name.replace("_", ":") / "energy_uj").write_text(f"{value}\n")
        (folder / name.replace("_", ":") / "max_energy_range_uj").write_text("1000000\n")


def test_power_is_the_energy_of_all_processors_by_the_time(tmp_path, monkeypatch):
    """One counter passes its limit and begins again."""
    write_counters(tmp_path, **{"intel-rapl_0": 100_000, "intel-rapl_1": 900_000})
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(clock))
    watts = power.mean_watts(
        lambda: write_counters(tmp_path, **{"intel-rapl_0": 500_000, "intel-rapl_1": 99_999}), "cpu", powercap=tmp_path
    )
    assert watts == pytest.approx((0.4 + 0.2) / 2)


def test_power_is_none_where_nothing_tells_it_and_the_work_is_done(tmp_path, monkeypatch):
    done = []
    assert power.mean_watts(lambda: done.append("cpu"), "cpu", powercap=tmp_path) is None
    monkeypatch.setattr(power, "GPU_QUERY", (str(tmp_path / "no-such-program"),))
    assert power.mean_watts(lambda: done.append("gpu"), "cuda") is None
    assert done == ["cpu", "gpu"]


def test_power_of_a_gpu_is_the_mean_of_what_its_driver_says(tmp_path, monkeypatch):
    driver = tmp_path / "driver"
    driver.write_text("#!/bin/sh\necho 100.0\necho '[N/A]'\necho 200.5\n")
    driver.chmod(0o755)
    monkeypatch.setattr(power, "GPU_QUERY", (str(driver),))
    assert power.mean_watts(lambda: power.time.sleep(1), "cuda") == pytest.approx(150.25)
