"""Linears on oneDNN: the same results and gradients, and only where they are faster and nobody can tell."""

from contextlib import contextmanager
from functools import partial
from itertools import chain, cycle, repeat

import pytest
import torch
from tiny_fal import assert_same, logits_and_gradients, random_clip, tiny_config, tiny_model
from torch.nn import functional as F
from torch.testing import assert_close

from fal_hf.model import onednn
from fal_hf.model.onednn import CHOICE, LIBRARIES, OneDnnLinears, choose_library, find_faster, multiply

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
CPU = torch.device("cpu")


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


@pytest.mark.parametrize("shape", [(7, 3, 16), (16,), (0, 16), (1, 2, 3, 16)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=str)
def test_gradients_of_a_linear_are_those_of_torch(shape, has_bias, frozen):
    torch.manual_seed(0)
    tensors = [torch.randn(shape), torch.randn(5, 16), *([torch.randn(5)] if has_bias else [])]
    tensors = [tensor / 8 for tensor in tensors]  # gradients of gradients are of the fifth power
    for number, tensor in enumerate(tensors):
        tensor.requires_grad_(number not in frozen)
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    gradients = []
    for library in LIBRARIES.values():
        with library():
            results = [F.linear(*tensors) for _ in range(2)]
        first = torch.autograd.grad(results[0].square().sum(), wanted, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), wanted)
        spread = torch.autograd.grad(results[1].sum(), wanted)  # the gradient of a sum has no memory of its own
        gradients.append([*first, *second, *spread])
    assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@pytest.fixture
def products(monkeypatch):
    """Has tiny models run on oneDNN, and counts the products that do."""
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1)
    monkeypatch.setenv(CHOICE, "onednn")
    counted = []
    monkeypatch.setattr(onednn, "multiply", lambda *args: counted.append(args) or multiply(*args))
    return counted


@pytest.mark.parametrize("fields", [{"attention_type": "joint_space_time"}, {}, {"attention_type": "axial"}], ids=str)
@pytest.mark.parametrize("checkpointing", [None, False, True])
def test_a_model_trains_and_scores_the_same(fields, checkpointing, products, monkeypatch):
    model = tiny_model(tiny_config(grid=(3, 5, 3), **fields))
    clip = random_clip(model.config)
    monkeypatch.setenv(CHOICE, "torch")
    expected = logits_and_gradients(model, clip)
    assert not products
    monkeypatch.setenv(CHOICE, "onednn")
    if checkpointing is not None:
        model.train().gradient_checkpointing_enable({"use_reentrant": checkpointing})
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-4)
    assert len(products) >= 4 * model.config.num_hidden_layers
    with torch.inference_mode():
        assert_close(model.eval()(clip).logits, expected[0], atol=1e-5, rtol=0)


def test_labels_as_tokens_run_on_it(products):
    model = tiny_model(tiny_config(label_attention="divided", label_integration_layer=1))
    with torch.no_grad():
        model(random_clip(model.config))
    assert any(args[1] is model.fal.label_layers[0].mlp.fc1.weight for args in products)


@torch.no_grad()
def test_nothing_but_plain_tensors_in_float32_runs_on_it(products):
    model = tiny_model()
    clip = random_clip(model.config)
    with torch.autocast("cpu", torch.bfloat16):
        model(clip)
    torch.jit.trace(model, clip, strict=False, check_trace=False)
    torch.export.export(model, (clip,))
    torch.compile(model, backend="eager", fullgraph=True)(clip)
    with torch.backends.mkldnn.flags(enabled=False):
        model(clip)
    tiny_model().to("meta")(clip.to("meta"))
    tiny_model().to(torch.bfloat16)(clip.to(torch.bfloat16))
    assert not products
    model(clip)
    assert products


def test_weights_that_change_are_those_that_are_used(products):
    model = tiny_model()
    clip = random_clip(model.config)
    with torch.no_grad():
        before = model(clip).logits
        model.load_state_dict(tiny_model(seed=1).state_dict())
        assert not torch.allclose(model(clip).logits, before)
        assert torch.equal(model(clip).logits, tiny_model(seed=1)(clip).logits)


@pytest.mark.parametrize(
    ("faster", "is_large", "dtype", "chosen"),
    [
        ("onednn", True, torch.float32, "onednn"),
        ("torch", True, torch.float32, "torch"),
        ("onednn", False, torch.float32, "torch"),
        ("onednn", True, torch.bfloat16, "torch"),
    ],
)
def test_large_models_in_float32_take_what_is_faster(faster, is_large, dtype, chosen, monkeypatch):
    monkeypatch.delenv(CHOICE, raising=False)
    monkeypatch.setattr(onednn, "find_faster", lambda *sizes: faster)
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1 if is_large else 2**40)
    assert choose_library(tiny_config(), CPU, dtype) == chosen


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


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_environment_settles_the_library_without_a_trial(name, monkeypatch):
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1)
    monkeypatch.setattr(onednn, "find_faster", lambda *sizes: pytest.fail("tried"))
    monkeypatch.setenv(CHOICE, name)
    assert choose_library(tiny_config(), CPU, torch.float32) == name
    assert choose_library(tiny_config(), CPU, torch.bfloat16) == "torch"
    assert choose_library(tiny_config(), torch.device("cuda"), torch.float32) == "torch"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_library(tiny_config(), CPU, torch.float32) == "torch"


def test_an_environment_that_names_no_library_is_refused(monkeypatch):
    monkeypatch.setenv(CHOICE, "mkl")
    with pytest.raises(ValueError, match="FAL_LINEARS: expected torch or onednn in the environment, got 'mkl'"):
        choose_library(tiny_config(), CPU, torch.float32)
