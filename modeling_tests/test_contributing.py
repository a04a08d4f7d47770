"""What CONTRIBUTING.md and the files beside it say about the repository is so."""

import ast
import re
from pathlib import Path

import yaml

import fal_hf

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "fal_hf", ROOT / "modeling_tests"
ROW = re.compile(r"^\| `([\w/]+\.py)` \| (.+) \|$", flags=re.MULTILINE)


def exceptions() -> dict[str, list[str]]:
    """The table of CONTRIBUTING.md: source module to test modules."""
    rows = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return {module: re.findall(r"`([\w/]+\.py)`", tests) for module, tests in rows}


def mirrored_test(module: str) -> Path:
    return TESTS / Path(module).parent / f"test_{Path(module).name}"


def test_every_module_is_tested_by_its_mirror_or_by_what_the_table_names():
    modules = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if not path.stem.startswith("__")}
    without_mirror = {module for module in modules if not mirrored_test(module).exists()}
    assert without_mirror == set(exceptions()), "CONTRIBUTING.md: the table of modules without a mirrored test"


def test_what_the_table_names_uses_the_module():
    for module, tests in exceptions().items():
        names = {Path(module).stem, *public_names(SOURCE / module)}
        for test in tests:
            words = set(re.findall(r"\w+", (TESTS / test).read_text(encoding="utf-8")))
            assert names & words, f"{test}: expected a test of {module}"


def public_names(path: Path) -> set[str]:
    """Functions and classes of a module; where there is none, it is imported for its effect on the package."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")} or {fal_hf.__name__}


def test_those_who_cite_get_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (version,) = re.findall(r'^    version="(.+)",$', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation["version"] == version
    assert f"## [{version}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
