"""The graph-break report: why a model is not one graph, why it is compiled again, and the lines to change.

What it consists of is in `model`, which `import tpu_dynamo` leaves alone. Our codes are explained without torch.
"""

from typing import TYPE_CHECKING

from tpu_dynamo_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from .collecting import Diagnosis as Diagnosis
    from .collecting import diagnose as diagnose

_PLACES = {".collecting": ("Diagnosis", "diagnose")}

# Hidden from type checkers, which would otherwise let every name pass.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _PLACES)
