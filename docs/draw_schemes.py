"""
Draws `schemes.svg`: for one patch of a clip, which patches it attends to in each step of each attention scheme.

The model's own neighborhoods say which. Run it after a change of the schemes:

    python docs/draw_schemes.py
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from fal_hf import FALConfig
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, MAIN_STEP, Grid
from fal_hf.model.modeling_fal import Neighborhood, make_neighborhoods

OUTPUT = Path(__file__).with_name("schemes.svg")
GRID: Grid = (4, 6, 6)
QUERY = (1, 2, 3)  # frame, row, column
COLORS = {"temporal": "#f2a33a", "local": "#b07fd8", "row": "#e2739f", MAIN_STEP: "#5fb878"}
QUERY_COLOR, EMPTY_COLOR, TEXT_COLOR = "#2563eb", "#eef1f5", "#24292f"
CELL, LABELS, FRAME, SCHEME, TOP = 15, 240, 110, 118, 34  # pixels: a patch, the labels' column, strides, the first row


def attended_patches(neighborhood: Neighborhood, grid: Grid, query: tuple[int, int, int]) -> set[tuple[int, int, int]]:
    """The patches (frame, row, column) that a patch attends to, itself among them."""
    places = list(product(*(range(side) for side in grid)))
    tokens = torch.arange(-1, len(places))[None, :, None]  # the CLS token is -1
    groups = (group for groups in neighborhood.group(tokens, 1, grid) for group in groups[0, :, :, 0].tolist())
    attended = next(group for group in groups if places.index(query) in group)
    return {places[index] for index in attended if index >= 0}


def draw_schemes() -> str:
    """The picture: a row a scheme, in it the frames of a clip."""
    width, height = LABELS + GRID[0] * FRAME, TOP + len(ATTENTION_SCHEMES) * SCHEME
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="{TEXT_COLOR}" role="img" aria-label="Which patches a patch attends to in each scheme">',
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        *(text(LABELS + frame * FRAME, TOP - 14, f"frame {frame + 1}") for frame in range(GRID[0])),
    ]
    for index, name in enumerate(ATTENTION_SCHEMES):
        lines += draw_scheme(name, top=TOP + index * SCHEME)
    return "\n".join([*lines, "</svg>", ""])


def draw_scheme(name: str, *, top: int) -> Iterator[str]:
    """One scheme: its name, its steps and the patches of every frame."""
    neighborhoods = make_neighborhoods(FALConfig(attention_type=name))
    attended = {step: attended_patches(neighborhood, GRID, QUERY) for step, neighborhood in neighborhoods.items()}
    yield text(16, top + 12, name, weight="bold")
    for number, (step, kind) in enumerate(ATTENTION_SCHEMES[name].steps.items()):
        y = top + 24 + 20 * number
        yield rectangle(16, y, 12, 12, COLORS[step])
        yield text(34, y + 10, f"{number + 1}. {step}: {kind}, {len(attended[step])} patches")
    for frame in range(GRID[0]):
        for row in range(GRID[1]):
            for column in range(GRID[2]):
                steps = [step for step, patches in attended.items() if (frame, row, column) in patches]
                colors = [COLORS[step] for step in steps] or [EMPTY_COLOR]
                is_query = (frame, row, column) == QUERY
                x, y = LABELS + frame * FRAME + column * CELL, top + row * CELL
                yield from draw_patch(x, y, [QUERY_COLOR] if is_query else colors)


def draw_patch(x: int, y: int, colors: list[str]) -> Iterator[str]:
    """A patch in the colors of all its steps, side by side."""
    width = (CELL - 1) / len(colors)
    for number, color in enumerate(colors):
        yield rectangle(x + number * width, y, width, CELL - 1, color)


def rectangle(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{color}"/>'


def text(x: float, y: float, content: str, *, weight: str = "normal") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-weight="{weight}">{content}</text>'


if __name__ == "__main__":
    OUTPUT.write_text(draw_schemes(), encoding="utf-8")
