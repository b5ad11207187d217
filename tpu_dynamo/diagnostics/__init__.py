"""The graph-break report: why a model is not one graph, why it is compiled again, and the lines to change.

What it consists of is in `model`, which `import tpu_dynamo` leaves alone.
"""

from .collecting import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
