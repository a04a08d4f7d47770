"""What a run over a collection has done so far, so that it can go on after it was killed at any moment.

A journal is a text file that only grows. Its first line says which model and options made it; each further line is
one video that is done, and is on the disk before the next one is begun. A line that a kill has torn is cut off.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from ..labeling.label_files import named
from ..labeling.records import Record, is_record
from .inputs import VideoInput

JOURNAL_VERSION = 1
# So many are told of; one is enough to know why a journal is refused.
MOST_CHANGES = 8


class JournalError(ValueError):
    """A journal that a run cannot go on with."""


@dataclass(frozen=True, kw_only=True)
class JournalHeader:
    """The first line: which model and options made the records."""

    journal_version: int = JOURNAL_VERSION
    made_by: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """Any other line: a video that is done."""

    key: str
    identity: tuple[int, int] | None
    record: Record


@dataclass(frozen=True)
class _Place:
    """Where a video's record is, and what a run needs to know of it."""

    path: Path
    offset: int
    identity: tuple[int, int] | None
    has_failed: bool


def journal_path(output: str | os.PathLike) -> Path:
    """Where the journal of an output is."""
    return Path(f"{os.fspath(output)}.journal")


class Journal:
    """
    The journal of one output.

    Several processes that share an output have a journal each, and each process reads all of them.

    Args:
        path: The journal of process 0; that of process n has `.n` behind it.
        made_by: The model and the options of the run: JSON values by name.
        process: Number of this process.
        is_record: Tells the records of such a run from other JSON values.

    Raises:
        JournalError: (a `ValueError`) another model or other options made the journal that is there, or it is none.
        OSError: it cannot be written, or another run is writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        made_by: dict[str, Any],
        *,
        process: int = 0,
        is_record: Callable[[Any], bool] = is_record,
    ):
        self.path = Path(path)
        self.is_record = is_record
        self.made_by = json.loads(json.dumps(made_by))
        self.places: dict[str, _Place] = {}
        self.own_path = self.path if process == 0 else self.path.with_name(f"{self.path.name}.{process}")
        self.own_path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.own_path, "ab")  # noqa: SIM115, closed by close()
        try:
            _lock(self.file, self.own_path)
            self._read(self.own_path, is_own=True)
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Reads what other processes have done."""
        others = [self.path, *sorted(self.path.parent.glob(f"{escape(self.path.name)}.[0-9]*"))]
        for path in others:
            if path != self.own_path and path.exists():
                self._read(path, is_own=False)

    def __contains__(self, video: VideoInput) -> bool:
        """Whether this video, unchanged since, is done."""
        place = self.places.get(video.key)
        return place is not None and place.identity == video.identity

    def has_failed(self, video: VideoInput) -> bool:
        """Whether a video that is done could not be read."""
        return self.places[video.key].has_failed

    def append(self, video: VideoInput, record: Record) -> None:
        """Adds a video that is done; returns when it is on the disk."""
        entry = JournalEntry(key=video.key, identity=video.identity, record=record)
        self._note(self.own_path, self._write(entry), entry)

    def records(self, videos: Iterable[VideoInput]) -> Iterator[Record]:
        """The records of videos that are done, one after the other, under the names that the videos have now."""
        files = {path: open(path, "rb") for path in {place.path for place in self.places.values()}}  # noqa: SIM115
        try:
            for video in videos:
                place = self.places[video.key]
                files[place.path].seek(place.offset)
                yield {**json.loads(files[place.path].readline())["record"], "video": video.name}
        finally:
            for file in files.values():
                file.close()

    def close(self) -> None:
        with named(self.own_path):
            self.file.close()

    def _write(self, line: JournalHeader | JournalEntry) -> int:
        """Adds a line; returns where it begins."""
        offset = self.file.tell()
        with named(self.own_path):
            self.file.write(json.dumps(vars(line)).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        return offset

    def _read(self, path: Path, *, is_own: bool) -> None:
        """Notes the whole lines of a journal; of this process's own one a torn last line is cut off."""
        end = 0
        with open(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    if end == 0:
                        self._check_torn_header(line, path)
                    break
                if end == 0:
                    self._check_header(_parse_header(line, path), path)
                else:
                    self._note(path, end, self._parse_entry(line, path, offset=end))
                end += len(line)
        if is_own:
            self.file.truncate(end)
            self.file.seek(end)
            if end == 0:
                self._write(JournalHeader(made_by=self.made_by))

    def _note(self, path: Path, offset: int, entry: JournalEntry) -> None:
        self.places[entry.key] = _Place(path, offset, entry.identity, "error" in entry.record)

    def _parse_entry(self, line: bytes, path: Path, *, offset: int) -> JournalEntry:
        entry = _parse(line)
        if isinstance(entry, dict) and self.is_record(entry.get("record")):
            match entry:
                case {"key": str() as key, "identity": None, "record": record}:
                    return JournalEntry(key=key, identity=None, record=record)
                case {"key": str() as key, "identity": [int() as size, int() as changed], "record": record}:
                    return JournalEntry(key=key, identity=(size, changed), record=record)
        raise _damage(path, offset)

    def _check_torn_header(self, line: bytes, path: Path) -> None:
        """A kill may have torn the first line; a file that does not begin as it does is somebody else's."""
        if not json.dumps(vars(JournalHeader(made_by=self.made_by))).encode().startswith(line):
            raise _foreign(path)

    def _check_header(self, header: JournalHeader, path: Path) -> None:
        changes = list(_changes(header.made_by, self.made_by))
        if changes:
            what = "; ".join(changes if len(changes) <= MOST_CHANGES else [*changes[:MOST_CHANGES], "..."])
            raise JournalError(
                f"{path}: made with another model or other options ({what}). Take the same ones to go on, another "
                "output to keep both, or delete the journal to begin anew"
            )


def _parse_header(line: bytes, path: Path) -> JournalHeader:
    match _parse(line):
        case {"journal_version": version, "made_by": dict() as made_by} if version == JOURNAL_VERSION:
            return JournalHeader(made_by=made_by)
        case dict():
            raise _foreign(path)
    raise _damage(path, 0)


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{path}: expected the journal of a run of fal, got another file; choose another output")


def _damage(path: Path, offset: int) -> JournalError:
    return JournalError(f"{path}: damaged at byte {offset}; delete it to begin anew, or choose another output")


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What differs, in words; of two groups of settings, the settings that do."""
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if not prefix and isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{name}.")
        else:
            yield f"{prefix}{name} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lock(file, path: Path) -> None:
    """Keeps a second run from writing the same journal; the lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError(f"{path}: another run is writing this output; wait for it or choose another output") from error


__all__ = ["Journal", "JournalEntry", "JournalError", "JournalHeader", "journal_path"]
