"""The recipe of a training: groups of parameters, schedule, losses, averages of the weights."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny_fal import random_clip, tiny_model
from torch import nn
from torch.nn import functional as F

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from fal_hf.training.clips import IGNORED
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL
from fal_hf.training.recipe import (
    ClassificationLoss,
    RecipeArguments,
    average_weights,
    build_scheduler,
    parameter_depth,
    parameter_groups,
    rarity_weights,
)


def test_every_trained_parameter_is_in_one_group_and_only_matrices_decay():
    model = tiny_model(num_hidden_layers=3)
    model.fal.layers[0].requires_grad_(False)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    found = [parameter for group in groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in found}) == len(found)
    assert {id(one) for one in found} == {id(one) for one in model.parameters() if one.requires_grad}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith("weight") and "norm" not in name
        assert decays.get(id(parameter), 0.1 * is_matrix) == 0.1 * is_matrix, name


def test_the_learning_rate_falls_towards_the_embeddings():
    model = tiny_model(num_hidden_layers=3)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == 0.5 ** (4 - parameter_depth(name, 3))
    depths = {name: parameter_depth(name, 3) for name, _ in model.named_parameters()}
    assert depths["fal.embeddings.cls_token"] == 0 and depths["classifier.weight"] == 4
    assert depths["fal.layers.2.mlp.fc1.weight"] == 3 and depths["fal.layernorm.weight"] == 4


def test_the_learning_rate_drops_after_epochs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    recipe = RecipeArguments(lr_drop_epochs=[1, 2])
    scheduler = build_scheduler(optimizer, None, recipe, num_steps=9, epoch_steps=3)
    rates = []
    for _ in range(9):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0] * 3 + [0.1] * 3 + [0.01] * 3)


LOGITS = torch.linspace(-2, 2, 15).reshape(5, 3).sin() * 3
CLASSES_OF_FIVE = torch.tensor([0, 2, 1, 1, 0])


def loss_of(loss: ClassificationLoss, labels: torch.Tensor, rows=slice(None), **kwargs) -> torch.Tensor:
    return loss(SimpleNamespace(logits=LOGITS[rows]), labels[rows], **kwargs)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_cross_entropy_for_indices_and_shares(smoothing):
    loss = ClassificationLoss(SINGLE_LABEL, label_smoothing=smoothing)
    expected = F.cross_entropy(LOGITS, CLASSES_OF_FIVE, label_smoothing=smoothing)
    torch.testing.assert_close(loss_of(loss, CLASSES_OF_FIVE), expected)
    torch.testing.assert_close(loss_of(loss, F.one_hot(CLASSES_OF_FIVE, 3).float()), expected)


def test_the_loss_of_several_labels_is_torchs_binary_cross_entropy():
    labels = F.one_hot(CLASSES_OF_FIVE, 3).float()
    loss = ClassificationLoss(MULTI_LABEL, label_smoothing=0.2)
    torch.testing.assert_close(loss_of(loss, labels), F.binary_cross_entropy_with_logits(LOGITS, labels * 0.8 + 0.1))
    weighted = ClassificationLoss(MULTI_LABEL, class_weights=torch.tensor([1.0, 2.0, 3.0]))
    expected = F.binary_cross_entropy_with_logits(LOGITS, labels, pos_weight=torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(loss_of(weighted, labels), expected)


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        (SINGLE_LABEL, CLASSES_OF_FIVE),
        (SINGLE_LABEL, F.one_hot(CLASSES_OF_FIVE, 3) * 0.7 + 0.1),
        (MULTI_LABEL, F.one_hot(CLASSES_OF_FIVE, 3).float()),
    ],
)
def test_parts_of_a_batch_add_up_and_clips_left_out_change_nothing(problem_type, labels):
    loss = ClassificationLoss(problem_type, class_weights=torch.tensor([1.0, 2.0, 0.5]))
    whole = loss_of(loss, labels)
    parts = [loss_of(loss, labels, rows, num_items_in_batch=labels.numel()) for rows in (slice(2), slice(2, 5))]
    torch.testing.assert_close(sum(parts), whole)
    marked = labels.clone()
    marked[1] = IGNORED
    torch.testing.assert_close(loss_of(loss, marked), loss_of(loss, labels, [0, 2, 3, 4]))
    nothing = loss_of(loss, torch.full_like(labels, IGNORED))
    assert nothing == 0 and math.isfinite(nothing)


# ---- labels below others ----

LABELS = ("left", "right", "wide", "still", "pan")
RAGGED = {"left": "pan", "right": "pan", "pan": "turn", "turn": "movement", "wide": "zoom", "zoom": "movement"}


def hierarchy_model(problem_type: str):
    """A model whose labels stand below others, on one to four levels."""
    return tiny_model(
        grid=(2, 2, 2),
        id2label=dict(enumerate(LABELS)),
        label_attention="divided",
        label_integration_layer=1,
        label_embedding_size=6,
        label_hierarchy=RAGGED,
        problem_type=problem_type,
    )


def outputs_of(model, labels: torch.Tensor, **kwargs):
    return model(random_clip(model.config, batch=len(labels)), labels=labels, **kwargs)


SEVERAL = torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("problem_type", "labels"), [(SINGLE_LABEL, torch.tensor([0, 2, 3, 4])), (MULTI_LABEL, SEVERAL)]
)
def test_the_loss_with_labels_above_is_the_models_own(problem_type, labels):
    model = hierarchy_model(problem_type)
    outputs = outputs_of(model, labels, num_items_in_batch=labels.numel())
    loss = ClassificationLoss(problem_type, label_space=model.config.label_space)
    torch.testing.assert_close(loss(outputs, labels, labels.numel()), outputs.loss)
    if problem_type == SINGLE_LABEL:
        torch.testing.assert_close(loss(outputs, F.one_hot(labels).float(), 5 * labels.numel()), outputs.loss)


def test_the_levels_of_a_mixture_are_those_of_its_parts():
    """Cross-entropy is linear in the targets: of 0.7 of one label and 0.3 of another, so much of each one's loss."""
    model = hierarchy_model(SINGLE_LABEL)
    space = model.config.label_space
    outputs = outputs_of(model, torch.tensor([0]))
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    plain, weighted = (
        ClassificationLoss(SINGLE_LABEL, label_space=space, class_weights=one) for one in (None, weights)
    )
    by_label = [plain(outputs, torch.tensor([label])) for label in range(5)]
    mixture = torch.tensor([[0.7, 0.0, 0.0, 0.3, 0.0]])
    torch.testing.assert_close(plain(outputs, mixture), 0.7 * by_label[0] + 0.3 * by_label[3])
    torch.testing.assert_close(weighted(outputs, mixture), 0.7 * by_label[0] + 3 * 0.3 * by_label[3])
    smoothed = ClassificationLoss(SINGLE_LABEL, label_space=space, label_smoothing=0.2)
    expected = 0.8 * by_label[2] + 0.2 * torch.stack(by_label).mean()
    torch.testing.assert_close(smoothed(outputs, torch.tensor([2])), expected)


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        (SINGLE_LABEL, torch.tensor([0, 2, 3, 4])),
        (SINGLE_LABEL, F.one_hot(torch.tensor([0, 2, 3, 4]), 5) * 0.7 + 0.06),
        (MULTI_LABEL, SEVERAL * 0.7),
    ],
)
def test_parts_of_a_batch_with_labels_above_add_up(problem_type, labels):
    model = hierarchy_model(problem_type)
    size = 5 if problem_type == SINGLE_LABEL else len(model.config.label_space.names)
    loss = ClassificationLoss(
        problem_type,
        label_smoothing=0.1,
        class_weights=torch.linspace(0.5, 2, size),
        label_space=model.config.label_space,
    )
    outputs = model(random_clip(model.config, batch=4))
    whole = loss(outputs, labels)
    parts = [
        loss(
            SimpleNamespace(logits=outputs.logits[rows], label_logits=outputs.label_logits[rows]), labels[rows], count
        )
        for rows, count in ((slice(1), labels.numel()), (slice(1, 4), labels.numel()))
    ]
    torch.testing.assert_close(sum(parts), whole)
    marked = labels.clone()
    marked[1] = IGNORED
    rest = SimpleNamespace(logits=outputs.logits[[0, 2, 3]], label_logits=outputs.label_logits[[0, 2, 3]])
    torch.testing.assert_close(loss(outputs, marked), loss(rest, labels[[0, 2, 3]]))


def test_labels_as_tokens_learn_as_fast_as_the_head_and_their_embeddings_do_not_decay():
    model = hierarchy_model(SINGLE_LABEL)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if "label_" in name:
            assert found[id(parameter)]["lr"] == 1.0, name
    assert found[id(model.fal.label_embeddings.embeddings.weight)]["weight_decay"] == 0.0
    assert found[id(model.fal.embeddings.cls_token)]["lr"] == 0.125


def test_rare_labels_weigh_more_and_clips_weigh_one_on_average():
    labels = torch.tensor([0, 0, 0, 1])
    weights = rarity_weights(labels, 3)
    assert weights[labels].mean() == pytest.approx(1.0) and weights[1] == pytest.approx(3 * weights[0].item())
    several = torch.tensor([[1.0, 0], [1, 1], [1, 0], [0, 0]])
    assert rarity_weights(several, 2).tolist() == pytest.approx([1 / 3, 3.0])


@pytest.mark.parametrize("warms_up", [False, True])
def test_averaged_weights_are_those_of_the_formula(warms_up):
    model = nn.Linear(3, 2)
    average = average_weights(model, 0.8, warms_up=warms_up)
    expected = model.weight.detach().clone()
    for count in range(1, 40):
        nn.init.normal_(model.weight)
        decay = min(0.8, (1 + count) / (10 + count)) if warms_up else 0.8 * (count > 1)
        expected = decay * expected + (1 - decay) * model.weight.detach()
        average.update_parameters(model)
        torch.testing.assert_close(average.module.weight, expected)
    assert average_weights(model, 0.0) is None


def test_an_average_goes_on_where_its_state_was_saved():
    models = [nn.Linear(2, 2) for _ in range(4)]
    whole, first, second = (average_weights(models[0], 0.9, warms_up=True) for _ in range(3))
    for model in models[1:]:
        whole.update_parameters(model)
    first.update_parameters(models[1])
    second.load_state_dict(first.state_dict())
    for model in models[2:]:
        second.update_parameters(model)
    assert torch.equal(whole.module.weight, second.module.weight)


def test_scale_and_bias_of_a_head_of_similarity_do_not_decay_and_it_learns_as_a_head():
    model = tiny_model(classifier_type="similarity", label_embedding_size=6)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    head = {name: found[id(parameter)] for name, parameter in model.classifier.named_parameters()}
    assert {name: group["weight_decay"] for name, group in head.items()} == {
        "projection.weight": 0.1,
        "logit_scale": 0.0,
        "logit_bias": 0.0,
    }
    assert {group["lr"] for group in head.values()} == {1.0}
    assert id(model.fal.label_embeddings.embeddings.weight) not in found
