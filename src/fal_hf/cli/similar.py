"""`fal similar`: the videos of a collection that are like one, or like one another."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from .arguments import UsageError, as_usage_error, filled, positive_int, print_line
from .embed import load_embedder
from .runs import format_name

if TYPE_CHECKING:
    from ..labeling.embedding_files import Embeddings
    from ..labeling.labeler import VideoLabeler
    from ..labeling.similarity import SimilarVideo

DEFAULT_THRESHOLD = 0.98


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal similar`."""
    parser = commands.add_parser(
        "similar",
        help="find the videos of a collection that are like one, or like one another",
        description="Find the videos that `fal embed` has embedded which are most like another one, or the pairs of "
        "them that are nearly the same. A score is the cosine of two embeddings: 1 is the same.",
        epilog="Exit status: 0, or 1 if the video failed, 2 for wrong usage or a file that holds no embeddings.",
    )
    parser.add_argument("video", nargs="?", type=filled, metavar="VIDEO", help="file or URL")
    parser.add_argument(
        "--in",
        dest="collection",
        required=True,
        type=filled,
        metavar="FILE",
        help="what `fal embed` has written: .parquet, .safetensors or .npy",
    )
    parser.add_argument("--top-k", type=positive_int, metavar="K", help="videos to find (default: 5)")
    parser.add_argument(
        "--duplicates", action="store_true", help="find pairs of the collection that are nearly the same"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="SCORE", help=f"from which on they are (default: {DEFAULT_THRESHOLD})"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON: an object for the video, or one a line and pair"
    )
    parser.add_argument(
        "--model", type=filled, metavar="FOLDER_OR_HUB_ID", help="that of the collection (default: the one FILE names)"
    )
    parser.add_argument("--device", type=filled, help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.set_defaults(run=similar, compile=False, verbose=False)


def similar(arguments: argparse.Namespace) -> int:
    """Runs `fal similar`; returns the exit status."""
    from ..labeling.embedding_files import read_embeddings
    from ..labeling.similarity import check_threshold

    if arguments.duplicates == (arguments.video is not None):
        raise UsageError("expected either a VIDEO or --duplicates")
    unused = ("top_k", "model", "device") if arguments.duplicates else ("threshold",)
    if given := [f"--{name.replace('_', '-')}" for name in unused if getattr(arguments, name) is not None]:
        raise UsageError(f"expected {given[0]} {'with a VIDEO' if arguments.duplicates else 'with --duplicates'}")
    threshold = DEFAULT_THRESHOLD if arguments.threshold is None else arguments.threshold
    with as_usage_error(ValueError, OSError, ImportError):
        check_threshold(threshold)
        embeddings = read_embeddings(arguments.collection)
    if arguments.duplicates:
        return print_duplicates(embeddings, threshold, as_json=arguments.json)
    return print_similar(arguments, embeddings)


def print_duplicates(embeddings: "Embeddings", threshold: float, *, as_json: bool) -> int:
    """Prints the pairs of a collection that are alike."""
    from ..labeling.similarity import find_duplicates

    with as_usage_error(ValueError, ImportError):
        for pair in find_duplicates(embeddings, threshold=threshold):
            if as_json:
                videos = [{"video": row.video, **times_of(row)} for row in pair]
                print_line(json.dumps({"score": pair[0].score, "videos": videos, "schema_version": 1}))
            else:
                print_line(f"{pair[0].score:6.3f}  {'  '.join(map(format_row, pair))}")
    return 0


def print_similar(arguments: argparse.Namespace, embeddings: "Embeddings") -> int:
    """Prints the rows of a collection that are most like a video."""
    from ..bulk.inputs import opened_input, reason_of
    from ..labeling.similarity import find_similar

    video, labeler = arguments.video, load_model_of(arguments, embeddings)
    try:
        with opened_input(video) as source:
            query = labeler.embed(source).embedding
    except Exception as error:  # whatever a file does, it is told in a line
        print(f"fal: {reason_of(error, video)}", file=sys.stderr)
        return 1
    with as_usage_error(ValueError, ImportError):
        found = find_similar(embeddings, query, top_k=arguments.top_k or 5)
    if arguments.json:
        rows = [{"video": row.video, "score": row.score, **times_of(row)} for row in found]
        print_line(json.dumps({"video": video, "similar": rows, "schema_version": 1}))
    else:
        print_line("\n".join([video, *(f"  {row.score:6.3f}  {format_row(row)}" for row in found)]))
    return 0


def load_model_of(arguments: argparse.Namespace, embeddings: "Embeddings") -> "VideoLabeler":
    """The model that has embedded a collection, as it did, or the one that the command names if it is the same."""
    model, name = embeddings.model, arguments.model
    if model is None:
        if name is None:
            raise UsageError(f"{arguments.collection}: expected --model with it, it does not say which it is of")
        return load_embedder(with_options(arguments, dtype="auto", runtime="auto", adaptive_patches=None))
    with as_usage_error(ValueError):
        options = model.query_options()
    views = options.pop("views")
    labeler = load_embedder(with_options(arguments, **{**options, "model": name or model.name}), views=views)

    from ..bulk.recorders import EmbeddingRecorder

    made_by = json.loads(EmbeddingRecorder(labeler).describe_model().to_json())["made_by"]
    names = {*made_by, *model.made_by} - {"views"}
    if changes := sorted(key for key in names if made_by.get(key) != model.made_by.get(key)):
        what = f"{name or model.name or 'the built-in one'}, which differs in {', '.join(changes)}"
        raise UsageError(f"{arguments.collection}: expected the model that it was made with by --model, got {what}")
    return labeler


def with_options(arguments: argparse.Namespace, **options) -> argparse.Namespace:
    """The arguments with other ones."""
    return argparse.Namespace(**{**vars(arguments), **options})


def times_of(row: "SimilarVideo") -> dict[str, Any]:
    """Where a part of a video begins and ends, as JSON values; nothing of a whole one."""
    if row.start_seconds is None:
        return {}
    return {"start_seconds": row.start_seconds, "end_seconds": row.end_seconds}


def format_row(row: "SimilarVideo") -> str:
    """A row of a collection by its name."""
    return format_name(row.video, row.start_seconds, row.end_seconds)


__all__ = ["add_command"]
