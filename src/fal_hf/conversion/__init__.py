"""Foreign checkpoints to FAL folders."""

from typing import TYPE_CHECKING

from .errors import ConversionError
from .options import ConversionOptions

if TYPE_CHECKING:
    from .converter import Conversion, convert

__all__ = ["Conversion", "ConversionError", "ConversionOptions", "convert"]


def __getattr__(name: str):
    """`convert` and what it returns need torch, which takes seconds to import: only who asks for them waits."""
    if name not in ("Conversion", "convert"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import converter

    return getattr(converter, name)
