"""What a run over a collection has done so far, so that it can go on after it was killed at any moment.

A journal is a text file that only grows. Its first line says which model and options made it; each further line is
one video that is done, and is on the disk before the next one is begun. A line that a kill has torn is cut off.
"""

import json
import os
from collections.abc import Iterable, Iterator
from glob import escape
from pathlib import Path
from typing import Any

from .inputs import VideoInput

JOURNAL_VERSION = 1


class Journal:
    """
    The journal of one output.

    Several processes that share an output have a journal each, and each process reads all of them.

    Args:
        path: The journal of process 0; that of process n has `.n` behind it.
        made_by: The model and the options of the run: JSON values by name.
        process: Number of this process.

    Raises:
        ValueError: there is a journal that another model or other options made, or that is no journal.
        OSError: it cannot be written, or another run is writing it.
    """

    def __init__(self, path: str | os.PathLike, made_by: dict[str, Any], *, process: int = 0):
        self.path = Path(path)
        self.made_by = json.loads(json.dumps(made_by))
        self.places: dict[str, tuple[Path, int, tuple[int, int] | None, bool]] = {}
        self.own_path = self.path if process == 0 else self.path.with_name(f"{self.path.name}.{process}")
        self.own_path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.own_path, "ab")  # noqa: SIM115, closed by close()
        try:
            _lock(self.file, self.own_path)
            self._read(self.own_path, is_own=True)
            self.refresh()
        except BaseException:
            self.file.close()
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
        return place is not None and place[2] == video.identity

    def has_failed(self, video: VideoInput) -> bool:
        """Whether a video that is done could not be labelled."""
        return self.places[video.key][3]

    def append(self, video: VideoInput, record: dict[str, Any]) -> None:
        """Adds a video that is done; returns when it is on the disk."""
        self._write({"key": video.key, "identity": video.identity, "record": record})

    def records(self, videos: Iterable[VideoInput]) -> Iterator[dict[str, Any]]:
        """The records of videos that are done, one after the other, under the names that the videos have now."""
        files = {path: open(path, "rb") for path in {place[0] for place in self.places.values()}}  # noqa: SIM115
        try:
            for video in videos:
                path, offset, _, _ = self.places[video.key]
                files[path].seek(offset)
                yield {**json.loads(files[path].readline())["record"], "video": video.name}
        finally:
            for file in files.values():
                file.close()

    def close(self) -> None:
        self.file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        offset = self.file.tell()
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self._note(self.own_path, offset, entry)

    def _read(self, path: Path, *, is_own: bool) -> None:
        """Notes the whole lines of a journal; of this process's own one a torn last line is cut off."""
        end = 0
        with open(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                entry = _parse(line, path, offset=end)
                if end == 0:
                    self._check_header(entry, path)
                else:
                    self._note(path, end, entry)
                end += len(line)
        if is_own:
            self.file.truncate(end)
            self.file.seek(end)
            if end == 0:
                self._write({"journal_version": JOURNAL_VERSION, "made_by": self.made_by})

    def _note(self, path: Path, offset: int, entry: dict[str, Any]) -> None:
        if "key" in entry:
            identity = entry["identity"] and tuple(entry["identity"])
            self.places[entry["key"]] = (path, offset, identity, "error" in entry["record"])

    def _check_header(self, header: dict[str, Any], path: Path) -> None:
        if header.get("journal_version") != JOURNAL_VERSION or not isinstance(header.get("made_by"), dict):
            raise ValueError(f"{path}: expected the journal of a run of fal, got another file; choose another output")
        before = header["made_by"]
        changed = [name for name in {**before, **self.made_by} if before.get(name) != self.made_by.get(name)]
        if changed:
            what = "; ".join(
                f"{name} was {_short(before.get(name))}, is {_short(self.made_by.get(name))}" for name in changed
            )
            raise ValueError(
                f"{path}: made with another model or other options ({what}). Take the same ones to go on, another "
                "output to keep both, or delete the journal to begin anew"
            )


def _parse(line: bytes, path: Path, *, offset: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not ("key" in entry or offset == 0):
        raise ValueError(f"{path}: damaged at byte {offset}; delete it to begin anew, or choose another output")
    return entry


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


__all__ = ["Journal"]
