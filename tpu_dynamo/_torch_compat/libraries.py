"""Libraries of operators that are taken back."""

from __future__ import annotations

import torch


def destroy_library(library: torch.library.Library) -> None:
    """Take back what a library defined and registered, so that it can be defined again."""
    library._destroy()
