"""Labels as tokens: against a naive implementation, as checkpoints start, and what their scores and losses promise."""

import pytest
import torch
from naive_fal import label_mask, naive_label_scores
from tiny_fal import (
    GRIDS,
    VARIANTS,
    assert_same,
    logits_and_gradients,
    random_clip,
    randomise,
    realigned,
    tiny_config,
    tiny_model,
    variant_name,
)
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fal_hf import FALModel, FALVideoClassifierForVideoClassification
from fal_hf.model.label_space import LABEL_ATTENTIONS

ID2LABEL = dict(enumerate(("left", "right", "wide", "still", "pan")))
# Ragged: one, two and three levels above; a parent that is a label itself, others that are not; not sorted.
RAGGED = {"wide": "zoom", "zoom": "movement", "right": "pan", "pan": "turn", "turn": "movement", "left": "pan"}
HIERARCHIES = {"flat": None, "ragged": RAGGED}
WITH_LABELS = LABEL_ATTENTIONS[1:]
WITH_CROSSINGS = ("label", "divided")

every_label_attention = pytest.mark.parametrize("label_attention", WITH_LABELS)
every_hierarchy = pytest.mark.parametrize("hierarchy", HIERARCHIES)


def label_config(label_attention: str, hierarchy: str = "ragged", **fields):
    sizes = {"num_hidden_layers": 3, "label_integration_layer": 1, "label_embedding_size": 6, "grid": (2, 3, 2)}
    names = {"id2label": ID2LABEL, "num_labels": len(ID2LABEL), "label_hierarchy": HIERARCHIES[hierarchy]}
    return tiny_config(**{**sizes, **names, "label_attention": label_attention, **fields})


@every_label_attention
@every_hierarchy
@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_scores_and_gradients_equal_the_naive_ones(label_attention, hierarchy, variant):
    grid = GRIDS[1] if hierarchy == "ragged" else GRIDS[3]
    model = tiny_model(label_config(label_attention, hierarchy, grid=grid, **variant)).double()
    clip = random_clip(model.config).double()

    def naive_logits(model, clip):
        return naive_label_scores(model, clip)[0][:, : len(ID2LABEL)]

    expected = logits_and_gradients(model, clip, naive_logits)
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-9)


@pytest.mark.parametrize("label_attention", WITH_CROSSINGS)
@every_hierarchy
def test_without_gates_scores_and_gradients_equal_the_naive_ones(label_attention, hierarchy):
    model = tiny_model(label_config(label_attention, hierarchy, label_gates=False)).double()
    assert not [name for name, _ in model.named_parameters() if "gate" in name]
    clip = random_clip(model.config).double()

    def naive_logits(model, clip):
        return naive_label_scores(model, clip)[0][:, : len(ID2LABEL)]

    expected = logits_and_gradients(model, clip, naive_logits)
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-9)


@pytest.mark.parametrize("label_attention", WITH_CROSSINGS)
def test_a_crossing_has_a_gate_or_a_bias(label_attention):
    def parameters(*, label_gates: bool) -> set[str]:
        model = FALVideoClassifierForVideoClassification(label_config(label_attention, label_gates=label_gates))
        return {name for name, _ in model.named_parameters()}

    gated, plain = parameters(label_gates=True), parameters(label_gates=False)
    crossings = ("features", "labels") if label_attention == "divided" else ("features",)
    steps = [f"fal.label_layers.{index}.steps.{name}" for index in range(2) for name in crossings]
    assert plain - gated == {f"{step}.o_proj.bias" for step in steps}
    gates = ("scale", "share.weight", "share.bias")
    assert gated - plain == {f"{step}.gate.{name}" for step in steps for name in gates}


@every_label_attention
@every_hierarchy
def test_scores_of_all_labels_and_the_share_equal_the_naive_ones(label_attention, hierarchy):
    model = tiny_model(label_config(label_attention, hierarchy)).double()
    clip = random_clip(model.config).double()
    outputs, (scores, share) = model(clip), naive_label_scores(model, clip)
    torch.testing.assert_close(outputs.label_logits, scores)
    torch.testing.assert_close(outputs.label_share, share[:, 0])


@every_label_attention
@every_hierarchy
def test_the_temperature_divides_the_scores_of_all_labels(label_attention, hierarchy):
    model = tiny_model(label_config(label_attention, hierarchy)).double()
    clip = random_clip(model.config).double()
    undivided = model(clip)
    model.config.temperature = 0.6
    outputs = model(clip)
    assert torch.equal(outputs.label_logits, undivided.label_logits / 0.6)
    assert torch.equal(outputs.logits, outputs.label_logits[:, : len(ID2LABEL)])
    torch.testing.assert_close(outputs.label_logits, naive_label_scores(model, clip)[0])


@every_label_attention
def test_every_block_may_be_the_first_with_labels(label_attention):
    for first in range(3):
        model = tiny_model(label_config(label_attention, label_integration_layer=first)).double()
        clip = random_clip(model.config).double()
        torch.testing.assert_close(model(clip).label_logits, naive_label_scores(model, clip)[0])


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_features_start_as_those_without_labels_bit_for_bit(variant):
    plain = FALModel(tiny_config(num_hidden_layers=3, **variant)).eval()
    divided = FALModel(label_config("divided", grid=(4, 4, 4), **variant)).eval()
    missing, unexpected = divided.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("label_") for name in missing)
    clip = random_clip(plain.config)
    for cls_only in (False, True):
        expected, found = plain(clip, cls_only=cls_only), divided(clip, cls_only=cls_only)
        assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert found.label_hidden_state.shape == (2, 8, 16)


def test_a_model_without_labels_has_nothing_of_them():
    model = FALVideoClassifierForVideoClassification(label_config("none"))
    assert not [name for name, _ in model.named_parameters() if "label" in name]
    outputs = model(random_clip(model.config))
    assert outputs.label_logits is None and outputs.label_share is None


@every_label_attention
def test_a_parent_is_never_below_its_children_and_the_share_is_a_share(label_attention):
    for seed in range(5):
        model = tiny_model(label_config(label_attention), seed=seed, std=0.5)
        outputs = model(random_clip(model.config, batch=8, seed=seed))
        names = model.config.label_space.names
        scores = dict(zip(names, outputs.label_logits.unbind(1), strict=True))
        for child, parent in RAGGED.items():
            assert (scores[parent] >= scores[child]).all()
        assert torch.equal(outputs.logits, outputs.label_logits[:, : len(ID2LABEL)])
        assert ((outputs.label_share >= 0) & (outputs.label_share <= 1)).all() and outputs.label_share.std() > 0


def test_maps_of_labels_show_whom_they_see():
    model = tiny_model(label_config("divided"))
    outputs = model(random_clip(model.config), output_attentions=True)
    names = list(model.config.label_space.names)
    features = 1 + 2 * 3 * 2
    shapes = {
        "level_attentions": (len(names), len(names)),
        "family_attentions": (len(names), len(names)),
        "label_attentions": (len(names), features),
        "feature_label_attentions": (features, len(names)),
    }
    for output, shape in shapes.items():
        maps = outputs[output]
        assert len(maps) == 2 and all(weights.shape == (2, 2, *shape) for weights in maps)
        torch.testing.assert_close(maps[0].sum(-1), torch.ones_like(maps[0].sum(-1)))
    for step in ("level", "family"):
        for weights in outputs[f"{step}_attentions"]:
            assert torch.equal((weights > 0).all(0).all(0), label_mask(step, names, RAGGED))


@every_label_attention
def test_implementations_that_know_no_masks_get_none(label_attention):
    def unmasked_attention(module, query, key, value, mask, **kwargs):
        assert mask is None
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("unmasked", unmasked_attention)
    config = label_config(label_attention)
    clip = random_clip(config)
    expected = tiny_model(config)(clip).label_logits
    torch.testing.assert_close(tiny_model(config, attention="unmasked")(clip).label_logits, expected)
    torch.testing.assert_close(tiny_model(config, attention="eager")(clip).label_logits, expected)


# ---- losses ----


def paths(labels: torch.Tensor) -> list[list[str]]:
    """The names from the most general one to each label."""
    result = []
    for number in labels.tolist():
        path = [ID2LABEL[number]]
        while path[0] in RAGGED:
            path.insert(0, RAGGED[path[0]])
        result.append(path)
    return result


DEPTHS = {"movement": 0, "still": 0, "turn": 1, "zoom": 1, "pan": 2, "wide": 2, "left": 3, "right": 3}


def naive_level_loss(model, outputs, rows: list[list[str | None]]) -> torch.Tensor:
    """The sum over clips and levels of the cross-entropy among a level's labels, where a clip has one there."""
    names, losses = list(model.config.label_space.names), []
    for level in range(4):
        members = [name for name in names if DEPTHS[name] == level]
        scores = outputs.label_logits[:, [names.index(name) for name in members]]
        losses += [
            F.cross_entropy(scores[row], torch.tensor(members.index(path[level])))
            for row, path in enumerate(rows)
            if level < len(path) and path[level] is not None
        ]
    return torch.stack(losses).sum()


@every_label_attention
def test_the_loss_of_one_label_has_a_part_for_each_level(label_attention):
    model = tiny_model(label_config(label_attention))
    clip, labels = random_clip(model.config, batch=4), torch.tensor([0, 2, 3, 4])
    outputs = model(clip, labels=labels)
    level_loss = naive_level_loss(model, outputs, paths(labels)) / (len(labels) * 4)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits, labels) + level_loss)


def test_a_label_a_level_may_be_given_and_be_unknown():
    model = tiny_model(label_config("divided"))
    numbers = {name: number for number, name in enumerate(model.config.label_space.names)}
    rows = [["movement", "turn", "pan", "left"], ["movement", None, None, None], ["still", None, None, None]]
    labels = torch.tensor([[-100 if name is None else numbers[name] for name in row] for row in rows])
    outputs = model(random_clip(model.config, batch=3), labels=labels)
    num_known = sum(name is not None for row in rows for name in row)
    torch.testing.assert_close(outputs.loss, naive_level_loss(model, outputs, rows) / num_known)


def test_several_labels_make_those_above_them_true():
    model = tiny_model(label_config("divided", problem_type="multi_label_classification"))
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]])
    outputs = model(random_clip(model.config), labels=labels)
    names = model.config.label_space.names
    true = [{"left", "pan", "turn", "movement"}, {"wide", "still", "zoom", "movement"}]
    targets = torch.tensor([[float(name in row) for name in names] for row in true])
    torch.testing.assert_close(outputs.loss, F.binary_cross_entropy_with_logits(outputs.label_logits, targets))


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 2, 3, 4]),
        torch.tensor([0, -100, 3, 4]),
        torch.tensor([[7, 5, 4, 0], [7, -100, -100, -100], [3, -100, -100, -100], [7, 6, 2, -100]]),
        torch.eye(5)[[0, 2, 3, 4]],
    ],
)
def test_accumulated_losses_are_those_of_the_large_batch(labels):
    problem_type = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
    model = tiny_model(label_config("divided", problem_type=problem_type))
    clip = random_clip(model.config, batch=4)
    num_items = (labels != -100).sum()
    whole = model(clip, labels=labels).loss
    halves = [model(clip[part], labels=labels[part], num_items_in_batch=num_items).loss for part in ([0, 1], [2, 3])]
    torch.testing.assert_close(sum(halves), whole)


def test_a_clip_without_a_known_label_is_left_out_of_the_loss():
    model = tiny_model(label_config("divided"))
    clip, labels = random_clip(model.config, batch=3), torch.tensor([0, -100, 3])
    expected = model(clip[[0, 2]], labels=labels[[0, 2]]).loss
    torch.testing.assert_close(model(clip, labels=labels).loss, expected)


def test_several_labels_count_for_as_many_items_as_they_are():
    model = tiny_model(label_config("divided", problem_type="multi_label_classification"))
    clip, labels = random_clip(model.config), torch.eye(5)[[1, 3]]
    expected = model(clip, labels=labels).loss
    torch.testing.assert_close(model(clip, labels=labels, num_items_in_batch=labels.numel()).loss, expected)


# ---- at home in transformers ----


@every_label_attention
@every_hierarchy
@pytest.mark.parametrize("label_gates", [True, False])
def test_a_saved_model_is_the_same(label_attention, hierarchy, label_gates, tmp_path):
    model = tiny_model(label_config(label_attention, hierarchy, label_gates=label_gates))
    model.save_pretrained(tmp_path)
    loaded = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path).eval()
    assert loaded.config.label_hierarchy == HIERARCHIES[hierarchy]
    clip = random_clip(model.config)
    assert torch.equal(realigned(loaded)(clip).label_logits, realigned(model)(clip).label_logits)


@every_label_attention
def test_parts_of_a_model_may_lie_on_the_disk(label_attention, tmp_path):
    model = tiny_model(label_config(label_attention))
    model.save_pretrained(tmp_path)
    parts = {name: "cpu" for name, _ in [*model.fal.named_children(), *model.named_children()] if name != "fal"}
    devices = {name if hasattr(model, name) else f"fal.{name}": device for name, device in parts.items()}
    devices |= {"fal.label_embeddings": "disk", "fal.layers": "disk", "label_head": "disk"}
    again = FALVideoClassifierForVideoClassification.from_pretrained(
        tmp_path, device_map=devices, offload_folder=tmp_path / "offload"
    ).eval()
    clip = random_clip(model.config)
    torch.testing.assert_close(again(clip).label_logits, model(clip).label_logits)


@every_label_attention
def test_gradient_checkpointing_changes_nothing(label_attention):
    config = label_config(label_attention)
    clip = random_clip(config)
    model, checkpointed = tiny_model(config), tiny_model(config)
    checkpointed.gradient_checkpointing_enable()
    for each in (model, checkpointed):
        each.train()
    assert_same(logits_and_gradients(checkpointed, clip), logits_and_gradients(model, clip), tolerance=1e-6)


@every_label_attention
@pytest.mark.slow
def test_it_compiles_in_one_graph_and_exports(label_attention):
    model = tiny_model(label_config(label_attention))
    clip = random_clip(model.config)
    expected = model(clip).label_logits
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(clip).label_logits, expected, atol=1e-5, rtol=1e-5)
    exported = torch.export.export(model, (clip,), strict=False).module()
    torch.testing.assert_close(exported(clip).label_logits, expected, atol=1e-5, rtol=1e-5)


@every_label_attention
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_runs_in_half_precision(label_attention, dtype):
    model = tiny_model(label_config(label_attention))
    clip = random_clip(model.config)
    expected = model(clip).label_logits
    found = model.to(dtype)(clip).label_logits
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


@every_label_attention
def test_thousands_of_labels_in_any_script(label_attention):
    names = {number: f"метка {number}" for number in range(3000)}
    groups = {name: f"组 {number // 50}" for number, name in names.items()}
    config = label_config(label_attention, id2label=names, num_labels=3000, label_hierarchy=groups)
    outputs = FALVideoClassifierForVideoClassification(config).eval()(random_clip(config, batch=1))
    assert outputs.label_logits.shape == (1, 3060) and outputs.label_logits.isfinite().all()


def test_gates_open_in_training():
    model = FALVideoClassifierForVideoClassification(label_config("divided"))
    randomise(model.fal.label_embeddings)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    clip, labels = random_clip(model.config, batch=4), torch.tensor([0, 1, 2, 3])
    for _ in range(2):
        optimizer.zero_grad()
        model(clip, labels=labels).loss.backward()
        optimizer.step()
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("gate.scale")]
    assert len(scales) == 4 and all(scale.abs().max() > 0 for scale in scales)
