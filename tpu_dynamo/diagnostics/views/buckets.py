"""The report's part on buckets: a bar for each bucket, and the line to write where other sizes pad less."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tpu_dynamo.diagnostics.model import BucketUse, Report
from tpu_dynamo.diagnostics.printable import one_line
from tpu_dynamo.diagnostics.summary import format_location_of
from tpu_dynamo.formatting import format_count

_WIDTH = 30


def bucket_rows(use: BucketUse) -> list[tuple[str, int, float]]:
    """Return for each bucket the sizes that it served, as `33 to 64 in 64`, their calls, and a length from 0 to 1."""
    calls: Counter[int] = Counter()
    sizes: dict[int, list[int]] = {}
    for each in use.sizes:
        calls[each.bucket] += each.calls
        sizes.setdefault(each.bucket, []).append(each.size)
    most = max(calls.values(), default=1)
    return [(f"{min(sizes[b])} to {max(sizes[b])} in {b}", count, count / most) for b, count in sorted(calls.items())]


def bucket_sentence(use: BucketUse) -> str:
    """Say in one sentence how a dimension was padded."""
    calls = format_count(sum(each.calls for each in use.sizes), "call")
    share = 1 - use.elements / use.padded_elements if use.padded_elements else 0.0
    return (
        f"{use.dimension} of {use.function}: {calls} of {format_count(len(use.sizes), 'size')} in "
        f"{format_count(len(use.buckets), 'bucket')}, {use.padding:.0%} of it padding "
        f"({share:.0%} of the inputs' elements)"
    )


def show_buckets(report: Report, console: Console) -> None:
    """Print which dimensions were padded, and which graphs could not be."""
    if not (report.buckets or report.not_padded):
        return
    console.print(Text("\nbuckets", style="bold"))
    for use in report.buckets:
        console.print(Padding(Text(one_line(bucket_sentence(use))), (0, 0, 0, 2), expand=False))
        rows = bucket_rows(use)
        label = max(len(row[0]) for row in rows)
        for sizes, calls, length in rows:
            console.print(Text(f"    {sizes:<{label}}  {'█' * max(1, round(length * _WIDTH))} {calls}"))
        if use.line and use.better_padding is not None:
            text = f"{use.better_padding:.0%} would be padding with {use.line}"
            console.print(Padding(Text(one_line(text)), (0, 0, 0, 4), expand=False))
    for found in report.not_padded:
        text = f"not padded  {found.operation}: {found.why} at {format_location_of(found)}; {found.hint}"
        console.print(Padding(Text(one_line(text)), (0, 0, 0, 2), expand=False))
