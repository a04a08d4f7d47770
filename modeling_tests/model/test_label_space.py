"""Labels and those above them: numbers, levels, paths; and hierarchies that are none."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from fal_hf import FALConfig
from fal_hf.model.label_space import LabelSpace, read_parents

LABELS = ("left", "right", "wide", "pan")
HIERARCHY = {"left": "pan", "right": "pan", "pan": "turn", "wide": "zoom"}


def test_those_above_the_labels_stand_behind_them():
    space = LabelSpace.of(LABELS, HIERARCHY)
    assert space.names == (*LABELS, "turn", "zoom") and space.num_labels == 4
    assert space.parents == (3, 3, 5, 4, -1, -1)
    assert space.levels == (2, 2, 1, 1, 0, 0) and space.num_levels == 3
    assert space.path(0) == (4, 3, 0) and space.path(5) == (5,)


def test_the_order_of_a_hierarchy_does_not_matter():
    assert LabelSpace.of(LABELS, dict(reversed(HIERARCHY.items()))) == LabelSpace.of(LABELS, HIERARCHY)


def test_a_hundred_levels_are_not_too_many():
    assert LabelSpace.of(("0",), {str(n): str(n + 1) for n in range(99)}).num_levels == 100


def test_without_a_hierarchy_all_labels_are_of_one_level():
    space = LabelSpace.of(LABELS)
    assert space.names == LABELS and set(space.parents) == {-1} and space.num_levels == 1


def test_names_in_any_script_and_thousands_of_them():
    labels = [f"движение {number}" for number in range(10_000)]
    space = LabelSpace.of(labels, dict.fromkeys(labels, "動き"))
    assert space.names[-1] == "動き" and space.num_levels == 2


@pytest.mark.parametrize(
    ("labels", "hierarchy", "message"),
    [
        (LABELS, {"up": "tilt"}, r"up: expected labels of the model \(left, right, wide, pan\) or parents"),
        (LABELS, {"left": "pan", "pan": "left"}, "expected a hierarchy, got a label that is its own ancestor"),
        (LABELS, {"a": "b", "b": "a"}, "expected a hierarchy, got a label that is its own ancestor"),
        (LABELS, {"left": 3}, "expected an object of label and parent"),
        (LABELS, ["left"], "expected an object of label and parent"),
        (
            ("0",),
            {str(n): str(n + 1) for n in range(100)},
            "0: expected at most 100 levels, got more above this label",
        ),
        (("0",), {str(n): str(n + 1) for n in reversed(range(100_000))}, "expected at most 100 levels"),
        (("left", "left"), {"left": "pan"}, "left: expected labels that differ below a hierarchy"),
    ],
)
def test_what_is_no_hierarchy_is_refused(labels, hierarchy, message):
    with pytest.raises(ValueError, match=message):
        LabelSpace.of(labels, hierarchy)


def test_of_thousands_of_labels_a_message_names_a_few():
    labels = [f"label {number}" for number in range(10_000)]
    told = r"x0, x1, x10, x100, \.\.\.: expected labels of the model \(label 0, label 1, label 2, label 3, \.\.\.\)"
    with pytest.raises(ValueError, match=told) as refused:
        LabelSpace.of(labels, {f"x{number}": "y" for number in range(10_000)})
    assert len(str(refused.value)) < 200


def test_a_file_of_parents_is_held_against_the_labels(tmp_path):
    path = tmp_path / "parents.json"
    path.write_text('{"left": "pan"}')
    assert read_parents(path) == read_parents(path, LABELS) == {"left": "pan"}
    with pytest.raises(ValueError, match=r"parents.json: left: expected labels of the model \(up, down\) or parents"):
        read_parents(path, ["up", "down"])


def test_a_configuration_carries_its_hierarchy(tmp_path):
    fields = {"id2label": dict(enumerate(LABELS)), "label_attention": "divided", "label_hierarchy": HIERARCHY}
    FALConfig(**fields).save_pretrained(tmp_path)
    assert FALConfig.from_pretrained(tmp_path).label_space == LabelSpace.of(LABELS, HIERARCHY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_attention": "joint"}, "expected label_attention to be one of none, label, unified, divided"),
        ({"label_attention": "label", "num_hidden_layers": 8}, r"expected a label_integration_layer in \[0, 7\]"),
        ({"label_attention": "label", "label_integration_layer": -1}, "expected a label_integration_layer"),
        ({"label_embedding_size": 0}, "expected label_embedding_size >= 1"),
        ({"label_hierarchy": {"up": "tilt"}}, "label_hierarchy: up: expected labels of the model"),
        ({"label_hierarchy": [1]}, "label_hierarchy"),
    ],
)
def test_configurations_that_cannot_be_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        FALConfig(**fields)
