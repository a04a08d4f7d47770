# SPDX-License-Identifier: MIT

"""
The five space-time attention schemes (paper, section 3.5 and table 1) in one table. The configuration's choices, the
steps of a block, the names of the returned weights and the conversion of image models derive from it.

It imports no more than dataclasses: a command can list the schemes before anything takes seconds.
"""

from dataclasses import dataclass

Grid = tuple[int, int, int]

# A Vision Transformer's own attention, which every scheme has. The other steps of a scheme are extra ones: each ends
# in a Linear that starts at zero, and in an inflated image model it starts as a copy of this one.
MAIN_STEP = "main"


@dataclass(frozen=True)
class AttentionScheme:
    """
    What a block attends to.

    Args:
        steps: The name of each step, in order, and of its neighborhood: which patches attend to one another in it.
        frames_apart: Whether frames do not see one another. Each then has a CLS token of its own, and there is no
            time table.
        image_part: The part of a clip, as (frames, rows, columns) of patches, in which the main step sees what an
            image model sees: all patches of a frame, each once. None stands for the clip's own size. On that part a
            model that was inflated from an image model equals it.
        needs_grid: Whether a neighborhood is cut out of rows and columns, so that patches have to be of one size.
    """

    steps: dict[str, str]
    frames_apart: bool = False
    image_part: tuple[int | None, int | None, int | None] = (None, None, None)
    needs_grid: bool = False

    @property
    def extra_steps(self) -> tuple[str, ...]:
        """The steps beyond the main one."""
        return tuple(step for step in self.steps if step != MAIN_STEP)

    def image_grid(self, grid: Grid) -> Grid:
        """`image_part` of a clip of (frames, rows, columns) patches."""
        parts = zip(grid, self.image_part, strict=True)
        frames, rows, columns = (own if part is None else part for own, part in parts)
        return frames, rows, columns


# The default comes first.
ATTENTION_SCHEMES = {
    "divided_space_time": AttentionScheme({"temporal": "time", MAIN_STEP: "frame"}),
    "space_only": AttentionScheme({MAIN_STEP: "frame"}, frames_apart=True),
    "joint_space_time": AttentionScheme({MAIN_STEP: "clip"}, image_part=(1, None, None)),
    "sparse_local_global": AttentionScheme(
        {"local": "local", MAIN_STEP: "strided"}, image_part=(2, 1, 1), needs_grid=True
    ),
    "axial": AttentionScheme(
        {"temporal": "time", "row": "row", MAIN_STEP: "column"}, image_part=(None, None, 1), needs_grid=True
    ),
}
ATTENTION_TYPES = tuple(ATTENTION_SCHEMES)

# The name under which a model returns the weights of each step.
STEP_ATTENTIONS = {MAIN_STEP: "attentions"} | {
    step: f"{step}_attentions" for scheme in ATTENTION_SCHEMES.values() for step in scheme.extra_steps
}

__all__ = ["ATTENTION_SCHEMES", "ATTENTION_TYPES", "MAIN_STEP", "STEP_ATTENTIONS", "AttentionScheme", "Grid"]
