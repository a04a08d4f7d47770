"""Patches that adapt: against a naive twin, beside the uniform layout, in batches of clips that differ."""

from itertools import product

import pytest
import torch
from naive_fal import feature_block, frames_apart, frames_together, norm
from tiny_fal import (
    DIVIDED,
    ORDERS,
    assert_same,
    logits_and_gradients,
    random_clip,
    randomise,
    realigned,
    tiny_config,
    tiny_model,
    variant_name,
)
from torch import nn

from fal_hf import AdaptivePatches, FALModel, FALVideoClassifierForVideoClassification
from fal_hf.model.adaptive_patches import find_changes, find_places, measure_complexity, split_cells
from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.modeling_fal import resize_positions, resize_times

VARIANTS = [
    *({"attention_type": name} for name in ("space_only", "joint_space_time")),
    *({"attention_type": DIVIDED, "attention_order": order} for order in ORDERS),
]
# (frames, rows, columns) of patches: even, odd in both, one or none of the sides; of a single frame, without a cell.
GRIDS = [(3, 4, 6), (2, 5, 3), (1, 4, 3), (2, 1, 3), (1, 1, 1)]
ADAPTIVE = {"patch_layout": "adaptive"}
JOINT = {"attention_type": "joint_space_time"}
STATIC = {**JOINT, "patch_layout": "static", "patch_threshold": 0.3}

THRESHOLDS = [{**ADAPTIVE, "patch_threshold": 1.0}, STATIC]

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
every_threshold = pytest.mark.parametrize("patches", THRESHOLDS, ids=str)
every_layout = pytest.mark.parametrize("patches", [{**ADAPTIVE, "patch_share": 0.6}, *THRESHOLDS], ids=str)


def naive_complexity(clip: torch.Tensor, side: int) -> list[list[float]]:
    """Of one clip `(T, channels, height, width)`, cell by cell and difference by difference."""
    frames, channels, height, width = clip.shape
    rows = []
    for top in range(0, height - side + 1, side):
        row = []
        for left in range(0, width - side + 1, side):
            energy = 0.0
            for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
                squares = [
                    (clip[t + step[0], c, y + step[1], x + step[2]] - clip[t, c, y, x]).item() ** 2
                    for t in range(frames - step[0])
                    for c in range(channels)
                    for y in range(top, top + side - step[1])
                    for x in range(left, left + side - step[2])
                ]
                energy += sum(squares) / len(squares) if squares else 0.0
            row.append(energy**0.5)
        rows.append(row)
    return rows


def naive_places(clip: torch.Tensor, patches: AdaptivePatches, size: int) -> list[tuple[int, int, int]]:
    """Row, column and side of each place of one clip, in the order of rows and columns."""
    rows, columns = clip.shape[-2] // size, clip.shape[-1] // size
    complexity = naive_complexity(clip, 2 * size)
    cells = {(r, c): value for r, line in enumerate(complexity) for c, value in enumerate(line)}
    if patches.threshold is not None:
        split = {cell for cell, value in cells.items() if value > patches.threshold}
    else:  # one after the other, as long as there are not more places than asked for
        split, num_places = set(), rows * columns - 3 * len(cells)
        for cell in sorted(cells, key=cells.get, reverse=True):
            if num_places + 3 > round(patches.share * rows * columns):
                break
            split.add(cell)
            num_places += 3
    places = []
    for row, column in product(range(rows), range(columns)):
        cell = (row // 2, column // 2)
        if cell not in cells or cell in split:
            places.append((row, column, 1))
        elif row % 2 == column % 2 == 0:
            places.append((row, column, 2))
    return places


def naive_tokens(embeddings, clip: torch.Tensor, places, config) -> torch.Tensor:
    """Tokens `(1, 1 + T·N, D)` of one clip, one by one; the tables have its size."""
    size, projection = config.patch_size, embeddings.patch_embeddings.projection
    positions = embeddings.position_embeddings[0, 1:].unflatten(0, config.grid_size[1:])

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten() @ projection.weight.T + projection.bias

    def patch(frame: torch.Tensor, row: int, column: int, side: int = 1) -> torch.Tensor:
        return frame[:, row * size : (row + side) * size, column * size : (column + side) * size]

    tokens = [embeddings.cls_token[0, 0] + embeddings.position_embeddings[0, 0]]
    for number, frame in enumerate(clip):
        for row, column, side in places:
            around = [(row + down, column + across) for down in range(side) for across in range(side)]
            token = embed(patch(frame, row, column))
            if side == 2:
                pixels = patch(frame, row, column, 2)
                quarters = [pixels[:, down::2, across::2] for down in range(2) for across in range(2)]
                token = embed(sum(quarters) / 4)
                if embeddings.cell_projection is not None:
                    details = torch.cat([embed(patch(frame, *one)) for one in around])
                    weights = embeddings.cell_projection
                    token = token + details @ weights.weight.T + weights.bias
            token = token + torch.stack([positions[one] for one in around]).mean(0)
            if embeddings.time_embeddings is not None:
                token = token + embeddings.time_embeddings[0, number]
            tokens.append(token)
    return torch.stack(tokens)[None]


def naive_logits(classifier, pixel_values: torch.Tensor) -> torch.Tensor:
    """Clip by clip; what a clip's places are is decided for it alone."""
    model, config, rows = classifier.fal, classifier.config, []
    for clip in pixel_values:
        places = naive_places(clip.detach(), model.embeddings.adaptive_patches, config.patch_size)
        grid = (len(clip), 1, len(places))
        tokens, num_cls = naive_tokens(model.embeddings, clip, places, config), 1
        if config.attention_type == "space_only":
            num_cls, tokens = grid[0], frames_together(frames_apart(tokens, grid), grid)
        for layer in model.layers:
            tokens = feature_block(layer, tokens, grid, config)
        pooled = norm(model.layernorm, tokens[:, :num_cls].mean(1))
        rows.append(nn.functional.linear(pooled, classifier.classifier.weight, classifier.classifier.bias))
    return torch.cat(rows)


def uneven_clips(config, *, batch: int = 5, grid=None) -> torch.Tensor:
    """Random clips that differ in how much of the picture is nearly still and plain."""
    clips = random_clip(config, batch=batch, grid=grid)
    generator = torch.Generator().manual_seed(1)
    patches = torch.rand(batch, *clips.shape[-2:], generator=generator) < torch.linspace(0.1, 1, batch)[:, None, None]
    size = 2 * config.patch_size
    coarse = patches[:, ::size, ::size].float()
    loud = nn.functional.interpolate(coarse[:, None], size=clips.shape[-2:], mode="nearest")[:, None]
    return clips * (0.05 + loud)


# ---- against the naive twin


@every_variant
@every_grid
@pytest.mark.parametrize("layout", ["uniform", "adaptive"])
def test_logits_and_gradients_of_a_share_equal_the_naive_ones(variant, grid, layout):
    model = tiny_model(grid=grid, patch_size=2, patch_layout=layout, **variant).double()
    model.adapt_patches(AdaptivePatches(share=0.6))
    clip = random_clip(model.config).double()
    assert_same(logits_and_gradients(model, clip), logits_and_gradients(model, clip, naive_logits), tolerance=1e-9)


@every_variant
@every_grid
def test_logits_and_gradients_of_a_threshold_equal_those_of_each_clip_by_itself(variant, grid):
    model = tiny_model(grid=grid, patch_size=2, **ADAPTIVE, patch_threshold=1.0, **variant).double()
    clips = uneven_clips(model.config).double()
    assert_same(logits_and_gradients(model, clips), logits_and_gradients(model, clips, naive_logits), tolerance=1e-9)


def test_the_clips_of_those_tests_differ_in_their_numbers_of_places():
    model = tiny_model(grid=GRIDS[0], patch_size=2, **ADAPTIVE, patch_threshold=1.0)
    split = model.fal.embeddings.choose_tokens(uneven_clips(model.config))
    assert len(split.flatten(1).sum(1).unique()) >= 3


@pytest.mark.parametrize("frames", [1, 4])
def test_complexity_is_what_its_definition_says(frames):
    clips = torch.randn(2, frames, 3, 13, 9)
    expected = torch.tensor([naive_complexity(clip, 4) for clip in clips])
    torch.testing.assert_close(measure_complexity(clips, 4), expected)


def test_a_plain_still_cell_has_no_complexity_and_change_or_detail_gives_it_some():
    clips = torch.zeros(1, 2, 1, 4, 12)
    clips[:, 1, :, :, 4:8] = 1.0  # changes
    clips[..., 8::2] = 1.0  # has stripes
    assert measure_complexity(clips, 4)[0, 0].tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(("share", "places"), [(0.25, 6), (0.5, 12), (0.75, 18), (0.8, 18), (0.9, 21), (1.0, 24)])
def test_a_share_is_kept_by_every_clip(share, places):
    model = tiny_model(grid=(2, 4, 6), **ADAPTIVE, patch_share=share)
    assert model.fal.embeddings.find_places(uneven_clips(model.config)).shape == (5, places, 3)


def test_places_tile_the_picture():
    split = torch.tensor([[[True, False], [False, False]], [[False, True], [False, False]]])
    for places, merged in zip(find_places(split, 5, 4, 11), split, strict=True):
        covered = torch.zeros(5, 4, dtype=torch.long)
        for row, column, side in places.tolist():
            covered[row : row + side, column : column + side] += 1
            assert (side == 2) == (row < 4 and not merged[row // 2, column // 2])
        assert (covered == 1).all()


# ---- patches that do not change


def slow_clips(config, *, batch: int = 4) -> torch.Tensor:
    """Random clips in which patches change by and by, more of them from clip to clip, or not at all."""
    frames, rows, columns = config.grid_size
    first = random_clip(config, batch=batch)[:, :1]
    generator = torch.Generator().manual_seed(2)
    steps = 0.5 * torch.rand(batch, frames, 1, rows, columns, generator=generator)
    steps *= torch.rand(batch, 1, 1, rows, columns, generator=generator) < torch.linspace(0.3, 1, batch).view(
        -1, *[1] * 4
    )
    drift = steps.cumsum(1).repeat_interleave(config.patch_size, -2).repeat_interleave(config.patch_size, -1)
    return first + drift


def naive_kept(clip: torch.Tensor, threshold: float, size: int) -> list[tuple[int, int, int]]:
    """Frame, row and column of each patch of one clip that is kept."""
    kept, last = [], {}
    for number, frame in enumerate(clip):
        for row, column in product(range(frame.shape[1] // size), range(frame.shape[2] // size)):
            patch = frame[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            before = last.get((row, column))
            if before is None or sum(abs(patch - before).flatten().tolist()) / patch.numel() >= threshold:
                kept.append((number, row, column))
                last[row, column] = patch
    return kept


def naive_static_logits(classifier, pixel_values: torch.Tensor) -> torch.Tensor:
    """Clip by clip: of all tokens those that are kept, with the embeddings of their own place and time."""
    model, config, rows = classifier.fal, classifier.config, []
    _, height, width = config.grid_size
    places = list(product(range(height), range(width), [1]))
    for clip in pixel_values:
        kept = naive_kept(clip.detach(), config.patch_threshold, config.patch_size)
        numbers = [0] + [1 + (frame * height + row) * width + column for frame, row, column in kept]
        tokens = naive_tokens(model.embeddings, clip, places, config)[:, numbers]
        for layer in model.layers:
            tokens = feature_block(layer, tokens, (1, 1, len(kept)), config)
        pooled = norm(model.layernorm, tokens[:, 0])
        rows.append(nn.functional.linear(pooled, classifier.classifier.weight, classifier.classifier.bias))
    return torch.cat(rows)


@every_grid
def test_logits_and_gradients_of_changing_patches_equal_the_naive_ones(grid):
    model = tiny_model(grid=grid, patch_size=2, **STATIC).double()
    clips = slow_clips(model.config).double()
    expected = logits_and_gradients(model, clips, naive_static_logits)
    assert_same(logits_and_gradients(model, clips), expected, tolerance=1e-9)


def test_the_clips_of_that_test_differ_in_what_they_keep():
    model = tiny_model(grid=(3, 4, 6), patch_size=2, **STATIC)
    kept = model.fal.embeddings.choose_tokens(slow_clips(model.config))
    assert kept[:, 0].all() and len(kept.sum((1, 2, 3)).unique()) >= 3
    assert (~kept[:, 1] & kept[:, 2]).any()  # what changes slowly is kept in the end


def test_where_the_kept_patches_are_is_what_the_definition_says():
    model = tiny_model(grid=(3, 4, 6), patch_size=2, **STATIC)
    for clip in slow_clips(model.config):
        places = model.fal.embeddings.find_places(clip[None])[0].tolist()
        assert places == [list(place) for place in naive_kept(clip, 0.3, 2)]


def test_a_patch_is_compared_to_where_it_was_last_kept_and_a_change_as_large_as_the_threshold_keeps_it():
    values = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.25, 0.25])
    kept = find_changes(values.view(1, -1, 1, 1, 1).expand(1, -1, 3, 2, 2), 2, 0.5)
    assert kept[0, :, 0, 0].tolist() == [True, False, True, False, False, False]


@every_grid
def test_a_threshold_of_nothing_is_bit_for_bit_the_uniform_layout(grid):
    model = tiny_model(grid=grid, **JOINT)
    clip = random_clip(model.config)
    clip[:, 1:] = clip[:, :1]  # nothing changes
    expected, whole = logits_and_gradients(model, clip), model.fal(clip).last_hidden_state
    config = tiny_config(grid=grid, **STATIC | {"patch_threshold": 0})
    static = FALVideoClassifierForVideoClassification(config).eval()
    static.load_state_dict(model.state_dict())
    model.adapt_patches(AdaptivePatches(static_threshold=0.0))
    for one in (realigned(static), realigned(model)):
        assert torch.equal(logits_and_gradients(one, clip)[0], expected[0])
        assert torch.equal(one.fal(clip).last_hidden_state, whole)


def test_of_a_still_clip_the_first_frame_is_left():
    model = tiny_model(grid=(3, 4, 4), **STATIC)
    clip = random_clip(model.config)
    clip[:, 1:] = clip[:, :1]
    assert model.fal(clip).last_hidden_state.shape == (2, 1 + 16, 16)


@pytest.mark.parametrize("scheme", [name for name in ATTENTION_TYPES if name != "joint_space_time"])
def test_schemes_whose_frames_have_the_same_patches_are_refused_static_ones_by_name(scheme):
    model = tiny_model(attention_type=scheme)
    with pytest.raises(ValueError, match=f"expected an attention_type of joint_space_time, got '{scheme}'"):
        model.adapt_patches(AdaptivePatches(static_threshold=0.1))


def test_tokens_of_clips_that_keep_more_or_less_end_with_zeros():
    model = tiny_model(grid=(3, 4, 6), patch_size=2, **STATIC).fal
    clips = slow_clips(model.config)
    together = model(clips)
    for number, clip in enumerate(clips.split(1)):
        alone, tokens = model(clip).last_hidden_state[0], together.last_hidden_state[number]
        torch.testing.assert_close(tokens[: len(alone)], alone)
        assert not tokens[len(alone) :].any()
    alone = model(clips, cls_only=True).last_hidden_state
    torch.testing.assert_close(alone, together.pooler_output[:, None])


# ---- beside the uniform layout


@every_variant
@every_grid
def test_all_cells_split_is_bit_for_bit_the_uniform_layout(variant, grid):
    uniform = tiny_model(grid=grid, **variant)
    clip = random_clip(uniform.config)
    expected, whole = logits_and_gradients(uniform, clip), uniform.fal(clip).last_hidden_state
    config = tiny_config(grid=grid, **variant, **ADAPTIVE, patch_share=1.0)
    adaptive = FALVideoClassifierForVideoClassification(config).eval()
    adaptive.load_state_dict(uniform.state_dict(), strict=False)
    at_run_time = realigned(uniform)
    at_run_time.adapt_patches(AdaptivePatches(share=1.0))
    for model in (realigned(adaptive), at_run_time):
        result = logits_and_gradients(model, clip)
        assert torch.equal(result[0], expected[0])
        assert torch.equal(model.fal(clip).last_hidden_state, whole)
    at_run_time.adapt_patches(None)
    assert torch.equal(at_run_time(clip).logits, expected[0])


def test_the_linear_of_cells_is_there_in_an_adaptive_configuration_alone_and_starts_at_zero():
    uniform, adaptive = FALModel(tiny_config()), FALModel(tiny_config(**ADAPTIVE))
    of_cells = {f"embeddings.cell_projection.{name}" for name in ("weight", "bias")}
    assert adaptive.state_dict().keys() - uniform.state_dict().keys() == of_cells
    assert not any(parameter.any() for parameter in adaptive.embeddings.cell_projection.parameters())


def test_what_starts_at_zero_leaves_the_scores_of_run_time_as_they_are():
    uniform = tiny_model()
    config = tiny_config(**ADAPTIVE, patch_share=0.5)
    adaptive = FALVideoClassifierForVideoClassification(config).eval()
    adaptive.load_state_dict(uniform.state_dict(), strict=False)
    uniform.adapt_patches(AdaptivePatches(share=0.5))
    clip = random_clip(config)
    assert torch.equal(realigned(adaptive)(clip).logits, realigned(uniform)(clip).logits)


@pytest.mark.parametrize("scheme", ["axial", "sparse_local_global"])
def test_schemes_that_need_a_grid_are_refused_by_name(scheme):
    model = tiny_model(attention_type=scheme)
    with pytest.raises(ValueError, match=rf"attention_type of divided_space_time, space_only, .*got '{scheme}'"):
        model.adapt_patches(AdaptivePatches(share=0.5))
    model.adapt_patches(None)


# ---- outputs


@every_variant
def test_outputs_have_a_row_a_place(variant):
    model = tiny_model(grid=(3, 4, 4), attention="eager", **variant)
    model.adapt_patches(AdaptivePatches(share=0.5))
    clip = random_clip(model.config)
    outputs = model(clip, output_hidden_states=True, output_attentions=True)
    num_cls = 3 if variant["attention_type"] == "space_only" else 1
    assert outputs.hidden_states[0].shape == (2, num_cls + 3 * 7, 16)
    keys = 1 + (3 * 7 if variant["attention_type"] == "joint_space_time" else 7)
    assert outputs.attentions[0].shape[-1] == keys
    if variant["attention_type"] == DIVIDED:
        assert outputs.temporal_attentions[0].shape == (2, 7, 2, 3, 1 + 3)
    assert model.fal(clip).last_hidden_state.shape == (2, 1 + 3 * 7, 16)


def test_tokens_of_clips_that_differ_end_with_zeros_in_each_frame():
    model = tiny_model(grid=(3, 4, 6), **ADAPTIVE, patch_threshold=1.0).fal
    clips = uneven_clips(model.config)
    together = model(clips)
    most = (together.last_hidden_state.shape[1] - 1) // 3
    for number, clip in enumerate(clips.split(1)):
        alone = model(clip).last_hidden_state
        places = (alone.shape[1] - 1) // 3
        tokens = together.last_hidden_state[number, 1:].unflatten(0, (3, most))
        torch.testing.assert_close(tokens[:, :places], alone[0, 1:].unflatten(0, (3, places)))
        assert not tokens[:, places:].any()
        torch.testing.assert_close(together.pooler_output[number], alone[0, 0])
    assert torch.equal(together.pooler_output, together.last_hidden_state[:, 0])


@every_threshold
@pytest.mark.parametrize("asked", ["output_hidden_states", "output_attentions"])
def test_recorded_outputs_of_clips_that_differ_are_refused(asked, patches):
    model = tiny_model(grid=(2, 4, 6), attention="eager", **patches)
    clips = uneven_clips(model.config)
    with pytest.raises(ValueError, match="as many tokens as one another"):
        model(clips, **{asked: True})
    setattr(model.config, asked, True)
    with pytest.raises(ValueError, match="as many tokens as one another"):
        model(clips)
    assert len(model(clips[:1], **{asked: True})[asked.removeprefix("output_")]) >= 2
    with pytest.raises(ValueError, match="as many split cells or kept patches as one another"):
        model.fal.embeddings.find_places(clips)


@pytest.mark.parametrize("label_attention", ["label", "unified", "divided"])
@every_layout
def test_labels_as_tokens_meet_the_places_of_each_clip(label_attention, patches):
    sizes = {"num_hidden_layers": 3, "label_integration_layer": 1, "label_embedding_size": 6}
    model = tiny_model(grid=(2, 4, 6), label_attention=label_attention, **sizes, **patches).double()
    clips = uneven_clips(model.config).double()
    together = model(clips)
    alone = [model(clip) for clip in clips.split(1)]
    for name in ("logits", "label_logits", "label_share"):
        torch.testing.assert_close(together[name], torch.cat([one[name] for one in alone]))
    tokens = model.fal(clips).label_hidden_state
    torch.testing.assert_close(tokens, torch.cat([model.fal(clip).label_hidden_state for clip in clips.split(1)]))


@every_layout
def test_a_wrong_input_is_refused_before_it_is_measured(patches):
    model = tiny_model(**patches)
    with pytest.raises(ValueError, match="add the batch axis"):
        model(random_clip(model.config)[0])


# ---- how they run


@every_layout
def test_saving_and_loading_is_exact(patches, tmp_path):
    model = tiny_model(**patches)
    model.save_pretrained(tmp_path)
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path)
    assert again.config.patch_layout == patches["patch_layout"]
    projection = again.fal.embeddings.cell_projection
    assert projection is None if patches == STATIC else projection.weight.any()
    clips = uneven_clips(model.config)
    assert torch.equal(realigned(model)(clips).logits, realigned(again)(clips).logits)


def test_what_is_chosen_at_run_time_is_not_saved(tmp_path):
    model = tiny_model()
    model.adapt_patches(AdaptivePatches(share=0.5))
    model.save_pretrained(tmp_path)
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path)
    assert again.config.patch_layout == "uniform" and again.fal.embeddings.adaptive_patches is None


@pytest.mark.parametrize("patches", [{"patch_share": 0.5}, {"patch_threshold": 1.0}], ids=str)
def test_a_step_of_training_moves_the_linear_of_cells(patches):
    config = tiny_config(grid=(2, 4, 6), **ADAPTIVE, **patches)
    model = tiny_model(config).train()
    nn.init.zeros_(model.fal.embeddings.cell_projection.weight)
    nn.init.zeros_(model.fal.embeddings.cell_projection.bias)
    model(uneven_clips(config), labels=torch.arange(5)).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.fal.embeddings.cell_projection.weight.any()


@every_layout
def test_gradient_checkpointing_gives_the_same_gradients(patches):
    model = tiny_model(grid=(2, 4, 6), **patches).train()
    clips = uneven_clips(model.config)
    expected = logits_and_gradients(model, clips)
    model.gradient_checkpointing_enable()
    assert_same(logits_and_gradients(model, clips), expected, tolerance=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_the_same_places_and_is_close(dtype):
    model = tiny_model(grid=(2, 4, 6), **ADAPTIVE, std=0.05)
    clips = random_clip(model.config).to(dtype)
    expected, places = model(clips.float()).logits, model.fal.embeddings.find_places(clips.float())
    half = model.to(dtype)
    assert torch.equal(half.fal.embeddings.find_places(clips), places)
    torch.testing.assert_close(half(clips).logits.float(), expected, atol=0.02, rtol=0.1)


@pytest.mark.parametrize("grid", [(5, 6, 4), (1, 3, 7)], ids=str)
def test_other_sizes_interpolate_the_tables_for_cells_as_for_patches(grid):
    model = tiny_model(grid=(2, 4, 4), **ADAPTIVE).fal
    clip = random_clip(model.config, grid=grid)
    other = tiny_model(grid=grid, **ADAPTIVE).fal
    weights = model.state_dict()
    table = weights["embeddings.position_embeddings"]
    places = resize_positions(table[:, 1:].unflatten(1, (4, 4)), grid[1:]).flatten(1, 2)
    weights["embeddings.position_embeddings"] = torch.cat([table[:, :1], places], dim=1)
    weights["embeddings.time_embeddings"] = resize_times(weights["embeddings.time_embeddings"], grid[0])
    other.load_state_dict(weights)
    torch.testing.assert_close(model(clip).pooler_output, other(clip).pooler_output)
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        model(clip, interpolate_pos_encoding=False)


def test_a_model_with_a_share_compiles_to_one_graph():
    model = tiny_model(grid=(2, 4, 4), num_hidden_layers=1, **ADAPTIVE)
    clip = random_clip(model.config)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clip).logits, model(clip).logits)


@pytest.mark.slow
@every_threshold
def test_a_model_with_a_threshold_compiles_around_what_depends_on_the_clips(patches):
    model = tiny_model(grid=(2, 4, 4), num_hidden_layers=1, **patches)
    clips = uneven_clips(model.config)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(clips).logits, model(clips).logits)


@every_threshold
def test_a_model_with_a_threshold_is_not_exported(patches):
    model = tiny_model(num_hidden_layers=1, **patches)
    with pytest.raises(ValueError, match="expected a share where a model is exported"):
        torch.export.export(model, (), {"pixel_values": random_clip(model.config)}, strict=False)


def test_cells_of_nothing_but_ties_are_split_from_the_first():
    patches = AdaptivePatches(share=0.5)
    split = split_cells(patches, torch.zeros(2, 2, 3, 16, 16), 4)
    assert split.sum().item() == 2 and torch.equal(split[0], split[1])


def test_random_weights_reach_every_part_of_a_cell():
    """Each pixel of a merged cell matters, by the mean and by the Linear."""
    model = tiny_model(grid=(1, 2, 2), **ADAPTIVE, patch_share=0.25)
    randomise(model, std=0.3)
    _, gradients = logits_and_gradients(model, random_clip(model.config))
    assert (gradients["pixel_values"] != 0).all()
