"""Which videos a collection holds: files, folders, globs, manifests, standard input and URLs, each video once."""

import codecs
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..labeling.manifests import ROW_READERS, Row, read_rows, stretch_of
from ..labeling.records import Record, failed_record
from ..model.video_file import VideoError, probe
from ..model.video_info import WHOLE, Stretch
from ..model.video_source import is_url, is_video_name

# The column of a CSV manifest, or the key of a JSON Lines one, that names the video: the first of these that is there.
MANIFEST_COLUMNS = ("video", "path", "file_name", "url")
STANDARD_INPUT = "-"
# How Python writes bytes of a file's name that are no text.
FILE_NAME_ERRORS = sys.getfilesystemencodeerrors()

Found = TypeVar("Found")


@dataclass(frozen=True)
class VideoInput:
    """
    A video, or a stretch of one, to be labeled.

    Args:
        name: As it was given or found.
        source: Absolute path without symbolic links, or URL.
        identity: Size in bytes and time of the last change in nanoseconds; None where it is not a file of this
            machine. A file that has changed is another video.
        stretch: What of it is to be labeled.
    """

    name: str
    source: str
    identity: tuple[int, int] | None
    stretch: Stretch = WHOLE

    @property
    def key(self) -> str:
        """Inputs of the same key are the same; a stretch is named as a media fragment is."""
        if self.stretch.is_whole:
            return self.source
        end = "" if self.stretch.end_seconds is None else f",{self.stretch.end_seconds}"
        return f"{self.source}#t={self.stretch.start_seconds}{end}"


def find_videos(inputs: Iterable[str], *, manifest: str | None = None) -> list[VideoInput]:
    """
    The videos of a collection, each once, in the order in which they are named first.

    Args:
        inputs: Paths of files; folders, in which all video files at any depth are found, in the order of their names;
            patterns with `*`, `?` or `[...]` (`**` for any depth); http(s) URLs; fsspec URLs (`s3://`, `gs://`,
            `hf://`, ...), which may be patterns as well or, ending in `/`, folders; `-` for standard input, one of
            all these a line.
        manifest: A file that names videos: one a line, or a `.csv` or `.jsonl` file with a column or key `video`,
            `path`, `file_name` or `url`, where `start_seconds` and `end_seconds` may name a stretch of each. Its
            relative paths begin at its folder.

    Raises:
        ValueError: a pattern, folder, manifest or standard input names no video, nobody knows a URL's scheme, a
            manifest is no text, or a row of it names no stretch.
        OSError: a manifest cannot be read.
        ImportError: the package for an fsspec URL is missing.
    """
    found: dict[str, VideoInput] = {}
    named = [(name, WHOLE) for name in inputs] + ([] if manifest is None else _read_manifest(manifest))
    for pattern, stretch in named:
        for name in _expand([pattern]):
            video = _as_input(name, stretch)
            found.setdefault(video.key, video)
    return list(found.values())


def _as_input(name: str, stretch: Stretch) -> VideoInput:
    if has_scheme(name):
        return VideoInput(name, name, None, stretch)
    try:
        status = os.stat(name)
        identity = status.st_size, status.st_mtime_ns
    except OSError:  # labeling it says what is wrong
        identity = None
    return VideoInput(name, os.path.realpath(name), identity, stretch)


def records_of_missing(videos: Iterable[VideoInput]) -> list[Record] | None:
    """The records of videos none of which is there, for which no model is needed; None where one is, or may be."""
    records = []
    for video in videos:
        record = _record_if_missing(video)
        if record is None:
            return None
        records += [record]
    return records


def _record_if_missing(video: VideoInput) -> Record | None:
    if video.identity is not None or has_scheme(video.name):
        return None
    try:
        probe(video.source)
    except VideoError as error:
        return failed_record(video.name, reason_of(error, video.name), video.stretch)
    return None  # it has come in the meantime


def has_scheme(name: str) -> bool:
    """Whether a name is a URL of any kind."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


@contextmanager
def opened_input(source: str) -> Iterator[str | BinaryIO]:
    """What a video reader takes for the source of an input: itself, or an open file for an fsspec URL."""
    if not has_scheme(source) or is_url(source):
        yield source
        return
    import fsspec

    with fsspec.open(source, "rb") as file:
        yield file  # pyright: ignore[reportReturnType]  # the hint has lists of files as well


def reason_of(error: Exception, name: str) -> str:
    """One line on why a video failed, with its name."""
    return f"{name}: {error.reason if isinstance(error, VideoError) else describe_error(error)}"


def describe_error(error: Exception) -> str:
    """One line on an error; its type is left out where the message is meant for users."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) and message else f"{type(error).__name__}: {message}"


# ---- names to names ----


def _expand(inputs: Iterable[str]) -> Iterator[str]:
    for name in inputs:
        if name == STANDARD_INPUT:
            yield from _expand(_checked("standard input", list(_names_in(sys.stdin.buffer, "standard input"))))
        elif is_url(name):
            yield name
        elif has_scheme(name):
            yield from _find_remote(name)
        elif os.path.isdir(name):
            yield from _checked(name, _walk(name))
        elif glob.has_magic(name) and not os.path.exists(name):
            matches = sorted(glob.glob(name, recursive=True))
            yield from _checked(name, [match for match in matches if not os.path.isdir(match)])
        else:
            yield name


def _walk(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        found += [os.path.join(parent, file) for file in sorted(files) if is_video_name(file)]
    return found


def _find_remote(url: str) -> Sequence[str]:
    """The files that an fsspec URL stands for: itself, the matches of a pattern, or the videos of a folder."""
    from fsspec import get_filesystem_class

    scheme = url.partition("://")[0]
    try:
        get_filesystem_class(scheme)
    except ValueError as error:
        raise ValueError(f"{url}: expected http, https or a scheme that fsspec knows, got {scheme}") from error
    if not url.endswith("/") and not glob.has_magic(url):
        return [url]
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    is_folder = url.endswith("/")
    found = filesystem.find(path, detail=True) if is_folder else filesystem.glob(path, detail=True)
    files = sorted(name for name, about in found.items() if about["type"] == "file")
    names = [name for name in files if not is_folder or is_video_name(name)]
    return _checked(url, [filesystem.unstrip_protocol(name) for name in names])


def _checked(what: str, found: Sequence[Found]) -> Sequence[Found]:
    if not found:
        raise ValueError(f"{what}: expected a video at least, found none; a folder's files are known by their suffix")
    return found


# ---- manifests ----


def _read_manifest(path: str) -> list[tuple[str, Stretch]]:
    named: list[tuple[str, Stretch]] = []
    if Path(path).suffix.lower() in ROW_READERS:
        for line, row in read_rows(path, errors="surrogateescape"):
            try:
                named.append((_file_name(_name_in(row).encode(errors=FILE_NAME_ERRORS)), stretch_of(row)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: line {line}: {error}") from error
    else:
        with open(path, "rb") as file:
            named = [(name, WHOLE) for name in _names_in(file, path)]
    folder = os.path.dirname(path)
    return [
        (name if has_scheme(name) else os.path.join(folder, name), stretch) for name, stretch in _checked(path, named)
    ]


def _names_in(file: Iterable[bytes], source: str) -> Iterator[str]:
    """The names of a text with one a line."""
    for number, line in enumerate(file, start=1):
        name = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip(b"\r\n")
        if name.strip():
            try:
                yield _file_name(name)
            except ValueError as error:
                raise ValueError(f"{source}: line {number}: {error}") from error


def _file_name(name: bytes) -> str:
    """What this system calls a file whose name is these bytes, whatever they are."""
    if b"\0" in name:
        raise ValueError("expected the name of a video, got one with a zero byte; is this a text in UTF-8?")
    return os.fsdecode(name)


def _name_in(row: Row) -> str:
    for column in MANIFEST_COLUMNS:
        if isinstance(row.get(column), str) and row[column]:
            return row[column]
    raise ValueError(f"expected one of {', '.join(MANIFEST_COLUMNS)} to name a video, found none of them")


__all__ = ["VideoInput", "find_videos", "opened_input", "records_of_missing"]
