"""torch.device("tpu"): tensors whose memory is a PJRT buffer, in pure Python over PyTorch's PrivateUse1 backend."""

from ._torch_compat import NAME, has_device_kernel
from .registration import DeviceNameTaken, register, register_if_free

__all__ = ["NAME", "DeviceNameTaken", "has_device_kernel", "register", "register_if_free"]
