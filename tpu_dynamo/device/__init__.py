"""torch.device("tpu"): tensors whose memory is a PJRT buffer, in pure Python over PyTorch's PrivateUse1 backend."""

from ._torch_compat import NAME
from .registration import DeviceNameTaken, register, register_if_free

__all__ = ["NAME", "DeviceNameTaken", "register", "register_if_free"]
