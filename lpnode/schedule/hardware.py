"""The GPUs of this machine, as the driver's management library reports them.

Asked through NVML because that needs neither a CUDA context nor torch, and knows the UUIDs.
Source: discovery.md section 7.1.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lpnode.errors import DeviceError

_LIBRARY = "libnvidia-ml.so.1"
_TEXT_BYTES = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. Memory in bytes, at the moment of asking.

    Attributes:
        index: position in the driver's order (by PCI bus).
        uuid: such as ``GPU-1b2c…``.
        major, minor: compute capability.
    """

    index: int
    uuid: str
    name: str
    major: int
    minor: int
    memory_free: int
    memory_total: int


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def find_gpus() -> tuple[Gpu, ...]:
    """Lists the GPUs of this machine; none when it has no NVIDIA driver. Blocks: call at start.

    Raises: DeviceError: the driver is there and does not answer.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return ()
    with _initialised(library):
        count = ctypes.c_uint()
        _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        return tuple(_gpu(library, index) for index in range(count.value))


@contextmanager
def _initialised(library: ctypes.CDLL) -> Iterator[None]:
    _call(library, "nvmlInit_v2")
    try:
        yield
    finally:
        _call(library, "nvmlShutdown")


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_void_p()
    _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    _call(
        library,
        "nvmlDeviceGetCudaComputeCapability",
        device,
        ctypes.byref(major),
        ctypes.byref(minor),
    )
    _call(library, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
    return Gpu(
        index=index,
        uuid=_text(library, "nvmlDeviceGetUUID", device),
        name=_text(library, "nvmlDeviceGetName", device),
        major=major.value,
        minor=minor.value,
        memory_free=memory.free,
        memory_total=memory.total,
    )


def _text(library: ctypes.CDLL, function: str, device: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(_TEXT_BYTES)
    _call(library, function, device, buffer, ctypes.c_uint(_TEXT_BYTES))
    return buffer.value.decode(errors="replace")


def _call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(library, function)(*arguments)
    if code != 0:
        library.nvmlErrorString.restype = ctypes.c_char_p
        reason = library.nvmlErrorString(code) or b"unknown"
        raise DeviceError(f"{function} failed with {code}: {reason.decode(errors='replace')}")
