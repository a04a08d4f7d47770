"""`fal map`: a collection as a map on which videos that are alike are neighbors."""

import argparse

from ..labeling.options import MAP_METHODS
from .arguments import as_usage_error, filled, non_negative_int


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal map`."""
    parser = commands.add_parser(
        "map",
        help="draw a collection as a map on which videos that are alike are neighbors",
        description="Draw what `fal embed` has written as a map: a page that is one file, with a picture of the video "
        "that is pointed at, or a picture.",
        epilog="Exit status: 0, or 2 for wrong usage, a file that holds no embeddings or an output that cannot be "
        "written.",
    )
    parser.add_argument(
        "collection", type=filled, metavar="FILE", help="of `fal embed`: .parquet, .safetensors or .npy"
    )
    parser.add_argument("--output", required=True, type=filled, metavar="MAP", help=".html or .png")
    parser.add_argument(
        "--method",
        choices=MAP_METHODS,
        default=next(iter(MAP_METHODS)),
        help="tsne keeps neighbors together, pca is faster and keeps what is far apart (default: tsne)",
    )
    parser.add_argument(
        "--labels",
        type=filled,
        metavar="FILE",
        help="color by the labels of videos: a .jsonl or .csv file of `fal label`, or one with the columns video and "
        "label (default: by the folders that videos are in)",
    )
    parser.add_argument(
        "--pictures", type=non_negative_int, default=1000, metavar="N", help="of a page, at most (default: 1000)"
    )
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of t-SNE (default: 0)")
    parser.set_defaults(run=draw_map)


def draw_map(arguments: argparse.Namespace) -> int:
    """Runs `fal map`; returns the exit status."""
    from ..labeling.embedding_files import read_embeddings
    from ..reports.embedding_map import (
        check_map,
        draw_pictures,
        group_by_folder,
        place_points,
        read_groups,
        shows_pictures,
        write_map,
    )

    with as_usage_error(ValueError, OSError, ImportError):
        check_map(arguments.output)
        embeddings = read_embeddings(arguments.collection)
        groups = read_groups(arguments.labels, embeddings) if arguments.labels else group_by_folder(embeddings)
        points = place_points(embeddings.embeddings, method=arguments.method, seed=arguments.seed)
    pictures = {}
    if shows_pictures(arguments.output) and arguments.pictures > 0:
        from tqdm import tqdm

        count = min(arguments.pictures, len(embeddings.names))
        with tqdm(total=count, desc="pictures", unit="video", disable=None) as progress:
            pictures = draw_pictures(embeddings, most=count, on_progress=progress.update)
    write_map(arguments.output, embeddings, points, groups, pictures=pictures, method=arguments.method)
    return 0


__all__ = ["add_command"]
