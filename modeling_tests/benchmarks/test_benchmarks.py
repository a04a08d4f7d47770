"""Each benchmark of `make bench`, and of `make bench-full` alone, runs at tiny sizes and leaves its figures."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

ROOT = Path(__file__).resolve().parents[2]
# What is added to the arguments of `make`, and the tables that come of it.
TINY = {
    "forward": (
        "--frames 2 --attention divided_space_time --dtypes float32 --modes inference --repeats 1",
        {"matrix_products", "models"},
    ),
    "runtimes": ("--layers 1 --hidden-size 64 --frames 2 --to torch onnx --precision int8 --runs 1", {"runtimes"}),
    "gpu": (
        "--device cpu --layers 1 --hidden-size 64 --frames 1 --batches 1 --dtypes float32 --attention sdpa "
        "--seconds 0",
        {"matrix_products", "models"},
    ),
    "label_attention": ("--preset fal-small --frames 1 --labels 10 --runs 1", {"cost"}),
    "growth": (
        "--preset fal-small --frames 1 200 --sides 224 --max-gib 1 --runs 1 --batches 1 --streams 2 --stream-clips 1",
        {"sizes", "batches", "streams"},
    ),
    "timelines": ("--seconds 2 --levels 6 --preset fal-small --runs 1", {"reuse", "embedding"}),
    "decode": ("--runs 1 --long-seconds 20 --folder runs/decode", {"readers"}),
    "labeling": (
        "--hidden-size 64 --runs 1 --long-runs 1 --long-seconds 20 --workers 0 --inputs 10",
        {"same_weights", "pipeline", "models", "products", "shares", "workers", "memory", "collection"},
    ),
    "training": (
        "--preset fal-small --frames 1 --batch-size 1 --steps 2 --turns 1 --workers 0 --folder runs/training",
        {"models", "loader"},
    ),
}


def commands() -> list[str]:
    """The benchmarks of the Makefile with their arguments."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    found = re.findall(r"\$\(BIN\)/python benchmarks/(.*)", makefile)
    return [command for command in found if not command.startswith("write_page.py")]


@pytest.mark.slow
@pytest.mark.parametrize("command", {command.split()[0]: command for command in reversed(commands())}.values())
def test_benchmark_leaves_its_figures(command, tmp_path, warm_python):
    script, *arguments = shlex.split(command)
    tiny, tables = TINY[Path(script).stem]
    process = warm_python.run([ROOT / "benchmarks" / script, *arguments, *shlex.split(tiny)], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    (path,) = tmp_path.glob("runs/benchmarks/*/*.json")
    run = json.loads(path.read_text(encoding="utf-8"))
    assert run["benchmark"] == path.parent.name == Path(script).stem
    assert run["machine"]["processor"] and run["versions"]["torch"] and run["command"].startswith("python benchmarks/")
    assert run["tables"].keys() == tables and all(run["tables"].values())
    for rows in run["tables"].values():
        for row in rows:
            numbers = [value for value in row.values() if isinstance(value, float)]
            assert "error" not in row and all(number >= 0 for number in numbers)


def test_each_benchmark_has_its_place_in_the_page():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    places = set(re.findall(r"<!-- figures: (\w+):", page))
    assert places == set(TINY) == {Path(shlex.split(command)[0]).stem for command in commands()}
