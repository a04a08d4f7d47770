"""Where a model looked: beside dense products of all steps, on clips of which it is known, and of videos."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from tiny_fal import GRIDS, VARIANTS, random_clip, tiny_config, tiny_model, variant_name

from fal_hf import (
    AdaptivePatches,
    Explanation,
    FALVideoClassifierForVideoClassification,
    Stretch,
    VideoError,
    VideoLabeler,
    Views,
)
from fal_hf.labeling.explanations import explain_clips, find_source
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, STEP_ATTENTIONS
from fal_hf.model.label_space import LABEL_MAPS

METHODS = ("gradient", "rollout")
LABELS = 5
# Label 3 stands above 0 and 1, and "x" above that.
HIERARCHY = {"LABEL_0": "LABEL_3", "LABEL_1": "LABEL_3", "LABEL_3": "x"}

# ---- the naive twin: every step as a matrix of all tokens ----


def groups_of(kind: str, grid: tuple[int, int, int]) -> list[list[int]]:
    """The numbers of the patches of each group, in the order in which weights are returned."""
    frames, rows, columns = grid
    number = np.arange(prod(grid)).reshape(grid)
    halves = [[slice(0, (side + 1) // 2), slice((side + 1) // 2, side)] for side in (rows, columns)]
    cells = {
        "clip": [number],
        "frame": list(number),
        "time": [number[:, row, column] for row, column in product(range(rows), range(columns))],
        "row": [number[frame, row] for frame, row in product(range(frames), range(rows))],
        "column": [number[frame, :, column] for frame, column in product(range(frames), range(columns))],
        "local": [number[:, height, width] for height, width in product(*halves)],
        "strided": [number[start::2, top::2, left::2] for start, top, left in product(range(2), repeat=3)],
    }[kind]
    cells = [cell for cell in cells if cell.size]
    shapes = list(dict.fromkeys(cell.shape for cell in cells))  # groups of a shape come together
    return [cell.ravel().tolist() for shape in shapes for cell in cells if cell.shape == shape]


def dense_step(weights, kind: str, grid, num_cls: int, cls_is_key: bool) -> torch.Tensor:
    """The matrix of a step among C CLS tokens and the patches, of weights (groups, queries, keys)."""
    groups = groups_of(kind, grid)
    size = num_cls + prod(grid)
    matrix = torch.zeros(size, size, dtype=weights.dtype)
    for index, members in enumerate(groups):
        patches = [num_cls + member for member in members]
        own_cls = list(range(num_cls)) if kind == "clip" else [index if num_cls > 1 else 0]
        keys = own_cls + patches if cls_is_key else patches
        queries = patches if kind == "time" else own_cls + patches
        for row, query in enumerate(queries):
            share = 1 / len(groups) if query == 0 and num_cls == 1 else 1.0
            for column, key in enumerate(keys):
                matrix[query, key] += share * weights[index, row, column]
    return matrix


def naive_heat(model, pixel_values: torch.Tensor, label: int, method: str, grid) -> torch.Tensor:
    """The relevance of one clip's patches, (T, H, W), by products of whole matrices."""
    config = model.config
    gates = record_gates(model)
    outputs = model(pixel_values.requires_grad_(), output_attentions=True)
    names = [name for name in (*STEP_ATTENTIONS.values(), *LABEL_MAPS.values()) if outputs.get(name)]
    maps = {}
    for name in names:
        maps[name] = []
        for number, weight in enumerate(outputs[name]):
            if method == "gradient":
                (gradient,) = torch.autograd.grad(
                    outputs.logits[0, label], weight, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                merged = (gradient * weight).clamp(min=0).mean(-3)
            else:
                gate = gates[name][number].abs()[..., None, None] if name in gates else 1.0
                merged = (gate * weight).mean(-3)
            maps[name].append(merged[0].detach())
    num_cls = grid[0] if config.attention_type == "space_only" else 1
    num_features = num_cls + prod(grid)
    num_labels = 0 if outputs.label_logits is None else outputs.label_logits.shape[1]
    size = num_features + num_labels
    features, labels = slice(0, num_features), slice(num_features, size)
    rows = torch.eye(size)

    def apply(*matrices: torch.Tensor):
        nonlocal rows
        total = sum(matrices)
        step = torch.eye(size) + total
        rows = (step / step.sum(1, keepdim=True) if method == "rollout" else step) @ rows

    def whole(matrix: torch.Tensor, queries: slice = features, keys: slice = features) -> torch.Tensor:
        full = torch.zeros(size, size)
        full[queries, keys] = matrix
        return full

    for index in range(config.num_hidden_layers):
        labels_are_there = config.label_attention != "none" and index >= config.label_integration_layer
        if labels_are_there and config.label_attention != "unified":
            for name, queries, keys in (
                ("level", labels, labels),
                ("family", labels, labels),
                ("features", labels, features),
                ("labels", features, labels),
            ):
                if LABEL_MAPS[name] in maps:
                    apply(whole(maps[LABEL_MAPS[name]].pop(0), queries, keys))
        if labels_are_there and config.label_attention == "label":
            continue
        if labels_are_there and config.label_attention == "unified":
            matrix = maps["attentions"].pop(0)[0]  # CLS, labels, patches
            order = [*range(num_cls), *range(num_cls + num_labels, size), *range(num_cls, num_cls + num_labels)]
            apply(matrix[order][:, order])
            continue
        steps = list(ATTENTION_SCHEMES[config.attention_type].steps.items())
        steps = steps[::-1] if config.attention_order == "space_time" else steps
        matrices = [
            whole(
                dense_step(
                    maps[STEP_ATTENTIONS[name]].pop(0),
                    kind,
                    grid,
                    num_cls,
                    cls_is_key=kind != "time" or config.cls_in_temporal_attention,
                )
            )
            for name, kind in steps
        ]
        if config.attention_order == "parallel":
            apply(*matrices)
        else:
            for matrix in matrices:
                apply(matrix)
    result = rows[:num_cls].mean(0)
    if num_labels:
        share = outputs.label_share[0].detach()
        result = (1 - share) * result + share * rows[num_features + source_of(outputs, label, model)]
    return result[num_cls:num_features].view(grid)


def source_of(outputs, label: int, model) -> int:
    """The label at the end of the path along which a label's score is handed up."""
    scores, parents = outputs.label_logits[0].tolist(), model.label_tree.space.parents
    while best := [child for child, above in enumerate(parents) if above == label and scores[child] >= scores[label]]:
        label = best[0]
    return label


def record_gates(model) -> dict[str, list[torch.Tensor]]:
    gates: dict[str, list[torch.Tensor]] = {}
    for layer in model.fal.label_layers:
        for name, step in layer.steps.items():
            if step.gate is not None:
                gates.setdefault(LABEL_MAPS[name], [])
                step.gate.register_forward_hook(
                    lambda module, inputs, output, name=name: gates[LABEL_MAPS[name]].append(output.detach())
                )
    return gates


def check_twin(model, grid, method: str, label: int = 3) -> None:
    pixel_values = random_clip(model.config, grid=grid)
    heat = explain_clips(model, pixel_values, label, method)
    assert heat.shape == (2, *grid) and heat.dtype == torch.float32 and (heat >= 0).all()
    for clip, result in zip(pixel_values, heat, strict=True):
        expected = naive_heat(model, clip[None].clone(), label, method, grid)
        torch.testing.assert_close(result, expected, atol=1e-6, rtol=2e-4)
        assert expected.sum() > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_every_scheme_is_the_product_of_its_matrices(variant, grid, method):
    check_twin(tiny_model(**variant), grid, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label_gates", [True, False])
@pytest.mark.parametrize("hierarchy", [None, HIERARCHY], ids=["flat", "hierarchy"])
@pytest.mark.parametrize("label_attention", ["label", "unified", "divided"])
@pytest.mark.parametrize(
    "variant",
    [{"attention_type": "axial"}, {"attention_type": "space_only"}, {"attention_order": "parallel"}],
    ids=variant_name,
)
def test_labels_as_tokens_are_steps_of_the_product(variant, label_attention, hierarchy, label_gates, method):
    labels = {"label_attention": label_attention, "label_integration_layer": 1, "label_gates": label_gates}
    model = tiny_model(num_hidden_layers=3, label_hierarchy=hierarchy, **labels, **variant)
    check_twin(model, (3, 5, 3), method)


def test_a_parent_is_explained_by_the_label_that_its_score_is_from():
    parents = (3, 3, -1, 5, 0, -1)
    assert find_source([2.0, 1.0, 9.0, 2.0, 0.5, 2.0], 5, parents) == 0
    assert find_source([1.0, 1.0, 9.0, 2.0, 0.5, 2.0], 5, parents) == 3
    assert find_source([1.0, 1.0, 9.0, 2.0, 0.5, 4.0], 5, parents) == 5
    assert find_source([1.0, 1.0, 9.0, 2.0, 0.5, 4.0], 2, parents) == 2


def test_rollout_of_a_clip_loses_nothing_but_what_stays_in_the_cls_token():
    model = tiny_model(attention_type="joint_space_time", num_hidden_layers=1)
    heat = explain_clips(model, random_clip(model.config), 0, "rollout")
    assert (heat.sum((1, 2, 3)) < 0.5).all()  # half of the one step, less its look at itself
    assert (heat.sum((1, 2, 3)) > 0.4).all()


def test_a_frozen_a_half_precise_and_a_compiled_model_are_explained():
    model = tiny_model(label_attention="divided", label_integration_layer=1)
    pixel_values = random_clip(model.config)
    expected = explain_clips(model, pixel_values, 1)
    torch.testing.assert_close(explain_clips(model.requires_grad_(False), pixel_values, 1), expected)
    model.compile(backend=lambda *_: pytest.fail("expected no compiling for what is explained once"))
    torch.testing.assert_close(explain_clips(model, pixel_values, 1), expected)
    half = explain_clips(model.to(torch.bfloat16), pixel_values.to(torch.bfloat16), 1)
    assert half.dtype == torch.float32
    assert torch.corrcoef(torch.stack([half.flatten(), expected.flatten()]))[0, 1] > 0.9


# ---- patches that adapt ----


@pytest.mark.parametrize("method", METHODS)
def test_what_a_cell_has_is_spread_over_its_four_patches(method):
    model = tiny_model(grid=(3, 5, 4), attention_type="joint_space_time")
    model.adapt_patches(AdaptivePatches(share=0.25))
    heat = explain_clips(model, random_clip(model.config), 1, method)
    cells = heat[:, :, :4].unflatten(3, (2, 2)).unflatten(2, (2, 2))  # (B, T, R, 2, K, 2)
    assert torch.equal(cells, cells[:, :, :, :1, :, :1].expand_as(cells))
    assert not torch.equal(heat[:, :, 4, 0], heat[:, :, 4, 1])  # the border is in no cell


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "patches", [AdaptivePatches(share=1.0), AdaptivePatches(threshold=0.0), AdaptivePatches(static_threshold=0.0)]
)
def test_patches_that_all_stay_are_explained_as_uniform_ones(patches, method):
    model = tiny_model(grid=(3, 5, 4), attention_type="joint_space_time")
    pixel_values = random_clip(model.config)
    expected = explain_clips(model, pixel_values, 1, method)
    model.adapt_patches(patches)
    torch.testing.assert_close(explain_clips(model, pixel_values, 1, method), expected, atol=1e-6, rtol=1e-4)


def test_a_grid_of_no_whole_cell_is_explained():
    model = tiny_model(grid=(3, 1, 4))
    pixel_values = random_clip(model.config)
    expected = explain_clips(model, pixel_values, 1)
    model.adapt_patches(AdaptivePatches(share=0.5))
    torch.testing.assert_close(explain_clips(model, pixel_values, 1), expected)


def test_some_cells_are_merged_and_nothing_is_lost():
    model = tiny_model(grid=(3, 5, 5))
    pixel_values = random_clip(model.config)
    pixel_values[..., :8, :8] *= 0.01  # nothing happens in the first cell
    model.adapt_patches(AdaptivePatches(threshold=0.5))
    heat = explain_clips(model, pixel_values[:1], 1, "rollout")
    first = heat[0, :, :2, :2]
    assert torch.equal(first, first[:, :1, :1].expand_as(first))
    assert not torch.equal(heat[0, :, 2, 2], heat[0, :, 2, 3])


def test_a_patch_that_stands_for_later_frames_shares_its_heat_with_them():
    model = tiny_model(grid=(4, 3, 2), attention_type="joint_space_time")
    pixel_values = random_clip(model.config, batch=1)
    pixel_values[:, 1:] = pixel_values[:, :1]
    pixel_values[:, 2:, :, :4, :4] += 1  # the first patch changes in frame 2
    model.adapt_patches(AdaptivePatches(static_threshold=0.1))
    heat = explain_clips(model, pixel_values, 1, "rollout")[0]
    rest = heat.flatten(1)[:, 1:]
    assert torch.equal(rest, rest[:1].expand_as(rest))
    assert heat[0, 0, 0] == heat[1, 0, 0] and heat[2, 0, 0] == heat[3, 0, 0] != heat[0, 0, 0]


# ---- what it says ----

SQUARE_GRID = (4, 6, 6)
SQUARE_SHARE = 4 / prod(SQUARE_GRID)


def square_clips(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Noise with two squares of 2 x 2 patches anywhere in two frames. Which channels they are in are the labels, (B, 3);
    masks (B, 3, T, H, W) say where each is.
    """
    generator = torch.Generator().manual_seed(seed)
    pixel_values = 0.3 * torch.randn(count, 4, 3, 24, 24, generator=generator)
    masks = torch.zeros(count, 3, *SQUARE_GRID, dtype=torch.bool)
    for clip in range(count):
        channels, frames = (torch.randperm(high, generator=generator)[:2].tolist() for high in (3, 4))
        for channel, frame in zip(channels, frames, strict=True):
            row, column = torch.randint(5, (2,), generator=generator).tolist()
            pixel_values[clip, frame, channel, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8] += 2
            masks[clip, channel, frame, row : row + 2, column : column + 2] = True
    return pixel_values, masks.flatten(2).any(-1), masks


def heat_in_squares(model, method: str) -> tuple[float, float]:
    """
    The share of a label's heat in its own square and in the other one, each over a square's share of the clip: the
    means of both labels of 24 clips.
    """
    pixel_values, labels, masks = square_clips(24, seed=1000)
    factors = []
    for clip, present, mask in zip(pixel_values, labels, masks, strict=True):
        pair = present.nonzero().flatten().tolist()
        for own, other in (pair, pair[::-1]):
            heat = explain_clips(model, clip[None], own, method)[0]
            factors.append([float((heat * mask[number]).sum() / heat.sum()) for number in (own, other)])
    own, other = np.mean(factors, axis=0) / SQUARE_SHARE
    return own, other


def square_model(attention_type: str) -> FALVideoClassifierForVideoClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_labels": 3}
    problem = {"problem_type": "multi_label_classification"}
    config = tiny_config(grid=SQUARE_GRID, attention_type=attention_type, **sizes, **problem)
    return FALVideoClassifierForVideoClassification(config).eval()


@pytest.fixture(
    scope="module",
    params=["joint_space_time", pytest.param("divided_space_time", marks=pytest.mark.slow)],
)
def trained(request):
    """A model that has learned in some seconds which channels the squares are in."""
    model = square_model(request.param).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(100):
        pixel_values, labels, _ = square_clips(32, seed=step)
        model(pixel_values, labels=labels.float()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_a_trained_model_looks_at_what_decides(trained):
    pixel_values, labels, _ = square_clips(24, seed=1000)
    with torch.no_grad():
        assert ((trained(pixel_values).logits > 0) == labels).float().mean() > 0.9
    own, other = heat_in_squares(trained, "rollout")
    assert own > 3
    assert own == pytest.approx(other)  # whatever the label


def test_the_gradient_tells_labels_apart(trained):
    own, other = heat_in_squares(trained, "gradient")
    assert own > 10
    assert own > 5 * other


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("attention_type", ["joint_space_time", "divided_space_time"])
def test_a_model_that_has_learned_nothing_looks_nowhere(attention_type, method):
    assert 0.5 < heat_in_squares(square_model(attention_type), method)[0] < 1.5


# ---- of videos ----


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "moving.mp4", moving_frames(30))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu")


@pytest.mark.parametrize("method", METHODS)
def test_a_video_is_explained_in_the_clips_that_it_is_labeled_by(labeler, video, method):
    best = labeler(video).labels[0]
    explanation = labeler.explain(video, method=method)
    assert isinstance(explanation, Explanation)
    assert (explanation.video, explanation.label, explanation.method) == (str(video), best.label, method)
    assert explanation.score == pytest.approx(best.score, abs=1e-6)
    with labeler.reader.open(video) as file:
        instants = labeler.reader.plan(file).clips.positions
    assert len(explanation.seconds) == len(np.unique(instants)) == 12
    assert (np.diff(explanation.seconds) > 0).all()
    assert explanation.heat.shape == (12, 4, 4) and explanation.heat.dtype == np.float32
    assert explanation.heat.min() >= 0 and explanation.heat.sum() == pytest.approx(1, abs=1e-5)
    assert explanation.by_frame.shape == (12,) and explanation.by_frame.sum() == pytest.approx(1, abs=1e-5)
    assert explanation.frames.shape == (12, 48, 48, 3) and explanation.frames.dtype == np.uint8


def test_a_clip_by_itself_is_the_model_s_map(tiny_checkpoint, video):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu", num_clips=1)
    stretch = Stretch(0.2, 1.0)
    explanation = labeler.explain(video, "c", stretch=stretch)
    scores = {label.label: label.score for label in labeler(video, stretch=stretch).labels}
    assert (explanation.label, explanation.score) == ("c", pytest.approx(scores["c"], abs=1e-6))
    with labeler.reader.open(video) as file:
        ((pixels,),) = labeler.reader.read(file, labeler.reader.plan(file, stretch))
    heat = explain_clips(labeler.model, torch.from_numpy(pixels[:, 0]), 2)[0].numpy()
    np.testing.assert_allclose(explanation.heat, heat / heat.sum(), rtol=1e-4, atol=1e-7)
    assert 0.2 <= explanation.seconds[0] < explanation.seconds[-1] <= 1.0


def test_a_frame_that_is_held_is_there_once(labeler, tmp_path):
    video = write_video(tmp_path / "short.mp4", moving_frames(2))
    explanation = labeler.explain(video)
    assert explanation.seconds.tolist() == pytest.approx([0, 1 / 25])
    assert explanation.heat.sum() == pytest.approx(1, abs=1e-5)


def test_where_nothing_speaks_for_the_label_the_heat_is_zero(labeler, video):
    model = tiny_model(id2label=dict(enumerate("abcde")))
    torch.nn.init.zeros_(model.classifier.weight)
    explanation = VideoLabeler(model, labeler.processor).explain(video)
    assert not explanation.heat.any()


def test_what_cannot_be_explained_is_refused_before_the_video_is_opened(labeler, tiny_checkpoint):
    gone = "gone.mp4"
    with pytest.raises(ValueError, match=r"label: expected one of a, b, c, d, e, got 'zebra'"):
        labeler.explain(gone, "zebra")
    with pytest.raises(ValueError, match="method: expected one of gradient, rollout, got 'saliency'"):
        labeler.explain(gone, method="saliency")
    for views in (Views(num_crops=3), Views(scales=(1.0, 1.5)), Views(windows=True)):
        with pytest.raises(ValueError, match="expected views of one crop at one scale and no windows"):
            VideoLabeler.from_pretrained(tiny_checkpoint, device="cpu", views=views).explain(gone)
    with pytest.raises(VideoError, match=gone):
        labeler.explain(gone)


def test_a_model_that_shows_no_attention_is_refused():
    with pytest.raises(ValueError, match=r"expected a FAL checkpoint in torch, .*, got Linear; of an export take"):
        explain_clips(torch.nn.Linear(1, 1), torch.zeros(1), 0)
