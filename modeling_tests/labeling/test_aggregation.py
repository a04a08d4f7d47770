"""From logits of several clips to one score a label."""

import json

import numpy as np
import pytest
import torch

from fal_hf.labeling.aggregation import (
    MULTI_LABEL,
    LabelHierarchy,
    Segment,
    Timeline,
    average_views,
    find_segments,
    label_probabilities,
    mean_probabilities,
    window_borders,
)

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]])


def test_single_label_scores_are_the_mean_of_the_softmax():
    expected = (torch.softmax(LOGITS[0], 0) + torch.softmax(LOGITS[1], 0)) / 2
    torch.testing.assert_close(mean_probabilities(LOGITS), expected)
    assert mean_probabilities(LOGITS).sum() == pytest.approx(1.0)


def test_multi_label_scores_are_the_mean_of_the_sigmoid():
    expected = (torch.sigmoid(LOGITS[0]) + torch.sigmoid(LOGITS[1])) / 2
    torch.testing.assert_close(mean_probabilities(LOGITS, "multi_label_classification"), expected)


def test_the_mean_is_of_probabilities_and_not_of_logits():
    assert not torch.allclose(mean_probabilities(LOGITS), LOGITS.mean(0).softmax(0), atol=1e-3)


def test_low_precision_logits_give_float32_probabilities():
    probabilities = label_probabilities(LOGITS.to(torch.bfloat16))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))


def test_a_regression_model_has_no_probabilities():
    with pytest.raises(ValueError, match="problem_type='regression'"):
        mean_probabilities(LOGITS, "regression")


# ---- views ----


def test_views_of_one_scale_are_averaged_over_the_crops():
    crops = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(average_views([crops], [1.0]), crops.mean(1))


def test_scales_weigh_less_the_further_they_are_from_the_models_own():
    scores = [torch.full((1, 1, 2), value) for value in (1.0, 2.0, 4.0)]
    expected = (0.5 * 1 + 1 * 2 + 0.8 * 4) / (0.5 + 1 + 0.8)
    torch.testing.assert_close(average_views(scores, [0.5, 1.0, 1.25]), torch.full((1, 2), expected))


# ---- label hierarchy ----

LABELS = ["pan_left", "pan_right", "zoom", "static"]
PARENTS = {"pan_left": "pan", "pan_right": "pan", "pan": "motion", "zoom": "motion"}


def test_a_parents_score_is_the_sum_of_all_labels_below_it():
    hierarchy = LabelHierarchy(PARENTS, LABELS)
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0]])
    assert hierarchy.labels == ("pan", "motion")
    torch.testing.assert_close(hierarchy.scores(scores), torch.tensor([[0.3, 0.6], [1.0, 1.0]]))


def test_a_parent_of_independent_labels_has_the_largest_score_below_it():
    scores = LabelHierarchy(PARENTS, LABELS).scores(torch.tensor([0.7, 0.2, 0.9, 0.4]), MULTI_LABEL)
    torch.testing.assert_close(scores, torch.tensor([0.7, 0.9]))


def test_a_parent_that_is_a_label_counts_itself():
    hierarchy = LabelHierarchy({"pan_left": "zoom"}, LABELS)
    torch.testing.assert_close(hierarchy.scores(torch.tensor([0.1, 0.2, 0.3, 0.4])), torch.tensor([0.4]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"pan_lfet": "pan"}', "pan_lfet: expected labels of the model"),
        ('{"pan_left": "pan", "pan": "motion", "motion": "pan"}', "its own ancestor"),
        ('{"pan_left": "pan", "a": "b", "b": "a"}', "its own ancestor"),
        ('["pan"]', "expected an object"),
        ('{"pan_left": 1}', "expected an object"),
        ('{"pan_left": ""}', "expected an object"),
        ("{}", "expected a parent at least"),
        ("[" * 100_000, "recursion"),
        ("{", "Expecting property name"),
    ],
)
def test_a_wrong_hierarchy_is_refused_with_the_files_name(tmp_path, text, message):
    path = tmp_path / "hierarchy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"hierarchy\.json: .*{message}"):
        LabelHierarchy.load(path, LABELS)


def test_a_hierarchy_is_read_from_a_file(tmp_path):
    path = tmp_path / "hierarchy.json"
    path.write_text(json.dumps(PARENTS))
    assert LabelHierarchy.load(path, LABELS).labels == ("pan", "motion")


# ---- segments ----


def test_windows_speak_for_the_time_that_is_nearest_to_their_middle():
    assert window_borders(np.array([0.0, 2.0, 4.0]), 2.0, 6.0).tolist() == [0, 2, 4, 6]
    assert window_borders(np.array([0.0, 1.0, 2.0]), 2.0, 4.0).tolist() == [0, 1.5, 2.5, 4]
    # the last window ends with the video and overlaps the one before it
    assert window_borders(np.array([0.0, 2.0, 3.0]), 2.0, 5.0).tolist() == [0, 2, 3.5, 5]
    assert window_borders(np.array([0.0]), 3.0, 3.0).tolist() == [0, 3]


def segments_of(scores, *, exclusive, labels="ab", **timeline):
    scores = np.array(scores, dtype=np.float32)
    borders = np.arange(len(scores) + 1, dtype=float)
    return find_segments(scores, borders, labels, Timeline(**timeline), exclusive=exclusive)


def test_consecutive_windows_of_a_label_merge_with_their_mean_and_peak():
    found = segments_of([[0.75, 0.25], [1.0, 0.0], [0.25, 0.75], [0.75, 0.25]], exclusive=True)
    assert found == [
        Segment("a", 0.0, 2.0, 0.875, 1.0),
        Segment("b", 2.0, 3.0, 0.75, 0.75),
        Segment("a", 3.0, 4.0, 0.75, 0.75),
    ]


def test_a_segment_goes_on_below_the_threshold_but_does_not_begin_there():
    scores = [[0.45, 0.1], [0.6, 0.1], [0.45, 0.1], [0.6, 0.1], [0.3, 0.1], [0.45, 0.1]]
    for exclusive in (True, False):
        (segment,) = segments_of(scores, exclusive=exclusive)
        assert (segment.start_seconds, segment.end_seconds) == (1.0, 4.0)
        spans = [(s.start_seconds, s.end_seconds) for s in segments_of(scores, exclusive=exclusive, hysteresis=0.0)]
        assert spans == [(1.0, 2.0), (3.0, 4.0)]


def test_independent_labels_overlap_and_exclusive_ones_do_not():
    scores = [[0.9, 0.2], [0.9, 0.6], [0.45, 0.9]]
    overlapping = segments_of(scores, exclusive=False)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in overlapping] == [("a", 0, 3), ("b", 1, 3)]
    exclusive = segments_of(scores, exclusive=True)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in exclusive] == [("a", 0, 2), ("b", 2, 3)]


def test_segments_shorter_than_the_minimum_are_left_out():
    scores = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]
    (segment,) = segments_of(scores, exclusive=True, min_seconds=1.5)
    assert (segment.label, segment.start_seconds, segment.end_seconds) == ("a", 2.0, 4.0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": 0.3, "hysteresis": 0.3}, "hysteresis"),
        ({"min_seconds": -1.0}, "min_seconds"),
    ],
)
def test_wrong_numbers_are_refused_by_name(options, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Timeline(**options)
