"""
Runs snippets and commands one after the other, each in a fork of a process that has imported what takes seconds.

A line of standard input is JSON: `arguments` of the interpreter (`-c CODE`, `-m MODULE ...` or `SCRIPT ...`) or of
`fal` (the first is `fal`), `folder` to run in, `output` and `errors` to write. The line that answers it is the exit
status.
"""

import gc
import json
import os
import runpy
import sys
import warnings
from importlib import import_module

# What FAL, its commands and its examples import of other packages; FAL itself is for each snippet to import.
PRELOADED = (
    "av",
    "torchvision.transforms.v2",
    "transformers.models.auto",
    "transformers.models.timesformer.modeling_timesformer",
    "transformers.pipelines",
    "transformers.trainer",
    "transformers.video_processing_utils",
)


def run(arguments: list[str]) -> None:
    """Runs what a new interpreter, or `fal`, would run with these arguments."""
    if arguments[0] == "-c":
        sys.argv = ["-c"]
        exec(compile(arguments[1], "<snippet>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "fal":
        sys.argv = arguments
        sys.exit(import_module("fal_hf.cli").main())
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name="__main__")


def redirect(output: str, errors: str) -> None:
    """Has standard input empty, and the other streams, of this process and its children, in files."""
    for descriptor, path in enumerate((os.devnull, output, errors)):
        file = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)


def main() -> None:
    for name in PRELOADED:
        import_module(name)
    gc.freeze()  # what is here stays: a child need not look through it when it ends
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            redirect(job["output"], job["errors"])
            os.chdir(job["folder"])
            sys.path[0] = ""
            warnings.filterwarnings("error", category=DeprecationWarning, module=r"fal_hf\b")
            return run(job["arguments"])  # and ends as any interpreter does
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
