"""Models for other runtimes: exported, quantized, and compared with the model that they were made from."""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names
from .options import ExportOptions

if TYPE_CHECKING:
    from .agreement import Agreement
    from .exporter import Attempt, Export, ExportError, NotCloseEnough, export_model

__all__ = ["Agreement", "Attempt", "Export", "ExportError", "ExportOptions", "NotCloseEnough", "export_model"]

# These need torch, which takes seconds to import: only who asks for them waits.
_MODULES = {
    "agreement": ("Agreement",),
    "exporter": ("Attempt", "Export", "ExportError", "NotCloseEnough", "export_model"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
