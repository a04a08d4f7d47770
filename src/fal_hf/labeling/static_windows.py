"""Windows of a camera that stands, in which nothing has changed since the last one that was scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d

from ..model.video_processing_fal import FALVideoProcessor


@dataclass(frozen=True)
class ReusedWindow:
    """
    A window that takes over the scores of an earlier one.

    Args:
        number: Of that one, among those that are scored, from 0 on; it is the last of them so far.
    """

    number: int


class StaticWindows:
    """
    Finds, among the windows of one video or stream as they come, those that show what the last scored one shows.

    A window is static where no patch of any frame differs from that of the same frame of the last window that was not
    static by more than `levels`: the mean absolute difference of its pixels, in levels of 8 bits. A mean over patches
    rather than pixels lets the noise of a sensor and of a codec pass; over patches rather than frames, what is small
    and moves is seen. That window stays the measure until another one is not static, so that slow change adds up.

    Args:
        processor: Made the pixel values.
        levels: The largest difference of a patch, above 0.
        patch_size: Edge of a patch in pixels.
    """

    def __init__(self, processor: FALVideoProcessor, *, levels: float, patch_size: int):
        self.levels = levels
        self.patch_size = patch_size
        # Levels for a difference of 1 in pixel values, by channel.
        deviations = processor.image_std if processor.do_normalize else 1.0
        factor = processor.rescale_factor if processor.do_rescale else 1.0
        self.unit = torch.as_tensor(deviations, dtype=torch.float32).reshape(-1, 1, 1) / factor
        self.scored: Sequence[torch.Tensor] = ()

    def is_static(self, window: Sequence[torch.Tensor]) -> bool:
        """
        Whether a window may take over the scores of the last one that was not static; if not, it is that one now.

        Args:
            window: Its frames at all scales, `(crops, C, H, W)` each; in every window in the same order.
        """
        if self.scored and all(self._is_like(*frames) for frames in zip(window, self.scored, strict=True)):
            return True
        self.scored = window
        return False

    def _is_like(self, frame: torch.Tensor, other: torch.Tensor) -> bool:
        if frame.shape != other.shape:  # a stream may change its size
            return False
        difference = ((frame - other).abs() * self.unit).mean(dim=1)  # (crops, H, W)
        # What is left at an edge is a patch as well.
        by_patch = avg_pool2d(difference, self.patch_size, ceil_mode=True)
        return by_patch.max().item() <= self.levels


__all__ = ["ReusedWindow", "StaticWindows"]
