# SPDX-License-Identifier: MIT

"""
How a picture is laid out in patches (paper, section 4: of 16 x 16 to 32 x 32 pixels), as what may be asked for.

Nothing here needs torch, so that wrong usage is found before it is imported.
"""

from dataclasses import dataclass

from .attention_schemes import ATTENTION_SCHEMES

# The default comes first.
PATCH_LAYOUTS = ("uniform", "adaptive", "static")

# What is left of a picture's places where every cell of 2 x 2 patches is one.
LEAST_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class AdaptivePatches:
    """
    Patches that adapt to the clip, in one of two ways. By a share or a threshold, cells of 2 x 2 patches in which
    little happens become one token each; which ones is the same for all frames of a clip. By a static threshold, a
    frame's patches that have not changed are left out (run-length tokenization, Choudhury et al. 2024).

    Args:
        share: Places that a picture has, as a share of its patches, in [0.25, 1]: the most complex cells stay split,
            and every clip has as many places. Rounded down to whole cells, and up to what all cells merged leave.
        threshold: Complexity above which a cell stays split, at least 0: the root mean square of the differences
            between neighboring values in a row, a column and time, in units of the normalized pixel values. How many
            places there are depends on the clip.
        static_threshold: Change below which a patch after the first frame is left out, at least 0, which leaves out
            none: the mean absolute difference to the same patch where it was last kept, in those units. Joint
            attention alone takes it.

    Raises:
        ValueError: there is not one of the three, or it is out of its range.
    """

    share: float | None = None
    threshold: float | None = None
    static_threshold: float | None = None

    def __post_init__(self):
        if sum(option is not None for option in (self.share, self.threshold, self.static_threshold)) != 1:
            raise ValueError(
                f"adaptive patches: expected one of share, threshold and static_threshold, got {self.share}, "
                f"{self.threshold} and {self.static_threshold}"
            )
        if self.share is not None and not LEAST_SHARE <= self.share <= 1:
            raise ValueError(f"adaptive patches: expected a share in [{LEAST_SHARE}, 1], got {self.share}")
        for threshold in (self.threshold, self.static_threshold):
            if threshold is not None and not 0 <= threshold < float("inf"):
                raise ValueError(f"adaptive patches: expected a finite threshold of at least 0, got {threshold}")

    @property
    def merges_cells(self) -> bool:
        """Whether cells become tokens; otherwise patches are left out."""
        return self.static_threshold is None

    def count_split(self, rows: int, columns: int) -> int:
        """The cells of a picture of patches that stay split; of a share."""
        if self.share is None:
            raise ValueError(
                f"adaptive patches: expected a share, for the same number of tokens in all clips, got {self}; give "
                "AdaptivePatches(share=...)"
            )
        num_cells = (rows // 2) * (columns // 2)
        wanted = (round(self.share * rows * columns) - count_places(rows, columns, 0)) // 3
        return min(max(wanted, 0), num_cells)


def count_places(rows: int, columns: int, num_split: int) -> int:
    """Places of a picture of patches of which so many cells stay split; border patches of odd sides are in no cell."""
    return rows * columns - 3 * ((rows // 2) * (columns // 2) - num_split)


def check_scheme(patches: AdaptivePatches, attention_type: str) -> None:
    """
    Refuses, by a ValueError, a scheme whose neighborhoods are cut out of a grid of equal patches, or for static
    patches of frames that all have the same ones.
    """
    possible = [
        name
        for name, scheme in ATTENTION_SCHEMES.items()
        if (not scheme.needs_grid if patches.merges_cells else set(scheme.steps.values()) == {"clip"})
    ]
    if attention_type not in possible:
        name, needed = "adaptive_patches", "the rows and columns of a grid"
        if not patches.merges_cells:
            name, needed = "static_patches", "the same patches of all frames"
        raise ValueError(
            f"{name}: expected an attention_type of {', '.join(possible)}, got {attention_type!r}, which needs "
            f"{needed}"
        )


__all__ = ["LEAST_SHARE", "PATCH_LAYOUTS", "AdaptivePatches", "check_scheme", "count_places"]
