"""Linears on oneDNN: the same results, and only where they are faster."""

from contextlib import nullcontext

import pytest
import torch
from tiny_fal import tiny_config, tiny_model
from torch.nn import functional as F
from torch.testing import assert_close

from fal_hf.runtimes import onednn
from fal_hf.runtimes.onednn import OneDnnLinears, fast_linears, is_amd_processor

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
    ("is_amd", "is_large", "dtype", "chosen"),
    [
        (True, True, torch.float32, OneDnnLinears),
        (False, True, torch.float32, nullcontext),
        (True, False, torch.float32, nullcontext),
        (True, True, torch.bfloat16, nullcontext),
    ],
)
def test_only_large_models_in_float32_on_amd_processors_take_it(is_amd, is_large, dtype, chosen, monkeypatch):
    monkeypatch.setattr(onednn, "prefers_onednn", lambda: is_amd)
    monkeypatch.setattr(onednn, "MIN_MULTIPLICATIONS", 1 if is_large else 2**40)
    assert type(fast_linears(tiny_model().to(dtype))) is chosen


@pytest.mark.parametrize(("vendor", "is_amd"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processors_maker_is_what_the_system_says(vendor, is_amd, tmp_path, monkeypatch):
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(onednn, "CPU_DESCRIPTION", described)
    assert is_amd_processor() is is_amd
    described.unlink()
    monkeypatch.setattr(onednn.platform, "processor", lambda: f"Family 25 Model 17 Stepping 1, {vendor}")
    assert is_amd_processor() is is_amd
