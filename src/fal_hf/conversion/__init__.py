"""Foreign checkpoints to FAL folders."""

from .checkpoint_files import ConversionError
from .converter import Conversion, convert

__all__ = ["Conversion", "ConversionError", "convert"]
