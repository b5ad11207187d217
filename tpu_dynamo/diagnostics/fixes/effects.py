"""Breaks at effects on the world: printing, logging, warnings, clocks, seeds, files."""

from __future__ import annotations

from .pattern import Fix, fix

_GUARD = "Where it is for eager runs only, ask torch.compiler.is_compiling() first; else move it to the caller."

# Ordered: of two that fit, the first is taken.
EFFECTS: tuple[Fix, ...] = (
    fix(
        "GB0059",
        "print outside of the graph",
        "print() writes at once, and a graph runs later. " + _GUARD,
        """
        def forward(x):
            x = x + 1
            print("shape", x.shape)
            return x * 2
        """,
        """
        def forward(x):
            x = x + 1
            if not torch.compiler.is_compiling():
                print("shape", x.shape)
            return x * 2
        """,
        message=r"builtin operator `print`",
    ),
    fix(
        "GB0059",
        "call it before the compiled function",
        "This Python function is not traced. Call it outside, and pass or keep the result.",
        """
        def forward(x):
            return x + len(open("/dev/null").read())
        """,
        """
        length = len(open("/dev/null").read())

        def forward(x):
            return x + length
        """,
    ),
    fix(
        "GB0291",
        "log outside of the graph",
        "A log record is written at once, and a graph runs later. " + _GUARD,
        """
        def forward(x):
            x = x + 1
            log.warning("shape %s", x.shape)
            return x * 2
        """,
        """
        def forward(x):
            x = x + 1
            if not torch.compiler.is_compiling():
                log.warning("shape %s", x.shape)
            return x * 2
        """,
    ),
    fix(
        "GB0007",
        "warn outside of the graph",
        "A warning is given at once, and a graph runs later. " + _GUARD,
        """
        def forward(x):
            warnings.warn("deprecated")
            return x * 2
        """,
        """
        def forward(x):
            if not torch.compiler.is_compiling():
                warnings.warn("deprecated")
            return x * 2
        """,
        message=r"`_warnings\.warn`",
    ),
    fix(
        "GB0007",
        "measure around the compiled function",
        "A clock read inside of a graph says nothing: the graph runs later. Read it around the call.",
        """
        def forward(x):
            started = time.perf_counter()
            y = x * 2
            return y, started
        """,
        """
        def forward(x):
            return x * 2

        def timed(x):
            started = time.perf_counter()
            return forward(x), started
        """,
        message=r"`time\.",
    ),
    fix(
        "GB0007",
        "seed before the compiled function",
        "Seeding changes the state of the process, which a graph does not.",
        """
        def forward(x):
            torch.manual_seed(0)
            return x + torch.rand(3)
        """,
        """
        def forward(x):
            return x + torch.rand(3)

        def seeded(x):
            torch.manual_seed(0)
            return forward(x)
        """,
        message=r"manual_seed",
    ),
)
