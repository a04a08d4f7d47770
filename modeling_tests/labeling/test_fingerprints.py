"""Weights that differ in anything have another hash, and those that do not have the same."""

import pytest
import torch

from fal_hf.labeling.fingerprints import hash_weights

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(()), "c": torch.ones(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize(
    "others",
    [
        {**WEIGHTS, "a": WEIGHTS["a"] + 1e-6},
        {**WEIGHTS, "a": WEIGHTS["a"].reshape(3, 2)},
        {**WEIGHTS, "c": torch.ones(2, dtype=torch.float16)},
        {"b": WEIGHTS["b"], "c": WEIGHTS["c"]},
        {"x": WEIGHTS["a"], "b": WEIGHTS["b"], "c": WEIGHTS["c"]},
    ],
    ids=["a value", "a shape", "a type", "one less", "a name"],
)
def test_other_weights_have_another_hash(others):
    assert hash_weights(others) != hash_weights(WEIGHTS)


def test_neither_order_nor_memory_matters():
    again = {name: WEIGHTS[name].clone() for name in "cab"}
    again["a"] = WEIGHTS["a"].T.contiguous().T  # the same numbers, otherwise in memory
    assert hash_weights(again) == hash_weights(WEIGHTS)
