"""A collection of embeddings as a map, a page or a picture: each video is a point, beside those that it is like."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..labeling.embedding_files import Embeddings
from ..labeling.label_files import check_file, encodable, whole_file
from ..labeling.manifests import read_rows
from ..labeling.options import MAP_METHODS
from ..model.video_info import WHOLE, Stretch
from .page import SUFFIXES, data_uri, write_page
from .thumbnails import thumbnails

# Fewer have no neighbors to keep: they stand in the plane in which they differ most.
LEAST_FOR_TSNE = 4
# Of t-SNE: about how many neighbors of a point are near it in the plane, too (van der Maaten and Hinton 2008).
PERPLEXITY = 30
# Ten that differ to people who see no red or no green as well, on white and on black; the last is that of all others.
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#997700", "#8c8c8c")
OTHERS = "others"
# Pixels of the picture, its margin, a point, and a line of its legend.
SIDE, MARGIN, RADIUS, LINE = 1200, 40, 5, 30
PICTURE_SIDE = 200


def write_map(
    path: str | os.PathLike,
    embeddings: Embeddings,
    points: np.ndarray,
    groups: Sequence[str],
    *,
    pictures: Mapping[int, bytes] | None = None,
    method: str = "tsne",
) -> None:
    """
    Writes a map.

    Args:
        path: `.html`: a page that is one file, with the name and a picture of the video that is pointed at; `.png`.
        embeddings: The collection, from [`read_embeddings`].
        points: `(N, 2)` in [0, 1], where each row stands, from [`place_points`].
        groups: A row's label, or any text, by which it is colored; the nine largest have a color of their own.
        pictures: Of a page: JPEG files by the number of the row, from [`draw_pictures`].
        method: How the points were found.

    Raises:
        OutputError: (a `ValueError`) the suffix is another one, or the file cannot be there.
        OSError: the file cannot be written; what was there before still is.
    """
    check_map(path)
    colors = color_groups(groups)
    if shows_pictures(path):
        values = describe(embeddings, points, groups, colors, pictures or {})
        write_page(path, "map.html", script="map.js", method=MAP_METHODS[method], **values)
    else:
        with whole_file(Path(path), mode="wb") as file:
            draw_map(file, points, groups, colors)


def check_map(path: str | os.PathLike) -> None:
    """Refuses, by an OutputError, a path that no map can be written to."""
    check_file(path, (*SUFFIXES, ".png"))


def shows_pictures(path: str | os.PathLike) -> bool:
    """Whether a map is a page, which has pictures of its videos."""
    return Path(path).suffix.lower() in SUFFIXES


def place_points(embeddings: np.ndarray, *, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """
    A place in the plane for each embedding; what they are alike in is their direction, as for `fal similar`.

    Args:
        embeddings: `(N, D)` float32.
        method: `"tsne"` (van der Maaten and Hinton 2008), which keeps neighbors together, or `"pca"`, the plane in
            which they differ most.
        seed: Of t-SNE, which begins with that plane.

    Returns:
        `(N, 2)` float64 in [0, 1], the same for the same versions of packages and machine.

    Raises:
        ValueError: there are none, or there is no such method.
        ImportError: scikit-learn is missing.
    """
    if method not in MAP_METHODS:
        raise ValueError(f"method: expected {' or '.join(MAP_METHODS)}, got {method!r}")
    if len(embeddings) == 0:
        raise ValueError("expected embeddings for a map, got none: all videos of the collection have failed")
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("expected scikit-learn to be installed, run `pip install fal-hf[similar]`") from error
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)
    if np.ptp(directions, axis=0).max() == 0:
        return np.full((len(directions), 2), 0.5)
    if method == "pca" or len(directions) < LEAST_FOR_TSNE:
        places = PCA(2, random_state=seed).fit_transform(directions)
    else:
        perplexity = min(PERPLEXITY, (len(directions) - 1) / 3)
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(directions)
    places = places.astype(np.float64)
    low, reach = places.min(axis=0), np.ptp(places, axis=0).max()
    return 0.5 + (places - low - np.ptp(places, axis=0) / 2) / (reach or 1.0)


def group_by_folder(embeddings: Embeddings) -> list[str]:
    """The name of the folder that each row's video is in."""
    return [os.path.basename(os.path.dirname(name)) for name in embeddings.names]


def read_groups(path: str | os.PathLike, embeddings: Embeddings) -> list[str]:
    """
    The label of each row's video.

    Args:
        path: What `fal label` has written, `.jsonl` or `.csv`: the best label counts; or a manifest with the columns
            `video` or `path` and `label`.
        embeddings: The collection.

    Returns:
        A label a row; an empty text for a video that is not in the file.

    Raises:
        ValueError: the file is none of these.
        OSError: it cannot be read.
    """
    labels: dict[str, str] = {}
    for number, row in read_rows(path, errors="surrogateescape"):
        video, label = row.get("video", row.get("path")), best_label(row)
        if not isinstance(video, str):
            raise ValueError(f"{os.fspath(path)}: line {number}: expected a video, got the columns {', '.join(row)}")
        if label is not None:
            labels.setdefault(video, label)
    by_path = {os.path.realpath(video): label for video, label in labels.items()}
    return [labels.get(name) or by_path.get(os.path.realpath(name), "") for name in embeddings.names]


def best_label(row: Mapping[str, Any]) -> str | None:
    """The label that a row of a file names first; None of a failure, and of rows of something else."""
    match row:
        case {"labels": [{"label": str() as label}, *_]} | {"labels": [str() as label, *_]}:
            return label
        case {"kind": kind} if kind != "label":
            return None
        case {"label": str() as label}:
            return label
    return None


def color_groups(groups: Sequence[str]) -> dict[str, int]:
    """The number of each group's color, the largest group first; all others have the last one."""
    largest = [group for group, _ in Counter(groups).most_common() if group]
    return {group: min(number, len(COLORS) - 1) for number, group in enumerate(largest)}


def draw_pictures(
    embeddings: Embeddings, *, most: int = 1000, on_progress: Callable[[], object] = lambda: None
) -> dict[int, bytes]:
    """
    A picture of each row, from the middle of its video or window, as a JPEG file, by the row's number.

    Args:
        embeddings: The collection. Videos that are no files of this machine, or cannot be read any more, have none.
        most: So many rows are looked at, evenly spread over the collection.
        on_progress: Is called after each row.
    """
    rows = np.unique(np.linspace(0, len(embeddings.names) - 1, min(most, len(embeddings.names)), dtype=int))
    pictures = {}
    for row in rows.tolist():
        name, (start, end) = embeddings.names[row], embeddings.windows[row].tolist()
        if os.path.isfile(name):
            with suppress(ValueError, OSError):
                stretch = WHOLE if np.isnan(start) else Stretch(start, end)
                pictures[row] = thumbnails(name, stretch=stretch, count=1, side=PICTURE_SIDE)[0]
        on_progress()
    return pictures


def describe(
    embeddings: Embeddings,
    points: np.ndarray,
    groups: Sequence[str],
    colors: Mapping[str, int],
    pictures: Mapping[int, bytes],
) -> dict[str, Any]:
    """What the template shows."""
    others = len(COLORS) - 1
    count = Counter(colors.get(group, others) for group in groups)
    names = {number: group for group, number in colors.items() if number < others}
    rows = [
        {
            **encodable({"name": name, "label": group}),
            "color": colors.get(group, others),
            "x": round(float(x), 4),
            "y": round(1 - float(y), 4),
            "seconds": None if np.isnan(start) else [round(float(start), 2), round(float(end), 2)],
            "picture": data_uri(pictures[row]) if row in pictures else None,
        }
        for row, (name, group, (x, y), (start, end)) in enumerate(
            zip(embeddings.names, groups, points, embeddings.windows, strict=True)
        )
    ]
    legend = [
        encodable({"color": number, "name": names.get(number, OTHERS), "count": count[number]})
        for number in sorted(count)
    ]
    return {"rows": rows, "legend": legend, "colors": COLORS, "num_videos": len(set(embeddings.names))}


def draw_map(file: IO[bytes], points: np.ndarray, groups: Sequence[str], colors: Mapping[str, int]) -> None:
    """Draws the picture, with its legend beside it."""
    others, scale = len(COLORS) - 1, 2  # drawn twice as large, then shrunk: smooth edges
    font = ImageFont.load_default(size=18 * scale)
    names = {number: group for group, number in colors.items() if number < others}
    used = sorted({colors.get(group, others) for group in groups})
    texts = encodable({str(number): names.get(number, OTHERS) for number in used})
    legend = [(number, texts[str(number)]) for number in used] if len(used) > 1 else []
    width = max((font.getlength(name) / scale for _, name in legend), default=-2 * MARGIN)
    size = (round(SIDE + width + 2 * MARGIN), SIDE)
    image = Image.new("RGB", (size[0] * scale, size[1] * scale), "white")
    draw = ImageDraw.Draw(image)

    def dot(x: float, y: float, number: int) -> None:
        box = [(x - RADIUS) * scale, (y - RADIUS) * scale, (x + RADIUS) * scale, (y + RADIUS) * scale]
        draw.ellipse(box, fill=COLORS[number], outline="white", width=scale)

    reach = SIDE - 2 * MARGIN
    for (x, y), group in zip(points, groups, strict=True):
        dot(MARGIN + reach * x, MARGIN + reach * (1 - y), colors.get(group, others))
    for line, (number, name) in enumerate(legend):
        y = MARGIN + LINE * line
        dot(SIDE, y, number)
        draw.text(((SIDE + 16) * scale, y * scale), name, fill="#202020", font=font, anchor="lm")
    image.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)


__all__ = [
    "check_map",
    "draw_pictures",
    "group_by_folder",
    "place_points",
    "read_groups",
    "shows_pictures",
    "write_map",
]
