"""The study of patches that do not change, on a few clips."""

import sys
from pathlib import Path

import pytest
from media_files import moving_frames, write_video
from tiny_fal import tiny_config

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import static_patches

from fal_hf.hub.model_card import count_parameters_and_gflop


def test_operations_are_those_of_the_model_card_but_for_the_head_and_fewer_of_fewer_tokens():
    config = tiny_config(grid=(3, 4, 4), attention_type="joint_space_time", num_labels=5)
    whole = count_parameters_and_gflop(config)[1] - 2 * 5 * config.hidden_size / 1e9
    assert static_patches.count_gflop(config, 3 * 16) == pytest.approx(whole)
    assert static_patches.count_gflop(config, 16) < whole / 2


@pytest.mark.slow
def test_the_study_measures_every_threshold_and_trains_once(tmp_path, monkeypatch, capsys):
    source, folder = tmp_path / "clips", tmp_path / "runs"
    films = []
    for number in range(8):
        for label, name in (("fight", f"fi{number:03d}"), ("no_fight", f"nofi{number:03d}")):
            (source / label).mkdir(parents=True, exist_ok=True)
            write_video(source / label / f"{name}.mp4", moving_frames(12, seed=number))
            films.append(f"https://example.org/{name}\n{name}: 0:00\n")
    (source / "sources.txt").write_text("".join(films))
    command = ["static_patches.py", str(source), "--folder", str(folder), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    static_patches.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| uniform", "| 0", "| 0.05", "| 0.1", "| 0.2"]
    assert rows[0][1:3] == rows[1][1:3] and rows[0][1].startswith("1568 (1568 to 1568)")
    tokens = [int(row[1].split()[0]) for row in rows[1:]]
    assert tokens == sorted(tokens, reverse=True) and tokens[-1] < 1568
    assert rows[0][6] == rows[1][6] == "100.0 % |"
    monkeypatch.setattr(static_patches, "train", lambda *_, **__: pytest.fail("trained again"))
    static_patches.train_joint(folder, None, epochs=1)
