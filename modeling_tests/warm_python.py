"""
An interpreter that has imported what takes seconds: scripts, snippets and commands run in forks of it.

`WarmPython.run` is like `subprocess.run` with `sys.executable` before the arguments. What runs there begins without
`fal_hf` and with the environment that the interpreter was started with.
"""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# What FAL, its commands and its examples import of other packages; FAL itself is for each of them to import.
PRELOADED = (
    "av",
    "torchvision.transforms.v2",
    "transformers.models.auto",
    "transformers.models.timesformer.modeling_timesformer",
    "transformers.pipelines",
    "transformers.trainer",
    "transformers.video_processing_utils",
)


class WarmPython:
    """
    Starts the interpreter; used in a `with`, which ends it.

    Args:
        environment: Variables on top of this process's own.
    """

    def __init__(self, environment: dict[str, str]):
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *exc_info) -> None:
        self._server.communicate()
        self._folder.cleanup()

    def run(self, arguments: Sequence[str | Path], *, cwd: Path) -> subprocess.CompletedProcess:
        """
        Runs Python with `-c CODE`, `-m MODULE ...` or `SCRIPT ...`, or the command `fal` with what follows it.

        Returns:
            Exit status and output, as `subprocess.run(..., cwd=cwd, capture_output=True, text=True)` does.
        """
        files = [Path(self._folder.name, name) for name in ("output", "errors")]
        job = [*map(str, arguments)], str(cwd), *map(str, files)
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        output, errors = (file.read_text(encoding="utf-8", errors="replace") for file in files)
        return subprocess.CompletedProcess(arguments, status, output, errors)


# ---- in the interpreter ----


def serve() -> None:
    """Runs a job for each line of standard input, and answers each with a line: its exit status."""
    for name in PRELOADED:
        import_module(name)
    for line in sys.stdin:
        # A fork of multiprocessing ends without taking its modules down, which takes seconds.
        fork = multiprocessing.get_context("fork").Process(target=execute, args=json.loads(line))
        fork.start()
        fork.join()
        print(fork.exitcode, flush=True)


def redirect(output: str, errors: str) -> None:
    """Has standard input empty and the other streams, of this process and those that it starts, in files."""
    for descriptor, path in enumerate((os.devnull, output, errors)):
        file = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)


def execute(arguments: list[str], folder: str, output: str, errors: str) -> None:
    """Does what a new interpreter, or `fal`, does with these arguments."""
    redirect(output, errors)
    os.chdir(folder)
    warnings.filterwarnings("error", category=DeprecationWarning, module=r"fal_hf\b")
    sys.argv, sys.path[0] = arguments, ""
    if arguments[0] == "-c":
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "fal":
        sys.exit(import_module("fal_hf.cli").main())
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    serve()
