"""What is lowered, as rows for people."""

from __future__ import annotations

from tpu_dynamo_lowering import PATTERNS, TABLE


def operator_rows() -> list[tuple[str, str, str]]:
    """Operator, way of lowering and what it does or why, for every entry of the tables, sorted by operator."""
    return sorted(
        (
            str(overload),
            "torch-mlir, else kernel" if overload in PATTERNS else str(lowering.how),
            lowering.reason,
        )
        for overload, lowering in TABLE.items()
    )
