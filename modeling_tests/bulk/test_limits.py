"""What one video may take is a number above zero."""

import pytest

from fal_hf.bulk.limits import DecodeLimits


@pytest.mark.parametrize(
    "limits", [{"timeout_seconds": float("nan")}, {"timeout_seconds": -1.0}, {"max_memory_bytes": 0}]
)
def test_limits_are_above_zero(limits):
    with pytest.raises(ValueError, match="expected a number above 0, or None"):
        DecodeLimits(**limits)
