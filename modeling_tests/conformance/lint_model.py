"""
Runs transformers' own linter for model files on FAL's, and on ViViT's and TimeSformer's beside it.

Its rules are for models within transformers; what they find and why it stays is stated here. Exit code 1 where it
finds something else, or no longer finds what is stated.

    python modeling_tests/conformance/lint_model.py
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import transformers

MODEL = Path(__file__).resolve().parents[2] / "src" / "fal_hf" / "model"
PEERS = {name: Path(transformers.__file__).parent / "models" / name for name in ("vivit", "timesformer")}

NO_APACHE = "the rule wants the Apache License's notice; FAL is under the MIT License"
OWN_WORDS = (
    "@auto_docstring names classes from tables that only hold transformers' own, and says what is not so of clips"
)
NEW_LABELS = "labels are part of a configuration, and the method is there to change them"
NO_MODEL = "the base class has no weights of its own; the classes below it call post_init"
# (file, rule, what it is about): why it stays.
EXPECTED = {
    ("configuration_fal.py", "TRF028", ""): NO_APACHE,
    ("modeling_fal.py", "TRF028", ""): NO_APACHE,
    ("modeling_fal.py", "TRF013", "__init__"): NO_MODEL,
    ("modeling_fal.py", "TRF033", "FALVideoClassifierForVideoClassification.set_labels"): NEW_LABELS,
    ("image_processing_fal.py", "TRF028", ""): NO_APACHE,
    ("image_processing_pil_fal.py", "TRF028", ""): NO_APACHE,
    ("video_processing_fal.py", "TRF028", ""): NO_APACHE,
    ("image_processing_fal.py", "TRF057", "FALImageProcessor"): OWN_WORDS,
    ("image_processing_fal.py", "TRF057", "FALImageProcessor.preprocess"): OWN_WORDS,
    ("image_processing_pil_fal.py", "TRF057", "FALImageProcessorPil"): OWN_WORDS,
    ("image_processing_pil_fal.py", "TRF057", "FALImageProcessorPil.preprocess"): OWN_WORDS,
}


def main() -> int:
    found = {(Path(entry["path"]).name, entry["rule"], subject(entry)): entry["message"] for entry in findings(MODEL)}
    for key, message in found.items():
        print(f"{key[0]}: {message}\n    {EXPECTED.get(key, 'NOT EXPECTED')}")
    gone = [key for key in EXPECTED if key not in found]
    for key in gone:
        print(f"{key}: is found no longer, take it out of {Path(__file__).name}")
    new = [key for key in found if key not in EXPECTED]
    peers = ", ".join(f"{len(list(findings(folder)))} in {name}" for name, folder in PEERS.items())
    print(f"\n{len(found)} findings, {len(new)} of them not expected; {peers}")
    return int(bool(new or gone))


def findings(folder: Path) -> Iterator[dict]:
    """What the linter finds in the model files of a folder."""
    with tempfile.TemporaryDirectory() as workplace:
        report = Path(workplace) / "report.json"
        command = [sys.executable, "-m", "mlinter", "--no-progress", "--no-cache", "--output-json", report, folder]
        process = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise RuntimeError(f"expected a report of the linter, got: {process.stdout}{process.stderr}")
        yield from json.loads(report.read_text(encoding="utf-8"))["findings"]


def subject(finding: dict) -> str:
    """The class or field that a finding is about, which stands in backticks, or ""."""
    return finding["message"].split("`")[1] if "`" in finding["message"] else ""


if __name__ == "__main__":
    sys.exit(main())
