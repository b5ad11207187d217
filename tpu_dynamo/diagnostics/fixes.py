"""The fixes of the common graph breaks, each with a pattern before and after that tests compile."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

_GUARD = "Where it is for eager runs only, ask torch.compiler.is_compiling() first; else move it to the caller."


@dataclass(frozen=True)
class Fix:
    """One fix: for which code, messages and lines (regular expressions), what to do, and the pattern.

    before, after: programs whose function `forward` breaks, and does not.
    """

    code: str
    title: str
    text: str
    before: str
    after: str
    message: str = ""
    line: str = ""


def _fix(code: str, title: str, text: str, before: str, after: str, message: str = "", line: str = "") -> Fix:
    return Fix(code, title, text, dedent(before).strip(), dedent(after).strip(), message, line)


# Ordered: of two that fit, the first is taken.
FIXES: tuple[Fix, ...] = (
    _fix(
        "GB0170",
        "give the assertion a fixed message",
        "A message that is put together from values needs the values now. With a fixed message the check becomes part "
        "of the graph.",
        """
        def forward(x):
            assert x.sum() > -1, f"bad input {x.shape}"
            return x + 1
        """,
        """
        def forward(x):
            assert x.sum() > -1, "bad input"
            return x + 1
        """,
        line=r"^\s*assert\b",
    ),
    _fix(
        "GB0170",
        "choose by torch.where instead of if",
        "The branch depends on what is in a tensor. Compute both sides and choose with torch.where; where a side is "
        "expensive, use torch.cond.",
        """
        def forward(x):
            if x.sum() > 0:
                return x + 1
            return x - 1
        """,
        """
        def forward(x):
            return torch.where(x.sum() > 0, x + 1, x - 1)
        """,
    ),
    _fix(
        "GB0124",
        "select from a tensor instead of a list",
        "A list needs a Python number for its index, which the device must first send back. Keep the choices in a "
        "tensor and select with index_select or gather.",
        """
        def forward(x):
            return x * [1.0, 2.0, 4.0][x.sum(0).argmax()]
        """,
        """
        def forward(x):
            choices = torch.tensor([1.0, 2.0, 4.0])
            return x * choices.index_select(0, x.sum(0).argmax().reshape(1))
        """,
        line=r"\]\[|\w\[.*arg(max|min)",
    ),
    _fix(
        "GB0124",
        "keep the number a tensor",
        ".item(), int(), float() and bool() of a tensor wait for the device and leave the graph. Arithmetic and "
        "comparisons work on the tensor itself; read it once, outside of the compiled function.",
        """
        def forward(x):
            scale = x.sum().item()
            return x * scale
        """,
        """
        def forward(x):
            scale = x.sum()
            return x * scale
        """,
    ),
    _fix(
        "GB0109",
        "stay with tensors instead of lists",
        ".tolist() leaves the graph. Compute with the tensor, and make the list outside of the compiled function.",
        """
        def forward(x):
            return x + sum(x.flatten().tolist())
        """,
        """
        def forward(x):
            return x + x.sum()
        """,
    ),
    _fix(
        "GB0033",
        "draw random numbers with torch",
        "A NumPy number becomes a Python number, which leaves the graph. torch's own random functions stay in it.",
        """
        def forward(x):
            return x + float(np.random.rand())
        """,
        """
        def forward(x):
            return x + torch.rand(())
        """,
        line=r"random",
    ),
    _fix(
        "GB0033",
        "stay with tensors instead of numbers and lists",
        ".tolist(), int() and float() leave the graph. Compute with the tensor.",
        """
        def forward(x):
            return x + sum(x.long().flatten().tolist())
        """,
        """
        def forward(x):
            return x + x.long().sum()
        """,
    ),
    _fix(
        "GB0036",
        "mask instead of selecting",
        "A boolean index or nonzero gives a tensor whose size depends on data, which XLA has no program for. Keep the "
        "size and put neutral values where the mask is off.",
        """
        def forward(x):
            return x[x > 0.5].sum()
        """,
        """
        def forward(x):
            return torch.where(x > 0.5, x, 0.0).sum()
        """,
    ),
    _fix(
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
    _fix(
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
    _fix(
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
    _fix(
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
    _fix(
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
    _fix(
        "GB0007",
        "draw random numbers with torch",
        "Python's random numbers leave the graph; torch's are part of it and follow torch.manual_seed.",
        """
        def forward(x):
            return x + random.random()
        """,
        """
        def forward(x):
            return x + torch.rand(())
        """,
        message=r"Random\.",
    ),
    _fix(
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
    _fix(
        "GB0007",
        "call the C function outside, or make it an operator",
        "Dynamo sees no code inside of a C function. If its result does not depend on tensors, compute it once, "
        "outside. If it computes on tensors, wrap it in torch.library.custom_op.",
        """
        def forward(x):
            return x * (zlib.crc32(b"seed") % 7)
        """,
        """
        factor = zlib.crc32(b"seed") % 7

        def forward(x):
            return x * factor
        """,
    ),
    _fix(
        "GB0156",
        "make the object before the compiled function",
        "Dynamo cannot trace this method, mostly because the class is written in C. Use torch's counterpart, or call "
        "it outside and pass the result.",
        """
        def forward(x):
            return x + np.random.RandomState(0).rand(3)
        """,
        """
        noise = torch.from_numpy(np.random.RandomState(0).rand(3))

        def forward(x):
            return x + noise
        """,
    ),
    _fix(
        "GB0294",
        "use torch's function instead of NumPy's",
        "torch traces many NumPy functions, and not this one. Most have a counterpart in torch.",
        """
        def forward(x):
            return torch.from_numpy(np.interp(x.numpy(), [0.0, 1.0], [1.0, 2.0]))
        """,
        """
        def forward(x):
            return 1.0 + x.clamp(0.0, 1.0)
        """,
    ),
    _fix(
        "GB0025",
        "remove the call",
        "Somebody put this break here on purpose. Try without it.",
        """
        def forward(x):
            y = x + 1
            torch._dynamo.graph_break()
            return y * 2
        """,
        """
        def forward(x):
            y = x + 1
            return y * 2
        """,
    ),
    _fix(
        "GB0098",
        "make the disabled function traceable, or an operator",
        "torch.compiler.disable keeps the function out of every graph and so cuts its caller's in two. Take it off, or "
        "wrap what cannot be traced in torch.library.custom_op.",
        """
        @torch.compiler.disable
        def double(x):
            return x * 2

        def forward(x):
            return double(x) + 1
        """,
        """
        def double(x):
            return x * 2

        def forward(x):
            return double(x) + 1
        """,
    ),
    _fix(
        "GB0123",
        "call backward outside",
        "Return the loss and call backward() on what the compiled function gives: the backward graph is compiled all "
        "the same. torch._dynamo.config.trace_autograd_ops = True takes the call into the graph.",
        """
        weight = torch.ones(3, requires_grad=True)

        def forward(x):
            loss = (weight * x).sum()
            loss.backward()
            return loss.detach()
        """,
        """
        weight = torch.ones(3, requires_grad=True)

        def forward(x):
            return (weight * x).sum()

        def step(x):
            loss = forward(x)
            loss.backward()
            return loss.detach()
        """,
    ),
    _fix(
        "GB4198",
        "clone the tensor",
        "copy.deepcopy of a tensor is not traced; .clone() is, and copies the same data.",
        """
        def forward(x):
            y = copy.deepcopy(x)
            return y + 1
        """,
        """
        def forward(x):
            y = x.clone()
            return y + 1
        """,
    ),
    _fix(
        "GB0208",
        "ask before the compiled function",
        "The function asks about the machine and gives no tensor. Ask once, outside, and keep the answer.",
        """
        def forward(x):
            return x + torch.cuda.device_count()
        """,
        """
        devices = torch.cuda.device_count()

        def forward(x):
            return x + devices
        """,
    ),
    _fix(
        "GB0014",
        "allow recurrent modules",
        "Dynamo leaves nn.LSTM, nn.GRU and nn.RNN alone unless it is told otherwise.",
        """
        lstm = torch.nn.LSTM(3, 3)

        def forward(x):
            return lstm(x)[0] * 2
        """,
        """
        torch._dynamo.config.allow_rnn = True
        lstm = torch.nn.LSTM(3, 3)

        def forward(x):
            return lstm(x)[0] * 2
        """,
    ),
    _fix(
        "GB0088",
        "check before the compiled function",
        "An exception that leaves the function is raised in eager. Check arguments in the caller.",
        "",
        "",
    ),
)
