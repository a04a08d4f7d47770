"""
Writes the tables of docs/performance.md from the runs in benchmarks/results/; the text between them stays.

Where the page says `<!-- figures: BENCHMARK: TABLE, ... -->`, what stands from there to `<!-- end -->` becomes those
tables of the newest run on each machine, nothing where there is none. `--take` first takes the newest run of each
benchmark and machine out of runs/benchmarks/ into benchmarks/results/, in the place of older ones of that machine.

    python benchmarks/write_page.py --take
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from figures import RUNS, about_run, left_out_line, table_lines

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(<!-- figures: (\w+): ([\w, ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def newest_runs(folder: Path) -> dict[str, Path]:
    """Machine to its newest run in the folder of a benchmark: names sort by machine and date."""
    return {path.stem.rpartition("_")[0]: path for path in sorted(folder.glob("*.json"))}


def take_runs(runs: Path, results: Path) -> None:
    """Has `results` hold the newest of `runs`, and of what it has already those of other machines."""
    for folder in (path for path in runs.iterdir() if path.is_dir()):
        target = results / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for machine, path in newest_runs(folder).items():
            for older in target.glob(f"{machine}_*.json"):
                older.unlink()
            shutil.copy(path, target)


def fill_page(text: str, results: Path) -> str:
    """The page with the tables of these runs."""

    def fill(place: re.Match) -> str:
        mark, benchmark, tables = place.groups()
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in newest_runs(results / benchmark).values()]
        return mark + "".join(f"\n{block(run, tables.split(', '))}\n" for run in runs)

    return PLACE.sub(fill, text)


def block(run: dict, tables: list[str]) -> str:
    """Tables with the command and the machine that they are from."""
    lines = [f"`{run['command']}` on {about_run(run)}:", ""]
    for table in tables:
        if table not in run["tables"]:
            raise ValueError(f"{run['command']}: expected a table {table}, got {', '.join(run['tables'])}")
        lines += [*table_lines(run["tables"][table]), ""]
        for left_out in run["left_out"].get(table, ()):
            lines += [left_out_line(left_out), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", action="store_true", help="take the newest runs first")
    if parser.parse_args().take:
        take_runs(RUNS, RESULTS)
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
