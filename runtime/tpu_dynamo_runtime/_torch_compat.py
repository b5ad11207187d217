"""The one door of runtime to PyTorch's private APIs: DLPack without the checks of its Python wrappers."""

from __future__ import annotations

import torch

__all__ = ["tensor_from_dlpack", "tensor_to_dlpack"]

# From a capsule to a tensor that owns the capsule's buffer, and from a tensor to a capsule that owns the tensor.
tensor_from_dlpack = torch._C._from_dlpack
tensor_to_dlpack = torch._C._to_dlpack
