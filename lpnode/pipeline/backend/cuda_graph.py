"""A CUDA graph: many kernel launches recorded once and repeated with one call.

Source: streamdiffusion.md section 14: captured after an eager run, and invalid after any change of
a shape or an address.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

from lpnode.pipeline.failures import as_lpnode_error

Result = TypeVar("Result")

GraphMemory = Any
"""Names the memory that graphs take for what they compute in between; torch's own type."""


def graph_memory(device: torch.device | str) -> GraphMemory | None:
    """Memory for graphs that take turns; None on a processor, where nothing is captured."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.graph_pool_handle()


class CapturedGraph(Generic[Result]):
    """A function over tensors that stay where they are, captured at once and replayed per frame.

    The function takes its inputs from ``statics`` and gives the same tensors back each time, filled
    anew; to feed a frame, copy it into one of them. On a processor the function simply runs.
    Capture and replay belong to one thread at a time, which need not be the same.

    Args:
        function: launches kernels on the current stream; neither waits for the device nor reads
            from it. It runs ``num_warm_ups`` times before the capture, on every kind of device:
            state that it advances has to be set again afterwards.
        statics: what it reads and writes; kept alive, as the graph knows addresses alone.
        pool: of ``graph_memory``, shared with graphs that run one after the other; None: its own.
    Raises: OutOfDeviceMemory, DeviceError, HostError: it failed, or cannot be captured.
    """

    def __init__(
        self,
        function: Callable[[], Result],
        device: torch.device | str,
        *,
        statics: Sequence[torch.Tensor] = (),
        pool: GraphMemory | None = None,
        num_warm_ups: int = 2,
    ) -> None:
        self.device = torch.device(device)
        self._function: Callable[[], Result] | None = function
        self._statics = tuple(statics)
        self._graph: torch.cuda.CUDAGraph | None = None
        try:
            if self.device.type == "cuda":
                self._capture(function, num_warm_ups, pool)
            else:
                for _ in range(num_warm_ups):
                    function()
        except Exception as error:
            raise as_lpnode_error(error) from error

    def replay(self) -> Result:
        """Runs the function once more, on the current stream, and gives what it gives.

        Results of the call before are overwritten. Raises: HostError: ``release`` was called.
        """
        if self._graph is not None:
            self._graph.replay()
            return self._result
        if self._function is None:
            raise as_lpnode_error(RuntimeError("the graph has been released"))
        return self._function()

    def release(self) -> None:
        """Returns the graph's memory, which results lie in too."""
        self._function = None
        self._statics = ()
        if self._graph is not None:
            self._graph.reset()
            self._graph = None
            del self._result

    def _capture(
        self, function: Callable[[], Result], num_warm_ups: int, pool: GraphMemory | None
    ) -> None:
        # Warm-up and capture share a side stream: libraries choose kernels and take their
        # workspaces per stream, and neither is possible while a capture runs.
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream(self.device)
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            # A capture that fails does not go back to the stream before by itself.
            with torch.cuda.stream(stream):
                for _ in range(num_warm_ups):
                    function()
                stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                # This begins by emptying torch's cache: a graph's memory is a pool of its own.
                # Other threads go on decoding and allocating; only this one is restricted.
                with torch.cuda.graph(
                    graph,
                    pool=pool or torch.cuda.graph_pool_handle(),
                    stream=stream,
                    capture_error_mode="thread_local",
                ):
                    self._result = function()
            current.wait_stream(stream)
        self._graph = graph
