"""The form that studies have: rows, resuming, plot and text; and each study in its toy setting."""

import csv
import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import comparison
import intervals
import pandas
import study
import write_paper_page
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
STUDIES = next(line for line in MAKEFILE.splitlines() if line.startswith("STUDIES :=")).split()[2:]


def cases(setting):
    return [{"kind": kind, "share": share, "seed": 0} for kind in ("a", "b") for share in (None, 0.5)]


def measure(case, files, setting):
    (files / f"{case['kind']}-{case['share']}").touch(exist_ok=False)  # a case is measured once
    print("what a library prints")
    return {"figure": 1.0 if case["kind"] == "a" else 2.0}


def draw(table):
    figure, axes = pyplot.subplots()
    axes.plot(table["figure"])
    return figure


def tell(table):
    return f"{study.origin_line(table, 'python study.py')}\n\n{' '.join(table['kind'])}: {table['figure'].sum():.0f}\n"


def make_study(**changes):
    functions = {"cases": cases, "measure": measure, "draw": draw, "tell": tell}
    return study.Study(**{"name": "example", **functions, **changes})


@pytest.mark.parametrize("processes", [1, 2])
def test_a_study_leaves_rows_a_plot_and_a_text(tmp_path, capsys, processes):
    make_study().main(["--folder", str(tmp_path), "--processes", str(processes)])
    text = (tmp_path / "example-small.md").read_text()
    assert text.endswith("\n\na a b b: 6\n")
    assert capsys.readouterr().out == text + "\n", "expected nothing but the text on standard output"
    rows = study.read_rows(tmp_path / "example-small.csv")
    assert [row["share"] for row in rows] == ["", "0.5"] * 2 and set(study.ORIGIN) <= rows[0].keys()
    assert "<svg" in (tmp_path / "example-small.svg").read_text()


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    stopped = make_study(
        measure=lambda case, files, setting: measure(case, files, setting) if case["kind"] == "a" else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        stopped.run(folder=tmp_path)
    assert len(study.read_rows(tmp_path / "example-small.csv")) == 2
    text = make_study().run(folder=tmp_path)  # `measure` would fail at a case that it has had
    assert text.endswith("a a b b: 6\n")
    assert make_study(measure=None).run(folder=tmp_path) == text


def test_plot_and_text_are_the_same_each_time(tmp_path):
    make_study().run(folder=tmp_path)
    before = [(tmp_path / f"example-small.{suffix}").read_bytes() for suffix in ("svg", "md", "csv")]
    make_study(measure=None).run(folder=tmp_path)
    assert [(tmp_path / f"example-small.{suffix}").read_bytes() for suffix in ("svg", "md", "csv")] == before


def test_wrong_usage_is_told(capsys):
    with pytest.raises(SystemExit):
        make_study().main(["--processes", "0"])
    assert "--processes: expected at least 1, got 0" in capsys.readouterr().err


def test_a_mean_has_the_interval_of_student():
    assert str(intervals.mean_of([80.0, 90.0, 100.0])) == "90.0 ± 24.8"
    assert str(intervals.mean_of([80.0])) == "80.0"


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([9, 8, 9], [1, 1, 2], "holds"),
        ([1, 1, 2], [9, 8, 9], "the opposite"),
        ([1, 9, 5], [4, 5, 4], "does not show"),
        ([9, 9, 9], [9, 9, 9], "does not show"),
    ],
)
def test_a_claim_holds_where_the_interval_of_the_difference_is_above_zero(better, worse, verdict):
    tables = [pandas.DataFrame({"seed": [2, 1, 0], "figure": values}) for values in (better, worse)]
    assert intervals.mean_difference(*tables, "figure").verdict == verdict
    shuffled = tables[1].iloc[[1, 0, 2]]
    assert intervals.mean_difference(tables[0], shuffled, "figure") == intervals.mean_difference(*tables, "figure")


def test_one_seed_shows_nothing_and_seeds_of_one_case_are_left_out():
    better = pandas.DataFrame({"seed": [0, 1, 2], "figure": [9.0, 8.0, 7.0]})
    difference = intervals.mean_difference(better, pandas.DataFrame({"seed": [1], "figure": [3.0]}), "figure")
    assert str(difference) == "5.0" and difference.verdict == "one seed"


def test_kinds_that_a_data_set_lacks_are_told_and_drawn_as_missing():
    rows = [("order", "a", 0, 90.0), ("order", "b", 0, 80.0), ("camera_motion", "a", 0, 70.0)]
    table = pandas.DataFrame(rows, columns=["data", "model", "seed", "accuracy_percent"])
    assert comparison.difference_cells(table, "a", "b") == ["10.0: one seed", "not measured"]
    figure = comparison.draw_kinds(table)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    places = [[line.get_ydata()[0] for line in axes.lines if line.get_marker() == "|"] for axes in figure.axes]
    assert places == [[0, 1], [0, 1]]
    pyplot.close(figure)


def test_runs_are_taken_into_the_page(tmp_path, monkeypatch):
    for name in ("RESULTS", "PLOTS"):
        monkeypatch.setattr(write_paper_page, name, tmp_path / name.lower())
    make_study().run(folder=tmp_path / "runs")
    make_study().run("full", folder=tmp_path / "runs2")
    write_paper_page.take_runs(tmp_path / "runs")
    page = "before\n<!-- study: example -->\nold\n<!-- end -->\n<!-- study: other -->\n<!-- end -->\nafter\n"
    filled = write_paper_page.fill_page(page)
    assert "old" not in filled and "![example](studies/example.svg)" in filled and "a a b b: 6" in filled
    assert filled.startswith("before\n") and filled.endswith(
        "`python studies/other.py` was not run yet.\n\n<!-- end -->\nafter\n"
    )
    assert write_paper_page.fill_page(filled) == filled
    assert (tmp_path / "plots" / "example.svg").exists() and (tmp_path / "results" / "example.csv").exists()


def test_the_page_has_what_the_studies_have_left():
    page = write_paper_page.PAGE.read_text(encoding="utf-8")
    assert write_paper_page.fill_page(page) == page
    assert {name for _, name in write_paper_page.PLACE.findall(page)} == set(STUDIES)
    for name in STUDIES:
        rows = write_paper_page.RESULTS / f"{name}.csv"
        if rows.exists():
            told = importlib.import_module(name).STUDY.tell(pandas.read_csv(rows))
            assert told == rows.with_suffix(".md").read_text(encoding="utf-8"), "expected the text of these rows"


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_in_its_toy_setting(name, tmp_path, warm_python):
    script = ROOT / "studies" / f"{name}.py"
    process = warm_python.run([script, "--toy", "--folder", tmp_path], cwd=ROOT)
    assert process.returncode == 0, process.stderr
    with (tmp_path / f"{name}-toy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["machine"] and row["versions"] and row["date"] for row in rows)
    assert (tmp_path / f"{name}-toy.md").read_text() in process.stdout
    assert (tmp_path / f"{name}-toy.svg").stat().st_size > 1000
