from typing import Any

from typing_extensions import Buffer


def has_tensorrt() -> bool:
    """Whether this build runs TensorRT engines."""

def tensorrt_version() -> str:
    """Version of the TensorRT library in use; empty in a build without it."""

class TensorInfo:
    """An input or output of an engine."""

    @property
    def name(self) -> str: ...

    @property
    def is_input(self) -> bool: ...

    @property
    def dtype(self) -> str:
        """As torch names it, such as float16."""

    @property
    def shape(self) -> list[int]:
        """Dimensions that vary are -1."""

    @property
    def smallest(self) -> list[int]:
        """Of an input; empty for an output."""

    @property
    def largest(self) -> list[int]:
        """Of an input; empty for an output."""

class TrtEngine:
    """
    A TensorRT engine with its execution context. For one thread at a time.
    """

    def __init__(self, plan: Buffer, device: int) -> None:
        """Reads what TensorRT's builder wrote; `device` is the index of the GPU."""

    @property
    def tensors(self) -> list[TensorInfo]:
        """Inputs and outputs."""

    @property
    def context_bytes(self) -> int:
        """Device memory that inference works in."""

    def bind(self, tensors: dict[str, Any]) -> None:
        """
        Gives every input and output its tensor, contiguous on the engine's device, which the caller keeps alive until the next bind.
        """

    def run(self, stream: int) -> None:
        """Enqueues one inference on a CUDA stream, given by its handle."""
