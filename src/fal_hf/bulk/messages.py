"""What is said of a video on its way from its decoder to its record; each can be pickled.

A video is [`Opened`], gives any number of batches and of windows that are [`Reused`], and is [`Ended`]; at any place
it may instead have [`Failed`]. The model puts [`Scored`], or [`ScoringFailed`], in the place of each [`Batch`].
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..labeling.views import ViewLayout


@dataclass(frozen=True)
class Opened:
    """What is known of a video before its frames are decoded, as a `Recorder` takes it."""

    layout: "ViewLayout"


@dataclass(frozen=True)
class Batch:
    """Some clips: one float32 array a scale, (clips, crops, T, C, H, W)."""

    views: "list[np.ndarray]"


@dataclass(frozen=True)
class Reused:
    """A window that is in no batch: it takes over the scores of the window of this number among those that are."""

    number: int


@dataclass(frozen=True)
class Scored:
    """What the model says of a batch, scores or embeddings: (clips, N) float32."""

    scores: "torch.Tensor"


@dataclass(frozen=True)
class ScoringFailed:
    """A batch that the model failed on; the others of its video still come."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """The whole video has been decoded; its last message."""


@dataclass(frozen=True)
class Failed:
    """The video cannot be decoded; its last message."""

    reason: str


DecoderMessage = Opened | Batch | Reused | Ended | Failed
ScoredMessage = Opened | Scored | ScoringFailed | Reused | Ended | Failed


def is_last(message: DecoderMessage | ScoredMessage) -> bool:
    """Whether no other message of the same video follows."""
    return isinstance(message, (Ended, Failed))


__all__ = [
    "Batch",
    "DecoderMessage",
    "Ended",
    "Failed",
    "Opened",
    "Reused",
    "Scored",
    "ScoredMessage",
    "ScoringFailed",
    "is_last",
]
