"""The embedding of a video, by which it can be compared with others, from the embeddings of its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .aggregation import with_reused
from .records import SCHEMA_VERSION, pack_embedding
from .views import ViewLayout


@dataclass(frozen=True, eq=False)
class WindowEmbeddings:
    """
    The embeddings of a video's windows, in the order of time.

    Args:
        start_seconds, end_seconds: Where each begins and ends, `(num_windows,)` float64.
        embeddings: `(num_windows, D)` float32.
    """

    start_seconds: np.ndarray
    end_seconds: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True, eq=False)
class VideoEmbedding:
    """
    The embedding of one video.

    Args:
        video: Path or URL as it was given; a description where bytes or a file object were given.
        embedding: `(D,)` float32, the mean over the views of the clip's embedding y (paper, equation 10).
        num_clips: Number of clips that were averaged.
        duration_seconds: Length of the video, or of the stretch of it that was embedded.
        start_seconds, end_seconds: Of a stretch: where in the video it begins and ends. All times count from the
            video's first frame.
        windows: With `Views(windows=True)`: those of its windows.
    """

    video: str
    embedding: np.ndarray
    num_clips: int
    duration_seconds: float
    start_seconds: float | None = None
    end_seconds: float | None = None
    windows: WindowEmbeddings | None = None

    def to_dict(self) -> dict[str, Any]:
        """
        The same as a dictionary that `json.dumps` takes, with `schema_version` in it.

        Embeddings are base64 of float32 numbers, little-endian. What was not asked for is not in it.
        """
        record: dict[str, Any] = {"video": self.video, "embedding": pack_embedding(self.embedding)}
        record |= {"num_clips": self.num_clips, "duration_seconds": self.duration_seconds}
        if self.start_seconds is not None:
            record |= {"start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        if self.windows is not None:
            times = zip(self.windows.start_seconds.tolist(), self.windows.end_seconds.tolist(), strict=True)
            record["windows"] = [
                {"start_seconds": start, "end_seconds": end, "embedding": pack_embedding(embedding)}
                for (start, end), embedding in zip(times, self.windows.embeddings, strict=True)
            ]
        return {**record, "schema_version": SCHEMA_VERSION}


def summarize_embeddings(
    video: str, layout: ViewLayout, embeddings: Sequence[torch.Tensor], reused: Sequence[int] = ()
) -> VideoEmbedding:
    """
    The embedding of a video from those of its clips.

    Args:
        video: What to call it.
        layout: What the clips stand for.
        embeddings: Of its batches, in their order, `(clips, D)` float32 each.
        reused: For each window that was not embedded the number of that whose embedding it takes over.
    """
    by_clip = with_reused(torch.cat(list(embeddings)), reused, num_clips=layout.num_clips)
    result: dict[str, Any] = {}
    if not layout.stretch.is_whole:
        start_seconds = layout.stretch.start_seconds
        result |= {"start_seconds": start_seconds, "end_seconds": start_seconds + layout.duration_seconds}
    if layout.windows is not None:
        starts = layout.windows.starts
        by_window = by_clip.unflatten(0, (-1, layout.num_clips)).mean(dim=1)
        result["windows"] = WindowEmbeddings(starts, starts + layout.windows.seconds, by_window.numpy())
    return VideoEmbedding(
        video=video,
        embedding=by_clip.mean(dim=0).numpy(),
        num_clips=len(by_clip),
        duration_seconds=layout.duration_seconds,
        **result,
    )


__all__ = ["VideoEmbedding", "WindowEmbeddings", "summarize_embeddings"]
