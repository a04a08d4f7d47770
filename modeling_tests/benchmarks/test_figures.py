"""The figures of benchmarks: what is printed, what is kept, and the page that is written from that."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import write_page
from figures import Figures, as_text
from machine import INSTRUCTION_SETS, describe_machine, machine_line, machine_name

EPYC = {
    "processor": "AMD EPYC 9xx4 (R)",
    "instruction_sets": ["AVX2", "AVX512F"],
    "cores": 2,
    "threads": 1,
    "memory_gib": 24,
    "gpu": None,
    "load": 0.25,
}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Writes a run of the benchmark "speed" on some machine at some date, with so many seconds."""
    monkeypatch.setattr(sys, "argv", ["speed.py", "--frames", "8"])

    def measure(seconds: float, *, date: str, **machine) -> Path:
        with Figures("speed", folder=tmp_path / "runs") as figures:
            figures.run |= {"date": date, "machine": {**EPYC, **machine}}
            figures.path = figures.path.with_name(f"{machine_name(figures.run['machine'])}_{date}.json")
            figures.add("models", frames=8, model="FAL", seconds=seconds)
            figures.leave_out("models", "more than 8 GiB", frames=96, model="FAL")
        return figures.path

    return measure


def test_a_figure_is_a_line_and_a_row_of_the_file(measured, capsys):
    path = measured(1.41234567, date="2026-11-22")
    printed = capsys.readouterr().out.splitlines()
    assert "| frames | model | seconds |" in printed
    assert [cell.strip() for cell in printed[printed.index("| frames | model | seconds |") + 2].split("|")[1:-1]] == [
        "8",
        "FAL",
        "1.41",
    ]
    assert "Left out: 96, FAL: more than 8 GiB" in printed
    run = json.loads(path.read_text())
    assert run["tables"] == {"models": [{"frames": 8, "model": "FAL", "seconds": 1.412}]}
    assert run["left_out"] == {"models": [{"frames": 96, "model": "FAL", "reason": "more than 8 GiB"}]}
    assert run["command"] == "python benchmarks/speed.py --frames 8"
    assert run["versions"].keys() >= {"python", "fal-hf", "torch", "transformers", "av"}


def test_a_table_has_the_same_columns_in_each_row(measured, tmp_path):
    figures = Figures("speed", folder=tmp_path)
    figures.add("models", frames=8, seconds=1.0)
    with pytest.raises(ValueError, match="expected the columns frames, seconds, got frames, minutes"):
        figures.add("models", frames=8, minutes=1.0)


def test_a_run_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), Figures("speed", folder=tmp_path) as figures:
        figures.add("models", seconds=1.0)
        raise KeyError
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("FAL", "FAL"), (12345, "12,345"), (0.01234, "0.0123"), (999.7, "1,000"), (8.0, "8")],
)
def test_numbers_have_three_digits(value, text):
    assert as_text(value) == text


def test_a_machine_says_what_decides_its_speed():
    machine = describe_machine()
    assert machine.keys() == EPYC.keys()
    assert machine["cores"] >= 1 and machine["memory_gib"] >= 1 and machine["processor"]
    assert set(machine["instruction_sets"]) <= INSTRUCTION_SETS.keys()
    assert machine_name(EPYC) == "amd-epyc-9xx4-r-avx512f-2-cores"
    assert machine_line(EPYC) == "AMD EPYC 9xx4 (R) with AVX512F, 2 cores, 24 GiB, no GPU, load 0.25"


PAGE = "before\n<!-- figures: speed: models -->\nold\n<!-- end -->\nafter\n"


def test_the_page_has_the_newest_run_of_each_machine(measured, tmp_path):
    results = tmp_path / "results"
    for seconds, date in ((1.0, "2026-11-21"), (2.0, "2026-11-22"), (3.0, "2025-12-31")):
        measured(seconds, date=date)
    measured(4.0, date="2020-01-01", gpu="NVIDIA H200")
    write_page.take_runs(tmp_path / "runs", results)
    assert sorted(path.name.rpartition("_")[2] for path in results.rglob("*.json")) == [
        "2020-01-01.json",
        "2026-11-22.json",
    ]
    text = write_page.fill_page(PAGE, results)
    assert text.startswith(
        "before\n<!-- figures: speed: models -->\n\n`python benchmarks/speed.py --frames 8` on AMD EPYC"
    )
    assert text.endswith("\n<!-- end -->\nafter\n")
    assert [line.split("|")[3].strip() for line in text.splitlines() if line.startswith("| 8 ")] == ["4", "2"]
    assert text.count("Left out: 96, FAL: more than 8 GiB") == 2
    assert write_page.fill_page(text, results) == text
    measured(5.0, date="2026-11-23")
    write_page.take_runs(tmp_path / "runs", results)
    assert len(list(results.rglob("*.json"))) == 2
    assert "| 5 " in write_page.fill_page(text, results)


def test_a_table_that_a_run_does_not_have_is_missed_and_without_a_run_there_is_none(measured, tmp_path):
    assert write_page.fill_page(PAGE, tmp_path) == PAGE.replace("old\n", "")
    measured(1.0, date="2026-11-22")
    with pytest.raises(ValueError, match=r"benchmarks/speed.py --frames 8: expected a table sizes, got models"):
        write_page.fill_page(PAGE.replace("models", "sizes"), tmp_path / "runs")


def test_the_documents_have_what_was_measured():
    page = write_page.PAGE.read_text(encoding="utf-8")
    assert write_page.fill_page(page, write_page.RESULTS) == page, "run `python benchmarks/write_page.py`"
