"""What the studies with convolutional networks measure, and what they say of their rows."""

import sys
from pathlib import Path

import pandas
import pytest
from matplotlib import pyplot

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import cnn_baseline
import data_scale
from small_cnn import FAL, SMALL_CNN

ORIGIN = {"date": "2030-01-01", "machine": "a machine", "versions": "torch 3"}
FAL_PERCENT, CNN_PERCENT = (95.0, 96.0, 97.0), (90.0, 90.0, 91.0)


def baseline_rows():
    figures = dict.fromkeys(f"{figure}_percent" for figure in cnn_baseline.FIGURES)
    cost = {"million_parameters": 0.1, "processor_seconds": 30.0, "full_size_gflop": 400.0}
    for data in ("order", "camera_motion"):
        for kind, gflop, percents in ((FAL, 0.02, FAL_PERCENT), (SMALL_CNN, 0.021, CNN_PERCENT)):
            for seed, percent in enumerate(percents):
                values = dict.fromkeys(figures, percent)
                yield {"data": data, "model": kind, "seed": seed, "gflop": gflop, **values, **cost, **ORIGIN}
    values = dict.fromkeys(figures, 99.0)
    cost["full_size_gflop"] = 600.0
    yield {"data": "camera_motion", "model": "R3D-18", "seed": 0, "gflop": 2.0, **values, **cost, **ORIGIN}


def table_row(text: str, start: str) -> list[str]:
    """The cells of the line of a table that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_baseline_tells_figures_costs_and_claims():
    text = cnn_baseline.tell(pandas.DataFrame(baseline_rows()).iloc[::-1])
    assert table_row(text, f"order of frames | {SMALL_CNN}")[2:6] == ["0.10", "0.021", "30.0 ± 0.0", "90.3 ± 1.4"]
    assert table_row(text, "camera motion | R3D-18")[3:6] == ["2.000", "30.0", "99.0"]
    claim = "5.7 ± 1.4: holds"
    assert table_row(text, f"{SMALL_CNN}: macro F1")[1:] == ["7.5", claim, claim]
    assert table_row(text, "R3D-18: accuracy")[2:] == ["not measured", "-4.0: one seed"]
    assert table_row(text, "R3D-18: times FAL's operations")[1:] == ["29.5 of R(2+1)D", "not measured", "1.5: holds"]
    places = [text.index(kind) for kind in ("order of frames | FAL", "camera motion | FAL", "camera motion | R3D-18")]
    assert places == sorted(places)


def test_the_paper_is_quoted_as_its_tables_have_it():
    fal, cnn = (92.4, 91.8, 91.2, 91.4), (85.2, 84.3, 83.6, 83.9)
    assert list(cnn_baseline.PAPER.values()) == pytest.approx([a - b for a, b in zip(fal, cnn, strict=True)])
    assert cnn_baseline.PAPER_TORCHVISION.startswith(f"{85.5 - 78.5}")


@pytest.mark.parametrize("setting", ["toy", "small", "full"])
def test_large_networks_are_trained_where_there_is_time_for_them(setting, monkeypatch):
    monkeypatch.setattr(cnn_baseline, "available", lambda: ["order", "camera_motion"])
    monkeypatch.setattr("comparison.available", lambda: ["order", "camera_motion"])
    cases = cnn_baseline.cases(setting)
    assert len({tuple(case.values()) for case in cases}) == len(cases)
    large = [(case["data"], case["model"]) for case in cases if case["model"] in cnn_baseline.TORCHVISION]
    if setting == "full":
        assert set(large) == {(data, kind) for data in ("order", "camera_motion") for kind in cnn_baseline.TORCHVISION}
    else:
        assert large == [("camera_motion", "R3D-18")]


def scale_rows():
    for share in (25, 50, 75, 100):
        for kind, percents in ((FAL, CNN_PERCENT), (SMALL_CNN, FAL_PERCENT)):
            for seed, percent in enumerate(percents):
                row = {"data": "order", "model": kind, "share_percent": share, "seed": seed, **ORIGIN}
                yield {**row, "num_clips": 4 * share, "accuracy_percent": percent * share / 100}


def test_growth_with_clips_is_told_and_drawn():
    table = pandas.DataFrame(scale_rows())
    text = data_scale.tell(table)
    means = ["22.6 ± 0.4", "45.2 ± 0.7", "67.8 ± 1.1", "90.3 ± 1.4"]
    assert table_row(text, "order of frames, 100 to 400 clips | FAL")[2:] == means
    assert table_row(text, "75 % of clips")[1:] == [data_scale.EVERYWHERE, "-4.2 ± 1.1: the opposite"]
    figure = data_scale.draw(table)
    line = next(line for line in figure.axes[0].lines if line.get_label() == SMALL_CNN)
    assert list(line.get_xdata()) == [25, 50, 75, 100] and line.get_ydata()[-1] == pytest.approx(96)
    pyplot.close(figure)
