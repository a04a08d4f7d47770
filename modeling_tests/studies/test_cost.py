"""What the study of cost counts, calculates and says of claims."""

import sys
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import cost
import pandas

SAMPLES = {
    "divided": {"seconds": 1.0, "memory_mib": 100.0},
    "joint": {"seconds": 2.0, "memory_mib": 100.0},
    "joint, whole maps": {"seconds": 4.0, "memory_mib": 500.0},
}


def make_rows(seconds=lambda clip, seed: 0.1 * clip.frames, memory=lambda clip: 10.0 * clip.frames, streams=1.0):
    """Rows of two rounds, all measured: GFLOP with frames (divided) or with their square (joint)."""
    rows = []
    for seed, circumstances in product(range(2), cost.list_circumstances(cost.SIZES["small"])):
        clip = cost.Clip(*(circumstances[name] for name in ("attention", "frames", "side")))
        tokens = clip.frames * clip.side**2
        figures = {
            "GFLOP": tokens if clip.attention == cost.DIVIDED else tokens**2,
            "seconds": seconds(clip, seed) * circumstances["batch"] * streams ** (circumstances["streams"] - 1),
            "memory_mib": memory(clip),
        }
        about = {"memory_limit_gib": 12.0, "is_calculated": False, "machine": "one", "versions": "1", "date": "today"}
        calculated = {"calculated_seconds": figures["seconds"], "calculated_mib": figures["memory_mib"]}
        rows.append({**circumstances, "seed": seed, **figures, **calculated, **about})
    return pandas.DataFrame(rows)


def verdicts(table: pandas.DataFrame) -> list[str]:
    lines = [line for line in cost.claim_lines(table) if line.startswith("| ")][2:]
    return [line.split(" | ")[-1].removesuffix(" |") for line in lines]


def test_a_case_is_measured_once_a_round():
    for setting in ("toy", "small", "full"):
        keys = [tuple(case.values()) for case in cost.cases(setting)]
        assert len(keys) == len(set(keys))
    small = pandas.DataFrame(cost.cases("small"))
    assert small["frames"].max() == 96 and small["side"].max() == 1024
    assert small["batch"].max() == 256 and small["streams"].max() == 8


def test_what_is_calculated_agrees_with_the_sample_and_grows_with_operations_and_tokens():
    sample = cost.sample_clip("divided", "toy")
    assert cost.calculate(sample, 1, "toy", SAMPLES) == pytest.approx((1.0, 100.0))
    assert cost.calculate(sample, 3, "toy", SAMPLES) == pytest.approx((3.0, 300.0))
    larger = cost.Clip("divided", 2 * cost.SAMPLE_FRAMES, cost.SIZES["toy"].side)
    tokens = (1 + 32 * 4) / (1 + 16 * 4)  # patches of 16 x 16 pixels, and the classification token
    gflop = cost.count_gflop(larger, "toy") / cost.count_gflop(sample, "toy")
    assert cost.calculate(larger, 1, "toy", SAMPLES) == pytest.approx((gflop, 100 * tokens))


def test_whole_maps_add_the_weights_of_all_heads():
    clip = cost.Clip(cost.MAPS, 8, 64)
    fused = cost.Clip(cost.JOINT, 8, 64)
    _, whole = cost.calculate(clip, 2, "toy", SAMPLES)
    _, without = cost.calculate(fused, 2, "toy", SAMPLES)
    tokens, heads = 1 + 8 * 16, 6
    assert whole - without == pytest.approx(2 * 2 * heads * tokens**2 * 4 / 2**20)


def test_what_takes_too_long_or_too_much_memory_is_calculated(tmp_path, monkeypatch):
    (tmp_path / "samples.json").write_text(cost.json.dumps(SAMPLES))
    monkeypatch.setattr(cost, "measure_forward", lambda *_: {"seconds": 7.0, "memory_mib": 8.0})
    case = {**cost.circumstances_of("clips", frames=8, side=32), "seed": 0}
    row = cost.measure(case, tmp_path, "toy")
    assert not row["is_calculated"] and (row["seconds"], row["memory_mib"]) == (7.0, 8.0)
    slow = cost.measure({**case, "batch": 256}, tmp_path, "toy")
    assert slow["is_calculated"] and slow["seconds"] == slow["calculated_seconds"] > 4
    monkeypatch.setattr(cost, "device_gib", lambda: 0.01)
    large = cost.measure(case, tmp_path, "toy")
    assert large["is_calculated"] and large["memory_mib"] == large["calculated_mib"]
    assert row.keys() == slow.keys() == large.keys()


def test_exponents_are_those_of_power_laws():
    rows = pandas.DataFrame({"frames": [4, 1, 2], "figure": [160.0, 10.0, 40.0], "seed": 0})
    assert cost.fit_exponents(rows, "frames", "figure") == pytest.approx((2.0, 2.0))
    bent = pandas.DataFrame({"frames": [1, 2, 4], "figure": [1.0, 2.0, 8.0], "seed": 0})
    assert cost.fit_exponents(bent, "frames", "figure") == pytest.approx((1.5, 2.0))
    assert cost.fit_exponents(bent[:1], "frames", "figure") is None


def test_claims_hold_where_rows_say_so():
    table = make_rows()
    assert verdicts(table) == ["holds"] * 6 + ["does not show"] * 2 + ["holds"] * 2
    joint_runs_out = make_rows(memory=lambda clip: 10.0 * clip.frames ** (1 if clip.attention == "divided" else 2.5))
    assert verdicts(joint_runs_out)[6:8] == ["holds"] * 2


def test_claims_fail_where_rows_say_so():
    square = make_rows(seconds=lambda clip, seed: 0.1 * clip.frames**2, streams=1.2)
    found = verdicts(square)
    assert found[1] == "the opposite" and found[9] == "the opposite"
    noisy = make_rows(seconds=lambda clip, seed: 0.1 * clip.frames ** (1 + seed))
    assert verdicts(noisy)[1] == "does not show"


def test_calculated_figures_are_in_italics_and_no_part_of_a_growth():
    table = make_rows()
    is_large = (table["frames"] == 96) & (table["attention"] == "divided")
    table.loc[is_large, ["is_calculated", "seconds"]] = [True, 1e6]
    line = next(line for line in cost.clip_lines(table) if line.startswith("| 96 × 224²"))
    assert "*1000000.00*" in line and line.count("*") == 4  # seconds and memory
    assert verdicts(table)[1] == "holds"
    assert "4.2 GB" in next(line for line in cost.clip_lines(table) if line.startswith("| 8 × 224²"))
