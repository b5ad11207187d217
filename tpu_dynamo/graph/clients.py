"""The PJRT client that a graph runs on."""

from __future__ import annotations

from tpu_dynamo_runtime import Client, client

from ..device import NAME as DEVICE
from ..device.operator_programs import device_client
from ..options import OptionError, Options


def client_of(options: Options, on_device: bool) -> Client:
    """Return the client of the options' target; for a graph on the device, the one that holds the device's tensors.

    Raises UnknownTarget and PlatformUnavailable, and OptionError where the target names another platform than the one
    that the device's tensors are on.
    """
    if not on_device:
        return client(options.target)
    owner = device_client()
    if options.target != "auto" and owner.platform != client(options.target).platform:
        raise OptionError(
            f'target={options.target!r}, but the tensors of torch.device("{DEVICE}") live on {owner.platform}; '
            "leave the target out"
        )
    return owner
