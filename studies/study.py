"""What the studies share: cases that are measured once, and what is written of them.

A study is a script that makes a `Study` and calls its `main`. Its cases are measured side by side, one thread each,
and the row of each is kept as soon as it is there, so that a run that was stopped goes on; then the plot is drawn and
the text written, from the rows alone:

    runs/studies/<study>-<setting>.csv, .svg and .md

`write_paper_page.py` takes them into the documents.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import pandas
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from tqdm import tqdm

from fal_hf.model.video_source import available_cores

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from machine import describe_machine, describe_versions, machine_line  # noqa: E402  # of the benchmarks

FOLDER = Path("runs", "studies")
# Where a row is from, beside its circumstances and figures.
ORIGIN = ("measured_in_minutes", "date", "commit", "machine", "versions")
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (7, 3),
    "font.size": 9,
    "grid.alpha": 0.3,
    "svg.hashsalt": "fal",  # the same file for the same rows
}

Setting = Literal["toy", "small", "full"]
Value = str | int | float | None
Case = Mapping[str, Value]


def nothing_to_prepare(folder: Path, setting: Setting) -> None:
    """Of a study whose cases share no files."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """
    One study. All functions stand at the top of its module: cases are measured in processes of their own.

    Args:
        name: Of the script, without its suffix.
        cases: What is measured in a setting: the circumstances of each row by column, the seed among them.
        measure: A case, the folder of the study's files and the setting to the figures of its row, by column.
        draw: The rows to a plot.
        tell: The rows to what they say, in Markdown.
        prepare: Makes the files that cases share, in that folder; it is called once, before the first of them.
        is_timed: Whether seconds are among the figures: cases are measured one after the other then, in this process.
    """

    name: str
    cases: Callable[[Setting], Sequence[Case]]
    measure: Callable[[Case, Path, Setting], Mapping[str, Value]]
    draw: Callable[[pandas.DataFrame], Figure]
    tell: Callable[[pandas.DataFrame], str]
    prepare: Callable[[Path, Setting], object] = nothing_to_prepare
    is_timed: bool = False

    def main(self, argv: Sequence[str] | None = None) -> None:
        """The script: measures what is missing, writes, and prints the text."""
        parser = argparse.ArgumentParser(
            description=sys.modules[self.measure.__module__].__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        settings = parser.add_mutually_exclusive_group()
        settings.add_argument("--full", dest="setting", action="store_const", const="full", help="the large setting")
        settings.add_argument("--toy", dest="setting", action="store_const", const="toy", help="to see that it runs")
        parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows, clips and models are kept")
        if not self.is_timed:
            parser.add_argument("--processes", type=int, default=available_cores(), help="cases at once")
        parser.set_defaults(setting="small")
        args = vars(parser.parse_args(argv))
        if args.get("processes", 1) < 1:
            parser.error(f"--processes: expected at least 1, got {args['processes']}")
        print(self.run(**args))

    def run(self, setting: Setting = "small", *, folder: Path = FOLDER, processes: int = 1) -> str:
        """Measures the cases whose rows `folder` has not yet, writes rows, plot and text, and returns the text."""
        path, files, cases = folder / f"{self.name}-{setting}.csv", folder / self.name, self.cases(setting)
        rows = read_rows(path) if path.exists() else []
        missing = [case for case in cases if find_row(rows, case) is None]
        if missing:
            files.mkdir(parents=True, exist_ok=True)
            with redirect_stdout(sys.stderr):  # what Trainer prints; the text alone goes to standard output
                self.prepare(files, setting)
                measured = self._measure(missing, files, setting, processes)
                for row in tqdm(measured, total=len(missing), desc=self.name, disable=None):
                    rows.append(row)
                    write_rows(path, rows)
        write_rows(path, [find_row(rows, case) for case in cases])
        table = pandas.read_csv(path)
        with pyplot.rc_context(STYLE):
            figure = self.draw(table)
            figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
            pyplot.close(figure)
        text = self.tell(table)
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        return text

    def _measure(
        self, cases: Sequence[Case], files: Path, setting: Setting, processes: int
    ) -> Iterator[dict[str, Value]]:
        """The rows of the cases, as they come."""
        commit = current_commit()  # once: the files may change while cases are measured
        if self.is_timed or processes == 1:
            yield from (measure_row(self.measure, case, files, setting, commit) for case in cases)
            return
        with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            futures = [pool.submit(measure_row, self.measure, case, files, setting, commit) for case in cases]
            try:
                yield from (future.result() for future in as_completed(futures))
            finally:
                pool.shutdown(cancel_futures=True)


def measure_row(measure: Callable, case: Case, files: Path, setting: Setting, commit: str) -> dict[str, Value]:
    """A row: the case, its figures, and where it is from."""
    start = time.perf_counter()
    with redirect_stdout(sys.stderr):
        figures = measure(case, files, setting)
    origin = (
        round((time.perf_counter() - start) / 60, 2),
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        commit,
        machine_line(describe_machine()).rpartition(", load")[0],
        ", ".join(f"{name} {number}" for name, number in describe_versions().items()),
    )
    return {**case, **figures, **dict(zip(ORIGIN, origin, strict=True))}


def current_commit() -> str:
    """Of the code, with a + where files differ from it; nothing outside of a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def read_rows(path: Path) -> list[dict[str, Value]]:
    """The rows of a file, all values as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Value]]) -> None:
    """Writes all rows anew, at once."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)


def find_row(rows: Sequence[Mapping[str, Value]], case: Case) -> Mapping[str, Value] | None:
    """The row of a case."""
    return next((row for row in rows if all(as_text(row[name]) == as_text(case[name]) for name in case)), None)


def as_text(value: Value) -> str:
    """A value as a CSV file has it."""
    return "" if value is None else str(value)


def origin_line(table: pandas.DataFrame, command: str) -> str:
    """Where the rows are from, in a line for the reader."""
    machines = "; ".join(dict.fromkeys(table["machine"]))
    versions = "; ".join(dict.fromkeys(table["versions"]))
    return f"`{command}` on {machines}; {versions}; {max(table['date'])}:"
