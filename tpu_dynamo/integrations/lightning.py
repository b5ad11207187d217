"""Lightning's Trainer and Fabric: `accelerator="tpu_dynamo"`, under both spellings of the packages.

    Trainer(accelerator="tpu_dynamo", precision="bf16-mixed")
    Fabric(accelerator="tpu_dynamo", precision="16-mixed")

Accelerator and strategy stand in Lightning's registries. "tpu" there is torch_xla's, and stays so. Two things the
registries cannot say (2.6): which strategy an accelerator takes, the CPU's where it is none of Lightning's own; and
where autocast works, "cuda" for the same ones. The connectors' choice is wrapped for the first; the strategy answers
for the second.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import torch

from ..device import NAME as DEVICE

NAME = "tpu_dynamo"


def adapt(lightning: ModuleType) -> None:
    """Register with `lightning.fabric` and `lightning.pytorch`."""
    adapt_fabric(lightning.fabric)
    adapt_pytorch(lightning.pytorch)


def adapt_fabric(fabric: ModuleType) -> None:
    """Register accelerator and strategy with Fabric."""
    accelerator = _accelerator(fabric.accelerators.Accelerator)
    strategy = _strategy(fabric.strategies.SingleDeviceStrategy, fabric.plugins.MixedPrecision, "precision")
    fabric.accelerators.ACCELERATOR_REGISTRY.register(NAME, accelerator, description=accelerator.__doc__)
    fabric.strategies.STRATEGY_REGISTRY.register(NAME, strategy, description=strategy.__doc__)
    _let_strategy_follow(fabric.connector._Connector, accelerator, strategy)


def adapt_pytorch(pytorch: ModuleType) -> None:
    """Register accelerator and strategy with the Trainer."""
    accelerator = _accelerator(pytorch.accelerators.Accelerator)
    plugin = pytorch.plugins.MixedPrecision
    strategy = _strategy(pytorch.strategies.SingleDeviceStrategy, plugin, "precision_plugin")
    pytorch.accelerators.AcceleratorRegistry.register(NAME, accelerator, description=accelerator.__doc__)
    pytorch.strategies.StrategyRegistry.register(NAME, strategy, description=strategy.__doc__)
    connector = pytorch.trainer.connectors.accelerator_connector._AcceleratorConnector
    _let_strategy_follow(connector, accelerator, strategy)


def _accelerator(base: Any) -> Any:
    """Return an accelerator of Fabric or of the Trainer, by its base class."""

    class TPUDynamoAccelerator(base):
        """One device of tpu_dynamo: a TPU where there is one, else XLA's CPU client."""

        def setup_device(self, device: torch.device) -> None:
            if device.type != DEVICE:
                raise ValueError(f"this strategy runs on {device}: write strategy={NAME!r}, or leave it out")

        def teardown(self) -> None:
            """Keep everything: memory is given back with its tensors."""

        @staticmethod
        def parse_devices(devices: Any) -> list[int]:
            """Return the one device that `devices` names, a number of them or a list of indices; refuse several."""
            if isinstance(devices, str):
                devices = [int(each) for each in devices.split(",") if each] if "," in devices else int(devices)
            indices = list(devices) if isinstance(devices, (list, tuple)) else list(range(devices))
            if devices == -1:
                indices = list(range(torch.accelerator.device_count()))
            if len(indices) != 1:
                raise ValueError(f"accelerator={NAME!r} drives one device in a process, not devices={devices!r}")
            return indices

        @staticmethod
        def get_parallel_devices(devices: list[int]) -> list[torch.device]:
            return [torch.device(DEVICE, index) for index in devices]

        @staticmethod
        def auto_device_count() -> int:
            return 1

        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def name() -> str:
            return NAME

        def get_device_stats(self, device: torch.device) -> dict[str, Any]:
            """Return the device's memory counts, for Lightning's DeviceStatsMonitor."""
            return dict(torch.accelerator.memory_stats(device))

    return TPUDynamoAccelerator


def _strategy(base: Any, mixed_precision: Any, attribute: str) -> Any:
    """Return SingleDeviceStrategy for the device, which moves mixed precision meant for CUDA to the device.

    attribute: the property under which Fabric or the Trainer keeps its precision.
    """
    inherited = getattr(base, attribute)

    def take(strategy: Any, precision: Any) -> None:
        if type(precision) is mixed_precision and precision.device == "cuda":
            scaler = precision.scaler if precision.scaler is not None and precision.scaler.is_enabled() else None
            precision = mixed_precision(precision.precision, DEVICE, scaler)
        inherited.fset(strategy, precision)

    class TPUDynamoStrategy(base):
        """One device of tpu_dynamo, in this process."""

        strategy_name = NAME

        def __init__(self, device: Any = DEVICE, **given: Any):
            super().__init__(device=torch.device(device), **given)

    setattr(TPUDynamoStrategy, attribute, property(inherited.fget, take, doc=inherited.__doc__))
    return TPUDynamoStrategy


def _let_strategy_follow(connector: Any, accelerator: Any, strategy: Any) -> None:
    """Let a connector choose our strategy for our accelerator, and leave its choice for all others to itself."""
    choose, make_precision = connector._choose_strategy, connector._check_and_init_precision

    def _choose_strategy(self: Any) -> Any:
        if not isinstance(self.accelerator, accelerator) or self._num_nodes_flag > 1:
            return choose(self)
        return strategy(self._parallel_devices[0])

    def _check_and_init_precision(self: Any) -> Any:
        with warnings.catch_warnings():
            if isinstance(self.strategy, strategy):
                # The scaler for CUDA is replaced; that CUDA is missing concerns nobody.
                warnings.filterwarnings("ignore", message=".*GradScaler is enabled, but CUDA is not available")
            return make_precision(self)

    connector._choose_strategy = _choose_strategy
    connector._check_and_init_precision = _check_and_init_precision
