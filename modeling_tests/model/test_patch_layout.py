"""What may be asked of the layout of patches."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from fal_hf import AdaptivePatches, FALConfig
from fal_hf.model.patch_layout import count_places


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of share, threshold and static_threshold, got None, None and None"),
        ({"share": 0.5, "threshold": 1.0}, "expected one of share, threshold and static_threshold"),
        ({"threshold": 0.5, "static_threshold": 0.1}, "got None, 0.5 and 0.1"),
        ({"share": 0.24}, r"expected a share in \[0.25, 1\], got 0.24"),
        ({"share": 1.01}, "got 1.01"),
        ({"share": float("nan")}, "got nan"),
        ({"threshold": -0.1}, "expected a finite threshold of at least 0, got -0.1"),
        ({"threshold": float("inf")}, "got inf"),
        ({"threshold": float("nan")}, "got nan"),
        ({"static_threshold": -0.1}, "expected a finite threshold of at least 0, got -0.1"),
        ({"static_threshold": float("nan")}, "got nan"),
    ],
)
def test_what_is_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptivePatches(**options)


@pytest.mark.parametrize(
    ("share", "rows", "columns", "places"),
    [
        (0.25, 14, 14, 49),
        (0.5, 14, 14, 97),  # the next cell would make 100 of 98
        (1.0, 14, 14, 196),
        (0.25, 5, 5, 13),  # four merged cells and nine patches of the border
        (1.0, 5, 5, 25),
        (0.25, 1, 7, 7),  # no cell
    ],
)
def test_a_share_is_filled_with_whole_cells_and_never_exceeded_but_by_what_cannot_be_merged(
    share, rows, columns, places
):
    assert count_places(rows, columns, AdaptivePatches(share=share).count_split(rows, columns)) == places


@pytest.mark.parametrize("option", ["threshold", "static_threshold"])
def test_a_threshold_has_no_number_of_places(option):
    with pytest.raises(ValueError, match=r"give AdaptivePatches\(share=...\)"):
        AdaptivePatches(**{option: 1.0}).count_split(4, 4)


def test_a_configuration_says_what_adapts():
    assert FALConfig().adaptive_patches is None
    assert FALConfig(patch_share=0.3).adaptive_patches is None
    assert FALConfig(patch_layout="adaptive").adaptive_patches == AdaptivePatches(share=0.5)
    config = FALConfig(patch_layout="adaptive", patch_threshold=0.2)
    assert config.adaptive_patches == AdaptivePatches(threshold=0.2)
    config = FALConfig(patch_layout="static", patch_threshold=0.2, attention_type="joint_space_time")
    assert config.adaptive_patches == AdaptivePatches(static_threshold=0.2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_layout": "zebra"}, "expected patch_layout to be one of uniform, adaptive, static; got 'zebra'"),
        ({"patch_layout": "adaptive", "patch_share": 0.1}, "expected a share in"),
        ({"patch_layout": "adaptive", "patch_threshold": -1}, "expected a finite threshold"),
        ({"patch_layout": "adaptive", "attention_type": "axial"}, "got 'axial', which needs the rows and columns"),
        ({"patch_layout": "static", "attention_type": "joint_space_time"}, "patch_threshold: expected one with"),
        ({"patch_layout": "static", "patch_threshold": 0.1}, "which needs the same patches of all frames"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, message):
    with pytest.raises(StrictDataclassError) as caught:
        FALConfig(**fields)
    assert message in str(caught.value.__cause__ or caught.value)
