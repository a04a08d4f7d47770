"""What an exported folder holds: a card, a configuration, a processor, and in `runtimes.json` a list of runtimes, each
of which has a folder of its own with all that it needs."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers.utils.hub import cached_file

from ..model.text_encoder import HUB_ARGUMENTS
from .formats import FORMATS, PRECISIONS, Format, Precision

RUNTIMES_FILE = "runtimes.json"
SCHEMA_VERSION = 1

CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class RuntimeRecord:
    """
    One way to run an exported model.

    Args:
        format: What runs it: ONNX Runtime, OpenVINO or torch.
        precision: Of its products.
        fixed_size: The only `(frames, channels, height, width)` that it takes; None: any.
        float_linears: With int8: the Linears that stay in float32, by name.
        settings: How it was made, for people.
        check: How far it is from the float32 model, see [`Agreement`][fal_hf.export.agreement.Agreement].
    """

    format: Format
    precision: Precision
    fixed_size: tuple[int, ...] | None = None
    float_linears: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name, which is that of its folder."""
        return f"{self.format}-{self.precision}"

    @classmethod
    def of(cls, value: Any) -> "RuntimeRecord":
        """A record read from JSON; a ValueError says what is wrong with it."""
        names = {one.name for one in fields(cls)}
        if not isinstance(value, dict) or not {"format", "precision"} <= value.keys() <= names:
            raise ValueError(f"expected runtimes with {', '.join(sorted(names))}, got {value!r:.200}")
        if value["format"] not in FORMATS or value["precision"] not in PRECISIONS:
            raise ValueError(
                f"expected a runtime of {', '.join(FORMATS)} in {', '.join(PRECISIONS)}, "
                f"got {value['format']!r:.50} in {value['precision']!r:.50}"
            )
        linears = value.get("float_linears", ())
        if not isinstance(linears, list | tuple) or not all(isinstance(name, str) for name in linears):
            raise ValueError(f"float_linears: expected a list of names, got {linears!r:.200}")
        size = value.get("fixed_size")
        if size is not None and not (isinstance(size, list | tuple) and all(isinstance(side, int) for side in size)):
            raise ValueError(f"fixed_size: expected whole numbers, got {size!r:.200}")
        return cls(**{**value, "float_linears": tuple(linears), "fixed_size": None if size is None else tuple(size)})


@dataclass(frozen=True)
class RuntimeFolder:
    """
    An exported folder.

    Args:
        path: Where it is.
        source: SHA-256 of the weights that it was made from.
        records: Its runtimes.
    """

    path: Path
    source: str
    records: tuple[RuntimeRecord, ...]

    @classmethod
    def read(cls, path: str | PathLike) -> "RuntimeFolder":
        """
        Reads `runtimes.json` of a folder.

        Raises:
            ValueError: it is not what an export writes, or is of a later version.
            OSError: it cannot be read.
        """
        file = Path(path) / RUNTIMES_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            version = content["schema_version"]
            source, values = content["source"], content["runtimes"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{file}: expected what `fal export` writes, got something else: {error!r:.200}"
            ) from error
        if version != SCHEMA_VERSION:
            raise ValueError(f"{file}: expected version {SCHEMA_VERSION}, got {version!r:.50}; update fal-hf")
        try:
            records = tuple(RuntimeRecord.of(value) for value in values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from error
        if not records:
            raise ValueError(f"{file}: expected at least one runtime, got none")
        return cls(Path(path), str(source), records)

    def write(self) -> None:
        """Writes `runtimes.json`."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "source": self.source,
            "runtimes": [asdict(record) for record in self.records],
        }
        (self.path / RUNTIMES_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def find(self, name: str) -> RuntimeRecord:
        """The runtime of a name; a ValueError says which there are."""
        by_name = {record.name: record for record in self.records}
        if name not in by_name:
            raise ValueError(f"runtime: expected auto or one of {', '.join(by_name)} of {self.path}, got {name!r}")
        return by_name[name]

    def hash_files(self, record: RuntimeRecord) -> str:
        """SHA-256 over the names, sizes and contents of a runtime's files."""
        digest, folder = hashlib.sha256(), self.path / record.name
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        return digest.hexdigest()


def find_runtimes(model: str | PathLike, **kwargs) -> RuntimeFolder | None:
    """
    The exported folder that a path or a Hub id names; None where it is a checkpoint. One of the Hub is downloaded.

    Args:
        model: Path or Hub id.
        kwargs: Of `from_pretrained`; those of the Hub are made use of.
    """
    if Path(model).is_dir():
        return RuntimeFolder.read(model) if (Path(model) / RUNTIMES_FILE).is_file() else None
    where = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
    try:
        file = cached_file(fspath(model), RUNTIMES_FILE, **where, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such repository: loading the checkpoint will say so
        return None
    return None if file is None else RuntimeFolder.read(snapshot_download(fspath(model), **where))


__all__ = ["RUNTIMES_FILE", "RuntimeFolder", "RuntimeRecord", "find_runtimes"]
