"""torch.device("tpu"): tensors whose memory is a PJRT buffer, in pure Python over PyTorch's PrivateUse1 backend."""

from .registration import DeviceNameTaken, register

__all__ = ["DeviceNameTaken", "register"]
