"""Which errors of torch and its kin mean that memory was missing."""

import pytest
import torch

from lpnode.errors import DeviceError, HostError, OutOfDeviceMemory
from lpnode.pipeline.failures import as_lpnode_error, is_out_of_memory

WANT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class Capture:
    """Fails when it ends, as ``torch.cuda.graph`` does after a failure inside it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        raise torch.AcceleratorError("CUDA error: operation failed due to a previous error")


@pytest.mark.parametrize(
    "error",
    [
        WANT_OF_MEMORY,
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=repr,
)
def test_each_allocator_s_words_are_known(error: Exception) -> None:
    assert isinstance(as_lpnode_error(error), OutOfDeviceMemory)


def test_a_capture_that_ran_out_of_memory_is_known_by_the_error_behind_its_own() -> None:
    with pytest.raises(torch.AcceleratorError) as caught, Capture():
        raise WANT_OF_MEMORY
    assert isinstance(as_lpnode_error(caught.value), OutOfDeviceMemory)


def test_the_cause_of_an_error_of_this_project_counts_too() -> None:
    error = HostError("the prompt could not be encoded")
    error.__cause__ = WANT_OF_MEMORY
    assert is_out_of_memory(error)


def test_an_error_that_was_dealt_with_is_another_matter() -> None:
    error = RuntimeError("no such kernel")
    error.__context__ = WANT_OF_MEMORY
    error.__suppress_context__ = True
    assert not is_out_of_memory(error)


def test_errors_that_go_round_in_a_circle_are_looked_at_once() -> None:
    first, second = RuntimeError("no such kernel"), torch.AcceleratorError("CUDA error: 700")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)
    assert isinstance(as_lpnode_error(second), DeviceError)
