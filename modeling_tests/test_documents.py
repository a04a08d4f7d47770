"""
Every Python snippet of the README and of the pages in docs/ runs, and so does every command that starts with `python`
or `fal`; where a page shows what a command prints, it prints that.

Those of a page run in one folder and in the page's order: what one makes, a later one uses.
"""

import importlib
import pkgutil
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from foreign_checkpoints import CLASSES, tiny_timesformer, tiny_vit
from media_files import moving_frames, write_video
from tiny_clip import write_open_checkpoint, write_tiny_clip
from tiny_fal import tiny_model
from transformers import TimesformerForVideoClassification
from video_classification_files import write_class_folders

import fal_hf.bulk
from fal_hf import FALImageProcessor, FALVideoProcessor

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK_OR_PROSE = re.compile(r"^ *```(\w+)\n(.*?)^ *```|`(python [^`]+)`", flags=re.DOTALL | re.MULTILINE)
STUDIES = re.search(r"^STUDIES := (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
# What is added to commands that take long as they stand, by their beginnings.
SHORTENED = {
    "fal label videos/": "--workers 2",
    "fal train": "--max_steps 2 --use_cpu",
    "python examples/fine_tuning/run_video_classification.py": "--max_steps 2 --use_cpu",
    "python studies/labels_as_tokens.py": "--train-clips 2 --test-clips 1 --epochs 1 --cases 0",
}
LEFT_OUT = {
    "fal convert openai/clip-vit-base-patch16": "the published weights are not at hand: what follows runs on a tiny "
    "model of the same kind in their place, and was not run with these weights",
    "python examples/fine_tuning/surveillance_manifest.py": "its clips do not come with the project",
    "fal evaluate --calibrate": "the clips here are too few to tell a temperature; the report's own test calibrates",
    "python studies/open_labels.py": "its photographs do not come with the project; the study's own test runs it",
    **{
        f"python studies/{name}.py": "it takes many minutes; `modeling_tests/studies/test_study.py` runs it as a toy"
        for name in STUDIES
    },
    "python benchmarks/": "the benchmarks' own test runs them, at tiny sizes",
    "python studies/adaptive_patches.py": "its clips do not come with the project; the study's own test runs it",
    "python studies/static_patches.py": "its clips do not come with the project; the study's own test runs it",
    "fal convert laion/": "its weights are on the Hub",
    "fal convert facebook/": "its weights are on the Hub",
}


@dataclass(frozen=True)
class Snippet:
    """A block of Python, or a command with what the page says that it prints."""

    page: str
    text: str
    arguments: tuple[str, ...]
    printed: str = ""


def find_snippets(page: Path) -> Iterator[Snippet]:
    """The snippets of a page in its order."""
    for language, block, in_prose in BLOCK_OR_PROSE.findall(page.read_text(encoding="utf-8")):
        if in_prose:
            yield from find_commands(page.stem, in_prose.replace("\n", " "))
        elif language == "python":
            yield Snippet(page.stem, block, ("-c", block))
        elif language == "console":
            for command in re.split(r"^\$ ", block, flags=re.MULTILINE):
                line, _, printed = command.replace("\\\n", " ").partition("\n")
                yield from find_commands(page.stem, line, printed)
        elif language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                yield from find_commands(page.stem, line)


def find_commands(page: str, line: str, printed: str = "") -> Iterator[Snippet]:
    """The command of a line if it is one that is run here."""
    words = shlex.split(line, comments=True) if line.startswith(("python ", "fal ")) else []
    if words:
        added = " ".join(options for start, options in SHORTENED.items() if line.startswith(start))
        words = words[1:] if words[0] == "python" else words
        yield Snippet(page, line, (*words, *shlex.split(added)), printed)


SNIPPETS = [snippet for page in PAGES for snippet in find_snippets(page)]


def parameters() -> list:
    """The snippets that run, as parameters of a test."""
    return [
        pytest.param(snippet, id=f"{snippet.page}-{re.sub(r'[^A-Za-z0-9]+', '-', snippet.text[:60])}")
        for snippet in SNIPPETS
        if not snippet.text.startswith(tuple(LEFT_OUT))
    ]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """What the pages name: videos, checkpoints to convert, and the published model, tiny, at its Hub id."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("convert_checkpoint.py", "examples", "studies"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("video.mp4", "runs/sample.mp4", "videos/a.mp4", "more/deep/b.mkv", "c.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, moving_frames(30))
    (folder / "list.csv").write_text("path\nc.mp4\n")
    write_class_folders(folder / "clips", per_class=8)
    published = folder / "SVECTOR-CORPORATION" / "FAL"
    tiny_model(grid=(8, 14, 14), patch_size=16).save_pretrained(published)
    FALImageProcessor().save_pretrained(published)
    FALVideoProcessor().save_pretrained(published)
    tiny_timesformer(TimesformerForVideoClassification).save_pretrained(folder / "timesformer-folder")
    tiny_vit().save_pretrained(folder / "vit-folder")
    write_tiny_clip(folder / "clip-folder")
    write_open_checkpoint(folder / "runs" / "clip", ["one", "two"])
    (folder / "hierarchy.json").write_text('{"bright": "light", "dark": "light"}')
    (folder / "labels.txt").write_text("\n".join(f"label {index}" for index in range(CLASSES)))
    return folder


@pytest.fixture(scope="module")
def folder_of(original, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a page, a copy of `original` that its snippets work in."""
    folders: dict[str, Path] = {}

    def find(page: str) -> Path:
        if page not in folders:
            folders[page] = tmp_path_factory.mktemp(page) / "work"
            shutil.copytree(original, folders[page], symlinks=True)
        return folders[page]

    return find


@pytest.mark.parametrize("start", [*SHORTENED, *LEFT_OUT])
def test_the_documents_have_the_commands_that_are_named_here(start):
    assert any(snippet.text.startswith(start) for snippet in SNIPPETS)


@pytest.mark.parametrize("snippet", parameters())
def test_snippet_runs(snippet, folder_of, warm_python):
    process = warm_python.run(snippet.arguments, cwd=folder_of(snippet.page))
    assert process.returncode == 0, process.stderr
    assert "deprecated" not in process.stderr.lower()
    if snippet.printed:
        check_printed(process.stdout, snippet.printed)


def check_printed(output: str, expected: str) -> None:
    """The same words, and numbers that differ by no more than other processors and encoders make them differ."""
    number = re.compile(r"\d+(?:\.\d+)?")
    assert number.sub("0", output).split() == number.sub("0", expected).split()
    numbers = [[float(text) for text in number.findall(text)] for text in (output, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.15)


def test_the_reference_has_every_public_name():
    described = set(
        re.findall(r"^::: (\S+)$", "".join(page.read_text() for page in ROOT.glob("docs/reference/*.md")), re.M)
    )
    bulk = {f"fal_hf.bulk.{module.name}" for module in pkgutil.iter_modules(fal_hf.bulk.__path__)}
    packages = {f"fal_hf.{name}" for name in ("bulk", "conversion", "export", "hub", "training")}
    for name in {f"fal_hf.{name}" for name in fal_hf.__all__} | bulk | packages:
        assert name in described, f"docs/reference: expected a page with `::: {name}`"
    for name in packages | bulk:
        importlib.import_module(name)
