"""
Runs the common tests of the installed transformers version on FAL, and on ViViT beside it.

The tests are those that transformers' source distribution carries (its model, configuration, image processor and
video processor mixins). It is fetched from the package index once, into `.conformance/`. Exit code 1 where a FAL test
fails, or is skipped although ViViT passes it.

    python modeling_tests/conformance/run.py [pytest arguments]
"""

import os
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".conformance"
SUITES = [HERE / "fal_conformance.py", HERE / "vivit_conformance.py"]

# What the tests import from parts of the repository that the source distribution leaves out. None of it tests
# anything that the two models here have.
MISSING_FILES = {
    "tests/__init__.py": "",
    "tests/utils/__init__.py": "",
    "tests/exporters/__init__.py": "",
    "tests/generation/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/utils/test_configuration_utils.py": (HERE / "missing" / "config_values.py").read_text(encoding="utf-8"),
    "utils/fetch_hub_objects_for_ci.py": (HERE / "missing" / "local_images.py").read_text(encoding="utf-8"),
}
SEVERITY = ("passed", "skipped", "failed")


def main() -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path[:0] = [str(HERE), str(fetch_tests(version("transformers")))]
    results = Results()
    arguments = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", f"--rootdir={HERE}", "--noconftest"]
    exit_code = pytest.main([*arguments, *sys.argv[1:], *map(str, SUITES)], plugins=[results])
    if exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(exit_code)
    return report(results.outcomes)


def fetch_tests(transformers_version: str) -> Path:
    """The unpacked source distribution, a folder with `tests/` in it; downloads it where it is not there."""
    folder = CACHE / f"transformers-{transformers_version}"
    if not (folder / "tests" / "test_modeling_common.py").exists():
        requirement = f"transformers=={transformers_version}"
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
        unpack_tests(CACHE / f"transformers-{transformers_version}.tar.gz")
    for name, text in MISSING_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def unpack_tests(archive: Path):
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.name.split("/")[1:2] == ["tests"]]
        tar.extractall(CACHE, members=members, filter="data")


class Results:
    """A pytest plugin that keeps the worst outcome of each test: {(model, group, suite class, test): outcome}."""

    def __init__(self):
        self.outcomes: dict[tuple[str, str, str, str], str] = {}
        self.keys: dict[str, tuple[str, str, str, str]] = {}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            self.keys[item.nodeid] = (item.cls.tested_model, item.cls.group, item.cls.__name__, item.name)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            key = self.keys[report.nodeid]
            self.outcomes[key] = max(self.outcomes.get(key, "passed"), report.outcome, key=SEVERITY.index)


def report(outcomes: dict[tuple[str, str, str, str], str]) -> int:
    print(f"\n{'':32}{'passed':>8}{'skipped':>9}{'failed':>8}")
    for model, name in sorted({key[:1] + key[2:3] for key in outcomes}):
        counts = Counter(outcome for key, outcome in outcomes.items() if (key[0], key[2]) == (model, name))
        print(f"{name:32}{counts['passed']:8}{counts['skipped']:9}{counts['failed']:8}")
    for model in ("FAL", "ViViT"):
        counts = Counter(outcome for key, outcome in outcomes.items() if key[0] == model)
        print(f"{'all of ' + model:32}{counts['passed']:8}{counts['skipped']:9}{counts['failed']:8}")
    peer = {(group, test): outcome for (model, group, _, test), outcome in outcomes.items() if model == "ViViT"}
    problems = [
        f"{outcome}: {name}::{test} (ViViT: {peer.get((group, test), 'has no such test')})"
        for (model, group, name, test), outcome in sorted(outcomes.items())
        if model == "FAL" and (outcome == "failed" or (outcome == "skipped" and peer.get((group, test)) != "skipped"))
    ]
    print("\n".join(["", *problems, f"{len(problems)} of FAL's tests fail or are skipped where ViViT's are not"]))
    return int(bool(problems) or not peer)


if __name__ == "__main__":
    sys.exit(main())
