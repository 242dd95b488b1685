"""What goes wrong in torch and its kin, as exceptions of this project."""

import torch

from lpnode.errors import DeviceError, HostError, LpnodeError, OutOfDeviceMemory

_ALLOCATORS = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""torch, C++ and ONNX Runtime have no exception of their own for a host without memory, and what
CUDA's libraries take past torch's allocator fails in their words."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or a device, was what was missing, at first or in the end.

    A CUDA graph whose capture runs out of it fails once more when the capture is ended, and only
    the error behind that one tells why.
    """
    behind: BaseException | None = error
    seen: set[int] = set()
    while behind is not None and id(behind) not in seen:
        if _is_want_of_memory(behind):
            return True
        seen.add(id(behind))
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return False


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


def _is_want_of_memory(error: BaseException) -> bool:
    if isinstance(error, OutOfDeviceMemory | torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _ALLOCATORS)
