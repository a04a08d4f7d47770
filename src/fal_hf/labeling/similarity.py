"""Which videos of a collection are alike, by the cosine of their embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .embedding_files import Embeddings

# So many rows are compared with all others at a time.
ROWS_AT_ONCE = 1024
# Rounding makes the cosine of two float32 embeddings that are the same differ from 1 by less than this.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class SimilarVideo:
    """
    A video, or a part of one, that is like another.

    Args:
        video: Its name.
        score: Cosine of the two embeddings, in [-1, 1].
        start_seconds, end_seconds: Of a part: where in the video it begins and ends.
    """

    video: str
    score: float
    start_seconds: float | None = None
    end_seconds: float | None = None


def find_similar(embeddings: Embeddings, query: np.ndarray, *, top_k: int = 5) -> list[SimilarVideo]:
    """
    The rows of a collection that are most like an embedding, by falling score.

    Args:
        embeddings: The collection, from [`read_embeddings`].
        query: `(D,)` float32, of the same model.
        top_k: How many at most.

    Raises:
        ValueError: there are no embeddings, or they are of another size.
        ImportError: scikit-learn is missing.
    """
    num_rows, size = embeddings.embeddings.shape
    if query.shape != (size,):
        raise ValueError(f"expected an embedding of {size} numbers, as those of the collection are, got {query.shape}")
    neighbors = _index(embeddings)
    distances, rows = neighbors.kneighbors(query[None], n_neighbors=min(top_k, num_rows))
    return [_row(embeddings, row, distance) for row, distance in zip(rows[0], distances[0], strict=True)]


def find_duplicates(embeddings: Embeddings, *, threshold: float = 0.98) -> Iterator[tuple[SimilarVideo, SimilarVideo]]:
    """
    The pairs of rows that are alike: those of two videos, as parts of one often are.

    Args:
        embeddings: The collection, from [`read_embeddings`].
        threshold: The least cosine, in (0, 1].

    Yields:
        Each pair once, both with its score: in the order of the collection, those of one row by falling score.

    Raises:
        ValueError: there are no embeddings, or the threshold is out of its range.
        ImportError: scikit-learn is missing.
    """
    check_threshold(threshold)
    neighbors = _index(embeddings)
    for first in range(0, len(embeddings.names), ROWS_AT_ONCE):
        some = embeddings.embeddings[first : first + ROWS_AT_ONCE]
        found = neighbors.radius_neighbors(some, radius=1 - threshold + TOLERANCE, sort_results=True)
        for row, (distances, others) in enumerate(zip(*found, strict=True), start=first):
            for distance, other in zip(distances, others, strict=True):
                if other > row and embeddings.names[other] != embeddings.names[row]:
                    yield _row(embeddings, row, distance), _row(embeddings, other, distance)


def check_threshold(threshold: float) -> None:
    """Refuses, by a ValueError, what is no cosine of videos that are alike."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected a number in (0, 1], got {threshold}")


def _index(embeddings: Embeddings):
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise ImportError("expected scikit-learn to be installed, run `pip install fal-hf[similar]`") from error
    if not embeddings.names:
        raise ValueError("expected a collection of embeddings, got an empty one: all of its videos have failed")
    return NearestNeighbors(metric="cosine", algorithm="brute").fit(embeddings.embeddings)


def _row(embeddings: Embeddings, row: int, distance: float) -> SimilarVideo:
    start_seconds, end_seconds = embeddings.windows[row].tolist()
    times = {} if np.isnan(start_seconds) else {"start_seconds": start_seconds, "end_seconds": end_seconds}
    return SimilarVideo(embeddings.names[row], min(1.0, max(-1.0, 1 - float(distance))), **times)


__all__ = ["SimilarVideo", "check_threshold", "find_duplicates", "find_similar"]
