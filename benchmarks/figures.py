"""The figures of a benchmark: printed as they come, kept in a JSON file, and read from there by the documents.

```python
with Figures("forward") as figures:
    figures.add("models", frames=8, model="FAL", seconds=1.41)
    figures.leave_out("models", "more than 8 GiB", frames=96)
```

A run that is over is written to `runs/benchmarks/<benchmark>/<machine>_<date>.json`: those of a machine sort by date.
`write_page.py` takes what the documents quote into `benchmarks/results/`.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from machine import describe_machine, describe_versions, machine_line, machine_name

RUNS = Path("runs", "benchmarks")

Figure = str | int | float | None


class Figures:
    """
    The tables of one run of a benchmark; used in a `with`, whose end writes the file.

    Args:
        benchmark: Name of the script.
        folder: Below which it is written.
    """

    def __init__(self, benchmark: str, *, folder: Path = RUNS):
        self.run = {
            "benchmark": benchmark,
            "command": shlex.join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%SZ"),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "tables": {},
            "left_out": {},
        }
        self.path = folder / benchmark / f"{machine_name(self.run['machine'])}_{self.run['date']}.json"
        self.printed = ""
        print(about_run(self.run), flush=True)

    def __enter__(self) -> "Figures":
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.run, indent=1) + "\n", encoding="utf-8")
            print(f"\nwritten to {self.path}", flush=True)

    def add(self, table: str, /, **figures: Figure) -> None:
        """Adds a row: its circumstances, then what was measured, with the unit in the name of each."""
        rows = self.run["tables"].setdefault(table, [])
        if rows and rows[0].keys() != figures.keys():
            raise ValueError(f"{table}: expected the columns {', '.join(rows[0])}, got {', '.join(figures)}")
        rows.append({name: rounded(value) for name, value in figures.items()})
        if self.printed != table:
            print(f"\n{table}\n\n" + "\n".join(header(figures)))
            self.printed = table
        print(row_line(rows[-1]), flush=True)

    def leave_out(self, table: str, reason: str, /, **circumstances: Figure) -> None:
        """Says that a row is not there, and why."""
        left_out = {**circumstances, "reason": reason}
        self.run["left_out"].setdefault(table, []).append(left_out)
        print(left_out_line(left_out), flush=True)


def rounded(value: Figure) -> Figure:
    """No more digits than a measurement has."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def about_run(run: dict) -> str:
    """With what a run was made, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return f"{machine_line(run['machine'])}; {versions}; {run['date'][:10]}"


def table_lines(rows: list[dict[str, Figure]]) -> list[str]:
    """A table in Markdown."""
    return [*header(rows[0]), *map(row_line, rows)]


def header(names: Iterable[str]) -> list[str]:
    headings = [name.replace("_", " ") for name in names]
    return [f"| {' | '.join(headings)} |", f"| {' | '.join('---' for _ in headings)} |"]


def row_line(row: dict[str, Figure]) -> str:
    return f"| {' | '.join(f'{as_text(value):<{len(name)}}' for name, value in row.items())} |"


def left_out_line(left_out: dict[str, Figure]) -> str:
    *circumstances, reason = left_out.values()
    return f"Left out: {', '.join(map(as_text, circumstances))}: {reason}"


def as_text(value: Figure) -> str:
    """Three digits of a number; nothing where it could not be measured."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value
