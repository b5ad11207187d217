"""Breaks at tensors of PyTorch's quantised dtypes, which Dynamo has no fake tensors of."""

from __future__ import annotations

from .pattern import Fix, fix

_TEXT = (
    "Dynamo cannot trace tensors of torch.qint8 and its relatives, so what makes or takes one runs in eager. The "
    "operators of torch.ops.quantized_decomposed compute the same on plain integers, and compile."
)

QUANTISED: tuple[Fix, ...] = (
    fix(
        "GB0087",
        "quantise into plain integers",
        f"{_TEXT} A model with QuantStub is quantised by PT2E instead, which writes these operators.",
        """
        def forward(x):
            return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).int_repr()
        """,
        """
        import torch.ao.quantization.fx._decomposed

        def forward(x):
            return torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8)
        """,
        message="quantized nyi|aten.(int_repr|q_scale|q_zero_point)",
    ),
    fix(
        "GB0064",
        "keep the integers and their scale",
        f"{_TEXT} For a model whose layers hold such weights, quantise the float model by PT2E or torchao.",
        """
        weight = torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8)

        def forward(x):
            return x @ weight.dequantize()
        """,
        """
        weight = torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8).int_repr()

        def forward(x):
            return x @ (weight * 0.1)
        """,
        message="quantized nyi",
    ),
    fix(
        "GB0055",
        "quantise by PT2E or torchao",
        "Packed weights of torch.ao.nn.quantized are objects of C++, which no graph takes, so such a layer runs in "
        "eager. Quantise the float model by PT2E or by torchao's quantize_: their weights are tensors.",
        """
        layer = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(3, 3)), dtype=torch.qint8)[0]

        def forward(x):
            return layer(x)
        """,
        """
        layer = torch.nn.Linear(3, 3)

        def forward(x):
            return layer(x)
        """,
        message="ScriptObject",
    ),
)
