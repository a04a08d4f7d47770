"""What names a checkpoint; torch-free, so that a file that is not there is told at once."""

import os
from pathlib import Path

from .errors import ConversionError

PICKLE_SUFFIXES = (".bin", ".pyth", ".pth", ".pt")
WEIGHTS_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)


def require_name(source: str | os.PathLike) -> None:
    """
    Refuses what is no file or folder of this machine and cannot be a Hub id, `"name"` or `"namespace/name"`.

    Raises:
        ConversionError: such a name.
    """
    path = Path(source)
    if path.exists():
        return
    is_path = path.is_absolute() or os.fspath(source).startswith((".", "~")) or len(path.parts) > 2
    if is_path or path.suffix in WEIGHTS_SUFFIXES:
        raise ConversionError(f"{source}: expected a file, a folder or a Hub id, got none of them")


__all__ = ["PICKLE_SUFFIXES", "WEIGHTS_SUFFIXES", "require_name"]
