"""OpInfo entries that must fail, each with its reason. A test that passes unexpectedly is a failure too."""

from __future__ import annotations

FORWARD: dict[str, dict[str, str]] = {"any": {}}
GRADIENTS: dict[str, dict[str, str]] = {"any": {}}
