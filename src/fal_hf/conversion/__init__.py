"""Foreign checkpoints to FAL folders."""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names
from .errors import ConversionError
from .options import ConversionOptions

if TYPE_CHECKING:
    from .converter import Conversion, convert

__all__ = ["Conversion", "ConversionError", "ConversionOptions", "convert"]

# These need torch, which takes seconds to import: only who asks for them waits.
__getattr__, __dir__ = lazy_names(__name__, {"converter": ("Conversion", "convert")})
