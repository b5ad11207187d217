"""Breaks at calls that Dynamo does not trace: C functions, NumPy, disabled functions, backward, recurrent modules."""

from __future__ import annotations

from .pattern import Fix, fix

# Ordered: of two that fit, the first is taken.
CALLS: tuple[Fix, ...] = (
    fix(
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
    fix(
        "GB0007",
        "compile each block, or take the whole step",
        "Something takes itself out of Dynamo's graphs while they are traced. `fully_shard` does so with its hooks, so "
        "that a sharded model makes no graph that spans its blocks: compile the blocks, "
        '`block.compile(backend="tpu")`, or train with `tpu_dynamo.train_step`, which takes gathers, gradients and '
        "update into one program. In code of your "
        "own, leave `torch._dynamo.disable` out of what is traced.",
        "",
        "",
        message=r"function `disable` in file .*_dynamo",
    ),
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
        "GB0088",
        "check before the compiled function",
        "An exception that leaves the function is raised in eager. Check arguments in the caller.",
        "",
        "",
    ),
)
