"""Breaks at values that leave the graph: branches on data, numbers, lists, sizes that depend on data."""

from __future__ import annotations

from .pattern import Fix, fix

# Ordered: of two that fit, the first is taken.
VALUES: tuple[Fix, ...] = (
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
    fix(
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
)
