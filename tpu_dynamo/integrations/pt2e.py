"""torchao's PT2E quantisation: a Quantizer that describes the products of integers that TPUs have.

    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from tpu_dynamo.integrations.pt2e import TPUQuantizer

    prepared = prepare_pt2e(torch.export.export(model, args).module(), TPUQuantizer())
    prepared(*calibration)
    torch.compile(convert_pt2e(prepared), backend="tpu")

Importing this module imports torchao.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

aten = torch.ops.aten

_ANNOTATION = "quantization_annotation"
_EPSILON = 2**-12

# Products with a weight as their second operand, and those of two activations.
_LAYERS = {
    aten.linear.default,
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
}
_PRODUCTS = {aten.matmul.default, aten.bmm.default, aten.mm.default}


class TPUQuantizer(Quantizer):
    """Quantises the operands of linear layers, convolutions and matrix products to int8, and nothing else.

    Weights have a symmetric grid for each channel of the result, activations one for the tensor. What is between the
    products stays in floats: XLA fuses it into them, so that quantising it would save no memory and lose accuracy.

    dynamic: choose the grids of activations for each call, instead of from calibration. qat: for
    `prepare_qat_pt2e`. symmetric: let 0 stand for zero in activations. Where it does not, each call of a layer also
    sums its weight, which a batch of few rows does not hide.
    """

    def __init__(self, *, dynamic: bool = False, qat: bool = False, symmetric: bool = True):
        super().__init__()
        self._activation = _activation_spec(dynamic, qat, symmetric)
        # torchao 0.18 keeps a dynamic grid together with its users only where the grid is affine; where an activation
        # has several it fails. Without sharing each user chooses the same grid, which XLA does once.
        self._sharing = not (dynamic and symmetric)
        self._weight = _weight_spec(qat)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Note at each product of floats how its operands are quantised."""
        for node in model.graph.nodes:
            if node.target in _LAYERS:
                specs = (self._activation, self._weight)
            elif node.target in _PRODUCTS:
                specs = (self._activation, self._activation)
            else:
                continue
            if _ANNOTATION in node.meta or not all(map(_is_single, node.args[:2])):
                continue
            inputs: dict[Node, Any] = dict(zip(node.args[:2], specs, strict=True))
            node.meta[_ANNOTATION] = QuantizationAnnotation(
                input_qspec_map=inputs, allow_implicit_sharing=self._sharing, _annotated=True
            )
        return model

    def validate(self, model: GraphModule) -> None:
        """Check nothing: all that is annotated has a lowering."""


def _is_single(node: Any) -> bool:
    """Tell whether a node is a tensor of float32, which PT2E quantises."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _activation_spec(dynamic: bool, qat: bool, symmetric: bool) -> QuantizationSpec:
    extra: dict[str, Any] = {"eps": _EPSILON}
    if qat and dynamic:
        observer: Any = FakeQuantize
        extra["observer"] = MovingAverageMinMaxObserver.with_args(averaging_constant=1)
    elif qat:
        observer = FusedMovingAvgObsFakeQuantize
    else:
        observer = PlaceholderObserver if dynamic else HistogramObserver
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        is_dynamic=dynamic,
        observer_or_fake_quant_ctr=observer.with_args(**extra),
    )


def _weight_spec(qat: bool) -> QuantizationSpec:
    extra: dict[str, Any] = {"eps": _EPSILON}
    if qat:
        extra["observer"] = MovingAveragePerChannelMinMaxObserver
    observer: Any = FusedMovingAvgObsFakeQuantize if qat else PerChannelMinMaxObserver
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=observer.with_args(**extra),
    )
