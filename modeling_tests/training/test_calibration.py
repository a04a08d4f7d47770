"""Temperature scaling on logits of a known temperature."""

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from fal_hf.training import Calibration, Fit
from fal_hf.training.calibration import cross_fit, fit_temperature, judge
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL
from fal_hf.training.metrics import negative_log_likelihood

TYPES = [SINGLE_LABEL, MULTI_LABEL]
COUNT = {SINGLE_LABEL: 60_000, MULTI_LABEL: 20_000}


def synthetic(problem_type: str, temperature: float, *, count: int | None = None, views: int = 1, seed: int = 0):
    """Logits (N, views, 5), and labels that are drawn from the scores that they give at a temperature."""
    generator = torch.Generator().manual_seed(seed)
    count = COUNT[problem_type] if count is None else count
    middle = 4 * torch.randn(count, 1, 5, generator=generator)
    logits = middle + torch.randn(count, views, 5, generator=generator)
    if problem_type == MULTI_LABEL:
        scores = (logits / temperature).sigmoid().mean(dim=1)
        return logits, torch.bernoulli(scores, generator=generator)
    scores = (logits / temperature).softmax(dim=-1).mean(dim=1)
    return logits, torch.multinomial(scores, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("problem_type", TYPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("views", [1, 3])
def test_a_known_temperature_is_found(problem_type, temperature, views):
    logits, labels = synthetic(problem_type, temperature, views=views)
    assert fit_temperature(logits, labels, problem_type) == pytest.approx(temperature, rel=0.02)


@pytest.mark.parametrize("problem_type", TYPES)
def test_no_other_temperature_is_likelier(problem_type):
    logits, labels = synthetic(problem_type, 1.8, count=200, views=2)
    best = fit_temperature(logits, labels, problem_type)
    likeliest = negative_log_likelihood(logits, labels, problem_type, temperature=best)
    for factor in (0.2, 0.8, 0.99, 1.01, 1.2, 4.0):
        other = negative_log_likelihood(logits, labels, problem_type, temperature=best * factor)
        assert other > likeliest


@pytest.mark.parametrize("problem_type", TYPES)
def test_each_half_is_divided_by_the_temperature_of_the_other(problem_type):
    logits, labels = synthetic(problem_type, 2.0, count=400)
    groups = [f"film {number // 4}" for number in range(400)]
    divided = cross_fit(logits, labels, problem_type, groups)
    ratio = (logits / divided).mean(dim=(1, 2))
    assert torch.equal(
        ratio.view(-1, 4).amin(dim=1).round(decimals=4), ratio.view(-1, 4).amax(dim=1).round(decimals=4)
    )
    is_first = ratio > ratio.mean()
    assert is_first.sum() == 200
    for half in (is_first, ~is_first):
        fitted = fit_temperature(logits[~half], labels[~half], problem_type)
        torch.testing.assert_close(divided[half], logits[half] / fitted)
    before, after = judge(logits, labels, problem_type), judge(divided, labels, problem_type)
    assert after.negative_log_likelihood < before.negative_log_likelihood
    assert after.calibration_error < before.calibration_error


@pytest.mark.parametrize(("sign", "reason"), [(1, "named all too well"), (-1, "tell nothing of their labels")])
def test_videos_that_tell_no_temperature_are_refused(sign, reason):
    logits, labels = 4 * sign * torch.eye(3)[:, None], torch.arange(3)
    with pytest.raises(ValueError, match=f"between 0.05 and 20, got 3 that do not: .*{reason}; take more videos"):
        fit_temperature(logits, labels, SINGLE_LABEL)


def test_videos_of_one_group_cannot_be_halved():
    logits, labels = synthetic(SINGLE_LABEL, 2.0, count=20)
    with pytest.raises(ValueError, match="videos of two groups at least to fit a temperature, got one: film"):
        cross_fit(logits, labels, SINGLE_LABEL, ["film"] * 20)


def test_a_calibration_is_read_as_a_table(tmp_path):
    fits = [Fit(calibration_error=error, negative_log_likelihood=10 * error) for error in (0.12345, 0.05)]
    calibration = Calibration(temperature=1.8312, num_videos=77, before=fits[0], after=fits[1], folder=tmp_path)
    lines = [line.split() for line in str(calibration).splitlines()]
    assert lines[0] == ["calibration", "on", "77", "videos:", "temperature", "1.831"]
    assert lines[2] == ["calibration", "error", "0.123", "0.050"]
    assert lines[3] == ["negative", "log", "likelihood", "1.235", "0.500"]
    assert calibration.to_dict()["after"] == {"calibration_error": 0.05, "negative_log_likelihood": 0.5}
