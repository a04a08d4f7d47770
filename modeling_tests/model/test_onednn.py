"""Linears on oneDNN: the same results, and only where they are faster."""

from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain, cycle, repeat

import pytest
import torch
from tiny_fal import tiny_config, tiny_model
from torch.nn import functional as F
from torch.testing import assert_close

from fal_hf.runtimes import onednn
from fal_hf.runtimes.onednn import CHOICE, LIBRARIES, OneDnnLinears, fast_linears, find_faster

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.mark.parametrize("shape", [(7, 3, 16), (16,), (0, 16), (2, 0, 16), (1, 2, 3, 16)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_linear_is_what_torch_computes(shape, has_bias):
    inputs, weight, bias = torch.randn(shape), torch.randn(8, 16), torch.randn(8) if has_bias else None
    expected = F.linear(inputs, weight, bias)
    with torch.inference_mode(), OneDnnLinears():
        assert_close(F.linear(inputs, weight, bias), expected, atol=1e-5, rtol=0)
        turned = torch.randn(3, 7, 16).transpose(0, 1)
        assert_close(F.linear(turned, weight), turned @ weight.T, atol=1e-5, rtol=0)
        assert F.linear(inputs.double(), weight.double()).dtype is torch.float64


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time", "sparse_local_global"])
def test_a_model_scores_the_same(attention_type, monkeypatch):
    model = tiny_model(tiny_config(attention_type=attention_type)).eval()
    pixel_values = torch.randn(2, *model.config.grid_size[:1], 3, *model.config.image_size)
    seen = []
    to_mkldnn = torch.Tensor.to_mkldnn
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda self: seen.append(self) or to_mkldnn(self))
    with torch.inference_mode():
        expected = model(pixel_values).logits
        assert not seen
        with OneDnnLinears():
            assert_close(model(pixel_values).logits, expected, atol=1e-5, rtol=0)
    assert len(seen) > model.config.num_hidden_layers


@pytest.mark.parametrize(
    ("faster", "is_large", "dtype", "chosen"),
    [
        ("onednn", True, torch.float32, OneDnnLinears),
        ("torch", True, torch.float32, nullcontext),
        ("onednn", False, torch.float32, nullcontext),
        ("onednn", True, torch.bfloat16, nullcontext),
    ],
)
def test_large_models_in_float32_take_what_is_faster(faster, is_large, dtype, chosen, monkeypatch):
    monkeypatch.delenv(CHOICE, raising=False)
    monkeypatch.setattr(onednn, "find_faster", lambda *sizes: faster)
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1 if is_large else 2**40)
    assert type(fast_linears(tiny_model().to(dtype))) is chosen


@pytest.fixture
def clock(monkeypatch):
    """Has each Linear of a trial take as many seconds as the test says."""
    onednn._try_both.cache_clear()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    trials = Trials()
    monkeypatch.setattr(onednn, "thread_time", trials.now)
    monkeypatch.setattr(onednn, "LIBRARIES", {name: partial(trials.product, name) for name in ("torch", "onednn")})
    yield trials
    onednn._try_both.cache_clear()


class Trials:
    """A clock that stands still but for the products of the two libraries, which take what `seconds` says."""

    def __init__(self):
        self.time, self.seconds, self.order = 0.0, {}, []

    def now(self) -> float:
        return self.time

    @contextmanager
    def product(self, name: str):
        yield
        self.order.append(name)
        self.time += next(self.seconds[name])


@pytest.mark.parametrize(
    ("own", "theirs", "faster"),
    [
        ([2.0], [1.0], "onednn"),
        ([1.0], [2.0], "torch"),
        ([1.2], [1.0], "torch"),  # nothing that is clear
        ([1.4], [1.0], "onednn"),
        ([9.0, 1.0, 7.0], [1.0], "torch"),  # a busy machine slows a trial down, and never speeds one up
        ([2.0], [9.0, 1.0, 7.0], "onednn"),
        ([0.0], [0.0], "torch"),  # a clock that is too coarse
    ],
)
def test_the_choice_follows_the_least_times_by_a_clear_margin(clock, own, theirs, faster):
    clock.seconds = {"torch": cycle(own), "onednn": cycle(theirs)}
    assert find_faster(1568, 192, 768) == faster
    assert clock.order[:4] == ["torch", "onednn"] * 2


def test_what_prepares_a_library_does_not_count(clock):
    clock.seconds = {"torch": chain([0.1], repeat(2.0)), "onednn": chain([60.0], repeat(1.0))}
    assert find_faster(1568, 192, 768) == "onednn"


def test_a_process_tries_once_for_each_size_and_keeps_to_the_answer(clock):
    clock.seconds = {"torch": repeat(2.0), "onednn": repeat(1.0)}
    assert find_faster(1568, 192, 768) == "onednn"
    of_one_trial = len(clock.order)
    clock.seconds = {"torch": repeat(1.0), "onednn": repeat(2.0)}
    assert find_faster(1568, 192, 768) == "onednn" and len(clock.order) == of_one_trial
    assert find_faster(1568, 384, 1536) == "torch" and len(clock.order) == 2 * of_one_trial


def test_a_torch_without_mkl_keeps_its_own(clock, monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert find_faster(1568, 192, 768) == "torch" and not clock.order


def test_a_trial_leaves_threads_and_random_numbers_as_they_are_and_is_no_larger_than_it_says(monkeypatch):
    monkeypatch.setattr(onednn, "TRIAL_MULTIPLICATIONS", 2**14)
    onednn._try_both.cache_clear()
    sizes, linear = [], F.linear
    monkeypatch.setattr(
        F,
        "linear",
        lambda inputs, *args: sizes.append((*inputs.shape, torch.get_num_threads())) or linear(inputs, *args),
    )
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    state, num_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert find_faster(1568, 32, 128) in LIBRARIES
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(num_threads)
        onednn._try_both.cache_clear()
    assert set(sizes) == {(4, 32, 1)}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("name", "chosen"), [("torch", nullcontext), ("onednn", OneDnnLinears)])
def test_the_environment_settles_the_library_without_a_trial(name, chosen, monkeypatch):
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1)
    monkeypatch.setattr(onednn, "find_faster", lambda *sizes: pytest.fail("tried"))
    monkeypatch.setenv(CHOICE, name)
    assert type(fast_linears(tiny_model())) is chosen
    assert type(fast_linears(tiny_model().to(torch.bfloat16))) is nullcontext
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert type(fast_linears(tiny_model())) is nullcontext


def test_an_environment_that_names_no_library_is_refused(monkeypatch):
    monkeypatch.setenv(CHOICE, "mkl")
    with pytest.raises(ValueError, match="FAL_LINEARS: expected torch or onednn in the environment, got 'mkl'"):
        fast_linears(tiny_model())
