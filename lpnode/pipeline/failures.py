"""What goes wrong in torch and its kin, as exceptions of this project."""

import torch

from lpnode.errors import DeviceError, HostError, LpnodeError, OutOfDeviceMemory

_HOST_ALLOCATOR = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",
)
"""torch, C++ and ONNX Runtime have no exception of their own for a host without memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or a device, was what was missing."""
    if isinstance(error, OutOfDeviceMemory | torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _HOST_ALLOCATOR)


def as_lpnode_error(error: Exception) -> LpnodeError:
    """What went wrong in a pipeline, as an exception of this project; its cause is kept."""
    if isinstance(error, LpnodeError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        mapped: HostError = OutOfDeviceMemory(text)
    elif isinstance(error, torch.AcceleratorError):
        mapped = DeviceError(text)
    else:
        mapped = HostError(text)
    mapped.__cause__ = error
    return mapped
