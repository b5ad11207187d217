"""`tpu-dynamo doctor`: what is installed, what of it works, and what to do about the rest.

Nothing here imports torch, jax or the rest of tpu_dynamo into this process: what may be broken, or may take its process
down, is tried in one of its own (trial.py).
"""

from .check import Check, Status
from .examine import GROUPS, examine

__all__ = ["GROUPS", "Check", "Status", "examine"]
