"""Attention through the interface: in chunks where a device takes no more rows at once."""

import pytest
import torch
from tiny_fal import assert_same, logits_and_gradients, random_clip, tiny_model
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fal_hf.model import multi_head_attention
from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.multi_head_attention import attend_in_chunks, eager_attention_forward

every_scheme = pytest.mark.parametrize("scheme", ATTENTION_TYPES)


@pytest.mark.parametrize("max_rows", [1, 3, 1000])
def test_attention_in_chunks_equals_one_call(max_rows):
    torch.manual_seed(0)
    module = torch.nn.Module()
    query, key, value = (torch.randn(7, 2, length, 4, dtype=torch.float64) for length in (3, 5, 5))
    arguments = (eager_attention_forward, module, query, key, value)
    expected_output, expected_weights = attend_in_chunks(*arguments, max_rows=None, scaling=0.5)
    output, weights = attend_in_chunks(*arguments, max_rows=max_rows, scaling=0.5)
    torch.testing.assert_close(output, expected_output)
    torch.testing.assert_close(weights, expected_weights)


class CudaLikeTensor(torch.Tensor):
    """A tensor in the computer's memory that says it is on a CUDA device."""

    is_cuda = True


@every_scheme
def test_cuda_attention_never_gets_more_rows_than_it_takes(scheme, monkeypatch):
    rows_of_calls = []

    def recording_attention(module, query, key, value, mask, **kwargs):
        rows_of_calls.append(query.shape[0])
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("recording", recording_attention)
    model = tiny_model(attention="recording", attention_type=scheme).double()
    clip = random_clip(model.config).double()
    monkeypatch.setattr(multi_head_attention, "MAX_CUDA_ATTENTION_ROWS", 3)
    expected = logits_and_gradients(model, clip)
    most_rows = max(rows_of_calls)
    rows_of_calls.clear()
    chunked = logits_and_gradients(model, clip.as_subclass(CudaLikeTensor))
    assert_same(chunked, expected, tolerance=1e-10)
    assert max(rows_of_calls) <= 3
    assert most_rows > 3 or scheme == "joint_space_time"


def test_the_limit_of_rows_is_that_of_a_cuda_launch_axis():
    assert multi_head_attention.MAX_CUDA_ATTENTION_ROWS == 2**16 - 1
