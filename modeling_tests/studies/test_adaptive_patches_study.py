"""The study of patches that adapt, on a few clips and cases."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import adaptive_patches


def test_tokens_and_operations_of_a_case_are_counted():
    assert adaptive_patches.count_tokens(adaptive_patches.make_config(adaptive_patches.Case())) == 8 * 196
    assert adaptive_patches.count_tokens(adaptive_patches.make_config(adaptive_patches.Case(share=0.25))) == 8 * 49
    assert adaptive_patches.count_tokens(adaptive_patches.make_config(adaptive_patches.Case(side=112))) == 8 * 49


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    photos, folder = tmp_path / "photos", tmp_path / "runs"
    photos.mkdir()
    for number in range(304):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{number}.jpg"), cv2.resize(noise, (384, 288), interpolation=cv2.INTER_CUBIC))
    case = adaptive_patches.Case
    cases = (
        case(),
        case(0.5),
        case(0.5, at_random=True),
        case(0.25, is_trained=True),
        case(side=112, is_trained=True),
    )
    monkeypatch.setattr(adaptive_patches, "CASES", cases)
    options = ["--train-clips", "8", "--test-clips", "4", "--epochs", "1", "--further-epochs", "0.5"]
    command = ["adaptive_patches.py", "camera_motion", str(photos), "--folder", str(folder), *options]
    monkeypatch.setattr(sys, "argv", command)
    adaptive_patches.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[3] for row in rows] == ["1568", "776", "776", "392", "392"]
    assert [float(row[6].removesuffix(" %")) % 25 for row in rows] == [0] * 5
    for name in ("train", "evaluate"):
        monkeypatch.setattr(adaptive_patches, name, lambda *_, **__: pytest.fail("computed again"))
    adaptive_patches.main()
    again = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[6] for row in again] == [row[6] for row in rows]
