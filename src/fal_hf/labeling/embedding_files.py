"""Embeddings of videos as files: Parquet, safetensors and NumPy's own.

A row is a video, or a stretch of one; with windows each window is a row, and the video as a whole is none.

* Parquet has the columns of `TABLE_COLUMNS`. A video that failed is a row with an error and no embedding. What the
  model is stands in the metadata of the schema.
* safetensors has the tensor `embeddings`, `(N, D)` float32. Its metadata, JSON as text, hold `videos`, the name of
  each row, `windows`, where in the video it begins and ends, null for the whole, and `model`.
* `.npy` is the array `(N, D)` float32; beside it the names, times included, are in a table, `FILE.npy.csv`, one line a
  row. It does not say which model it is of.

Files are written as label files are, row by row: no more than some thousand embeddings are in memory.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from ..model.patch_layout import AdaptivePatches
from .label_files import OutputError, check_file, check_package, checked_suffix, encodable, whole_file
from .options import Views
from .records import Record, unpack_embedding

TABLE_COLUMNS = ("video", "start_seconds", "end_seconds", "embedding", "duration_seconds", "error")
NAME_COLUMNS = ("video", "start_seconds", "end_seconds")
ROWS_AT_ONCE = 4096
FILE_VERSION = 1
# Of the model in the metadata of a Parquet file.
MODEL_KEY = b"fal_embeddings"
# What the safetensors library reads at most.
MOST_HEADER_BYTES = 100_000_000


class EmbeddingFileError(ValueError):
    """A file that is none of embeddings, or a damaged one."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """
    Which model embeddings are of.

    Args:
        size: D, numbers of an embedding.
        made_by: What they depend on, JSON values by name: `weights`, `processor`, `dtype`, `views`, ...
        name: Folder or Hub id of the model; None: the built-in one, or one that was made in memory.
    """

    size: int
    made_by: dict[str, Any]
    name: str | None = None

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "file_version": FILE_VERSION})

    @classmethod
    def from_json(cls, text: str | bytes) -> "EmbeddingModel":
        """Reads what `to_json` returns, or raises a ValueError."""
        match json.loads(text):
            case {
                "size": int() as size,
                "made_by": dict() as made_by,
                "name": (str() | None) as name,
                "file_version": version,
            } if size > 0 and version == FILE_VERSION:
                return cls(size=size, made_by=made_by, name=name)
        raise ValueError("expected the description of a model, got something else")

    def query_options(self) -> dict[str, Any]:
        """
        How `VideoLabeler.from_pretrained` loads the model to embed another video alike, as a whole.

        Raises:
            ValueError: they are no such options.
        """
        try:
            views = Views(**self.made_by["views"])
            patches = self.made_by.get("adaptive_patches")
            runtime = self.made_by.get("runtime", "auto")
            return {
                "views": Views(
                    num_clips=None if views.windows else views.num_clips,
                    num_crops=views.num_crops,
                    scales=tuple(views.scales),
                ),
                "adaptive_patches": patches and AdaptivePatches(**patches),
                "dtype": self.made_by["dtype"] if runtime == "auto" else "auto",
                "runtime": runtime,
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected how a model embeds videos, got other options: {error}") from error


@dataclass(frozen=True, eq=False)
class Embeddings:
    """
    The embeddings of a collection, N rows.

    Args:
        names: The video of each row.
        windows: `(N, 2)` float64, the seconds where in its video a row begins and ends; NaN where it is the whole.
        embeddings: `(N, D)` float32.
        model: Which model they are of; None where the file does not say.
    """

    names: list[str]
    windows: np.ndarray
    embeddings: np.ndarray
    model: EmbeddingModel | None = None


def check_embeddings_output(path: str | os.PathLike) -> None:
    """
    Refuses an output that embeddings cannot be written to, before they are made.

    Raises:
        OutputError: (a `ValueError`) it is a folder, its suffix is unknown, or nothing can be written where it is.
        ImportError: the package for the format is missing.
    """
    check_file(path, FORMATS)


def write_embeddings(path: str | os.PathLike, records: Iterable[Record], model: EmbeddingModel) -> list[Path]:
    """
    Writes records of embeddings in the format that the suffix of `path` names.

    Args:
        path: `.parquet`, `.safetensors` or `.npy`.
        records: What `VideoEmbedding.to_dict` returns, or `failed_record`; the latter are in Parquet alone.
        model: Which model they are of.

    Returns:
        The files that were written.

    Raises:
        OutputError: (a `ValueError`) the suffix is unknown, or a safetensors file cannot hold so many names.
        OSError: a file cannot be written; what was there before still is.
    """
    return FORMATS[checked_suffix(path, FORMATS)].write(Path(path), records, model)


def read_embeddings(path: str | os.PathLike) -> Embeddings:
    """
    Reads what [`write_embeddings`] has written; videos that failed are left out.

    Raises:
        EmbeddingFileError: (a `ValueError`) it is another file, or a damaged one.
        OSError: it cannot be read.
        ImportError: the package for the format is missing.
    """
    suffix = checked_suffix(path, FORMATS)
    check_package(path, suffix)
    with open(path, "rb"):  # told of as the system does
        pass
    try:
        found = FORMATS[suffix].read(Path(path))
        if not np.isfinite(found.embeddings).all():
            raise ValueError("an embedding has numbers that are not finite")
        return found
    except Exception as error:  # what is in a foreign file may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EmbeddingFileError(
            f"{os.fspath(path)}: expected embeddings as `fal embed` writes them, got another or a damaged file: "
            f"{reason}"
        ) from error


def embedding_rows(record: Record) -> Iterator[dict[str, Any]]:
    """The rows of one record, each with all of TABLE_COLUMNS; what does not apply is None."""
    row = {name: record.get(name) for name in TABLE_COLUMNS}
    for part in record.get("windows", (record,)):
        times = {name: part.get(name) for name in ("start_seconds", "end_seconds")}
        embedding = None if "error" in record else unpack_embedding(part["embedding"])
        yield {**row, **times, "embedding": embedding}


# ---- Parquet ----


def _parquet_schema(size: int) -> Any:
    import pyarrow

    texts, numbers = pyarrow.string(), pyarrow.float64()
    types = dict.fromkeys(TABLE_COLUMNS, numbers)
    types |= {"video": texts, "error": texts, "embedding": pyarrow.list_(pyarrow.float32(), size)}
    return pyarrow.schema(types.items())


def _write_parquet(path: Path, records: Iterable[Record], model: EmbeddingModel) -> list[Path]:
    import pyarrow
    from pyarrow import parquet

    schema = _parquet_schema(model.size).with_metadata({MODEL_KEY: model.to_json().encode()})
    # Embeddings can hardly be compressed; a reader knows by that how many a file can hold.
    options = {"use_dictionary": ["video", "error"], "compression": "none"}
    rows = (encodable(row) for record in records for row in embedding_rows(record))
    with whole_file(path, mode="wb") as file, parquet.ParquetWriter(file, schema, **options) as writer:
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
    return [path]


def _read_parquet(path: Path) -> Embeddings:
    from pyarrow import parquet

    num_bytes = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        model = EmbeddingModel.from_json((schema.metadata or {})[MODEL_KEY])
        expected = _parquet_schema(model.size)
        if not schema.equals(expected):
            raise ValueError(f"expected the columns {', '.join(TABLE_COLUMNS)}, got {', '.join(schema.names)}")
        names: list[str] = []
        windows, embeddings = [np.empty((0, 2))], [np.empty((0, model.size), np.float32)]
        room = num_bytes
        for batch in file.iter_batches(batch_size=max(1, min(ROWS_AT_ONCE, num_bytes // (4 * model.size)))):
            room -= batch.num_rows
            batch = batch.filter(batch["embedding"].is_valid())
            found = batch["embedding"].flatten().to_numpy(zero_copy_only=False).reshape(-1, model.size)
            room -= found.nbytes
            if room < 0:
                raise ValueError(f"it has more rows than {num_bytes} bytes hold")
            names += batch["video"].to_pylist()
            times = [batch[name].to_numpy(zero_copy_only=False) for name in ("start_seconds", "end_seconds")]
            windows.append(np.stack(times, axis=1).astype(np.float64))
            embeddings.append(found)
    return _joined(names, np.concatenate(windows), np.concatenate(embeddings), model)


# ---- arrays ----


def _copy_rows(file: IO[bytes], records: Iterable[Record]) -> list[tuple[Any, ...]]:
    """Writes the numbers of all embeddings one after the other; returns the NAME_COLUMNS of each."""
    places = []
    for record in records:
        for row in embedding_rows(record):
            if row["embedding"] is not None:
                file.write(row["embedding"].tobytes())
                places.append(tuple(row[name] for name in NAME_COLUMNS))
    return places


def _write_array(
    path: Path,
    records: Iterable[Record],
    make_header: Callable[[list[tuple[Any, ...]]], bytes],
) -> list[tuple[Any, ...]]:
    """Writes a file of a header, which knows the names, and of all embeddings; returns the NAME_COLUMNS of each."""
    with whole_file(path, mode="wb") as file, TemporaryFile(dir=path.parent) as rows:
        places = _copy_rows(rows, records)
        file.write(make_header(places))
        rows.seek(0)
        shutil.copyfileobj(rows, file)
    return places


def _write_safetensors(path: Path, records: Iterable[Record], model: EmbeddingModel) -> list[Path]:
    def make_header(places: list[tuple[Any, ...]]) -> bytes:
        windows = [None if start is None else (start, end) for _, start, end in places]
        metadata = {"videos": json.dumps([place[0] for place in places]), "windows": json.dumps(windows)}
        shape = (len(places), model.size)
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": (0, 4 * shape[0] * shape[1])}
        header = json.dumps({"__metadata__": {**metadata, "model": model.to_json()}, "embeddings": tensor}).encode()
        header += b" " * (-len(header) % 8)
        if len(header) > MOST_HEADER_BYTES:
            raise OutputError(f"{path}: expected fewer names, got {len(places)}; .parquet takes any number")
        return len(header).to_bytes(8, "little") + header

    _write_array(path, records, make_header)
    return [path]


def _read_safetensors(path: Path) -> Embeddings:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        embeddings = file.get_tensor("embeddings")
    model, names = EmbeddingModel.from_json(metadata["model"]), json.loads(metadata["videos"])
    windows = [(np.nan, np.nan) if times is None else times for times in json.loads(metadata["windows"])]
    return _joined(names, windows, embeddings, model)


def _names_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.csv")


def _write_npy(path: Path, records: Iterable[Record], model: EmbeddingModel) -> list[Path]:
    def make_header(places: list[tuple[Any, ...]]) -> bytes:
        header = BytesIO()
        about = {"descr": "<f4", "fortran_order": False, "shape": (len(places), model.size)}
        np.lib.format.write_array_header_1_0(header, about)
        return header.getvalue()

    places = _write_array(path, records, make_header)
    with whole_file(_names_path(path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(NAME_COLUMNS)
        writer.writerows(places)
    return [path, _names_path(path)]


def _read_npy(path: Path) -> Embeddings:
    embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    with open(_names_path(path), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    windows = [[float(row[name] or "nan") for name in NAME_COLUMNS[1:]] for row in rows]
    return _joined([row["video"] for row in rows], windows, embeddings, None)


def _joined(names: Any, windows: Any, embeddings: Any, model: EmbeddingModel | None) -> Embeddings:
    """Embeddings whose parts fit one another, or a ValueError."""
    times = np.array(windows, np.float64).reshape(-1, 2)
    if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float32 or embeddings.ndim != 2:
        raise ValueError("expected an array of float32 numbers with an embedding a row")
    if model is not None and embeddings.shape[1] != model.size:
        raise ValueError(f"expected embeddings of {model.size} numbers, got {embeddings.shape[1]}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a list of names")
    if not (np.isfinite(times) | np.isnan(times[:, ::-1]) & np.isnan(times)).all():
        raise ValueError("expected that parts of videos begin and end at some time")
    if not len(names) == len(times) == len(embeddings):
        raise ValueError(f"expected a name for each of {len(embeddings)} rows, got {len(names)}")
    return Embeddings(names, times, embeddings, model)


@dataclass(frozen=True)
class _Format:
    write: Callable[[Path, Iterable[Record], EmbeddingModel], list[Path]]
    read: Callable[[Path], Embeddings]


FORMATS: dict[str, _Format] = {
    ".parquet": _Format(_write_parquet, _read_parquet),
    ".safetensors": _Format(_write_safetensors, _read_safetensors),
    ".npy": _Format(_write_npy, _read_npy),
}

__all__ = [
    "FORMATS",
    "EmbeddingFileError",
    "EmbeddingModel",
    "Embeddings",
    "check_embeddings_output",
    "read_embeddings",
    "write_embeddings",
]
