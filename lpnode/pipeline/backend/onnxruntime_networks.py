"""A model's networks run by ONNX Runtime on the processor."""

from collections.abc import Mapping

import torch

from lpnode.errors import HostError
from lpnode.pipeline.backend.onnx_networks import GraphCache, GraphRunner, OnnxNetworks
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, fitting_weights
from lpnode.pipeline.backend.onnxruntime_session import BoundSession, session_options


class OnnxRuntimeNetworks(OnnxNetworks):
    """``Networks`` by ONNX Runtime. Weights are read from the model's own memory, not from files.

    Args:
        num_threads: that work on one call; 0 for one on each core.
        graphs: see ``OnnxNetworks``.
    """

    name = "onnxruntime"

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        *,
        num_threads: int = 0,
        graphs: GraphCache | None = None,
    ) -> None:
        super().__init__(dtype, graphs=graphs)
        self._num_threads = num_threads

    def compile(self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor]) -> GraphRunner:
        """See ``OnnxNetworks.compile``."""
        return _Session(traced, weights, self._num_threads)


class _Session(BoundSession):
    def __init__(
        self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor], num_threads: int
    ) -> None:
        import onnxruntime

        options = session_options(num_threads)
        # The session goes on reading this memory, so it must live as long.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())
            for name, tensor in fitting_weights(traced, weights)
        }
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            session = onnxruntime.InferenceSession(
                traced.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no base of their own
            raise HostError(f"ONNX Runtime does not take the {traced.kind}: {error}") from error
        super().__init__(session)
